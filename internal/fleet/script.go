package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

// A node's script is a list of jobs and faults at fixed fractions of the time,
// moved by a few seconds by the seed. Faults lie where no job begins or ends
// within a window's length, so that what is lost belongs to somebody certain.

type faultKind uint8

const (
	reset     faultKind = iota // the counter begins anew at from, in a new epoch
	missed                     // no reading of anything at from
	silent                     // no reading in [from, to)
	stale                      // the reading before, again, at from
	absurd                     // a value that cannot be, at from
	backwards                  // half of the value, at from
)

type fault struct {
	kind     faultKind
	meter    string // "" for all
	gpus     bool   // all GPUs
	from, to int64
}

func (f fault) hits(m *simMeter) bool {
	return f.gpus && m.gpu >= 0 || !f.gpus && (f.meter == "" || f.meter == m.scope.Name)
}

// fault gives what is wrong with a meter's reading at an instant.
func (n *simNode) fault(m *simMeter, ms int64) (fault, bool) {
	for _, f := range n.faults {
		if f.kind != reset && f.hits(m) && f.from <= ms && ms < f.to {
			return f, true
		}
	}
	return fault{}, false
}

func (n *simNode) missed(ms int64) bool {
	return slices.ContainsFunc(n.faults, func(f fault) bool { return f.kind == missed && f.from == ms })
}

// resets tells how often a meter was reset up to an instant, and when last.
func (n *simNode) resets(m *simMeter, ms int64) (times int, last int64) {
	for _, f := range n.faults {
		if f.kind == reset && f.hits(m) && f.from <= ms {
			times++
			last = f.from
		}
	}
	return times, last
}

func gpuName(i int) string { return fmt.Sprintf("gpu%d", i) }

// part is the share of the node's CPUs, memory and board that a job asks for.
func (r run) part(n *simNode) (num, den int64) {
	switch {
	case r.spec.WholeNode():
		return 1, 1
	case r.spec.CPUs > 0:
		return int64(r.spec.CPUs), int64(n.nodeCPUs)
	}
	for _, g := range r.spec.GPUs {
		num += int64(g.Weight)
	}
	return num, int64(n.gpus) * job.Whole
}

func (s *Simulation) runs(i int) []run {
	b := builder{sim: s, node: i, rng: rand.New(rand.NewPCG(s.o.Seed^0x6a6f6273, uint64(i)+1))}
	b.wide(0.05, 0.17)
	if s.layout(i) == HGX {
		half, most := b.cpus(2), b.cpus(2)+b.cpus(8)
		b.job(0.20, 0.38, job.Spec{CPUs: half})
		b.job(0.26, 0.45, job.Spec{CPUs: b.cpus(4)})
		b.job(0.50, 0.60, job.Spec{CPUs: most})
		b.job(0.53, 0.64, job.Spec{CPUs: most})
	} else {
		first := b.job(0.20, 0.38, job.Spec{CPUs: b.cpus(8), GPUs: gpu(0, 500_000)})
		b.job(0.20, 0.45, job.Spec{CPUs: b.cpus(8), GPUs: gpu(0, 500_000)})
		b.at(first.to, 0.44, job.Spec{CPUs: b.cpus(8), GPUs: gpu(0, 300_000)})
		one := b.job(0.20, 0.33, job.Spec{CPUs: b.cpus(4), GPUs: gpu(1, job.Whole)})
		b.at(one.to, 0.45, job.Spec{CPUs: b.cpus(4), GPUs: gpu(1, job.Whole)}) // back to back
		held := b.job(0.22, 0.42, job.Spec{GPUs: gpu(2, job.Whole)})
		b.list[held.index].rests = true
		short := b.job(0.29, 0, job.Spec{CPUs: 1, GPUs: gpu(3, job.Whole)})
		b.list[short.index].to = short.from + 2000
		again := b.job(0.32, 0.35, job.Spec{CPUs: 2, GPUs: gpu(3, job.Whole)})
		b.again(again, 0.385, 0.43)
		b.job(0.48, 0.55, job.Spec{}) // two that name nothing: a whole node each
		b.job(0.51, 0.57, job.Spec{})
		b.job(0.60, 0.66, job.Spec{CPUs: b.cpus(2) + 4, GPUs: gpu(0, 700_000)}) // more than there is
		b.job(0.62, 0.69, job.Spec{CPUs: b.cpus(2) + 4, GPUs: append(gpu(0, 600_000), gpu(3, job.Whole)...)})
	}
	b.job(0.71, 0.91, job.Spec{Exclusive: true})
	if s.layout(i) == HGX {
		b.job(0.94, 2, job.Spec{CPUs: b.cpus(2)}) // runs on
	} else {
		b.job(0.94, 2, job.Spec{CPUs: b.cpus(2), GPUs: append(gpu(0, job.Whole), gpu(1, job.Whole)...)})
	}
	sortRuns(b.list)
	return b.list
}

func gpu(i int, weight uint32) []window.Share {
	return []window.Share{{Device: gpuName(i), Weight: weight}}
}

// builder of a node's jobs.
type builder struct {
	sim  *Simulation
	node int
	rng  *rand.Rand
	list []run
}

type placed struct {
	index    int
	from, to int64
}

func (b *builder) cpus(of uint32) uint32 { return uint32(b.sim.o.NodeCPUs) / of }

// odd is an instant near a fraction of the time that no reading would hit.
func (b *builder) odd(fraction float64) int64 { return oddAt(b.sim, b.rng, fraction) }

func oddAt(s *Simulation, rng *rand.Rand, fraction float64) int64 {
	ms := int64(fraction*float64(s.length()/1000)) * 1000
	return ms + 100*rng.Int64N(30) + 1 + rng.Int64N(99)
}

func (b *builder) job(from, to float64, s job.Spec) placed { return b.at(b.odd(from), to, s) }

func (b *builder) at(from int64, to float64, s job.Spec) placed {
	s.ID = fmt.Sprint(100_000 + 100*b.node + len(b.list))
	p := placed{index: len(b.list), from: from, to: b.odd(to)}
	b.add(s, p.from, p.to)
	return p
}

// again is a job that was put back into the queue and begins once more.
func (b *builder) again(p placed, from, to float64) {
	s := b.list[p.index].spec
	s.Restart++
	b.add(s, b.odd(from), b.odd(to))
}

// wide is an exclusive job on this node and its neighbour.
func (b *builder) wide(from, to float64) {
	pair := b.node / 2
	rng := rand.New(rand.NewPCG(b.sim.o.Seed, 1<<40+uint64(pair)))
	b.add(job.Spec{ID: fmt.Sprint(50_000_000 + pair), Exclusive: true}, oddAt(b.sim, rng, from), oddAt(b.sim, rng, to))
}

func (b *builder) add(s job.Spec, from, to int64) {
	h := mixed(s.ID, b.sim.o.Seed)
	s.Project, s.User = fmt.Sprintf("SIM_P%02d", 1+h%4), fmt.Sprintf("u%03d", 1+h/4%9)
	s.SubmitMS = b.sim.o.Start.UnixMilli() - 60_000
	b.list = append(b.list, run{spec: s, from: from, to: to})
}

func (s *Simulation) faults(i int) []fault {
	rng := rand.New(rand.NewPCG(s.o.Seed^0x6661756c, uint64(i)+1))
	var out []fault
	add := func(fraction float64, f fault, seconds int64) {
		f.from = (int64(fraction*float64(s.length()/1000)) + 2 + rng.Int64N(3)) * 1000
		f.to = f.from + seconds*1000
		if f.kind == reset {
			f.from += 1 + rng.Int64N(998)
		}
		out = append(out, f)
	}
	switch s.layout(i) {
	case Leonardo:
		add(0.25, fault{kind: reset, meter: "gpu0"}, 1) // shared by two jobs
		add(0.74, fault{kind: reset, gpus: true}, 1)    // the driver is loaded again
		add(0.77, fault{kind: missed}, 1)
		add(0.79, fault{kind: silent, meter: "gpu1"}, 20)
		add(0.84, fault{kind: stale, meter: "gpu2"}, 1)
		add(0.86, fault{kind: absurd, meter: "gpu0"}, 1)
		add(0.88, fault{kind: backwards, meter: "gpu3"}, 1)
	case Lumi:
		add(0.745, fault{kind: reset}, 1) // the node controller starts again
		add(0.78, fault{kind: missed}, 1)
		add(0.82, fault{kind: stale}, 1)
	case Witness:
		add(0.78, fault{kind: missed}, 1)
	case HGX:
		add(0.735, fault{kind: silent}, 35) // too long to bridge
		add(0.81, fault{kind: silent}, 20)
		add(0.86, fault{kind: stale}, 1)
		add(0.88, fault{kind: absurd}, 1)
	}
	return out
}
