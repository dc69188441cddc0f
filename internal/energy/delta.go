package energy

import "math/bits"

// Verdict says what the difference of two readings is worth.
type Verdict uint8

// Verdicts. Only Counted and Wrapped (and Bridged, for time that passed
// unobserved) carry energy; the others are gaps with a reason.
const (
	// Counted: the counter went on.
	Counted Verdict = iota
	// Wrapped: the counter passed its modulus once.
	Wrapped
	// First: the first reading of an epoch; nothing to subtract from.
	First
	// NewEpoch: the counter was started anew in between.
	NewEpoch
	// Backwards: a smaller value, and the counter has no modulus.
	Backwards
	// Ambiguous: the counter may have wrapped more than once in that time.
	Ambiguous
	// Implausible: more energy than the scope can draw in that time.
	Implausible
	// Stuck: the counter stood still while its device drew power.
	Stuck
	// Late: longer than the largest gap that power is integrated over.
	Late
)

// String is the verdict as events and logs spell it.
func (v Verdict) String() string {
	return word(int(v), []string{
		"counted", "wrapped", "first", "new_epoch", "backwards", "ambiguous",
		"implausible", "stuck", "late",
	})
}

// Energy tells whether an interval of this verdict carries energy.
func (v Verdict) Energy() bool { return v == Counted || v == Wrapped }

// Delta subtracts two readings of one counter of one epoch. modulus is the
// value the counter wraps at (0: never); a counter may still show the modulus
// itself, as RAPL's does at the end of its range. most is the most energy the scope can
// have drawn between the readings (0: not known). What cannot be explained is
// not claimed: the energy is 0 unless the verdict carries energy.
//
// With a modulus, a span of time in which the scope could have drawn a whole
// modulus is Ambiguous whatever the values: two wraps look like one.
func Delta(prev, cur, modulus, most Microjoules) (Microjoules, Verdict) {
	if modulus > 0 && most >= modulus {
		return 0, Ambiguous
	}
	d, v := cur-prev, Counted
	if cur < prev {
		if modulus == 0 || prev > modulus {
			return 0, Backwards
		}
		d, v = modulus-prev+cur, Wrapped
	}
	if most > 0 && d > most {
		return 0, Implausible
	}
	return d, v
}

// Most is the energy that limit draws in ns nanoseconds, plus slack: the
// physical gate of Delta. It saturates instead of overflowing.
func Most(limit Microwatts, ns int64, slack Microjoules) Microjoules {
	if ns < 0 {
		ns = 0
	}
	hi, lo := bits.Mul64(uint64(limit), uint64(ns))
	if hi >= 1_000_000_000 {
		return MaxOdometer
	}
	q, _ := bits.Div64(hi, lo, 1_000_000_000)
	if slack > MaxOdometer || q > uint64(MaxOdometer-slack) {
		return MaxOdometer
	}
	return Microjoules(q) + slack
}
