package site

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// faultKind is what can go wrong with a node.
type faultKind uint8

const (
	faultLoss      faultKind = iota // the node dies and comes back with another boot, disk and agent
	faultSkew                       // its clock is off, all the time
	faultLate                       // its windows are kept and sent later
	faultDuplicate                  // it sends everything twice
	faultReset                      // its driver is loaded again: counters begin anew
	faultXid                        // the driver reports errors
	faultThermal                    // a GPU is too hot and slows down
	faultStuck                      // a counter stands still
	numFaults
)

func faultWords() []string {
	return []string{"loss", "skew", "late", "duplicate", "reset", "xid", "thermal", "stuck"}
}

// Faults names the kinds there are.
func Faults() []string { return faultWords() }

// ParseFaults reads "all", "none" or names with commas.
func ParseFaults(list string) ([]string, error) {
	switch list {
	case "", "none":
		return nil, nil
	case "all":
		return faultWords(), nil
	}
	names := strings.Split(list, ",")
	for _, n := range names {
		if !slices.Contains(faultWords(), n) {
			return nil, fmt.Errorf("there is no fault %q: all, none, or some of %s", n, strings.Join(faultWords(), ","))
		}
	}
	return names, nil
}

// fault of one node. Times are whole seconds, in Unix ms.
type fault struct {
	kind     faultKind
	node     int32
	from, to int64
	gpu      int
	number   int // Xid
}

// perMillion says how many faults of a kind a million node hours bring; each
// kind asked for happens at least once in the first hour.
func (k faultKind) perMillion() int {
	return [numFaults]int{faultLoss: 300, faultLate: 1500, faultDuplicate: 1000, faultReset: 150, faultXid: 600, faultThermal: 900, faultStuck: 100}[k]
}

// faultPlan draws faults, an hour at a time.
type faultPlan struct {
	kinds []faultKind
	from  int64 // before this there are none
	rng   *rand.Rand
	busy  map[int32]int64 // until when a node has one
	first bool
}

func newFaultPlan(names []string, seed uint64, from int64) *faultPlan {
	p := &faultPlan{from: from, rng: rand.New(rand.NewPCG(seed, 0x6661756c74)), busy: map[int32]int64{}, first: true}
	for k := range numFaults {
		if slices.Contains(names, faultWords()[k]) {
			p.kinds = append(p.kinds, k)
		}
	}
	return p
}

// skews gives the clock error of each node, in ms: whole windows, so that the
// site's windows stay aligned to its clock.
func (p *faultPlan) skews(nodes int) []int64 {
	out := make([]int64, nodes)
	if slices.Contains(p.kinds, faultSkew) {
		for range 1 + nodes/2000 {
			out[p.rng.IntN(nodes)] = []int64{40_000, -40_000, 70_000, -90_000}[p.rng.IntN(4)]
		}
	}
	return out
}

// hour draws the faults of an hour that begins at from.
func (p *faultPlan) hour(from int64, nodes, gpus int) []*fault {
	var out []*fault
	for n, until := range p.busy {
		if until < from {
			delete(p.busy, n)
		}
	}
	for _, k := range p.kinds {
		if k == faultSkew {
			continue
		}
		count := (k.perMillion()*nodes + p.rng.IntN(1_000_000)) / 1_000_000
		if p.first {
			count = max(1, count)
		}
		for range count {
			if f := p.one(k, from, nodes, gpus); f != nil {
				out = append(out, f)
			}
		}
	}
	p.first = false
	slices.SortStableFunc(out, func(a, b *fault) int { return int(a.from - b.from) })
	return out
}

// one draws a fault; nil where its node has one already.
func (p *faultPlan) one(k faultKind, from int64, nodes, gpus int) *fault {
	within := int64(3500)
	if p.first {
		within = 400 // a short simulation sees each kind
	}
	f := &fault{kind: k, node: int32(p.rng.IntN(nodes)), from: from + 1000*(60+p.rng.Int64N(within-60)), gpu: p.rng.IntN(gpus)}
	seconds := map[faultKind]int64{
		faultLoss: 300 + p.rng.Int64N(900), faultLate: 120 + p.rng.Int64N(900), faultDuplicate: 60 + p.rng.Int64N(300),
		faultThermal: 600 + p.rng.Int64N(1200), faultStuck: 120 + p.rng.Int64N(240),
	}[k]
	f.to = f.from + 1000*seconds
	f.number = []int{79, 48, 31, 13, 63, 74, 119}[p.rng.IntN(7)]
	for tries := 0; p.busy[f.node] > 0; tries++ {
		if tries > 20 {
			return nil
		}
		f.node = int32(p.rng.IntN(nodes))
	}
	p.busy[f.node] = f.to + hourMS/6
	return f
}

// plan puts the faults of the hour into the schedule.
func (s *schedule) plan() {
	for _, f := range s.faults.hour(s.now, len(s.owner), s.m.gpus) {
		at := f.from
		if f.kind == faultReset {
			at -= 1000 // the second before it is lost
		}
		s.add(event{ms: at, back: -1, fault: f})
	}
	s.add(event{ms: s.now + hourMS, back: -1, plan: true})
}

// strike tells a node of its fault; what runs on a node that dies ends.
func (s *schedule) strike(f *fault) {
	if f.kind == faultLoss {
		s.fail(f.node, f.to+30_501)
	}
	s.edges[f.node] = append(s.edges[f.node], edge{ms: s.now, kind: fails, fault: f})
}
