package sample

import (
	"slices"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

// bend is a place of a span that no reading cut: the odometer there is assumed.
type bend struct {
	at int64
	uj energy.Microjoules
}

// Bend says that the draw changed at these times, which lie in spans that no
// reading cut: jobs began or ended there while nobody metered. What the span
// drew stays what it is; it is spread so that the meter goes on drawing what it
// drew before the span up to the first change, and from the last change on
// draws what it draws after the span; what is left falls between them. Without
// it, a job that began in the middle of an outage would pay for the idle time
// before it. Only counters are bent; times outside long spans do nothing.
func (t *Track) Bend(times []int64) {
	if t.Scope.Kind != collector.Counter {
		return
	}
	for i := 1; i < len(t.points); i++ {
		a, b := t.points[i-1], &t.points[i]
		if b.Gap || b.bends != nil || b.At-a.At <= SampledGap {
			continue
		}
		var in []int64
		for _, at := range times {
			if at > a.At && at < b.At {
				in = append(in, at)
			}
		}
		slices.Sort(in)
		if in = slices.Compact(in); len(in) > 0 {
			b.bends = spread(a, *b, in, t.rate(i))
		}
	}
}

// rate is what the meter draws after point i, 0 if it is not known.
func (t *Track) rate(i int) energy.Microwatts {
	if p := t.points[i]; p.Power > 0 || i+1 == len(t.points) {
		return p.Power
	}
	return meanRate(t.points[i], t.points[i+1])
}

func meanRate(a, b Point) energy.Microwatts {
	if b.At-a.At < 1e6 || b.Gap || b.UJ <= a.UJ {
		return 0
	}
	return energy.Microwatts(between(b.UJ-a.UJ, 1e9, b.At-a.At))
}

// spread places the odometer at each change.
func spread(a, b Point, times []int64, after energy.Microwatts) []bend {
	total := b.UJ - a.UJ
	first, knownFirst := energy.Most(a.Power, times[0]-a.At, 0), a.Power > 0
	last, knownLast := energy.Most(after, b.At-times[len(times)-1], 0), after > 0
	middle := energy.Microjoules(0)
	switch {
	case !knownFirst && !knownLast:
		return nil
	case knownFirst && knownLast && (first+last > total || len(times) == 1): // nothing lies between them: scale both
		part, ok := energy.Split(nil, energy.Millijoules(total), []uint64{uint64(first), uint64(last)})
		if !ok {
			return nil
		}
		first = energy.Microjoules(part[0])
	case len(times) == 1 && knownFirst:
		first = min(first, total)
	case len(times) == 1:
		first = total - min(last, total)
	case !knownFirst || !knownLast: // one side is not known: its level is that of the middle
		return nil
	default:
		middle = total - first - last
	}
	span := times[len(times)-1] - times[0]
	out := make([]bend, len(times))
	for i, at := range times {
		uj := a.UJ + first
		if middle > 0 {
			uj += between(middle, at-times[0], span)
		}
		out[i] = bend{at: at, uj: uj}
	}
	return out
}

// around gives the known or assumed places before and after a time in the span
// from a to p.
func (p *Point) around(a Point, ns int64) (from, to bend) {
	from, to = bend{a.At, a.UJ}, bend{p.At, p.UJ}
	for _, b := range p.bends {
		if b.at <= ns {
			from = b
			continue
		}
		return from, b
	}
	return from, to
}

// Rate is what the meter drew at its last reading, 0 if it is not known.
func (t *Track) Rate() energy.Microwatts {
	n := len(t.points)
	switch {
	case n == 0:
		return 0
	case t.points[n-1].Power > 0 || n == 1:
		return t.points[n-1].Power
	}
	return meanRate(t.points[n-2], t.points[n-1])
}
