package amdgpu

import (
	"fmt"
	"math/bits"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

// trust compares the counter with the power beside it. Kernels have shown
// counters in wrong units and counters that stood still; neither must be booked.
type trust struct {
	verified bool
	bad      int  // spans in a row that did not agree
	suspect  bool // two of them, and none before that did
	span     bool // one is begun
	since    time.Time
	from     energy.Microjoules
	last     time.Time
	power    energy.Microwatts
	drawn    energy.Microjoules // by the power
	holes    int
	moved    time.Time
	counter  energy.Microjoules
	stuck    bool
}

const (
	// checkSpan is what a judgement takes; one that is near enough is taken
	// sooner, so that a good counter waits for nothing.
	checkSpan  = 5 * time.Second
	earlySpan  = 900 * time.Millisecond
	stuckAfter = 2 * time.Second
	// hole is too long to compare two looks at power with what was drawn between
	// them. A source that is read so seldom cannot be checked: after some holes
	// its counter is taken as it is.
	hole     = 30 * time.Second
	maxHoles = 3
)

// finding is what a reading said about its counter, "" for nothing new.
type finding struct{ kind, detail string }

// see takes a reading. A span with a hole in it judges nothing.
func (t *trust) see(at time.Time, counter energy.Microjoules, power energy.Microwatts, powered bool) finding {
	stuck := t.seeStuck(at, counter, power, powered)
	dt := at.Sub(t.last)
	if !t.span || dt < 0 || dt > hole || counter < t.from {
		if t.span && dt > hole {
			t.holes++
		}
		t.begin(at, counter, power)
		if t.holes >= maxHoles && !t.verified && !t.suspect {
			return t.unchecked("it is read too seldom")
		}
		return stuck
	}
	if powered {
		t.drawn += energy.Most((t.power+power)/2, dt.Nanoseconds(), 0)
	}
	t.last, t.power = at, power
	took, gave := at.Sub(t.since), counter-t.from
	switch {
	case took >= earlySpan && t.near(gave, 2) && !t.suspect:
		t.verified = true
		if took < checkSpan {
			return stuck
		}
	case took < checkSpan:
		return stuck
	case gave == 0: // a counter that stands says nothing of its unit
	case t.drawn == 0:
		t.begin(at, counter, power)
		if !t.verified && !t.suspect {
			return t.unchecked("there is no power to compare it with")
		}
		return stuck
	case t.near(gave, 10):
		t.bad, t.verified = 0, t.verified || !t.suspect
	default:
		f := finding{"unit_suspect", fmt.Sprintf("the counter gave %d mJ in %d ms, the power reading %d mJ", gave.Millijoules(), took.Milliseconds(), t.drawn.Millijoules())}
		t.begin(at, counter, power)
		t.bad++
		t.suspect = t.suspect || !t.verified && t.bad > 1
		return f
	}
	t.begin(at, counter, power)
	return stuck
}

func (t *trust) unchecked(why string) finding {
	t.verified = true
	return finding{"unit_unchecked", "the energy counter is believed without a check: " + why}
}

func (t *trust) begin(at time.Time, counter energy.Microjoules, power energy.Microwatts) {
	t.span, t.since, t.from, t.last, t.power, t.drawn = true, at, counter, at, power, 0
}

// near tells whether counter and power agree within a factor.
func (t *trust) near(gave energy.Microjoules, factor uint64) bool {
	if t.drawn == 0 {
		return false
	}
	less := func(a, b energy.Microjoules) bool { // a x factor < b
		hi, lo := bits.Mul64(uint64(a), factor)
		return hi == 0 && lo < uint64(b)
	}
	return !less(gave, t.drawn) && !less(t.drawn, gave)
}

func (t *trust) seeStuck(at time.Time, counter energy.Microjoules, power energy.Microwatts, powered bool) finding {
	switch {
	case counter != t.counter || t.moved.IsZero() || at.Before(t.moved) || !powered || power < energy.Watt:
		t.moved, t.counter, t.stuck = at, counter, false
	case at.Sub(t.moved) >= stuckAfter && !t.stuck:
		t.stuck = true
		return finding{"counter_stuck", fmt.Sprintf("the counter stands at %d uJ while the device draws %d uW", counter, power)}
	}
	return finding{}
}
