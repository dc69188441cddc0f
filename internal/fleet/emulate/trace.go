package emulate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

const (
	quantum = 100 * time.Millisecond
	quanta  = 6000 // of a period, ten minutes
	magic   = "WLTRACE2"
	warm    = 30 * time.Second // the trace begins before the emulator, so that averages are right at once
)

// trace is the power of every scope of a node as a function of time.
type trace struct {
	start  time.Time // whole quanta
	names  []string
	offset []energy.Microjoules   // what a counter showed at the start
	sum    [][]energy.Microjoules // [meter][quantum]: before that quantum
	index  map[string]int
}

// draw is the power of one scope, mW per quantum.
type draw []uint64

// steps is the power of an accelerator: phases of 4 to 25 s, one in three at
// rest, with a jitter of 2 %. used is how busy it is, 1 % as 1 W.
func steps(rng *rand.Rand, idle, busy, noise, limit uint64) (power, used draw) {
	power, used = make(draw, quanta), make(draw, quanta)
	for i := 0; i < quanta; {
		level, share := idle*1000, uint64(0)
		if rng.IntN(3) > 0 {
			level, share = min(limit, busy+rng.Uint64N(noise))*1000, 40_000+rng.Uint64N(60_000)
		}
		for n := 40 + rng.IntN(210); n > 0 && i < quanta; n-- {
			power[i], used[i] = level*98/100+rng.Uint64N(level/25), share
			i++
		}
	}
	return power, used
}

// slopes is the power of everything else: it follows its phases within 3 s and
// has a jitter of 0.4 %, so that one sample a second tells its energy.
func slopes(rng *rand.Rand, idle, noise uint64) draw {
	out := make(draw, quanta)
	at := (idle + noise/2) * 1000
	for i := 0; i < quanta; {
		from, to := at, (idle+rng.Uint64N(noise))*1000
		n := 60 + rng.IntN(200)
		for k := 0; k < n && i < quanta; k++ {
			done := uint64(min(k, 30))
			at = (from*(30-done) + to*done) / 30
			out[i] = at*998/1000 + rng.Uint64N(at/250+1)
			i++
		}
	}
	return out
}

// plus adds draws.
func plus(parts ...draw) draw {
	out := make(draw, quanta)
	for _, p := range parts {
		for i, v := range p {
			out[i] += v
		}
	}
	return out
}

// share is a per mille of a draw and some watts more.
func (d draw) share(perMille, watts uint64) draw {
	out := make(draw, quanta)
	for i, v := range d {
		out[i] = v*perMille/1000 + watts*1000
	}
	return out
}

// draws makes the power of all scopes of a machine.
func (m *machine) draws(seed uint64) map[string]draw {
	out := map[string]draw{}
	stream := uint64(0)
	rng := func() *rand.Rand { stream++; return rand.New(rand.NewPCG(seed, stream)) }
	var all []draw
	p := profileOf(m.profile)
	for i := range m.gpus {
		name := fmt.Sprintf("gpu%d", i)
		out[name], out[fmt.Sprintf("util%d", i)] = steps(rng(), p.idle, p.busy, p.noise, uint64(p.limit))
		if m.grace == 0 {
			all = append(all, out[name])
		}
	}
	for i := range m.grace {
		cpu, sysio := slopes(rng(), 55, 110), slopes(rng(), 12, 8)
		grace := plus(cpu, sysio, slopes(rng(), 22, 16)) // and its memory
		module := plus(out[fmt.Sprintf("gpu%d", i)], grace).share(1030, 4)
		out[fmt.Sprintf("cpu%d", i)], out[fmt.Sprintf("sysio%d", i)] = cpu, sysio
		out[fmt.Sprintf("grace%d", i)], out[fmt.Sprintf("module%d", i)] = grace, module
		all = append(all, module)
	}
	for i := range m.sockets {
		pkg, dram := slopes(rng(), 90, 160), slopes(rng(), 14, 24)
		out[fmt.Sprintf("package%d", i)], out[fmt.Sprintf("dram%d", i)] = pkg, dram
		all = append(all, pkg, dram)
	}
	if m.cray {
		for i := range 4 {
			a, usedA := steps(rng(), 44, 110, 150, 260)
			b, usedB := steps(rng(), 44, 110, 150, 260)
			oam := plus(a, b)
			out[fmt.Sprintf("oam%d", i)] = oam
			out[fmt.Sprintf("gpu%d", i)] = oam.share(1000, 9) // metered upstream
			out[fmt.Sprintf("util%d", 2*i)], out[fmt.Sprintf("util%d", 2*i+1)] = usedA, usedB
			all = append(all, out[fmt.Sprintf("gpu%d", i)])
		}
		out["package0"], out["dram0"] = slopes(rng(), 70, 140), slopes(rng(), 35, 30)
		all = append(all, out["package0"], out["dram0"])
	}
	out["node"] = plus(all...).share(1050, 55)
	out["utilcpu"] = slopes(rng(), 10, 70)
	return out
}

// newTrace draws the trace of a machine that begins at an instant.
func newTrace(m *machine, seed uint64, start time.Time) *trace {
	t := &trace{start: start.Truncate(quantum).Add(-warm)}
	draws := m.draws(seed)
	for name := range draws {
		t.names = append(t.names, name)
	}
	slices.Sort(t.names)
	for _, name := range t.names {
		sum := make([]energy.Microjoules, quanta+1)
		for i, mw := range draws[name] {
			sum[i+1] = sum[i] + energy.Microjoules(mw*uint64(quantum/time.Millisecond))
		}
		t.sum = append(t.sum, sum)
	}
	t.indexed()
	t.offset = make([]energy.Microjoules, len(t.names))
	wraps := 0
	for i, name := range t.names {
		t.offset[i] = t.sum[i][quanta] * energy.Microjoules(3000+seed%1000) // some weeks of the same
		if mod := m.modulus(name); mod > 0 {                                // wraps soon, each at its own time
			soon := warm + time.Duration(12+5*wraps)*time.Second
			wraps++
			t.offset[i] = mod - t.energy(i, t.start.Add(soon))
		}
	}
	return t
}

func (t *trace) indexed() {
	t.index = map[string]int{}
	for i, name := range t.names {
		t.index[name] = i
	}
}

// energy is what a meter's scope drew from the start up to an instant, rounded
// down to a microjoule.
func (t *trace) energy(meter int, at time.Time) energy.Microjoules {
	d := at.Sub(t.start)
	if d <= 0 {
		return 0
	}
	n, sum := uint64(d/quantum), t.sum[meter]
	i := n % quanta
	within := sum[i+1] - sum[i]
	return energy.Microjoules(n/quanta)*sum[quanta] + sum[i] + within*energy.Microjoules(d%quantum)/energy.Microjoules(quantum)
}

// mean is the mean power of a meter in the time before an instant, mW.
func (t *trace) mean(meter int, at time.Time, window time.Duration) uint64 {
	return uint64(t.energy(meter, at)-t.energy(meter, at.Add(-window))) / uint64(window/time.Millisecond)
}

// write puts the trace where both languages read it.
func (t *trace) write(path string) error {
	b := []byte(magic)
	for _, v := range []uint64{uint64(t.start.UnixMilli()), uint64(quantum / time.Millisecond), quanta, uint64(len(t.names))} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	for _, name := range t.names {
		b = append(b, name...)
		b = append(b, make([]byte, 32-len(name))...)
	}
	for _, v := range t.offset {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	// instant by instant, and in small writes: a program that maps the file then
	// has only the minute in memory that it looks at
	for q := range quanta + 1 {
		for _, sum := range t.sum {
			b = binary.LittleEndian.AppendUint64(b, uint64(sum[q]))
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write the trace: %w", err)
	}
	for piece := range slices.Chunk(b, 4096) {
		if _, err = f.Write(piece); err != nil {
			break
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot write the trace: %w", err)
	}
	return nil
}

// readTrace reads what write wrote.
func readTrace(path string) (*trace, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the trace: %w", err)
	}
	words := func(at, n int) []energy.Microjoules {
		out := make([]energy.Microjoules, n)
		for i := range out {
			out[i] = energy.Microjoules(binary.LittleEndian.Uint64(b[at+8*i:]))
		}
		return out
	}
	const head = len(magic) + 32
	if len(b) < head || string(b[:len(magic)]) != magic {
		return nil, errors.New(path + " is no trace")
	}
	h := words(len(magic), 4)
	n := int(h[3])
	if h[1] != energy.Microjoules(quantum/time.Millisecond) || h[2] != quanta || n > 1000 || len(b) != head+n*(40+8*(quanta+1)) {
		return nil, errors.New(path + " is a trace of another size")
	}
	t := &trace{start: time.UnixMilli(int64(h[0]))}
	for i := range n {
		t.names = append(t.names, strings.TrimRight(string(b[head+32*i:head+32*i+32]), "\x00"))
		t.sum = append(t.sum, make([]energy.Microjoules, quanta+1))
	}
	for k, v := range words(head+40*n, n*(quanta+1)) {
		t.sum[k%n][k/n] = v
	}
	t.offset = words(head+32*n, n)
	t.indexed()
	return t, nil
}
