package simulated

import (
	"context"
	"errors"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

func start() time.Time { return time.Date(2026, 10, 10, 11, 12, 13, 141_592_653, time.UTC) }

func made(t *testing.T, o Options) *Source {
	t.Helper()
	if o.Start.IsZero() {
		o.Start = start()
	}
	if o.Now == nil {
		o.Now = start
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCounterIntegratesPower over spans anywhere, by adding up seconds of power
// in fractions.
func TestCounterIntegratesPower(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	s := made(t, Options{Seed: seed, GPUs: 4, Parent: true})
	for range 300 {
		a := start().Add(time.Duration(rng.Int64N(int64(3 * Cycle))))
		b := a.Add(time.Duration(rng.Int64N(int64(2 * Cycle))))
		for _, name := range []string{"gpu0", "gpu3", "package0", "dram0", "node"} {
			want := new(big.Rat) // uJ
			for at := a; at.Before(b); {
				next := at.Add(time.Second - at.Sub(start())%time.Second)
				if next.After(b) {
					next = b
				}
				want.Add(want, new(big.Rat).Mul(big.NewRat(int64(s.Power(name, at)), 1), big.NewRat(int64(next.Sub(at)), 1_000_000_000)))
				at = next
			}
			got := new(big.Rat).SetInt64(int64(s.Counter(name, b) - s.Counter(name, a)))
			// One microjoule of rounding; the node's is that of its six parts, and
			// a microwatt of its power for every second.
			most := big.NewRat(1, 1)
			if name == "node" {
				most = big.NewRat(8+int64(2*cycleSeconds), 1)
			}
			if off := got.Sub(got, want); off.Abs(off).Cmp(most) > 0 {
				t.Fatalf("%s from %v to %v: off by %s uJ", name, a, b, off.FloatString(3))
			}
		}
	}
}

func TestNodeContainsTheOthers(t *testing.T) {
	s := made(t, Options{Seed: 1, GPUs: 8, Parent: true})
	at := start().Add(12345 * time.Millisecond)
	var sum energy.Microjoules
	for _, name := range []string{"gpu0", "gpu1", "gpu2", "gpu3", "gpu4", "gpu5", "gpu6", "gpu7", "package0", "dram0"} {
		sum += s.Counter(name, at)
	}
	if got := s.Counter("node", at); got != sum*112/100 || got == 0 {
		t.Errorf("node counter: %d; want %d", got, sum*112/100)
	}
}

func TestReadings(t *testing.T) {
	now := start()
	s := made(t, Options{Seed: 4, GPUs: 2, Parent: true, Now: func() time.Time { return now }})
	last := map[string]energy.Microjoules{}
	wraps := map[string]int{}
	activities := map[collector.Activity]int{}
	for range 7200 {
		rs, err := s.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range rs {
			name := r.Scope.Name
			names = append(names, name)
			if r.Epoch != "simulated-1791630733" || !r.At.Equal(now) || !r.HasPower || r.Power > r.Scope.Limit {
				t.Fatalf("reading %+v", r)
			}
			if parent := r.Scope.Parent; (parent == "node") != (name != "node") {
				t.Fatalf("%s lies in %q", name, parent)
			}
			want := s.Counter(name, now)
			if m := r.Scope.Modulus; m > 0 {
				want %= m
			}
			if r.Counter != want {
				t.Fatalf("%s at %v: %d; want %d", name, now, r.Counter, want)
			}
			if r.Counter < last[name] {
				wraps[name]++
			}
			last[name] = r.Counter
			if r.Scope.Class == energy.GPU {
				activities[r.Activity]++
				if len(r.Gauges) != 3 || r.Gauges[0].Value < 0 || r.Gauges[0].Value > 1 {
					t.Fatalf("gauges %+v", r.Gauges)
				}
			}
		}
		if !slices.Equal(names, []string{"node", "gpu0", "gpu1", "package0", "dram0"}) {
			t.Fatalf("meters %v", names)
		}
		now = now.Add(time.Second)
	}
	if wraps["package0"] == 0 || wraps["dram0"] == 0 || wraps["gpu0"]+wraps["node"] > 0 {
		t.Errorf("wraps in two hours: %v", wraps)
	}
	if activities[collector.Working] == 0 || activities[collector.Resting] == 0 || activities[collector.NotKnown] > 0 {
		t.Errorf("activities %v", activities)
	}
}

func TestEdgesOfTheNode(t *testing.T) {
	s := made(t, Options{Seed: 4, GPUs: 1, Epoch: "boot-7"})
	f := func(name string, at time.Time, power, energy bool) {
		t.Helper()
		if p, e := s.Power(name, at), s.Counter(name, at); (p > 0) != power || (e > 0) != energy {
			t.Errorf("%s at %v: %d uW, %d uJ", name, at, p, e)
		}
	}
	f("gpu0", start().Add(-time.Nanosecond), false, false)
	f("gpu0", start(), true, false)
	f("gpu0", start().Add(time.Hour), true, true)
	f("gpu0", start().Add(20*365*24*time.Hour), true, true)
	f("gpu1", start().Add(time.Hour), false, false)
	f("node", start().Add(time.Hour), false, false)
	rs, err := s.Read(t.Context())
	if err != nil || rs[0].Epoch != "boot-7" || rs[0].Scope.Parent != "" {
		t.Errorf("readings %+v, %v", rs, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v; want that of the context", err)
	}
	for _, o := range []Options{{GPUs: -1, Start: start(), Now: start}, {GPUs: 65, Start: start(), Now: start}, {Now: start}, {Start: start()}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	s, err := New(Options{Seed: 1, GPUs: 8, Start: start(), Parent: true, Now: func() time.Time { return start().Add(time.Hour) }})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Read(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
