package sample_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/sample"
)

// FuzzOdometer drives a track with a counter whose truth is known: wraps,
// announced resets, gaps, readings that come late, twice or out of order, and
// values beyond what the scope can draw. An odometer never goes back within its
// epoch, never books more than was drawn in it, and books all of it as long as
// no reset and no ambiguous gap lies between.
func FuzzOdometer(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Add(uint64(1)<<63, uint64(77))
	r := rand.NewPCG(0, 0)
	var tr sample.Track
	f.Fuzz(func(t *testing.T, a, b uint64) {
		r.Seed(a, b)
		scope := collector.Scope{Name: "package0", Limit: energy.Microwatts(1+a%4000) * energy.Watt}
		if b&1 == 0 {
			scope.Modulus = energy.Joule * energy.Microjoules(100_000+b%1_000_000)
		}
		tr = sample.Track{Scope: scope, MaxGap: 30e9}
		raw, drawn := energy.Microjoules(r.Uint64()%uint64(energy.Joule)), energy.Microjoules(0)
		now, epoch := int64(1e18), "a"
		first, lastUJ, odometer := energy.Microjoules(0), energy.Microjoules(0), ""
		drawnAt := energy.Microjoules(0) // when the epoch of the odometer began
		bad, wasBad := false, false
		for range 24 {
			x := r.Uint64()
			ns := int64(900e6 + x%200e6)
			if x>>32&31 == 0 {
				ns *= int64(2 + x>>37&63) // a gap
			}
			now += ns
			d := energy.Microjoules(r.Uint64()) % (energy.Most(scope.Limit, ns, 0) + 1)
			drawn, raw = drawn+d, raw+d
			if x>>50&63 == 0 { // the driver is loaded again, and its epoch says so
				raw, epoch = 0, string(rune(epoch[0])+1)
			}
			if scope.Modulus > 0 {
				raw %= scope.Modulus
			}
			reading := collector.Reading{Scope: scope, At: time.Unix(0, now), Epoch: epoch, Counter: raw}
			wasBad, bad = bad, false
			switch x >> 44 & 63 {
			case 0: // an old reading comes again
				if last, ok := tr.Last(); ok {
					reading.At, bad = time.Unix(0, last.At-int64(x>>8&0xfffff)), true
				}
			case 1: // far more than it can have drawn
				// alone: three that follow from each other would be a reset
				if scope.Modulus == 0 && !wasBad && sample.EpochSource(tr.Epoch()) == epoch {
					reading.Counter, bad = raw+energy.Most(scope.Limit, 200*ns, 1<<40), true
				}
			case 2:
				reading.Counter, bad = ^energy.Microjoules(0)-energy.Microjoules(x&0xff), true
			}
			broke, _ := tr.Add(reading)
			last, ok := tr.Last()
			if !ok {
				continue // a blank value before anything else
			}
			if broke || tr.Epoch() != odometer {
				if bad {
					t.Fatalf("seed %d %d: a bad reading began an epoch", a, b)
				}
				if !broke {
					t.Fatalf("seed %d %d: an epoch began in silence", a, b)
				}
				tr.Settle()
				odometer, first, lastUJ, drawnAt = tr.Epoch(), last.UJ, last.UJ, drawn
				continue
			}
			if bad && last.UJ != lastUJ {
				t.Fatalf("seed %d %d: a bad reading moved the odometer by %d uJ", a, b, last.UJ-lastUJ)
			}
			if last.UJ < lastUJ || last.UJ-first > drawn-drawnAt {
				t.Fatalf("seed %d %d: odometer %d after %d, %d booked of %d drawn", a, b, last.UJ, lastUJ, last.UJ-first, drawn-drawnAt)
			}
			if !bad && last.UJ-first != drawn-drawnAt {
				t.Fatalf("seed %d %d: %d booked of %d drawn", a, b, last.UJ-first, drawn-drawnAt)
			}
			lastUJ = last.UJ
			if len(tr.Points()) > 16 {
				tr.Trim(last.At)
			}
		}
	})
}
