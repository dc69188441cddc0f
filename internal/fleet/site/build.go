package site

import (
	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/window"
)

// share of a meter's window that goes to one owner in one way.
type share struct {
	who int // index of the node's allocations, -1 for nobody
	use energy.Use
	uj  uint64 // and
	ms  uint64 // weights: uJ and ms times the GPUs held, for what follows the CPUs
}

// lane gathers what a meter told in the open window.
type lane struct {
	shares []share
	ms     int64 // told
	silent int64 // ms of which nothing is known
}

// builder makes windows, one at a time. It belongs to one goroutine.
type builder struct {
	s     *Site
	lanes []lane
	mw    []int64
	loads [maxGPUs]load
	who   [maxGPUs]int // holder of each GPU
	gpus  []int        // held by each allocation
	free  int          // GPUs that nobody holds

	seconds [][]int64 // uJ of each second of the window, by meter
	busy    [maxGPUs]int64
	energy  []energy.Millijoules
	w       window.Window
	milli   []int64
	parts   []energy.Millijoules
	weights []uint64
}

func newBuilder(s *Site) *builder {
	n := len(s.m.defs)
	return &builder{
		s: s, lanes: make([]lane, n), mw: make([]int64, n), energy: make([]energy.Millijoules, n),
		seconds: make([][]int64, n),
	}
}

// run takes a node through a round and gives each of its windows to emit. The
// window is valid until emit returns.
func (b *builder) run(n *node, r *round, emit func(*node, *window.Window)) {
	es := r.of(n.index)
	from, fresh := n.at, true
	for t := n.at; t < r.to; {
		for len(es) > 0 && es[0].ms <= t {
			if n.happens(&es[0]) {
				n.gone = append(n.gone, n.held...)
				n.held = n.held[:0]
				b.clear() // what was not yet in a window is lost with it
			}
			es, fresh = es[1:], true
		}
		if f := n.faults[faultLoss]; f != nil {
			if f.to >= r.to {
				break
			}
			n.faults[faultLoss] = nil
			t, from, fresh = f.to, f.to, true
			n.boot(b.s)
			n.event(t, "boot", "", "the node is back, its counters begin anew")
			continue
		}
		if f := n.faults[faultReset]; f != nil && f.from == t {
			b.close(n, from, t, r, emit)
			n.faults[faultReset] = nil
			from, fresh = t, true
			b.reload(n, t)
		}
		next := min(r.to, n.nextEdge(t, r.step), t-t%r.quantum()+r.quantum())
		if len(es) > 0 {
			next = min(next, es[0].ms)
		}
		if fresh || t%r.quantum() == 0 {
			b.second(n, t-t%r.quantum())
			fresh = false
		}
		b.piece(n, r, t, next, int(t/1000-from/1000))
		if t = next; t == r.to || t == n.nextEdge(from, r.step) {
			b.close(n, from, t, r, emit)
			from, fresh = t, true // allocations have new numbers
		}
	}
	n.at = r.to
}

// nextEdge is the end of the window that an instant is in, by the node's clock.
func (n *node) nextEdge(ms, step int64) int64 {
	local := ms + n.skew
	return local - local%step + step - n.skew
}

// reload is what happens when the driver is loaded again.
func (b *builder) reload(n *node, t int64) {
	n.loads++
	for i := range b.s.m.defs {
		if b.s.m.reloaded(&b.s.m.defs[i]) {
			n.reset(b.s, i)
			n.event(t, "reset", b.s.m.defs[i].Name, "the driver was loaded again: the counter begins anew")
		}
	}
	n.thermal = [maxGPUs]int64{}
	n.catalogue(b.s)
}

// second works out who holds what and what everything draws from there on.
func (b *builder) second(n *node, t int64) {
	m := b.s.m
	b.gpus = b.gpus[:0]
	for g := range m.gpus {
		b.loads[g], b.who[g] = load{}, -1
	}
	b.free = m.gpus
	for k, a := range n.held {
		b.gpus = append(b.gpus, 0)
		if a.to != 0 {
			continue
		}
		level := a.job.level(t / 1000)
		for g := range m.gpus {
			if a.job.mask&(1<<g) != 0 {
				b.loads[g], b.who[g] = load{level: level, held: true}, k
				b.gpus[k]++
				b.free--
			}
		}
	}
	if n.suffers(faultThermal, t) {
		b.loads[n.faults[faultThermal].gpu].hot = true
	}
	m.draw(b.mw, mix(n.seed^uint64(t/1000)), &b.loads, int64(m.gpus-b.free))
}

// piece adds the time [t, next), in which nothing changes.
func (b *builder) piece(n *node, r *round, t, next int64, slot int) {
	dt := next - t
	for i := range b.s.m.defs {
		d, l := &b.s.m.defs[i], &b.lanes[i]
		uj := b.mw[i] * dt
		if n.silent(b.s.m, d, t) {
			l.silent += dt
			continue
		}
		n.drawn[i] += uint64(uj)
		l.ms += dt
		if r.telemetry {
			b.note(i, slot, uj)
		}
		switch d.part {
		case ofGPU:
			b.gpuShare(l, d.unit, uj, dt)
		case ofModule, ofNode:
			// The rest has no activity of its own: whoever holds it is busy.
			for _, c := range b.s.m.tree.Nodes[i].Children {
				if !n.silent(b.s.m, &b.s.m.defs[c], t) {
					uj -= b.mw[c] * dt
				}
			}
			if d.part == ofNode {
				b.common(l, uj, 0)
			} else if k := b.who[d.unit]; k >= 0 {
				l.add(k, energy.Busy, uj, 0)
			} else {
				l.add(-1, energy.Idle, uj, 0)
			}
		case ofCPU, ofMemory:
			b.common(l, uj, dt)
		}
	}
	for g := range b.s.m.gpus {
		if b.loads[g].level > 0 {
			b.busy[g] += dt
		}
		if b.loads[g].hot && b.loads[g].level > 0 {
			n.thermal[g] += dt * 6 / 10
		}
	}
}

func (b *builder) gpuShare(l *lane, gpu int, uj, ms int64) {
	use := energy.Idle
	if b.who[gpu] >= 0 {
		use = energy.Held
		if b.loads[gpu].level > 0 {
			use = energy.Busy
		}
	}
	l.add(b.who[gpu], use, uj, ms)
}

// common splits what follows the CPUs: everybody has as much of them as of the
// GPUs.
func (b *builder) common(l *lane, uj, ms int64) {
	for k, g := range b.gpus {
		if g > 0 {
			l.add(k, energy.Busy, uj*int64(g), ms*int64(g))
		}
	}
	if b.free > 0 {
		l.add(-1, energy.Idle, uj*int64(b.free), ms*int64(b.free))
	}
}

func (l *lane) add(who int, use energy.Use, uj, ms int64) {
	for i := range l.shares {
		if s := &l.shares[i]; s.who == who && s.use == use {
			s.uj += uint64(uj)
			s.ms += uint64(ms)
			return
		}
	}
	l.shares = append(l.shares, share{who, use, uint64(uj), uint64(ms)})
}

// clear forgets the open window.
func (b *builder) clear() {
	for i := range b.lanes {
		b.lanes[i] = lane{shares: b.lanes[i].shares[:0]}
		b.seconds[i] = b.seconds[i][:0]
	}
	b.busy = [maxGPUs]int64{}
}

// close makes the window [from, to).
func (b *builder) close(n *node, from, to int64, r *round, emit func(*node, *window.Window)) {
	if to > from {
		b.fill(n, from, to)
		if r.telemetry {
			b.telemetry(n, from, to)
		}
		emit(n, &b.w)
		n.events = n.events[:0]
		n.gone = n.gone[:0]
		n.forget()
	}
	b.clear()
}

func (b *builder) fill(n *node, from, to int64) {
	w := &b.w
	*w = window.Window{
		Catalogue: n.cat, StartMS: from + n.skew, EndMS: to + n.skew,
		Ranges: w.Ranges[:0], Jobs: w.Jobs[:0], Postings: w.Postings[:0], Absences: w.Absences[:0],
		Holdings: w.Holdings[:0], Telemetry: w.Telemetry[:0],
	}
	b.complain(n, from, to)
	w.Events = n.events
	for i := range b.s.m.defs {
		b.meter(n, i)
	}
	for i := range b.s.m.defs {
		b.post(i)
	}
	for _, a := range n.held {
		b.name(n, a)
	}
	for _, a := range n.gone {
		b.name(n, a)
	}
	for k, a := range n.held {
		if a.to == 0 {
			w.Holdings = append(w.Holdings, window.Holding{Job: k, Devices: b.s.devices[a.job.mask]})
		}
	}
}

func (b *builder) name(n *node, a *alloc) {
	j := window.Job{
		ID: a.job.ID, Restart: a.job.Restart, SubmitMS: a.job.submit, Project: a.job.Project, User: a.job.User,
		StartMS: a.from + n.skew,
	}
	if a.to > 0 {
		j.EndMS = a.to + n.skew
	}
	b.w.Jobs = append(b.w.Jobs, j)
}

// meter adds a meter's range, where it told anything.
func (b *builder) meter(n *node, i int) {
	d, l := &b.s.m.defs[i], &b.lanes[i]
	b.energy[i] = 0
	if l.silent > 0 && b.s.m.tree.Nodes[i].Leaf() {
		b.absent(d.Class, l.silent)
	}
	if l.ms == 0 {
		return
	}
	from, to := n.told[i], n.drawn[i]-n.drawn[i]%uint64(d.step)
	n.told[i] = to
	r := window.Range{Meter: i, From: energy.Microjoules(from), To: energy.Microjoules(to), FromMS: b.w.StartMS, ToMS: b.w.EndMS}
	if d.Kind == collector.Counter {
		r.Raw = r.To
		if d.Modulus > 0 {
			r.Raw = r.To % d.Modulus
		}
	}
	b.energy[i] = r.Energy()
	b.w.Ranges = append(b.w.Ranges, r)
}

func (b *builder) absent(c energy.Class, ms int64) {
	for i := range b.w.Absences {
		if b.w.Absences[i].Class == c {
			b.w.Absences[i].DeviceMS += ms
			return
		}
	}
	b.w.Absences = append(b.w.Absences, window.Absence{Class: c, DeviceMS: ms})
}

// post splits what a meter told beyond the meters inside it.
func (b *builder) post(i int) {
	l, t := &b.lanes[i], &b.s.m.tree.Nodes[i]
	if l.ms == 0 {
		return
	}
	total, grade := b.energy[i], energy.Counter
	if t.Kind == collector.Power {
		grade = energy.Sampled
	}
	for _, c := range t.Children {
		total -= b.energy[c]
		if b.s.m.tree.Nodes[c].Kind == collector.Power {
			grade = energy.Sampled
		}
	}
	b.weights = b.weights[:0]
	for _, s := range l.shares {
		b.weights = append(b.weights, s.uj)
	}
	mj, _ := energy.Split(b.parts[:0], total, b.weights)
	b.weights = b.weights[:0]
	device := energy.Millijoules(0)
	for _, s := range l.shares {
		b.weights = append(b.weights, s.ms)
	}
	if t.Leaf() {
		device = energy.Millijoules(l.ms)
	}
	all, _ := energy.Split(mj, device, b.weights)
	b.parts = all[:0]
	for k, s := range l.shares {
		b.posting(window.Posting{
			Job: s.who, Class: t.PostClass(), Use: s.use, Grade: grade,
			Energy: all[k], DeviceMS: int64(all[len(l.shares)+k]),
		})
	}
}

func (b *builder) posting(p window.Posting) {
	for i := range b.w.Postings {
		q := &b.w.Postings[i]
		if q.Job == p.Job && q.Class == p.Class && q.Use == p.Use && q.Grade == p.Grade {
			q.Energy += p.Energy
			q.DeviceMS += p.DeviceMS
			return
		}
	}
	b.w.Postings = append(b.w.Postings, p)
}
