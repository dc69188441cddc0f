package energy

import (
	"fmt"
	"math"
	"strconv"
)

// Microjoules is the reading of an odometer: cumulative energy since an epoch
// began. 2^64 uJ are 18.4 TJ, five weeks of 6 MW on one meter.
type Microjoules uint64

// Millijoules is what is booked. It is signed because a remainder (parent minus
// children) may be negative. 2^63 mJ last a site of 100 MW for 2.9 years.
type Millijoules int64

// Microwatts is power as sensors give it; 2^64 uW are 18 TW.
type Microwatts uint64

// Joules is for showing. No function turns it back into a booked unit.
type Joules float64

const (
	// Millijoule, Joule and KilowattHour in microjoules.
	Millijoule   Microjoules = 1_000
	Joule        Microjoules = 1_000_000
	KilowattHour Microjoules = 3_600_000_000_000
	// Watt in microwatts.
	Watt Microwatts = 1_000_000
)

// Joules shows the odometer reading in joules.
func (e Microjoules) Joules() Joules { return Joules(float64(e) / 1e6) }

// Millijoules is the reading cut down to whole millijoules. Differences are
// taken after the cut (see Span), so that they telescope.
func (e Microjoules) Millijoules() Millijoules { return Millijoules(e / Millijoule) }

// Joules shows booked energy in joules.
func (m Millijoules) Joules() Joules { return Joules(float64(m) / 1e3) }

// KWh writes booked energy in kilowatt hours with three decimals, rounded half
// away from zero, in integers only: 3,600,000,000 mJ are 1 kWh.
func (m Millijoules) KWh() string {
	const perWh = 3_600_000 // mJ in a thousandth of a kWh
	sign, u := "", uint64(m)
	if m < 0 {
		sign, u = "-", uint64(-m)
	}
	wh := (u + perWh/2) / perWh
	if wh == 0 {
		sign = ""
	}
	return fmt.Sprintf("%s%d.%03d", sign, wh/1000, wh%1000)
}

// String writes the amount as a decimal number of millijoules, as canonical
// documents carry it.
func (m Millijoules) String() string { return strconv.FormatInt(int64(m), 10) }

// ParseMillijoules reads what String writes.
func ParseMillijoules(s string) (Millijoules, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cannot read %q as whole millijoules: %w", s, err)
	}
	return Millijoules(n), nil
}

// Span is the energy between two readings of one odometer as it is booked:
// floor(to/1000) - floor(from/1000). Spans of adjoining ranges add up to the
// span of the whole, so merging windows or starting again changes no sum.
// It panics on nothing; a range that goes backwards gives a negative span and
// is refused where windows are checked.
func Span(from, to Microjoules) Millijoules {
	return to.Millijoules() - from.Millijoules()
}

// MaxOdometer is the largest reading an odometer may have: its millijoules
// must fit int64 with room for sums over a site.
const MaxOdometer = Microjoules(math.MaxInt64)
