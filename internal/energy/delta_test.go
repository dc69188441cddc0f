package energy_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
)

func TestDelta(t *testing.T) {
	f := func(what string, prev, cur, modulus, most, want energy.Microjoules, verdict energy.Verdict) {
		t.Helper()
		d, v := energy.Delta(prev, cur, modulus, most)
		if d != want || v != verdict {
			t.Errorf("%s: Delta(%d, %d, %d, %d) = %d, %v; want %d, %v", what, prev, cur, modulus, most, d, v, want, verdict)
		}
		if !v.Energy() && d != 0 {
			t.Errorf("%s: %d uJ with the verdict %v, which carries no energy", what, d, v)
		}
	}
	f("goes on", 100, 250, 0, 0, 150, energy.Counted)
	f("stands still", 100, 100, 0, 0, 0, energy.Counted)
	f("goes on below its modulus", 100, 250, 1000, 400, 150, energy.Counted)
	f("as much as the scope can draw", 100, 500, 0, 400, 400, energy.Counted)
	f("one more", 100, 501, 0, 400, 0, energy.Implausible)
	// kepler#575: the sample of the wrap is booked, not thrown away as noise.
	f("wraps", 900, 50, 1000, 400, 150, energy.Wrapped)
	f("wraps to zero", 900, 0, 1000, 400, 100, energy.Wrapped)
	f("wraps from the largest value", 999, 0, 1000, 400, 1, energy.Wrapped)
	f("wraps from the modulus itself, which RAPL's range is", 1000, 7, 1000, 400, 7, energy.Wrapped)
	f("wraps, limit not known", 900, 50, 1000, 0, 150, energy.Wrapped)
	f("wraps further than it can have", 900, 850, 1000, 400, 0, energy.Implausible)
	// cc-metric-collector, kepler PR#53, IBM/CAST#399: no unsigned underflow.
	f("goes back", 100, 99, 0, 0, 0, energy.Backwards)
	f("starts anew", math.MaxUint64, 3, 0, 0, 0, energy.Backwards)
	f("was above its modulus", 1001, 3, 1000, 400, 0, energy.Backwards)
	f("may have wrapped twice", 900, 950, 1000, 1000, 0, energy.Ambiguous)
	f("may have wrapped twice, smaller", 900, 50, 1000, 2000, 0, energy.Ambiguous)
	f("cannot have wrapped twice", 900, 950, 1000, 999, 50, energy.Counted)
	f("1.8e19 J", 0, math.MaxUint64, 0, 1e9, 0, energy.Implausible)
}

func TestMost(t *testing.T) {
	f := func(limit energy.Microwatts, ns int64, slack, want energy.Microjoules) {
		t.Helper()
		if got := energy.Most(limit, ns, slack); got != want {
			t.Errorf("Most(%d, %d, %d) = %d, want %d", limit, ns, slack, got, want)
		}
	}
	f(700*energy.Watt, 1e9, 0, 700*energy.Joule)
	f(700*energy.Watt, 1e9, 5, 700*energy.Joule+5)
	f(1, 999_999_999, 0, 0)
	f(1, 1e9, 0, 1)
	f(700*energy.Watt, 0, 9, 9)
	f(700*energy.Watt, -5, 9, 9)
	f(0, math.MaxInt64, 0, 0)
	f(math.MaxUint64, math.MaxInt64, 0, energy.MaxOdometer)
	f(math.MaxUint64, 1e9, 0, energy.MaxOdometer)
	f(energy.Microwatts(energy.MaxOdometer), 1e9, 0, energy.MaxOdometer)
	f(energy.Microwatts(energy.MaxOdometer), 1e9, 1, energy.MaxOdometer)
	f(energy.Microwatts(energy.MaxOdometer)-1, 1e9, 1, energy.MaxOdometer)
	f(1, 1e9, math.MaxUint64, energy.MaxOdometer)
}

// counter is a hardware counter as it is and as it is read.
type counter struct {
	modulus, raw, prev energy.Microjoules
}

// draw lets the counter go on by d, with as many wraps as that takes.
func (c *counter) draw(d energy.Microjoules) {
	c.raw += d
	if c.modulus > 0 {
		c.raw %= c.modulus
	}
}

// FuzzDelta drives an odometer from a counter whose truth is known, through
// wraps, resets, gaps and bad samples, with the gate set to what the device can
// really draw. It must never book more than was drawn, and must book all of it
// as long as nothing but wraps happens. The path allocates nothing.
func FuzzDelta(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint64(3))
	f.Add(uint64(7), uint64(0xffff_ffff_ffff_ffff), uint64(1)<<40)
	f.Fuzz(func(t *testing.T, seed, shape, modulus uint64) {
		r := rand.NewPCG(seed, shape)
		c := counter{modulus: energy.Microjoules(modulus % (1 << 40))}
		if shape&1 == 0 {
			c.modulus = 0
		}
		limit := energy.Microwatts(1 + (shape>>1)%(1<<33)) // up to 8.6 kW
		clean := shape&(1<<40) == 0                        // nothing but wraps
		odometer := energy.Microjoules(0)
		for range 24 {
			x := r.Uint64()
			ns := int64(1+x%64) * 50_000_000
			if x>>8&31 == 0 {
				ns *= 100 // a gap
			}
			most := energy.Most(limit, ns, 1)
			d := energy.Microjoules(r.Uint64()) % (most + 1)
			c.draw(d)
			cur := c.raw
			if !clean {
				switch x >> 16 & 31 {
				case 0: // the driver was loaded again, and nobody says so
					cur, c.raw = energy.Microjoules(x>>40), energy.Microjoules(x>>40)
				case 1: // a bad sample
					cur = energy.Microjoules(r.Uint64())
				}
			}
			got, v := energy.Delta(c.prev, cur, c.modulus, most)
			before := odometer
			odometer += got
			switch {
			case odometer < before:
				t.Fatalf("seed %d %d %d: the odometer went back from %d to %d", seed, shape, modulus, before, odometer)
			case !v.Energy() && got != 0:
				t.Fatalf("seed %d %d %d: %d uJ of verdict %v", seed, shape, modulus, got, v)
			case got > most:
				t.Fatalf("seed %d %d %d: %d uJ where %d can be drawn", seed, shape, modulus, got, most)
			case clean && v.Energy() && got != d:
				t.Fatalf("seed %d %d %d: booked %d of %d uJ drawn (%v)", seed, shape, modulus, got, d, v)
			case clean && !v.Energy() && (v != energy.Ambiguous || c.modulus == 0 || most < c.modulus):
				t.Fatalf("seed %d %d %d: a good reading was refused: %v", seed, shape, modulus, v)
			}
			c.prev = c.raw
		}
	})
}
