package agent

import (
	"cmp"
	"maps"
	"slices"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/attribution"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/sample"
	"github.com/wattledger/wattledger/internal/window"
)

// close ends the open window at endMS and begins the next there.
func (p *Pipeline) close(endMS int64) {
	w := &window.Window{Catalogue: p.cat, StartMS: p.start, EndMS: endMS}
	in := attribution.Input{
		Tree: p.tree, CPUs: p.opt.CPUs, MemoryBytes: p.opt.MemoryBytes,
		Energy: make([]energy.Millijoules, len(p.tracks)),
		Pieces: make([][]attribution.Piece, len(p.tracks)),
	}
	from := p.start * 1e6
	for _, e := range p.edges {
		if e.known {
			from = min(from, e.ns)
		}
	}
	in.Allocations = p.jobs.During(from, endMS*1e6)
	for i := range p.tracks {
		p.closeMeter(w, &in, i)
	}
	out := attribution.Attribute(in)
	w.Absences = out.Absences
	p.nameJobs(w, in.Allocations, out.Postings)
	p.telemetry(w)
	p.watchRest(w, &in)
	sortEvents(p.events)
	w.Events, p.events = p.events, nil
	p.out = append(p.out, w)
	p.start = endMS
	keep := endMS * 1e6
	for i, e := range p.edges {
		p.tracks[i].Trim(e.ns)
		if e.known {
			keep = min(keep, e.ns)
		}
	}
	p.jobs.Forget(keep - sample.EdgeTolerance)
	p.demote()
}

// closeMeter adds one meter's range and pieces.
func (p *Pipeline) closeMeter(w *window.Window, in *attribution.Input, i int) {
	t, m, e := p.tracks[i], p.cat.Meters[i], p.edges[i]
	if past := t.Broken(); past != nil {
		if past.Epoch != m.Epoch {
			past = &sample.Past{Epoch: m.Epoch}
		}
		t = sample.Old(t, past)
	}
	if t.Epoch() != m.Epoch || len(t.Points()) == 0 {
		in.Pieces[i] = []attribution.Piece{missing(w.StartMS, w.EndMS)}
		return
	}
	if !e.known {
		first := t.Points()[0]
		e = edge{ns: first.At, uj: first.UJ, known: true}
	}
	if e.ns > w.EndMS*1e6+sample.EdgeTolerance { // its books begin later
		in.Pieces[i] = []attribution.Piece{missing(w.StartMS, w.EndMS)}
		return
	}
	end, reached := endOf(t, w.EndMS*1e6, e)
	r := window.Range{
		Meter: i, From: e.uj, To: end.uj,
		FromMS: floorMS(e.ns), ToMS: floorMS(end.ns), Estimated: end.estimated,
	}
	if !m.Integrated {
		r.Raw = end.raw
		if end.estimated {
			r.Raw = rawOf(m, end.uj)
		}
	}
	w.Ranges = append(w.Ranges, r)
	in.Energy[i] = r.Energy()
	in.Pieces[i] = p.pieces(t, e, end, reached, w, in.Allocations)
	p.edges[i] = edge{ns: end.ns, uj: end.uj, known: true}
}

// rangeEnd is where a meter's range of a window ends.
type rangeEnd struct {
	ns        int64
	uj, raw   energy.Microjoules
	estimated bool
}

// endOf finds it: on the line of power; at the reading of the edge; by time
// between two readings; or at the last reading, if none came after (reached is
// false: what follows is booked when it is known).
func endOf(t *sample.Track, ns int64, e edge) (end rangeEnd, reached bool) {
	last, _ := t.Last()
	if t.Scope.Kind == collector.Power {
		at := max(min(ns, last.At), e.ns)
		uj, _ := t.At(at)
		return rangeEnd{ns: at, uj: max(uj, e.uj)}, at == ns
	}
	if pt, ok := t.Near(ns); ok && pt.At >= e.ns {
		return rangeEnd{ns: pt.At, uj: pt.UJ, raw: pt.Raw}, true
	}
	if last.At > ns && e.ns < ns {
		uj, _ := t.At(ns)
		return rangeEnd{ns: ns, uj: max(uj, e.uj), estimated: true}, true
	}
	if last.At <= e.ns { // nothing new since the range began
		return rangeEnd{ns: e.ns, uj: e.uj, estimated: true}, e.ns >= ns
	}
	return rangeEnd{ns: last.At, uj: last.UJ, raw: last.Raw}, false
}

// rawOf is the raw counter of an odometer reading: what is left of whole wraps.
func rawOf(m window.Meter, uj energy.Microjoules) energy.Microjoules {
	if m.Integrated {
		return 0
	}
	if m.Modulus > 0 {
		return uj % m.Modulus
	}
	return uj
}

// mark is a place where a meter's window is cut: at a reading, or at a job
// edge, which lies at the reading taken for it.
type mark struct {
	pos  int64 // on the meter's own time line, ns
	wall int64 // device time, ns
	hold int64 // instant whose holders apply from here on
}

// pieces cuts a meter's window at every reading and every job edge.
func (p *Pipeline) pieces(t *sample.Track, e edge, end rangeEnd, reached bool, w *window.Window, allocs []job.Allocation) []attribution.Piece {
	startNS, endNS := w.StartMS*1e6, w.EndMS*1e6
	base := min(e.ns, startNS)
	marks := p.marks(t, e, end, base, endNS, allocs)
	wallEnd := endNS
	if !reached {
		wallEnd = clamp(end.ns, startNS, endNS)
	}
	out := make([]attribution.Piece, 0, len(marks)+2)
	wall := startNS
	if e.ns > startNS+sample.EdgeTolerance { // the meter was first read later
		first := min(floorMS(e.ns), w.EndMS)
		out = append(out, missing(w.StartMS, first))
		wall = first * 1e6
	}
	for n, mk := range marks {
		next := mark{pos: end.ns, wall: wallEnd}
		if n+1 < len(marks) {
			next = marks[n+1]
		}
		to := clamp(next.wall, wall, wallEnd)
		pc := p.piece(t, mk, next.pos)
		if mk.pos < startNS-sample.EdgeTolerance && !pc.Missing { // burnt before this window, known only now
			pc.Grade = pc.Grade.Worse(energy.Bridged)
		}
		pc.FromMS, pc.ToMS = floorMS(wall), floorMS(to)
		wall = to
		if pc.ToMS > pc.FromMS || pc.UJ > 0 {
			out = append(out, pc)
		}
	}
	if floorMS(wall) < w.EndMS {
		out = append(out, missing(floorMS(wall), w.EndMS))
	}
	return out
}

func (p *Pipeline) marks(t *sample.Track, e edge, end rangeEnd, base, endNS int64, allocs []job.Allocation) []mark {
	marks := []mark{{pos: e.ns, wall: base, hold: base}}
	for _, at := range jobEdges(allocs, base, endNS) {
		pos := at
		if t.Scope.Kind != collector.Power {
			if pt, ok := t.Near(at); ok {
				pos = pt.At
			}
		}
		marks = append(marks, mark{pos: clamp(pos, e.ns, end.ns), wall: at, hold: at})
	}
	atJob := func(ns int64) bool {
		return slices.ContainsFunc(marks[1:], func(m mark) bool { return m.pos == ns })
	}
	for _, pt := range t.Points() {
		if pt.At > e.ns && pt.At < end.ns && !atJob(pt.At) {
			marks = append(marks, mark{pos: pt.At, wall: pt.At})
		}
	}
	// the span before unsure ends where somebody knows again
	if p.unsure > base && p.unsure < end.ns {
		marks = append(marks, mark{pos: clamp(p.unsure, e.ns, end.ns), wall: p.unsure})
	}
	slices.SortStableFunc(marks[1:], func(a, b mark) int {
		return cmp.Or(cmp.Compare(a.pos, b.pos), cmp.Compare(a.hold, b.hold))
	})
	for i := 1; i < len(marks); i++ {
		marks[i].hold = max(marks[i].hold, marks[i-1].hold)
		marks[i].wall = max(marks[i].wall, marks[i-1].wall)
	}
	return marks
}

// piece is the span of a meter between two places of one stretch between
// readings.
func (p *Pipeline) piece(t *sample.Track, mk mark, to int64) attribution.Piece {
	a, exactA := t.At(mk.pos)
	b, exactB := t.At(to)
	pc := attribution.Piece{Hold: mk.hold, UJ: b - a}
	if b < a {
		pc.UJ = 0
	}
	seg, ok := t.Leading(to)
	if !ok || (mk.pos >= to) {
		pc.Grade = grade(t.Scope.Kind, false)
	} else {
		pc.Missing = seg.Gap
		pc.Activity = seg.Activity
		pc.Grade = grade(t.Scope.Kind, seg.Bridged || !exactA || !exactB)
	}
	pc.Unsure = mk.pos < p.unsure || p.doubt[t.Scope.Name]
	if !pc.Missing {
		p.shared(&pc, t.Scope.Name, to-mk.pos)
	}
	if pc.Unsure && pc.Grade < energy.Bridged && mk.pos < p.unsure {
		pc.Grade = energy.Bridged
	}
	return pc
}

func grade(k collector.Kind, bridged bool) energy.Grade {
	switch {
	case bridged:
		return energy.Bridged
	case k == collector.Power:
		return energy.Sampled
	default:
		return energy.Counter
	}
}

// jobEdges gives the begins and ends inside (from, to), in order.
func jobEdges(allocs []job.Allocation, from, to int64) []int64 {
	var out []int64
	for _, a := range allocs {
		for _, at := range []int64{a.From, a.To} {
			if at > from && at < to {
				out = append(out, at)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// nameJobs turns allocation indices into jobs of the window: those with a
// posting, and those that hold something at its end.
func (p *Pipeline) nameJobs(w *window.Window, allocs []job.Allocation, postings []window.Posting) {
	index := make(map[int]int)
	name := func(n int) int {
		if i, ok := index[n]; ok {
			return i
		}
		w.Jobs = append(w.Jobs, jobOf(allocs[n], w.EndMS))
		index[n] = len(w.Jobs) - 1
		return index[n]
	}
	for _, po := range postings {
		if po.Job >= 0 {
			po.Job = name(po.Job)
		}
		w.Postings = append(w.Postings, po)
	}
	for n, a := range allocs {
		if !a.Open() && a.To <= w.EndMS*1e6 {
			name(n) // so that its end is told
			continue
		}
		devices := a.GPUs
		if a.WholeNode() {
			devices = []window.Share{{Device: "node", Weight: job.Whole}}
		}
		w.Holdings = append(w.Holdings, window.Holding{Job: name(n), Devices: devices})
	}
	p.tellEnded(w)
}

// tellEnded names the jobs whose end was heard of after their last window.
func (p *Pipeline) tellEnded(w *window.Window) {
	p.untold = slices.DeleteFunc(p.untold, func(a job.Allocation) bool {
		if a.To > w.EndMS*1e6 {
			return false
		}
		told := slices.ContainsFunc(w.Jobs, func(j window.Job) bool { return j.ID == a.ID && j.Restart == a.Restart })
		if !told {
			w.Jobs = append(w.Jobs, jobOf(a, w.EndMS))
		}
		return true
	})
}

func jobOf(a job.Allocation, endMS int64) window.Job {
	j := window.Job{
		ID: a.ID, Restart: a.Restart, SubmitMS: a.SubmitMS, Project: a.Project, User: a.User,
		StartMS: floorMS(a.From),
	}
	if !a.Open() && a.To <= endMS*1e6 {
		j.EndMS = floorMS(a.To)
	}
	return j
}

// watchRest keeps the running sum of each remainder. A parent that was not read
// says nothing about it: what it burnt is booked when it is.
func (p *Pipeline) watchRest(w *window.Window, in *attribution.Input) {
	for i, n := range p.tree.Nodes {
		if n.Leaf() {
			continue
		}
		d := p.deficit[n.Name]
		if !slices.ContainsFunc(in.Pieces[i], func(pc attribution.Piece) bool { return !pc.Missing }) {
			if d.silent == 0 {
				d.silent = w.StartMS
			}
			p.deficit[n.Name] = d
			continue
		}
		rest := in.Energy[i]
		for _, c := range n.Children {
			rest -= in.Energy[c]
		}
		d.sum, d.silent = min(d.sum, 0)+rest, 0
		switch {
		case d.sum >= 0:
			d.since = 0
		case d.since == 0:
			d.since = w.StartMS
		}
		p.deficit[n.Name] = d
	}
}

// demote makes a parent that reads less than its children, or that is not read
// at all any more, a witness, from the window that begins now.
func (p *Pipeline) demote() {
	changed := false
	for _, name := range slices.Sorted(maps.Keys(p.deficit)) {
		d, why := p.deficit[name], ""
		switch {
		case d.silent != 0 && p.start-d.silent >= SilentAfter.Milliseconds():
			why = "it gave no reading for an hour"
		case d.silent == 0 && d.since != 0 && p.start-d.since >= DemoteAfter.Milliseconds():
			why = "it read less than the meters inside it for five minutes"
		default:
			continue
		}
		s := p.scopes[name]
		s.Witness = true
		p.scopes[name] = s
		p.demoted[name] = true
		delete(p.spare, name)
		delete(p.deficit, name)
		changed = true
		p.event(p.start, "demoted", name, why+": it is a witness from here on")
	}
	if changed {
		p.rebuildKeeping()
	}
}

// rebuildKeeping makes the new tree without touching the epochs.
func (p *Pipeline) rebuildKeeping() { p.rebuild(p.start) }

func missing(fromMS, toMS int64) attribution.Piece {
	return attribution.Piece{Hold: fromMS * 1e6, FromMS: fromMS, ToMS: toMS, Missing: true}
}

func clamp(v, lo, hi int64) int64 { return min(max(v, lo), hi) }

func floorMS(ns int64) int64 { return ns / 1_000_000 }
