// Package simulated is a node without hardware: a source for demonstrations and
// tests of the live agent. Its counters are a pure function of seed, start and
// time, so they go on whatever happens to the agent, and anybody can ask for the
// truth of any span (see Source.Counter). It keeps no state and has no faults.
package simulated

import (
	"context"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

// Cycle is how long the pattern of power is, at the end of which it repeats.
const Cycle = cycleSeconds * time.Second

const (
	cycleSeconds = 600
	maxGPUs      = 64
	// Where RAPL counters wrap: 2^32-1 units of 61.035 and of 15.3 uJ.
	packageRange = energy.Microjoules(262_143_328_850)
	dramRange    = energy.Microjoules(65_712_999_613)
)

// Options describes the node.
type Options struct {
	Seed uint64
	GPUs int // 0 to 64
	// Start is when the counters were zero.
	Start time.Time
	// Epoch names the counters' life; empty for "simulated-" and the start in
	// Unix seconds.
	Epoch string
	// Parent adds a node counter that contains the others and 12 % more.
	Parent bool
	// Now is the clock.
	Now func() time.Time
}

// Source reads the simulated node: gpu0 and so on, package0, dram0 and, with
// Parent, node. It may be used by several goroutines at once.
type Source struct {
	o      Options
	meters []meter
	index  map[string]int
}

// meter draws constant power for a second at a time.
type meter struct {
	scope      collector.Scope
	milliwatts [cycleSeconds]uint64
	works      [cycleSeconds]bool
	sum        [cycleSeconds + 1]uint64 // microjoules up to a second of the cycle
}

// New makes the source.
func New(o Options) (*Source, error) {
	switch {
	case o.GPUs < 0 || o.GPUs > maxGPUs:
		return nil, fmt.Errorf("cannot simulate %d GPUs: 0 to %d", o.GPUs, maxGPUs)
	case o.Start.IsZero() || o.Now == nil:
		return nil, fmt.Errorf("cannot simulate a node without a start and a clock")
	}
	if o.Epoch == "" {
		o.Epoch = fmt.Sprintf("simulated-%d", o.Start.Unix())
	}
	s := &Source{o: o, index: map[string]int{}}
	parent := ""
	if o.Parent {
		parent = "node"
	}
	add := func(name string, class energy.Class, modulus energy.Microjoules, limit energy.Microwatts, rest, busy, noise uint64) {
		s.index[name] = len(s.meters)
		m := meter{scope: collector.Scope{
			Name: name, Parent: parent, Class: class, Modulus: modulus, Limit: limit * energy.Watt, Device: "simulated-" + name,
		}}
		m.draw(rand.New(rand.NewPCG(o.Seed, uint64(len(s.meters))+1)), rest, busy, noise)
		s.meters = append(s.meters, m)
	}
	for i := range o.GPUs {
		add(fmt.Sprintf("gpu%d", i), energy.GPU, 0, 1000, 70, 300, 400)
	}
	add("package0", energy.CPU, packageRange, 500, 80, 150, 150)
	add("dram0", energy.Memory, dramRange, 150, 12, 25, 30)
	return s, nil
}

// draw fills a cycle with phases of 5 to 60 s, one in three at rest.
func (m *meter) draw(rng *rand.Rand, rest, busy, noise uint64) {
	for i := 0; i < cycleSeconds; {
		works := rng.IntN(3) > 0
		level := rest
		if works {
			level = busy + rng.Uint64N(noise)
		}
		for n := 5 + rng.IntN(56); n > 0 && i < cycleSeconds; n-- {
			m.milliwatts[i], m.works[i] = level*1000+rng.Uint64N(10_000), works
			m.sum[i+1] = m.sum[i] + m.milliwatts[i]*1000
			i++
		}
	}
}

// phase is how many cycles and whole seconds of the next have passed since the
// start, and the nanoseconds after that. Before the start nothing passes.
func (s *Source) phase(at time.Time) (cycles, second, ns uint64) {
	d := at.Sub(s.o.Start)
	if d < 0 {
		return 0, 0, 0
	}
	return uint64(d / Cycle), uint64(d % Cycle / time.Second), uint64(d % time.Second)
}

// counter is the energy since the start, rounded down.
func (m *meter) counter(cycles, second, ns uint64) energy.Microjoules {
	// Milliwatts times nanoseconds are 1e-12 J.
	return energy.Microjoules(cycles*m.sum[cycleSeconds] + m.sum[second] + m.milliwatts[second]*ns/1_000_000)
}

// withOverhead is what a node meter sees of the sum of its parts.
func withOverhead[T ~uint64](sum T) T {
	hi, lo := bits.Mul64(uint64(sum), 112)
	q, _ := bits.Div64(hi, lo, 100)
	return T(q)
}

// Counter is the energy that the meter's scope has drawn from the start up to an
// instant, rounded down to a microjoule; unlike the counter that Read gives it
// does not wrap. It is 0 for a meter that is not there.
func (s *Source) Counter(name string, at time.Time) energy.Microjoules {
	cycles, second, ns := s.phase(at)
	if i, ok := s.index[name]; ok {
		return s.meters[i].counter(cycles, second, ns)
	}
	var sum energy.Microjoules
	if name == "node" && s.o.Parent {
		for i := range s.meters {
			sum += s.meters[i].counter(cycles, second, ns)
		}
	}
	return withOverhead(sum)
}

// Power is what the meter's scope draws at an instant, constant for a second
// from the start on. It is 0 for a meter that is not there, and before the start.
func (s *Source) Power(name string, at time.Time) energy.Microwatts {
	if at.Before(s.o.Start) {
		return 0
	}
	_, second, _ := s.phase(at)
	if i, ok := s.index[name]; ok {
		return energy.Microwatts(s.meters[i].milliwatts[second] * 1000)
	}
	var sum energy.Microwatts
	if name == "node" && s.o.Parent {
		for i := range s.meters {
			sum += energy.Microwatts(s.meters[i].milliwatts[second] * 1000)
		}
	}
	return withOverhead(sum)
}

// Name is "simulated".
func (s *Source) Name() string { return "simulated" }

// Read gives every meter at one instant.
func (s *Source) Read(ctx context.Context) ([]collector.Reading, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	at := s.o.Now()
	_, second, _ := s.phase(at)
	out := make([]collector.Reading, 0, len(s.meters)+1)
	if s.o.Parent {
		out = append(out, collector.Reading{
			Scope: collector.Scope{Name: "node", Class: energy.Node, Rest: energy.Other, Limit: energy.Microwatts(1000+1200*s.o.GPUs) * energy.Watt, Device: "simulated-node"},
			At:    at, Epoch: s.o.Epoch, Counter: s.Counter("node", at), Power: s.Power("node", at), HasPower: true,
		})
	}
	for i := range s.meters {
		m := &s.meters[i]
		r := collector.Reading{
			Scope: m.scope, At: at, Epoch: s.o.Epoch, Counter: s.Counter(m.scope.Name, at),
			Power: s.Power(m.scope.Name, at), HasPower: true,
		}
		if m.scope.Modulus > 0 {
			r.Counter %= m.scope.Modulus
		}
		if m.scope.Class == energy.GPU {
			r.Activity, r.Gauges = m.gauges(second)
		}
		out = append(out, r)
	}
	return out, nil
}

func (m *meter) gauges(second uint64) (collector.Activity, []collector.Gauge) {
	watts := float64(m.milliwatts[second]) / 1000
	activity, used, memory := collector.Resting, 0.0, 1.5e9
	if m.works[second] {
		activity, used, memory = collector.Working, min(1, watts/700), 1.5e9+watts*1e8
	}
	return activity, []collector.Gauge{
		{Name: "utilization_ratio", Value: used},
		{Name: "temperature_celsius", Value: 30 + watts/15},
		{Name: "memory_used_bytes", Value: memory},
	}
}
