package fleet

import (
	"math/big"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
)

const (
	// maxGapMS is the longest time that power is integrated over.
	maxGapMS = 30_000
	// demoteMS is how long the running sum of a remainder stays below zero
	// before the parent becomes a witness.
	demoteMS = 300_000
	nobody   = -1
)

// Truth says what a correct pipeline books of the whole simulation, by policy
// "allocation/v1": a GPU's energy goes to its holders by weight, scaled down
// where the weights exceed a whole; the rest of the node goes to jobs by their
// share of its CPUs (a job that names none: of its GPUs; one that owns the node:
// all), scaled down likewise; what is left is idle. It is computed from the
// power itself, in fractions, and rounded at the very end.
//
// The node meter of a Witness node reads less than its children from the first
// second on. For five minutes it is the root, and the (negative) remainder is
// shared; from the first window edge after that the children are roots.
func (s *Simulation) Truth() []TruthRow {
	b := newBooks()
	for i := range s.o.Nodes {
		n := s.node(i)
		l := &ledger{n: n, books: b, windowMS: s.o.Window.Milliseconds(), demotion: s.demotion(i)}
		l.walk()
	}
	return b.rows()
}

// demotion is when the node meter ceases to be the root; beyond the end where
// it never does.
func (s *Simulation) demotion(i int) int64 {
	if s.layout(i) != Witness {
		return s.length() + 1
	}
	w, start := s.o.Window.Milliseconds(), s.o.Start.UnixMilli()
	fires := start + demoteMS
	return (fires+w-1)/w*w - start
}

// ledger follows one node.
type ledger struct {
	n         *simNode
	books     *books
	windowMS  int64
	demotion  int64
	entries   []entry // per meter
	straddled int     // gaps that reach over a job edge; the script has none
}

// entry of a meter. Energies are in halves of a microjoule, for the trapezoid.
type entry struct {
	last       int64 // the last good reading
	wrong      bool  // a wrong one came after it
	seg, doubt int64 // since the last job edge
	told       int64 // since the start
	real       int64 // what was drawn since then
	doubtful   int64 // the doubt since then
	booked     int64 // what was told as a root
	epochs     int64
}

func (l *ledger) walk() {
	n := l.n
	es := n.edges()
	instants := n.instants(es)
	l.entries = make([]entry, len(n.meters))
	begun := int64(0) // of the segment
	for _, ms := range instants {
		for i, m := range n.meters {
			l.look(&l.entries[i], m, ms)
		}
		edge := len(es) > 0 && es[0].ms == ms
		if edge {
			es = es[1:]
		}
		if edge || ms == l.demotion || ms == n.length {
			l.book(begun, ms)
			begun = ms
		}
	}
	l.meters()
}

// look takes a reading into account.
func (l *ledger) look(e *entry, m *simMeter, ms int64) {
	switch _, look := l.n.read(m, ms); {
	case look == lookWrong:
		e.wrong = true
		return
	case look != lookTold:
		return
	case ms == 0:
		e.epochs = 1
		return
	}
	drawn := 2 * (m.track.energy(ms) - m.track.energy(e.last))
	told := drawn
	before, _ := l.n.resets(m, e.last)
	after, _ := l.n.resets(m, ms)
	switch {
	case m.scope.Kind == collector.Power && ms-e.last > maxGapMS:
		told = 0
	case m.scope.Kind == collector.Power:
		told = (m.track.at(e.last) + m.track.at(ms)) * (ms - e.last)
	case before != after:
		told = 0
		e.epochs++
	}
	e.seg, e.told, e.real = e.seg+told, e.told+told, e.real+drawn
	if e.wrong {
		e.doubt, e.doubtful = e.doubt+told, e.doubtful+told
	}
	e.last, e.wrong = ms, false
}

// part is energy that is shared in one way.
type part struct {
	energy, doubt int64 // halves of a microjoule
	edge          int64 // microjoules that a job edge may move
	gpu           int   // or -1: by CPUs
}

// book gives the energy of a segment, in which nobody came or went, to those
// who were there.
func (l *ledger) book(from, to int64) {
	parts := l.parts(to)
	for _, p := range parts {
		before, after := l.n.shares(from, p.gpu), l.n.shares(to, p.gpu)
		for who, share := range before {
			o := l.books.owner(l.n, who)
			o.add(&o.energy, share, p.energy)
			o.add(&o.doubt, share, p.doubt)
			windows := int64(2)
			if share.Cmp(big.NewRat(1, 1)) != 0 {
				windows += (to - from) / l.windowMS
			}
			o.add(&o.slack, big.NewRat(1, 1), 2*1000*windows)
		}
		for who := range before {
			if after[who] == nil {
				after[who] = new(big.Rat)
			}
		}
		for who, share := range after {
			change := new(big.Rat).Set(share)
			if b := before[who]; b != nil {
				change.Sub(change, b)
			}
			o := l.books.owner(l.n, who)
			o.add(&o.slack, change.Abs(change), 2*p.edge)
		}
	}
	if to == l.demotion {
		l.demote(to)
	}
	for i := range l.entries {
		e := &l.entries[i]
		if e.last != to {
			l.straddled++
		}
		e.seg, e.doubt = 0, 0
	}
}

// parts are the energies of the segment that ends now, each with its own way of
// being shared, and who is a root.
func (l *ledger) parts(to int64) []part {
	var out []part
	rest := part{gpu: -1}
	for i, m := range l.n.meters {
		e := &l.entries[i]
		p := part{energy: e.seg, doubt: e.doubt, gpu: m.gpu, edge: int64(m.scope.Resolution) + 1}
		if m.every > 1 {
			p.edge += m.track.at(to) * m.every
		}
		parent := l.n.layout.tree() && m.scope.Name == "node"
		child := l.n.layout.tree() && !parent
		demoted := to > l.demotion
		if parent && demoted {
			continue
		}
		if !child || demoted {
			e.booked += e.seg
		}
		switch {
		case parent:
			rest.energy += p.energy
			rest.edge += p.edge
			continue
		case child && !demoted:
			rest.energy -= p.energy
			rest.edge += p.edge
		}
		out = append(out, p)
	}
	if rest.edge > 0 {
		out = append(out, rest)
	}
	return out
}

// demote allows for a window's remainder on either side of the edge.
func (l *ledger) demote(at int64) {
	from, to := max(0, at-l.windowMS), min(l.n.length, at+l.windowMS)
	var rest int64
	for _, m := range l.n.meters {
		uj := m.track.energy(to) - m.track.energy(from)
		if m.scope.Name == "node" {
			uj = -uj
		}
		rest += uj
	}
	whole := big.NewRat(1, 1)
	owners := map[int]bool{}
	for _, ms := range []int64{from, at, to} {
		for who := range l.n.shares(ms, -1) {
			owners[who] = true
		}
	}
	for who := range owners {
		o := l.books.owner(l.n, who)
		o.add(&o.slack, whole, 2*rest)
	}
	l.books.total.add(&l.books.total.slack, whole, 2*rest)
}

// meters books what each meter told, and what it could not tell.
func (l *ledger) meters() {
	whole := big.NewRat(1, 1)
	for i, m := range l.n.meters {
		e := l.entries[i]
		id := l.n.name + "/" + m.scope.Name
		slack := 2*int64(m.scope.Resolution)*e.epochs + 1000
		if m.scope.Modulus > 0 { // the range is short of the real modulus by less than a step
			slack += (e.real/2/int64(m.scope.Modulus) + 1) * int64(m.scope.Resolution)
		}
		o := l.books.row(KindMeter, id)
		if m.scope.Name == "node" && l.demotion <= l.n.length {
			o.add(&o.energy, whole, e.booked)
			o.add(&o.slack, whole, 2*l.windowMS*m.track.at(l.demotion))
			w := l.books.row(KindWitness, id)
			w.add(&w.energy, whole, e.told-e.booked)
		} else {
			o.add(&o.energy, whole, e.told)
		}
		o.add(&o.doubt, whole, e.doubtful)
		o.add(&o.slack, whole, 2*slack)
		if e.real != e.told {
			o := l.books.row(KindMissing, id)
			o.add(&o.energy, whole, e.real-e.told)
		}
		t := l.books.total
		t.add(&t.energy, whole, e.booked)
		if e.booked != 0 {
			t.add(&t.slack, whole, 2*slack)
			t.add(&t.doubt, whole, e.doubtful)
		}
	}
}

// shares of those who hold a GPU (or, for -1, the CPUs) at an instant; they add
// up to one.
func (n *simNode) shares(ms int64, gpu int) map[int]*big.Rat {
	out := map[int]*big.Rat{}
	sum := new(big.Rat)
	for i, r := range n.runs {
		if r.from > ms || ms >= r.to {
			continue
		}
		share := new(big.Rat)
		if gpu < 0 {
			share.SetFrac64(r.part(n))
		} else {
			share.SetFrac64(r.weight(gpu), job.Whole)
		}
		if share.Sign() > 0 {
			out[i] = share
			sum.Add(sum, share)
		}
	}
	whole := big.NewRat(1, 1)
	switch sum.Cmp(whole) {
	case 1:
		for _, share := range out {
			share.Quo(share, sum)
		}
	case -1:
		out[nobody] = whole.Sub(whole, sum)
	}
	return out
}

// weight of a GPU that the job holds, in millionths.
func (r run) weight(gpu int) int64 {
	if r.spec.WholeNode() {
		return job.Whole
	}
	var w int64
	for _, g := range r.spec.GPUs {
		if g.Device == gpuName(gpu) {
			w += int64(g.Weight)
		}
	}
	return w
}

// rounded to the nearest millijoule.
func rounded(uj *big.Rat) energy.Millijoules {
	num := new(big.Int).Add(new(big.Int).Mul(uj.Num(), big.NewInt(2)), new(big.Int).Mul(uj.Denom(), big.NewInt(1000)))
	den := new(big.Int).Mul(uj.Denom(), big.NewInt(2000))
	return energy.Millijoules(new(big.Int).Div(num, den).Int64()) // Div rounds down
}
