package attribution_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/attribution"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/meter"
	"github.com/wattledger/wattledger/internal/window"
)

// check is what must hold of any output: the books close, device time closes,
// jobs have uses of jobs, and nobody is paid but by a remainder.
func check(in attribution.Input, out attribution.Output, spanMS int64) error {
	var metered, booked energy.Millijoules
	var times [energy.NumClasses]int64
	var rests [energy.NumClasses]bool
	for i := range in.Tree.Nodes {
		n := &in.Tree.Nodes[i]
		if n.Root() {
			metered += in.Energy[i]
		}
		if n.Leaf() {
			times[n.Class] += spanMS
		} else {
			rests[n.PostClass()] = true
		}
	}
	for i := range out.Postings {
		p := &out.Postings[i]
		booked += p.Energy
		times[p.Class] -= p.DeviceMS
		switch {
		case p.Energy < 0 && !rests[p.Class]:
			return fmt.Errorf("class %v, which is no remainder, is booked %d mJ", p.Class, p.Energy)
		case (p.Job >= 0) != (p.Use == energy.Busy || p.Use == energy.Held):
			return fmt.Errorf("job %d has the use %v", p.Job, p.Use)
		case p.Job < -1 || p.Job >= len(in.Allocations):
			return fmt.Errorf("job %d of %d", p.Job, len(in.Allocations))
		case p.DeviceMS < 0:
			return fmt.Errorf("device time %d ms", p.DeviceMS)
		case i > 0 && out.Postings[i-1].Job == p.Job && out.Postings[i-1].Class == p.Class && out.Postings[i-1].Use == p.Use && out.Postings[i-1].Grade == p.Grade:
			return errors.New("two postings of one key")
		}
	}
	for _, a := range out.Absences {
		times[a.Class] -= a.DeviceMS
	}
	if metered != booked {
		return fmt.Errorf("metered %d mJ, booked %d mJ", metered, booked)
	}
	for c, ms := range times {
		if ms != 0 {
			return fmt.Errorf("device time of %v is %d ms off", energy.Class(c), ms)
		}
	}
	return nil
}

// node is a tree of a known shape: depth three at most.
func trees(t testing.TB) []*meter.Tree {
	t.Helper()
	gpu0, gpu1 := collector.Scope{Name: "gpu0", Class: energy.GPU}, collector.Scope{Name: "gpu1", Class: energy.GPU}
	in := func(s collector.Scope, parent string) collector.Scope { s.Parent = parent; return s }
	pkg := collector.Scope{Name: "package0", Class: energy.CPU}
	node := collector.Scope{Name: "node", Class: energy.Node}
	dram := collector.Scope{Name: "dram0", Class: energy.Memory}
	module := collector.Scope{Name: "module0", Class: energy.GPU, Rest: energy.GPU, Parent: "node"}
	var out []*meter.Tree
	for _, scopes := range [][]collector.Scope{
		{gpu0},
		{gpu0, gpu1, pkg, dram},
		{node},
		{node, in(gpu0, "node"), in(gpu1, "node"), in(pkg, "node")},
		{node, in(pkg, "node"), in(dram, "package0"), gpu0},
		{node, module, in(pkg, "module0"), in(gpu1, "node")},
		{node, module, in(pkg, "module0"), in(gpu0, "module0"), dram},
	} {
		tree, err := meter.New(scopes)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, tree)
	}
	return out
}

const fuzzSpan = 10_000 // ms

// random fills an input from a source of randomness.
type maker struct {
	r  *rand.PCG
	in attribution.Input
}

func (m *maker) n(most uint64) uint64 { return m.r.Uint64() % most }

func (m *maker) allocations() {
	ids := [...]string{"j0", "j1", "j2", "j3", "j4"}
	devices := [...]string{"gpu0", "gpu1", "gpu9"}
	m.in.CPUs = uint32(m.n(3) * 8)
	m.in.MemoryBytes = m.n(2) * m.n(1<<40)
	m.in.Allocations = m.in.Allocations[:0]
	for i := range m.n(6) {
		a := job.Allocation{From: int64(m.n(fuzzSpan)) * 1e6}
		a.ID = ids[i]
		if m.n(2) == 0 {
			a.To = a.From + 1 + int64(m.n(fuzzSpan))*1e6
		}
		for range m.n(3) {
			a.GPUs = append(a.GPUs, window.Share{Device: devices[m.n(3)], Weight: 1 + uint32(m.n(whole))})
		}
		a.CPUs = uint32(m.n(2) * m.n(20))
		a.Exclusive = m.n(8) == 0
		a.MemoryBytes = m.n(2) * m.n(1<<41)
		if m.n(8) == 0 {
			a.Unplaced = []string{"minor:9"}
		}
		m.in.Allocations = append(m.in.Allocations, a)
	}
}

func (m *maker) pieces() {
	for i := range m.in.Tree.Nodes {
		out := m.in.Pieces[i][:0]
		at := int64(0)
		var total energy.Microjoules
		for at < fuzzSpan {
			to := min(at+1+int64(m.n(fuzzSpan)), fuzzSpan)
			x := m.r.Uint64()
			p := attribution.Piece{
				Hold: at * 1e6, FromMS: at, ToMS: to, Missing: x&15 == 0, Unsure: x>>4&7 == 0,
				Grade: energy.Grade(x >> 8 % energy.NumGrades), Activity: collector.Activity(x >> 16 % 3),
			}
			if !p.Missing {
				p.UJ = energy.Microjoules(x >> 20 % (1 << (x >> 59)))
			}
			if x>>40&1 == 0 {
				p.Rest = energy.Microjoules(m.n(1 << 30))
				p.Uses = []attribution.Use{{Job: "j0", Part: uint32(m.n(1e6))}, {Job: "j2", Part: uint32(m.n(2) * m.n(1e6))}, {Job: "nobody", Part: 7}}
			}
			total += p.UJ
			out, at = append(out, p), to
		}
		m.in.Pieces[i] = out
		// as ranges are booked: floor(to) - floor(from), up to 1 mJ off the pieces
		from := energy.Microjoules(m.n(1000))
		m.in.Energy[i] = energy.Span(from, from+total)
	}
}

// FuzzAttribute: any tree, any jobs, any pieces.
func FuzzAttribute(f *testing.F) {
	all := trees(f)
	f.Add(uint64(1), uint64(2))
	f.Add(uint64(3), uint64(1)<<63)
	m := maker{r: rand.NewPCG(0, 0)}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		m.r.Seed(a, b)
		m.in.Tree = all[m.n(uint64(len(all)))]
		for len(m.in.Pieces) < 8 {
			m.in.Pieces = append(m.in.Pieces, nil)
			m.in.Energy = append(m.in.Energy, 0)
		}
		m.allocations()
		m.pieces()
		out := attribution.Attribute(m.in)
		if err := check(m.in, out, fuzzSpan); err != nil {
			t.Fatalf("seed %d %d: %v\n%+v", a, b, err, m.in)
		}
		if b&7 != 0 {
			return
		}
		// the order in which the jobs were told changes nothing
		other := m.in
		other.Allocations = slices.Clone(m.in.Allocations)
		slices.Reverse(other.Allocations)
		again := attribution.Attribute(other)
		if len(again.Postings) != len(out.Postings) {
			t.Fatalf("seed %d %d: %d postings, in another order of jobs %d", a, b, len(out.Postings), len(again.Postings))
		}
		for i, p := range again.Postings {
			if p.Job >= 0 {
				p.Job = len(other.Allocations) - 1 - p.Job
			}
			if p != out.Postings[i] {
				t.Fatalf("seed %d %d: posting %d is %+v, in another order of jobs %+v", a, b, i, out.Postings[i], p)
			}
		}
	})
}
