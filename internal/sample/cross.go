package sample

import (
	"fmt"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

// How a counter is held against the power of the same scope.
const (
	crossSpan = 60e9 // ns
	// A tenth apart is more than sampling explains: boards differ by some 5 %
	// from a reference, but counter and power come from one sensor
	// (facts of the field: arXiv 2312.02741; a counter once said 187 J where
	// power said 327 J).
	crossPercent = 10
	crossLeast   = 60 * energy.Joule // below a watt there is nothing to compare
)

// Cross compares what a counter counted with the integral of the power of the
// same scope, a minute at a time. It only tells; nothing is switched or scaled.
type Cross struct {
	power  energy.Integral
	began  int64
	first  energy.Microjoules // odometer then
	epoch  string
	begun  bool
	differ bool
}

// Add takes a reading that was accepted, with the odometer it led to. It gives
// something to tell where a minute disagrees and the last did not, and where
// they agree again.
func (c *Cross) Add(r collector.Reading, epoch string, uj energy.Microjoules) *Odd {
	at := r.At.UnixNano()
	last, _ := c.power.Last()
	if !r.HasPower || r.Scope.Kind != collector.Counter {
		return nil
	}
	if !c.begun || c.epoch != epoch || at-last > SampledGap || at < last {
		*c = Cross{began: at, first: uj, epoch: epoch, begun: true, differ: c.differ}
		c.power.Add(at, r.Power)
		return nil
	}
	c.power.Add(at, r.Power)
	if at-c.began < crossSpan {
		return nil
	}
	counted, drawn := uj-c.first, c.power.Odometer()
	was := c.differ
	*c = Cross{began: at, first: uj, epoch: epoch, begun: true, differ: apart(counted, drawn)}
	c.power.Add(at, r.Power)
	if c.differ == was {
		return nil
	}
	words := "counter and power agree again"
	if c.differ {
		words = "counter and power of one scope disagree: one of them is wrong"
	}
	return &Odd{
		AtNS: at, Verdict: energy.Counted, Meter: r.Scope.Name, Over: !c.differ,
		Detail: fmt.Sprintf("%s (%.1f J counted, %.1f J by power, in a minute)", words, float64(counted.Joules()), float64(drawn.Joules())),
	}
}

func apart(a, b energy.Microjoules) bool {
	more, less := max(a, b), min(a, b)
	return more >= crossLeast && (more-less) > more/100*crossPercent
}
