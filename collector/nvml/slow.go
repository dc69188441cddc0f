package nvml

import (
	"fmt"
	"time"

	"github.com/wattledger/wattledger/collector"
)

// miggyRuns: slices are looked for every so many slow rounds.
const miggyRuns = 6

// slowly does what is not needed every tick, after the tick was answered: what it
// finds goes with the next reading.
func (b *board) slowly() {
	now := b.s.o.Now()
	if b.slowAt.IsZero() { // spread the boards over the seconds from now on
		b.slowAt = now.Add(b.s.o.Slow / 16 * time.Duration(b.number%16))
	}
	b.slowAt = b.slowAt.Add(b.s.o.Slow)
	if b.slowAt.Before(now) {
		b.slowAt = now.Add(b.s.o.Slow)
	}
	c := b.slowRound()
	b.slowRuns++
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if b.denied && !b.closed {
		b.closed = true
		b.s.tell(b.s.o.Now(), "no_permission", b.name, "the driver keeps some values from this user; the rest is read")
	}
	if c != success {
		b.judge(c)
	}
}

// slowRound gives a code that says something about the device, or success.
func (b *board) slowRound() code {
	b.pending = b.pending[:0:0]
	if b.slowRuns%miggyRuns == 0 {
		if c := b.lookForSlices(); c != success {
			return c
		}
	}
	for _, step := range []func() code{b.slowFields, b.slowMemory, b.slowTemperatures, b.slowClocks, b.slowProcesses} {
		if c := step(); c != success {
			return c
		}
	}
	return success
}

func (b *board) show(name string, v, low, high float64) {
	if v < low || v > high || v != v {
		b.refuse()
		return
	}
	b.pending = append(b.pending, collector.Gauge{Name: name, Value: v})
}

func (b *board) slowFields() code {
	if b.noFields {
		return success
	}
	if b.shows == nil {
		b.shows = slowShows()
		for _, s := range b.shows {
			b.slow = append(b.slow, field{ID: s.id, Scope: s.scope})
		}
	}
	if len(b.slow) == 0 {
		return success
	}
	ok, dire := b.try(fnFields, func() code { return b.dev.Fields(b.slow) })
	if !ok {
		b.cannot[fnFields] = false // it is what fast reads by
		return dire
	}
	kept := 0
	for i := range b.slow {
		f, s := &b.slow[i], b.shows[i]
		b.s.count.fieldUS.Add(max(f.LatencyUS, 0))
		switch fate := f.Code.fate(); {
		case fate == fine:
			b.showField(f, s)
		case fate == unsupported || fate == denied:
			b.denied = b.denied || fate == denied
			continue
		case fate.dire():
			return f.Code
		}
		b.slow[kept], b.shows[kept] = b.slow[i], s
		kept++
	}
	b.slow, b.shows = b.slow[:kept], b.shows[:kept]
	return success
}

func (b *board) showField(f *field, s show) {
	n, ok := f.number()
	if !ok {
		b.refuse()
		return
	}
	b.show(s.name, n*s.scale, s.low, s.high)
	if s.event == "" || n < 0 || n > s.high {
		return
	}
	v := uint64(n)
	if v != 0 && b.health[s.id] != v {
		detail := fmt.Sprintf("%s is %d", s.name, v)
		if s.id == fieldRecovery {
			detail = "the driver asks to " + recoveryAction(v)
		}
		b.tell(b.s.o.Now(), s.event, detail)
	}
	b.health[s.id] = v
}

func (b *board) slowMemory() code {
	var used, total uint64
	ok, dire := b.try(fnMemory, func() (c code) { used, total, c = b.dev.Memory(); return c })
	if ok && (total == 0 || used > total || total > 1<<50) {
		b.refuse()
	} else if ok {
		b.show("memory_used_bytes", float64(used), 0, float64(total))
		b.show("memory_total_bytes", float64(total), 0, float64(total))
	}
	return dire
}

func (b *board) slowTemperatures() code {
	var t int32
	ok, dire := b.try(fnTemperature, func() (c code) { t, c = b.dev.Temperature(); return c })
	if ok {
		b.show("temperature_celsius", float64(t), -40, 150)
	}
	if dire != success {
		return dire
	}
	ok, dire = b.try(fnMargin, func() (c code) { t, c = b.dev.Margin(); return c })
	if ok {
		b.show("temperature_margin_celsius", float64(t), -100, 200)
	}
	return dire
}

func (b *board) slowClocks() code {
	var sm, memory uint32
	ok, dire := b.try(fnClocks, func() (c code) { sm, memory, c = b.dev.Clocks(); return c })
	if ok {
		b.show("clock_sm_hertz", float64(sm)*1e6, 0, 1e10)
		b.show("clock_memory_hertz", float64(memory)*1e6, 0, 1e11)
	}
	return dire
}
