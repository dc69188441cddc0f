package fleet

import (
	"fmt"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

// Layout is how a simulated node is metered.
type Layout string

const (
	// Leonardo: GPU counters in millijoules renewed each 100 ms, RAPL-like
	// package and dram counters that wrap. Every meter is a root.
	Leonardo Layout = "leonardo"
	// Lumi: a node counter that contains those of GPUs, CPU and memory, all in
	// whole joules, renewed each 100 ms.
	Lumi Layout = "lumi"
	// Witness is Lumi with a node counter that reads 3 % less than its children.
	Witness Layout = "witness"
	// HGX: only a sensor of the node's power.
	HGX Layout = "hgx"
)

// Layouts are all there are.
func Layouts() []Layout { return []Layout{Leonardo, Lumi, Witness, HGX} }

func (l Layout) gpus() int {
	if l == HGX {
		return 8
	}
	return 4
}

// tree tells whether the node meter contains the others.
func (l Layout) tree() bool { return l == Lumi || l == Witness }

const (
	tick    = int64(1000) // ms between readings
	quantum = int64(100)  // ms of constant power
	// raplRange is how many units a RAPL-like counter counts before it wraps.
	raplRange = int64(1) << 32
)

// simMeter is a meter and the power of its scope.
type simMeter struct {
	scope collector.Scope
	gpu   int   // which GPU, or -1
	every int64 // ms between renewals of the counter
	step  int64 // nanojoules that the counter counts in
	// units is the counter at the start, in steps.
	units int64
	track track
}

func (l Layout) meters() []*simMeter {
	var out []*simMeter
	add := func(name string, class energy.Class, every, stepNJ int64, watts energy.Microwatts) *simMeter {
		m := &simMeter{gpu: -1, every: every, step: stepNJ, scope: collector.Scope{
			Name: name, Class: class, Limit: watts * energy.Watt, Resolution: energy.Microjoules((stepNJ + 999) / 1000),
			Device: "simulated-" + name,
		}}
		out = append(out, m)
		return m
	}
	gpus := func(stepNJ int64) {
		for g := range l.gpus() {
			add(fmt.Sprintf("gpu%d", g), energy.GPU, quantum, stepNJ, 1000).gpu = g
		}
	}
	switch l {
	case Leonardo:
		gpus(1_000_000)
		for i := range 2 {
			// As the kernel gives them: 2^32-1 units of 61.035 and of 15.3 uJ.
			add(fmt.Sprintf("package%d", i), energy.CPU, 1, 61_035, 500).scope.Modulus = 262_143_328_850
			add(fmt.Sprintf("dram%d", i), energy.Memory, 1, 15_300, 150).scope.Modulus = 65_712_999_613
		}
	case Lumi, Witness:
		n := add("node", energy.Node, quantum, 1_000_000_000, 8000)
		n.scope.Rest = energy.Other
		gpus(1_000_000_000)
		add("package0", energy.CPU, quantum, 1_000_000_000, 500)
		add("memory0", energy.Memory, quantum, 1_000_000_000, 150)
		for _, m := range out[1:] {
			m.scope.Parent = "node"
		}
	case HGX:
		n := add("node", energy.Node, 0, 1, 15_000)
		n.scope.Kind = collector.Power
		n.scope.Resolution = 0
	}
	return out
}

// look says what a reading is worth.
type look uint8

const (
	lookNone  look = iota // there is none
	lookStale             // the one before, again
	lookWrong             // its value cannot be
	lookTold              // as it should be
)

// read gives the reading of a meter at an instant, as its hardware would.
func (n *simNode) read(m *simMeter, ms int64) (collector.Reading, look) {
	worth := lookTold
	switch f, hit := n.fault(m, ms); {
	case !hit:
	case f.kind == silent:
		return collector.Reading{}, lookNone
	case f.kind == stale:
		ms -= tick
		worth = lookStale
	case f.kind == absurd:
		r := n.sense(m, ms)
		r.Counter += 5_000_000 * energy.Joule
		if m.scope.Kind == collector.Power {
			r.Power += 1_000_000 * energy.Watt
		}
		return r, lookWrong
	case f.kind == backwards:
		r := n.sense(m, ms)
		r.Counter /= 2
		return r, lookWrong
	}
	return n.sense(m, ms), worth
}

func (n *simNode) sense(m *simMeter, ms int64) collector.Reading {
	r := collector.Reading{Scope: m.scope, At: n.at(ms)}
	milliwatts := m.track.at(ms)
	r.Power, r.HasPower = energy.Microwatts(milliwatts)*1000, true
	if m.gpu >= 0 {
		r.Activity = collector.Resting
		if n.works(m.gpu, ms) {
			r.Activity = collector.Working
		}
		r.Gauges = []collector.Gauge{{Name: "temperature_celsius", Value: 30 + float64(milliwatts)/15_000}}
	}
	if m.scope.Kind == collector.Power {
		return r
	}
	resets, since := n.resets(m, ms)
	r.Epoch = fmt.Sprintf("driver-%d", resets+1)
	r.Counter = m.counter(ms, since)
	r.HasPower = m.scope.Modulus == 0 // RAPL gives no power
	if !r.HasPower {
		r.Power = 0
	}
	return r
}

// counter is what the hardware shows at ms when it began to count, anew, at
// since (0: it went on from what it had at the start).
func (m *simMeter) counter(ms, since int64) energy.Microjoules {
	ms -= ms % m.every
	begun := int64(0)
	if since > 0 {
		if ms < since {
			return 0
		}
		begun = m.track.energy(since)
	}
	units := (m.track.energy(ms) - begun) * 1000 / m.step
	if since == 0 {
		units += m.units
	}
	if m.scope.Modulus > 0 {
		units %= raplRange
	}
	if m.step%1000 == 0 {
		return energy.Microjoules(units * (m.step / 1000))
	}
	return energy.Microjoules(units * m.step / 1000)
}
