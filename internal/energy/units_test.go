package energy_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
)

func TestSpanTelescopes(t *testing.T) {
	const seed = 11
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		first := energy.Microjoules(r.Uint64N(1 << 62))
		at, sum := first, energy.Millijoules(0)
		for range 1 + r.IntN(30) {
			next := at + energy.Microjoules(r.Uint64N(1<<uint(r.IntN(40))))
			sum += energy.Span(at, next)
			at = next
		}
		if want := energy.Span(first, at); sum != want {
			t.Fatalf("seed %d: spans of [%d, %d] add up to %d mJ, want %d", seed, first, at, sum, want)
		}
	}
	// cc-metric-collector: delta / 1000 loses up to a millijoule a tick
	at, sum := energy.Microjoules(0), energy.Millijoules(0)
	for range 1000 {
		sum += energy.Span(at, at+1999)
		at += 1999
	}
	if sum != 1999 {
		t.Errorf("1000 ticks of 1999 uJ are %d mJ, want 1999", sum)
	}
	if got := energy.Span(5000, 2000); got != -3 {
		t.Errorf("a range that goes back spans %d mJ, want -3, for Check to refuse", got)
	}
}

func TestKWh(t *testing.T) {
	f := func(mj energy.Millijoules, want string) {
		t.Helper()
		if got := mj.KWh(); got != want {
			t.Errorf("%d mJ are %s kWh, want %s", int64(mj), got, want)
		}
	}
	f(0, "0.000")
	f(3_600_000_000, "1.000")
	f(1_799_999, "0.000")
	f(1_800_000, "0.001")
	f(-1_799_999, "0.000")
	f(-1_800_000, "-0.001")
	f(-3_600_000_000, "-1.000")
	f(1_494_918_641_440, "415.255")
	f(3_599_999_999, "1.000")
	f(math.MaxInt64, "2562047788.015")
	f(math.MinInt64, "-2562047788.015")
}

func TestParseMillijoules(t *testing.T) {
	for _, m := range []energy.Millijoules{0, 1, -1, math.MaxInt64, math.MinInt64} {
		if got, err := energy.ParseMillijoules(m.String()); err != nil || got != m {
			t.Errorf("ParseMillijoules(%s) = %d, %v", m, got, err)
		}
	}
	for _, s := range []string{"", "1.0", "9223372036854775808", "0x1", "1 "} {
		if got, err := energy.ParseMillijoules(s); err == nil {
			t.Errorf("ParseMillijoules(%q) = %d, want an error", s, got)
		}
	}
}

func TestWordsGoBothWays(t *testing.T) {
	for c := range energy.Class(energy.NumClasses) {
		if got, err := energy.ParseClass(c.String()); err != nil || got != c {
			t.Errorf("class %v reads as %v, %v", c, got, err)
		}
	}
	for u := range energy.Use(energy.NumUses) {
		if got, err := energy.ParseUse(u.String()); err != nil || got != u {
			t.Errorf("use %v reads as %v, %v", u, got, err)
		}
	}
	if energy.Counter.Worse(energy.Bridged) != energy.Bridged || energy.Modelled.Worse(energy.Sampled) != energy.Modelled {
		t.Error("the worse of two grades is the larger one")
	}
	if _, err := energy.ParseUse("free"); err == nil {
		t.Error("a use that there is not was read")
	}
	if got := energy.Class(99).String(); got != "invalid(99)" {
		t.Errorf("an unknown class is %q", got)
	}
}
