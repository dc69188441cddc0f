package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/job"
)

// SimOptions describes a simulation. The same options give the same steps and
// the same truth.
type SimOptions struct {
	Seed  uint64
	Nodes int
	// Start is the first instant, a whole second; every node is read then.
	Start time.Time
	// For is how long it lasts: whole seconds, 10 minutes or more. The last
	// reading is at Start + For.
	For time.Duration
	// Layouts are given to the nodes in turn; empty for all there are.
	Layouts []Layout
	// NodeCPUs is how many CPUs a node has; 0 for 32.
	NodeCPUs int
	// Window is how long the agent's windows are; 0 for 10 s. It matters to the
	// truth only where a parent reads less than its children.
	Window time.Duration
	// NoFaults leaves out resets, gaps and wrong readings. Wraps stay.
	NoFaults bool
}

// Simulation is a set of nodes whose power, counters, jobs and faults follow
// from a seed.
type Simulation struct {
	o SimOptions
}

// Simulate checks the options. Nodes are computed when they are used.
func Simulate(o SimOptions) (*Simulation, error) {
	if o.NodeCPUs == 0 {
		o.NodeCPUs = 32
	}
	if o.Window == 0 {
		o.Window = 10 * time.Second
	}
	if len(o.Layouts) == 0 {
		o.Layouts = Layouts()
	}
	o.Layouts = slices.Clone(o.Layouts)
	o.Start = o.Start.UTC()
	switch {
	case o.Nodes < 1 || o.Nodes > 100_000:
		return nil, fmt.Errorf("cannot simulate %d nodes: from 1 to 100000", o.Nodes)
	case o.For < 10*time.Minute || o.For%time.Second != 0 || o.For > 7*24*time.Hour:
		return nil, fmt.Errorf("cannot simulate for %v: whole seconds, from 10 minutes to 7 days", o.For)
	case o.Start.Nanosecond() != 0 || o.Start.Unix() <= 0:
		return nil, fmt.Errorf("cannot simulate from %v on: it is not a whole second after 1970", o.Start)
	case o.NodeCPUs < 8:
		return nil, fmt.Errorf("cannot simulate nodes of %d CPUs: 8 or more", o.NodeCPUs)
	case o.Window < time.Second || o.Window%time.Second != 0:
		return nil, fmt.Errorf("cannot simulate for windows of %v: whole seconds", o.Window)
	}
	for _, l := range o.Layouts {
		if !slices.Contains(Layouts(), l) {
			return nil, fmt.Errorf("cannot simulate layout %q: there are %v", l, Layouts())
		}
	}
	return &Simulation{o: o}, nil
}

// Feeds gives a feed of every node, in the order of their names, each from its
// beginning.
func (s *Simulation) Feeds() []Feed {
	var out []Feed
	for i := range s.o.Nodes {
		out = append(out, &simulatedFeed{sim: s, index: i})
	}
	return out
}

// Digest names the simulation for what its options make of it: 16 characters of
// a SHA-256.
func (s *Simulation) Digest() string {
	o := s.o
	sum := sha256.Sum256(fmt.Appendf(nil, "simulation/1 %d %d %d %d %q %d %d %t",
		o.Seed, o.Nodes, o.Start.Unix(), o.For, o.Layouts, o.NodeCPUs, o.Window, o.NoFaults))
	return hex.EncodeToString(sum[:])[:16]
}

// Layout says how a node of the simulation is metered.
func (s *Simulation) Layout(node string) (Layout, bool) {
	for i := range s.o.Nodes {
		if s.name(i) == node {
			return s.layout(i), true
		}
	}
	return "", false
}

func (s *Simulation) name(i int) string { return fmt.Sprintf("sim-%05d", i) }

func (s *Simulation) layout(i int) Layout { return s.o.Layouts[i%len(s.o.Layouts)] }

func (s *Simulation) length() int64 { return s.o.For.Milliseconds() }

// simNode is a node in full: what happens on it and the power of its meters.
// Times are milliseconds since the start.
type simNode struct {
	name     string
	layout   Layout
	start    time.Time
	length   int64
	nodeCPUs int
	gpus     int
	runs     []run
	faults   []fault
	meters   []*simMeter
}

// run is a job on this node.
type run struct {
	spec     job.Spec
	from, to int64 // to > length: it still runs at the end
	rests    bool  // it never does anything
}

func (s *Simulation) node(i int) *simNode {
	n := &simNode{
		name: s.name(i), layout: s.layout(i), start: s.o.Start, length: s.length(),
		nodeCPUs: s.o.NodeCPUs, gpus: s.layout(i).gpus(),
	}
	n.runs = s.runs(i)
	if !s.o.NoFaults {
		n.faults = s.faults(i)
	}
	n.meters = n.layout.meters()
	n.draw(s.o.Seed, i)
	return n
}

// edges of the node's jobs, those within the simulation.
func (n *simNode) edges() edges {
	var es edges
	for _, r := range n.runs {
		es.begin(r.from, r.spec)
		if r.to <= n.length {
			es.end(r.to, r.spec.ID)
		}
	}
	return es
}

// instants at which the node is looked at: every second, and at job edges.
func (n *simNode) instants(es edges) []int64 {
	var out []int64
	for ms := int64(0); ms <= n.length; ms += tick {
		if !n.missed(ms) {
			out = append(out, ms)
		}
	}
	for _, e := range es {
		out = append(out, e.ms)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

type simulatedFeed struct {
	sim      *Simulation
	index    int
	node     *simNode // made at the first step, dropped after the last
	edges    edges
	instants []int64
	done     bool
}

// Node is the name of the node.
func (f *simulatedFeed) Node() string { return f.sim.name(f.index) }

// Next reads the node at the next instant at which there is something to tell.
func (f *simulatedFeed) Next() (Step, error) {
	if f.node == nil && !f.done {
		f.node = f.sim.node(f.index)
		f.edges = f.node.edges()
		f.instants = f.node.instants(f.edges)
	}
	for len(f.instants) > 0 {
		ms := f.instants[0]
		f.instants = f.instants[1:]
		if s := f.step(ms); len(s.Readings) > 0 || len(s.Ends) > 0 || len(s.Begins) > 0 {
			return s, nil
		}
	}
	f.node, f.done = nil, true
	return Step{}, io.EOF
}

func (f *simulatedFeed) step(ms int64) Step {
	s := Step{At: f.node.at(ms)}
	if len(f.edges) > 0 && f.edges[0].ms == ms {
		s.Ends, s.Begins = f.edges[0].ends, f.edges[0].begins
		f.edges = f.edges[1:]
	}
	s.Readings = make([]collector.Reading, 0, len(f.node.meters))
	for _, m := range f.node.meters {
		if r, look := f.node.read(m, ms); look != lookNone {
			s.Readings = append(s.Readings, r)
		}
	}
	return s
}

func (n *simNode) at(ms int64) time.Time { return n.start.Add(time.Duration(ms) * time.Millisecond) }
