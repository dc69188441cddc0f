package fleet

import (
	"cmp"
	"hash/fnv"
	"math/rand/v2"
	"slices"
)

// track is power that is constant for a quantum at a time, in whole milliwatts:
// milliwatts times milliseconds are microjoules, so its energy is exact.
type track struct {
	mw  []int32 // per quantum
	sum []int64 // microjoules up to every tenth quantum
}

const stride = 10

func newTrack(mw []int32) track {
	t := track{mw: mw, sum: make([]int64, 0, len(mw)/stride+1)}
	var uj int64
	for q, p := range mw {
		if q%stride == 0 {
			t.sum = append(t.sum, uj)
		}
		uj += int64(p) * quantum
	}
	return t
}

// at is the power at an instant, in milliwatts.
func (t track) at(ms int64) int64 { return int64(t.mw[ms/quantum]) }

// energy is the integral of the power up to an instant, in microjoules.
func (t track) energy(ms int64) int64 {
	q := ms / quantum
	uj := t.sum[q/stride]
	for i := q - q%stride; i < q; i++ {
		uj += int64(t.mw[i]) * quantum
	}
	return uj + int64(t.mw[q])*(ms%quantum)
}

// draw fills in the power of every meter and where its counter stands.
func (n *simNode) draw(seed uint64, index int) {
	rng := rand.New(rand.NewPCG(seed, uint64(index)+1))
	quanta := int(n.length/quantum) + 1
	total := make([]int64, quanta)
	for _, m := range n.meters {
		if m.scope.Name == "node" {
			continue
		}
		mw := make([]int32, quanta)
		n.each(func(q int, held []run) {
			mw[q] = n.power(m, int64(q), held, rng)
			total[q] += int64(mw[q])
		})
		m.track = newTrack(mw)
		m.units = n.units(m, rng)
	}
	for _, m := range n.meters {
		if m.scope.Name != "node" {
			continue
		}
		mw := make([]int32, quanta)
		n.each(func(q int, held []run) {
			switch n.layout {
			case Lumi:
				mw[q] = int32(total[q]*112/100) + rng.Int32N(20_000)
			case Witness:
				mw[q] = int32(total[q] * 97 / 100)
			case HGX, Leonardo:
				mw[q] = n.board(int64(q), held, rng)
			}
		})
		m.track = newTrack(mw)
		m.units = n.units(m, rng)
	}
}

// units is where a counter stands at the start. One with a modulus is put so
// that it wraps at some instant between a tenth and nine tenths of the time,
// each meter at another one.
func (n *simNode) units(m *simMeter, rng *rand.Rand) int64 {
	if m.scope.Modulus == 0 {
		return rng.Int64N(1_000_000_000_000_000 / m.step)
	}
	wrap := n.length/10 + rng.Int64N(n.length*8/10)
	return max(0, raplRange-m.track.energy(wrap)*1000/m.step)
}

// each calls f for every quantum with the jobs that run at its beginning.
func (n *simNode) each(f func(q int, held []run)) {
	var held []run
	next := int64(0)
	for ms := int64(0); ms <= n.length; ms += quantum {
		if ms >= next {
			held, next = n.running(ms)
		}
		f(int(ms/quantum), held)
	}
}

// running gives the jobs that run at an instant, and until when that holds.
func (n *simNode) running(ms int64) (held []run, until int64) {
	until = n.length + 1
	for _, r := range n.runs {
		if r.from <= ms && ms < r.to {
			held = append(held, r)
		}
		for _, t := range []int64{r.from, r.to} {
			if t > ms {
				until = min(until, t)
			}
		}
	}
	return held, until
}

// power of a device for a quantum, in milliwatts.
func (n *simNode) power(m *simMeter, q int64, held []run, rng *rand.Rand) int32 {
	if m.gpu >= 0 {
		level, holds := int32(0), false
		for _, r := range held {
			if r.holds(m.gpu) {
				holds = true
				level = max(level, r.level(q))
			}
		}
		switch {
		case level > 0:
			return 300_000 + level*350 + rng.Int32N(50_000)
		case holds:
			return 78_000 + rng.Int32N(12_000)
		default:
			return 60_000 + rng.Int32N(15_000)
		}
	}
	used := int32(0) // thousandths of the CPUs
	for _, r := range held {
		num, den := r.part(n)
		used += int32(num * 1000 / den)
	}
	used = min(used, 1000)
	if m.scope.Modulus == 65_712_999_613 || m.scope.Name == "memory0" {
		return 9_000 + used*40 + rng.Int32N(4_000)
	}
	return 70_000 + used*180 + rng.Int32N(40_000)
}

// board is the power of a node that is metered only as a whole.
func (n *simNode) board(q int64, held []run, rng *rand.Rand) int32 {
	mw := int32(1_100_000) + rng.Int32N(60_000)
	used := int64(0)
	for _, r := range held {
		num, den := r.part(n)
		used += num * 1000 / den
		mw += int32(int64(r.level(q)+300) * 550 * int64(n.gpus) * num / den)
	}
	return mw + int32(max(0, 1000-used))*65*int32(n.gpus)
}

// works tells whether somebody uses a GPU at an instant.
func (n *simNode) works(gpu int, ms int64) bool {
	held, _ := n.running(ms - ms%quantum)
	return slices.ContainsFunc(held, func(r run) bool { return r.holds(gpu) && r.level(ms/quantum) > 0 })
}

func (r run) holds(gpu int) bool {
	if r.spec.WholeNode() {
		return true
	}
	for _, s := range r.spec.GPUs {
		if s.Device == gpuName(gpu) {
			return true
		}
	}
	return false
}

// level is how hard the job works in a quantum, 1 to 1000, or 0 where it rests:
// one phase of 20 s in four, on the average.
func (r run) level(q int64) int32 {
	if r.rests {
		return 0
	}
	h := mixed(r.spec.ID, uint64(q/200))
	if h%4 == 0 {
		return 0
	}
	return int32(h/4%1000) + 1
}

func mixed(s string, n uint64) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	h.Write([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
	x := h.Sum64() // the last bytes reach only the low bits: mix
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}

// sortRuns by begin, then id: the order in which they are told.
func sortRuns(rs []run) {
	slices.SortStableFunc(rs, func(a, b run) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.spec.ID, b.spec.ID))
	})
}
