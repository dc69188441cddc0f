package nvml

import (
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	probeFor   = 30 * time.Second
	probeUntil = 2 * time.Minute // then it is given up
	probeTrust = 0.10            // how near the power of a scope must be
	probeAlone = 0.05            // the same, where the other's is not to be had
)

// isSuperchip tells by the product's name whether a CPU may share the module.
func isSuperchip(product string) bool {
	for word := range strings.FieldsSeq(product) {
		if len(word) >= 5 && (strings.HasPrefix(word, "GH") || strings.HasPrefix(word, "GB")) && word[2] >= '0' && word[2] <= '9' {
			return true
		}
	}
	return strings.Contains(product, "Grace")
}

// probe compares a counter with the integrated power of the scopes it may have.
// Its joules decide a label; none is booked.
type probe struct {
	began, last time.Time
	first       [3]value // energy, and by scope: GPU, module
	lastMJ      uint64
	gpu, module line
}

// line integrates power while every sample has it.
type line struct {
	joules  float64
	watts   float64
	samples int
	broken  bool
}

func (l *line) add(x value, seconds float64) {
	watts := float64(x.n) / 1000
	if !x.ok || x.n == 0 {
		l.broken = true
		return
	}
	if l.samples > 0 {
		l.joules += (l.watts + watts) / 2 * seconds
	}
	l.watts = watts
	l.samples++
}

func (l *line) known() bool { return !l.broken && l.samples > 1 && l.joules > 0 }

// weigh takes a sample into the probe, and decides when there is enough.
func (b *board) weigh(v *sample) {
	decided, why := b.probe.add(v)
	if decided == scopeProbing {
		return
	}
	b.probe = probe{}
	b.scope = decided
	b.describe()
	b.slots = nil
	if decided == scopeUnknown {
		b.tell(v.at, "scope_unknown", "its energy is compared, not booked: "+why)
		return
	}
	b.remember()
	b.tell(v.at, "scope_decided", why)
}

// add gives scopeProbing until it knows.
func (p *probe) add(v *sample) (scope, string) {
	e, eg, em := v.slots[slotEnergy], v.slots[slotGPUEnergy], v.slots[slotModuleEnergy]
	if !e.ok || e.n == 0 || p.began.IsZero() || e.n < p.lastMJ || v.at.Sub(p.last) > 5*time.Second {
		*p = probe{began: v.at, first: [3]value{e, eg, em}}
		if !e.ok || e.n == 0 {
			p.began = time.Time{}
			return scopeProbing, ""
		}
	}
	// Two counters that stand far apart are two counters.
	if eg.ok && em.ok && eg.n > 10_000_000 && float64(em.n) > 1.03*float64(eg.n) {
		return scopeBoth, fmt.Sprintf("GPU and module have counters of their own: %d and %d mJ", eg.n, em.n)
	}
	seconds := v.at.Sub(p.last).Seconds()
	p.gpu.add(v.slots[slotInstant], seconds)
	p.module.add(v.slots[slotModuleInstant], seconds)
	p.last, p.lastMJ = v.at, e.n
	if v.at.Sub(p.began) < probeFor {
		return scopeProbing, ""
	}
	decided, why := p.decide(e, eg, em)
	if decided == scopeUnknown && v.at.Sub(p.began) < probeUntil {
		return scopeProbing, ""
	}
	return decided, why
}

func (p *probe) decide(e, eg, em value) (scope, string) {
	joules := float64(e.n-p.first[0].n) / 1000
	if eg.ok && em.ok && p.first[1].ok && p.first[2].ok && eg.n >= p.first[1].n && em.n >= p.first[2].n {
		g, m := float64(eg.n-p.first[1].n)/1000, float64(em.n-p.first[2].n)/1000
		if g > 0 && m > 1.03*g {
			return scopeBoth, fmt.Sprintf("GPU and module have counters of their own: %.0f and %.0f J in %.0f s", g, m, p.seconds())
		}
	}
	why := fmt.Sprintf("%.0f J by the counter in %.0f s; integrated power: GPU %s, module %s", joules, p.seconds(), p.gpu.show(), p.module.show())
	if joules <= 0 {
		return scopeUnknown, why
	}
	offGPU, offModule := p.gpu.off(joules), p.module.off(joules)
	trust := probeTrust
	if !p.gpu.known() || !p.module.known() {
		trust = probeAlone
	}
	// The nearer one must be near, and much nearer than the other.
	switch {
	case offGPU <= trust && offModule >= 2*offGPU && offModule > 0.05:
		return scopeOfGPU, why
	case offModule <= trust && offGPU >= 2*offModule && offGPU > 0.05:
		return scopeOfModule, why
	case offGPU <= trust && p.module.known() && math.Abs(p.module.joules/p.gpu.joules-1) < 0.005:
		return scopeOfGPU, why + ": one scope by two names"
	}
	return scopeUnknown, why
}

func (p *probe) seconds() float64 { return p.last.Sub(p.began).Seconds() }

// off is how far the line is from the counter, 0.1 for a tenth.
func (l *line) off(joules float64) float64 {
	if !l.known() {
		return math.Inf(1)
	}
	return math.Abs(joules/l.joules - 1)
}

func (l *line) show() string {
	if !l.known() {
		return "not to be had"
	}
	return fmt.Sprintf("%.0f J", l.joules)
}
