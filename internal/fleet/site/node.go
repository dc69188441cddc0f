package site

import (
	"fmt"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// node is one of the site. All times are of the site; what goes over the wire is
// shifted by the error of the node's clock.
type node struct {
	index int32
	name  string
	seed  uint64
	skew  int64 // ms
	at    int64 // all before is in a window or lost

	boots, loads int // since the beginning: of the node, of the driver
	cat          *window.Catalogue
	drawn        []uint64 // uJ: what each counter has counted
	told         []uint64 // what was last told of it
	held         []*alloc
	gone         []*alloc // ended while the node was down
	thermal      [maxGPUs]int64
	faults       [numFaults]*fault
	events       []window.Event

	link    agentLink
	metered []energy.Millijoules // acknowledged, by meter
}

// alloc is a job on this node.
type alloc struct {
	job      *Job
	from, to int64 // to is 0 while it runs
}

func newNode(s *Site, i int32) *node {
	n := &node{index: i, name: s.m.node(int(i)), seed: mix(s.o.Seed<<20 ^ uint64(i)), at: s.first, skew: s.skews[i]}
	n.drawn, n.told = make([]uint64, len(s.m.defs)), make([]uint64, len(s.m.defs))
	n.boot(s)
	return n
}

// boot starts every counter, at random heights.
func (n *node) boot(s *Site) {
	n.boots++
	for i := range n.drawn {
		n.reset(s, i)
	}
	n.thermal = [maxGPUs]int64{}
	n.catalogue(s)
	n.link.booted(s, n)
}

// reset gives a counter another beginning.
func (n *node) reset(s *Site, i int) {
	d := &s.m.defs[i]
	n.drawn[i] = 0
	if d.Kind == collector.Counter && n.boots == 1 && n.loads == 0 {
		n.drawn[i] = mix(n.seed+uint64(i)) % 200_000_000_000
	}
	n.told[i] = n.drawn[i] - n.drawn[i]%uint64(d.step)
}

// catalogue names the meters with their epochs.
func (n *node) catalogue(s *Site) {
	c := &window.Catalogue{Policy: "allocation/v1", Meters: make([]window.Meter, len(s.m.defs))}
	for i := range s.m.defs {
		d, t := &s.m.defs[i], &s.m.tree.Nodes[i]
		m := window.Meter{
			Name: d.Name, Class: t.PostClass(), Root: t.Root(), Leaf: t.Leaf(),
			Integrated: d.Kind == collector.Power, Modulus: d.Modulus,
		}
		if t.Up >= 0 {
			m.Parent = s.m.tree.Nodes[t.Up].Name
		}
		m.Epoch = fmt.Sprintf("%s-%d", s.digest, n.boots)
		if s.m.reloaded(d) {
			m.Epoch = fmt.Sprintf("%s-%d", m.Epoch, n.loads)
		}
		c.Meters[i] = m
	}
	c.ID = wire.CatalogueID(c)
	n.cat = c
}

// happens lets something happen at its instant. dead is true where that was the
// end of the node.
func (n *node) happens(e *edge) (dead bool) {
	switch e.kind {
	case begins:
		n.held = append(n.held, &alloc{job: e.job, from: e.ms})
	case ends:
		for _, a := range n.held {
			if a.job == e.job && a.to == 0 {
				a.to = e.ms
			}
		}
	case fails:
		n.faults[e.fault.kind] = e.fault
		return e.fault.kind == faultLoss
	}
	return false
}

// suffers tells whether a fault holds at an instant.
func (n *node) suffers(k faultKind, ms int64) bool {
	f := n.faults[k]
	return f != nil && f.from <= ms && ms < f.to
}

// silent tells whether a meter gives nothing in a second: it stands still, or
// its driver goes at the end of it. What lies inside a silent module is not told
// either: nothing would contain it.
func (n *node) silent(m *machine, d *scopeDef, ms int64) bool {
	inside := d.Parent != "" && d.Parent != "node"
	if n.suffers(faultStuck, ms) && (d.device() || inside) && d.unit == n.faults[faultStuck].gpu {
		return true
	}
	f := n.faults[faultReset]
	return f != nil && (m.reloaded(d) || inside) && f.from-1000 <= ms && ms < f.from
}

// forget drops the allocations that have ended and were told.
func (n *node) forget() {
	kept := n.held[:0]
	for _, a := range n.held {
		if a.to == 0 {
			kept = append(kept, a)
		}
	}
	clear(n.held[len(kept):])
	n.held = kept
}

func (n *node) event(ms int64, kind, meter, detail string) {
	n.events = append(n.events, window.Event{AtMS: ms + n.skew, Kind: kind, Meter: meter, Detail: detail})
}
