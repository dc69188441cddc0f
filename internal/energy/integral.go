package energy

import "math/bits"

// Integral is an odometer for a sensor that gives only power: energy is the
// area under the line between readings, exact to the last bit and rounded down
// only when read. The zero value has had no reading.
//
// Power in microwatts times nanoseconds is 1e-15 J; a trapezoid needs halves.
// The area is kept in units of half a uW x ns, so 2e9 units are one microjoule.
type Integral struct {
	uj    Microjoules // whole microjoules up to at
	units uint64      // rest, < unitsPerMicrojoule
	at    int64       // time of the last reading, ns
	power Microwatts  // at that time
	begun bool
}

const unitsPerMicrojoule = 2_000_000_000

// Resume sets the odometer to a reading it had before (a restart within an
// epoch). The fraction of a microjoule is forgotten.
func (in *Integral) Resume(uj Microjoules, at int64, power Microwatts) {
	*in = Integral{uj: uj, at: at, power: power, begun: true}
}

// Begun tells whether there was a reading.
func (in *Integral) Begun() bool { return in.begun }

// Last gives the time and power of the last reading.
func (in *Integral) Last() (at int64, power Microwatts) { return in.at, in.power }

// Odometer is the energy up to the last reading.
func (in *Integral) Odometer() Microjoules { return in.uj }

// Skip moves to a reading without claiming the energy in between: the gap was
// too long. The odometer stands still.
func (in *Integral) Skip(at int64, power Microwatts) {
	in.at, in.power, in.begun = at, power, true
}

// Add takes the next reading. A reading that is not later than the last one is
// ignored and reported by false.
func (in *Integral) Add(at int64, power Microwatts) bool {
	if !in.begun {
		in.at, in.power, in.begun = at, power, true
		return true
	}
	if at <= in.at {
		return false
	}
	uj, units := area(in.power, power, at-in.at, at-in.at)
	in.units += units
	in.uj += uj
	if in.units >= unitsPerMicrojoule {
		in.units -= unitsPerMicrojoule
		in.uj++
	}
	in.at, in.power = at, power
	return true
}

// Line is the piece of an Integral between two readings, kept so that it can be
// cut at any instant.
type Line struct {
	From, To   int64 // ns
	FromPower  Microwatts
	ToPower    Microwatts
	base       Microjoules
	baseUnits  uint64
	toOdometer Microjoules
}

// Next adds a reading and gives the line that led to it.
func (in *Integral) Next(at int64, power Microwatts) (Line, bool) {
	l := Line{From: in.at, FromPower: in.power, To: at, ToPower: power, base: in.uj, baseUnits: in.units}
	begun := in.begun
	if !in.Add(at, power) || !begun {
		return Line{}, false
	}
	l.toOdometer = in.uj
	return l, true
}

// At is the odometer at time t of the line, on the straight line between the
// two powers. Outside the line it is the nearer end.
func (l Line) At(t int64) Microjoules {
	switch {
	case t <= l.From:
		return l.base
	case t >= l.To:
		return l.toOdometer
	}
	uj, units := area(l.FromPower, l.ToPower, l.To-l.From, t-l.From)
	if l.baseUnits+units >= unitsPerMicrojoule {
		uj++
	}
	return l.base + uj
}

// area under the line from power p to power q over whole ns, up to part ns:
// 2*p*part + (q-p)*part^2/whole half units. It is exact for part == whole and
// rounded down else. Power below 2^43 uW (8.8 MW) and times below 2^40 ns
// (18 min) keep every product within 128 bits.
func area(p, q Microwatts, whole, part int64) (Microjoules, uint64) {
	if part == whole {
		hi, lo := bits.Mul64(uint64(p)+uint64(q), uint64(part))
		return fromUnits(hi, lo)
	}
	hi, lo := bits.Mul64(2*uint64(p), uint64(part))
	d, rising := uint64(q)-uint64(p), true
	if q < p {
		d, rising = uint64(p)-uint64(q), false
	}
	// d * part * part / whole, with the first quotient and remainder split so
	// that nothing overflows: part < whole.
	h, l := bits.Mul64(d, uint64(part))
	q1, r1 := div128(h, l, uint64(whole))
	// (q1*whole + r1) * part / whole = q1*part + r1*part/whole
	h1, l1 := bits.Mul64(q1, uint64(part))
	h2, l2 := bits.Mul64(r1, uint64(part))
	q2, r2 := bits.Div64(h2, l2, uint64(whole)) // r1, part < whole
	l1, carry := bits.Add64(l1, q2, 0)
	h1 += carry
	if rising {
		lo, carry = bits.Add64(lo, l1, 0)
		hi += h1 + carry
	} else {
		if r2 > 0 { // round the subtrahend up: the area is rounded down
			l1, carry = bits.Add64(l1, 1, 0)
			h1 += carry
		}
		var borrow uint64
		lo, borrow = bits.Sub64(lo, l1, 0)
		hi -= h1 + borrow
	}
	return fromUnits(hi, lo)
}

// div128 divides hi:lo by d where the quotient is known to fit 64 bits.
func div128(hi, lo, d uint64) (q, r uint64) {
	if hi >= d { // cannot be for the ranges of area; saturate, never panic
		return ^uint64(0), 0
	}
	return bits.Div64(hi, lo, d)
}

func fromUnits(hi, lo uint64) (Microjoules, uint64) {
	if hi >= unitsPerMicrojoule {
		return MaxOdometer, 0
	}
	q, r := bits.Div64(hi, lo, unitsPerMicrojoule)
	return Microjoules(q), r
}

// Shift moves the time of the last reading: the clock was stepped.
func (in *Integral) Shift(ns int64) { in.at += ns }
