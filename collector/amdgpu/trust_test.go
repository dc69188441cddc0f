package amdgpu

import (
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

// TestUnits: a counter of a wrong unit is never booked. It is shown once, which
// claims nothing, kept back, and then compared under a name of its own.
func TestUnits(t *testing.T) {
	f := func(factor float64, suspect bool) {
		t.Helper()
		n := open(t)
		n.must()
		shown := 0
		for range 15 {
			n.step(time.Second, 90*factor)
			got := n.must()
			if _, ok := got["gpu0"]; ok {
				shown++
			}
			if r, ok := got["gpu0-suspect"]; ok && !r.Scope.Witness {
				t.Errorf("x%v: %+v", factor, r.Scope)
			}
		}
		_, witness := n.must()["gpu0-suspect"]
		if witness != suspect || suspect == (shown > 0) {
			t.Errorf("x%v: a witness: %v, %d readings to book", factor, witness, shown)
		}
		events := n.src.Events()
		if suspect != (len(events) > 0) || suspect && events[0].Kind != "unit_suspect" {
			t.Errorf("x%v: events %+v", factor, events)
		}
	}
	f(1, false)
	f(0.2, false) // sensors differ
	f(8, false)
	f(1000, true)
	f(0.05, true)
	f(1e-3, true)
}

// TestGoodCounterWaitsForNothing: the first reading and each one after it.
func TestGoodCounterWaitsForNothing(t *testing.T) {
	n := open(t)
	for i := range 10 {
		if got := n.must(); len(got) != 4 {
			t.Errorf("after %d s: %d readings", i, len(got))
		}
		n.step(time.Second, 110)
	}
}

// TestLaterDoubt: what was verified is not silently changed; it is said.
func TestLaterDoubt(t *testing.T) {
	n := open(t)
	for range 8 {
		n.must()
		n.step(time.Second, 90)
	}
	n.wantEvents()
	for range 12 {
		n.must()
		n.step(time.Second, 2000)
	}
	if got := n.must(); len(got) != 4 || got["gpu0"].Scope.Witness {
		t.Errorf("%v", got)
	}
	if events := n.src.Events(); len(events) == 0 || events[0].Kind != "unit_suspect" {
		t.Errorf("events %+v", events)
	}
}

func TestNoPowerToCompare(t *testing.T) {
	var tr trust
	at := time.Unix(0, 0)
	var kinds []string
	for i := range 12 {
		if f := tr.see(at, energy.Microjoules(i)*1000*energy.Joule, 0, false); f.kind != "" {
			kinds = append(kinds, f.kind)
		}
		at = at.Add(time.Second)
	}
	if !tr.verified || tr.suspect || len(kinds) != 1 || kinds[0] != "unit_unchecked" {
		t.Errorf("%+v, %v", tr, kinds)
	}
}

// TestStuck: a counter that stands while power is drawn is said to be stuck
// after two seconds, once; it is no matter of its unit.
func TestStuck(t *testing.T) {
	n := open(t)
	for range 3 {
		n.must()
		n.step(time.Second, 90)
	}
	n.must()
	n.wantEvents()
	for range 20 {
		n.step(time.Second, 0)
		n.must()
	}
	n.wantEvents("counter_stuck gpu0", "counter_stuck gpu1", "counter_stuck gpu2", "counter_stuck gpu3")
	n.step(time.Second, 90)
	for range 10 {
		n.must()
		n.step(time.Second, 90)
	}
	n.wantEvents()

	// one that stands from the start is kept back, and comes when it moves
	n = open(t)
	n.must()
	for range 20 {
		n.step(time.Second, 0)
		if got := n.must(); len(got) != 0 {
			t.Errorf("%v", got)
		}
	}
	var got map[string]collector.Reading
	for range 11 {
		n.step(time.Second, 90)
		got = n.must()
	}
	if _, ok := got["gpu0"]; !ok {
		t.Errorf("it moves, and the readings are %v", got)
	}
}

// TestHoleInTime: two readings far apart judge nothing; where there are no
// others, the counter is taken as it is, and that is said.
func TestHoleInTime(t *testing.T) {
	var tr trust
	at := time.Unix(0, 0)
	uj := energy.Microjoules(0)
	var kinds []string
	for range 20 {
		// 10 W whenever it is looked at, 300 W in between
		if f := tr.see(at, uj, 10*energy.Watt, true); f.kind != "" {
			kinds = append(kinds, f.kind)
		}
		at, uj = at.Add(time.Minute), uj+300*60*energy.Joule
	}
	if !tr.verified || len(kinds) != 1 || kinds[0] != "unit_unchecked" {
		t.Errorf("%+v, %v", tr, kinds)
	}
	var slow trust // each ten seconds is often enough
	for range 3 {
		slow.see(at, uj, 300*energy.Watt, true)
		at, uj = at.Add(10*time.Second), uj+3000*energy.Joule
	}
	if !slow.verified {
		t.Errorf("%+v", slow)
	}
}
