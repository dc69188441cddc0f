package sample_test

import (
	"math"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/sample"
)

const second = int64(1e9)

func gpu() collector.Scope {
	return collector.Scope{Name: "gpu0", Class: energy.GPU, Limit: 700 * energy.Watt}
}

func rapl() collector.Scope {
	return collector.Scope{Name: "package0", Class: energy.CPU, Modulus: 262_143 * energy.Joule}
}

func sensor() collector.Scope {
	return collector.Scope{Name: "gpu0", Class: energy.GPU, Kind: collector.Power, Limit: 1000 * energy.Watt}
}

// follow is a track with what it said.
type follow struct {
	*testing.T
	*sample.Track
	odd   []energy.Verdict
	broke int
}

func newFollow(t *testing.T, s collector.Scope) *follow {
	return &follow{T: t, Track: &sample.Track{Scope: s, MaxGap: 30 * second}}
}

// see gives the track a reading and keeps what it says of it.
func (f *follow) see(at int64, epoch string, r collector.Reading) {
	r.Scope, r.At, r.Epoch = f.Scope, time.Unix(0, at), epoch
	broke, odd := f.Add(r)
	if broke {
		f.broke++
		f.Settle()
	}
	if odd != nil {
		f.odd = append(f.odd, odd.Verdict)
		if odd.Meter != f.Scope.Name || odd.Detail == "" {
			f.Errorf("the event %+v does not say which meter and what", odd)
		}
	}
}

func (f *follow) count(at int64, uj energy.Microjoules) {
	f.see(at, "boot", collector.Reading{Counter: uj})
}

func (f *follow) draws(at int64, uj energy.Microjoules, w energy.Microwatts) {
	f.see(at, "boot", collector.Reading{Counter: uj, Power: w * energy.Watt, HasPower: true})
}

func (f *follow) watts(at int64, w energy.Microwatts) {
	f.see(at, "", collector.Reading{Power: w * energy.Watt})
}

// want compares where the odometer stands, what was said, and how many epochs
// began, the first one included.
func (f *follow) want(what string, uj energy.Microjoules, epochs int, odd ...energy.Verdict) {
	f.Helper()
	last, _ := f.Last()
	if last.UJ != uj {
		f.Errorf("%s: the odometer stands at %d uJ, want %d", what, last.UJ, uj)
	}
	if f.broke != epochs {
		f.Errorf("%s: %d epochs, want %d", what, f.broke, epochs)
	}
	if len(f.odd) != len(odd) {
		f.Errorf("%s: events %v, want %v", what, f.odd, odd)
		return
	}
	for i, v := range odd {
		if f.odd[i] != v {
			f.Errorf("%s: events %v, want %v", what, f.odd, odd)
			return
		}
	}
}

func TestCounter(t *testing.T) {
	const j = energy.Joule
	f := newFollow(t, gpu())
	f.count(1*second, 5_000*j)
	f.count(2*second, 5_300*j)
	f.count(3*second, 5_900*j)
	f.want("goes on", 5_900*j, 1)
	if f.Epoch() != "boot@1000" || sample.EpochSource(f.Epoch()) != "boot" || sample.EpochSource("a@b@7") != "a@b" || sample.EpochSource("x") != "x" {
		t.Errorf("the epoch is %q", f.Epoch())
	}

	f = newFollow(t, gpu())
	f.count(1*second, 5_000*j)
	f.count(2*second, 9_000*j) // 4 kW
	f.count(3*second, 5_900*j)
	f.want("one absurd value", 5_900*j, 1, energy.Implausible)
	f.count(4*second, 5_000*j) // amdsmi#115
	f.count(5*second, 6_000*j)
	f.want("one value that goes back", 6_000*j, 1, energy.Implausible, energy.Backwards)

	f = newFollow(t, gpu())
	f.count(1*second, 5_000*j)
	for i := range int64(3) {
		f.count((2+i)*second, 40*j+energy.Microjoules(i)*300*j)
	}
	f.want("a reset that nobody announced", 640*j, 2, energy.Backwards, energy.Backwards, energy.Backwards)
	f.count(5*second, 900*j)
	f.want("and on from there", 900*j, 2, energy.Backwards, energy.Backwards, energy.Backwards)
	if f.Epoch() != "boot@4000" {
		t.Errorf("the odometer of a reset is %q; want a name of its own", f.Epoch())
	}

	f = newFollow(t, gpu())
	f.count(1*second, 5_000*j)
	f.count(2*second, 40*j)
	f.count(3*second, 9_999_999*j)
	f.count(4*second, 10*j)
	f.count(5*second, 6_000*j)
	f.want("values that do not follow from each other", 6_000*j, 1, energy.Backwards, energy.Implausible, energy.Backwards)

	f = newFollow(t, gpu())
	f.count(1*second, 5_000*j)
	f.see(2*second, "driver 2", collector.Reading{Counter: 5_001 * j})
	f.see(3*second, "driver 2", collector.Reading{Counter: 5_301 * j})
	f.want("a new epoch of the source", 5_301*j, 2, energy.NewEpoch)

	// kepler PR#53, xpumanager#130, IBM/CAST#399: 1.8e19 J, 3.69 TW, 9.2e18 J
	for _, s := range []collector.Scope{gpu(), {Name: "gpu0", Class: energy.GPU}} {
		f = newFollow(t, s)
		f.count(1*second, math.MaxUint64)
		f.count(2*second, 100*j)
		f.count(3*second, math.MaxUint64)
		f.count(4*second, energy.Microjoules(math.MaxInt64))
		f.count(5*second, 1_000*j)
		f.want("blank values", 1_000*j, 1, energy.Implausible, energy.Implausible, energy.Implausible)
	}
}

func TestStamps(t *testing.T) {
	const j = energy.Joule
	f := newFollow(t, gpu())
	f.count(1*second, 5_000*j)
	f.count(2*second, 5_300*j)
	f.count(2*second, 5_400*j)
	f.want("the same stamp again", 5_300*j, 1)
	f.count(1*second, 5_500*j)
	f.want("an older stamp", 5_300*j, 1, energy.Late)
	f.count(3*second, 5_600*j)
	f.want("and on", 5_600*j, 1, energy.Late)
}

func TestWrap(t *testing.T) {
	const j = energy.Joule
	f := newFollow(t, rapl())
	f.count(1*second, 262_100*j)
	f.count(2*second, 262_143*j) // the largest value it shows
	f.count(3*second, 200*j)
	f.want("wraps", 262_343*j, 1)
	f.count(62*second, 5_000*j) // 59 s: it cannot have wrapped twice
	f.want("a gap", 267_143*j, 1)
	f.count(124*second, 9_000*j)
	f.want("a gap in which it may have wrapped: no number", 9_000*j, 2, energy.Ambiguous)
	f.count(125*second, 262_144*j)
	f.count(126*second, 9_200*j)
	f.want("a value above the modulus", 9_200*j, 2, energy.Ambiguous, energy.Implausible)
	// CEEMS: RAPL range not used. 250 W for six hours, read at 1 Hz: 5.4 MJ.
	f = newFollow(t, rapl())
	for s := range int64(21_601) {
		f.count((1+s)*second, energy.Microjoules(s)*250*j%f.Scope.Modulus)
	}
	f.want("250 W for six hours", 5_400_000*j, 1)
	// two domains wrap at different times, each by its own modulus
	d := newFollow(t, collector.Scope{Name: "dram0", Class: energy.Memory, Modulus: 65_535 * energy.Joule})
	for s := range int64(7_201) {
		d.count((1+s)*second, energy.Microjoules(s)*40*j%d.Scope.Modulus)
	}
	d.want("40 W for two hours", 288_000*j, 1)
}

func TestStuck(t *testing.T) {
	const j = energy.Joule
	f := newFollow(t, gpu())
	f.draws(1*second, 5_000*j, 300)
	for s := int64(2); s <= 5; s++ {
		f.draws(s*second, 5_000*j, 300)
	}
	f.want("still for four seconds", 5_000*j, 1)
	for s := int64(6); s <= 20; s++ {
		f.draws(s*second, 5_000*j, 300)
	}
	f.want("stuck, said once", 5_000*j, 1, energy.Stuck)
	if last, _ := f.Last(); !last.Gap {
		t.Error("the time of a stuck counter is not missing")
	}
	f.draws(21*second, 5_300*j, 300)
	f.want("it moves again", 5_300*j, 1, energy.Stuck)
	if last, _ := f.Last(); last.Gap {
		t.Error("the time is missing though the counter moves")
	}

	f = newFollow(t, gpu())
	for s := int64(1); s <= 60; s++ {
		f.draws(s*second, 5_000*j, 300)
	}
	f.draws(61*second, 23_000*j, 300)
	f.want("frozen, then 60 s of 300 W at once", 23_000*j, 1, energy.Stuck)
	if last, _ := f.Last(); !last.Bridged {
		t.Error("energy of a minute in one step is not bridged")
	}
	f.draws(62*second, 93_000*j, 300)
	f.want("and then too much at once", 23_000*j, 1, energy.Stuck, energy.Implausible)

	f = newFollow(t, gpu())
	for s := int64(1); s <= 60; s++ {
		f.draws(s*second, 5_000*j, 0)
	}
	f.want("a device that is off", 5_000*j, 1)

	coarse := gpu()
	coarse.Resolution = 3_000 * energy.Joule
	f = newFollow(t, coarse)
	for s := int64(1); s <= 40; s++ {
		f.draws(s*second, 5_000*j+energy.Microjoules(s/10)*3_000*j, 300)
	}
	f.want("a coarse counter stands still between its steps", 17_000*j, 1)
}

func TestPower(t *testing.T) {
	const j = energy.Joule
	f := newFollow(t, sensor())
	f.watts(1*second, 100)
	f.watts(2*second, 200)
	f.want("a trapezoid", 150*j, 1)
	f.watts(3*second, 644_245_923) // dcgm-exporter#312, #418
	f.watts(4*second, 200)
	f.want("an absurd value is passed over", 550*j, 1, energy.Implausible)
	f.watts(14*second, 300)
	f.want("ten seconds without a reading", 3_050*j, 1, energy.Implausible)
	if last, _ := f.Last(); !last.Bridged || last.Gap {
		t.Error("power over ten seconds is not bridged")
	}
	f.watts(19*second, 300)
	if last, _ := f.Last(); last.Bridged {
		t.Error("power over five seconds is bridged")
	}
	f.watts(49*second, 300)
	f.want("thirty seconds", 13_550*j, 1, energy.Implausible)
	f.watts(79*second+1, 300)
	f.want("longer than max_gap: nothing claimed", 13_550*j, 1, energy.Implausible, energy.Late)
	if last, _ := f.Last(); !last.Gap {
		t.Error("a gap of power is not missing")
	}
	if uj, exact := f.At(60 * second); uj != 13_550*j || !exact {
		t.Errorf("inside the gap the odometer is %d", uj)
	}
	f.watts(80*second+1, 100)
	f.want("and on", 13_750*j, 1, energy.Implausible, energy.Late)

	free := sensor()
	free.Limit = 0
	f = newFollow(t, free)
	f.watts(1*second, 100)
	f.see(2*second, "", collector.Reading{Power: math.MaxUint64})
	f.see(3*second, "", collector.Reading{Power: 1 << 62})
	f.watts(4*second, 100)
	f.want("blank values, limit not known", 300*j, 1, energy.Implausible, energy.Implausible)
}

func TestResume(t *testing.T) {
	const j = energy.Joule
	f := newFollow(t, gpu())
	f.Resume(sample.Start{Epoch: "boot@500", UJ: 4_000 * j, Raw: 4_000 * j, AtNS: 1 * second}, 0)
	f.count(101*second, 30_000*j)
	f.want("after 100 s in which nobody looked", 30_000*j, 0)
	if f.Epoch() != "boot@500" {
		t.Errorf("the epoch is %q; it went on", f.Epoch())
	}
	f = newFollow(t, gpu())
	f.Resume(sample.Start{Epoch: "boot@500", UJ: 4_000 * j, Raw: 4_000 * j, AtNS: 1 * second}, 0)
	f.see(101*second, "boot 2", collector.Reading{Counter: 30_000 * j})
	f.want("the machine was booted meanwhile", 30_000*j, 1, energy.NewEpoch)
	f = newFollow(t, gpu())
	f.Resume(sample.Start{Epoch: "boot@500", UJ: 4_000 * j, Raw: 4_000 * j, AtNS: 1 * second}, 0)
	for s := range int64(3) {
		f.count((101+s)*second, 300*j)
	}
	f.want("the counter was reset meanwhile", 300*j, 1, energy.Backwards, energy.Backwards, energy.Backwards)

	f = newFollow(t, rapl())
	f.Resume(sample.Start{Epoch: "boot@500", UJ: 780_000 * j, Raw: 780_000 * j % f.Scope.Modulus, AtNS: 1 * second}, 0)
	f.count(31*second, 500*j)
	f.want("it wrapped meanwhile", 786_929*j, 0)

	f = newFollow(t, sensor())
	f.Resume(sample.Start{Epoch: "@500", UJ: 70 * j, AtNS: 1 * second}, 100*energy.Watt)
	f.watts(11*second, 100)
	f.want("power over ten seconds", 1_070*j, 0)
	f = newFollow(t, sensor())
	f.Resume(sample.Start{Epoch: "@500", UJ: 70 * j, AtNS: 1 * second}, 100*energy.Watt)
	f.watts(101*second, 100)
	f.watts(102*second, 100)
	f.want("power over a minute is missing", 170*j, 0, energy.Late)
}

func TestAtNearTrimShift(t *testing.T) {
	const j = energy.Joule
	f := newFollow(t, gpu())
	for s := int64(1); s <= 5; s++ {
		f.count(s*second, energy.Microjoules(s)*100*j)
	}
	at := func(ns int64, want energy.Microjoules, wantExact bool) {
		t.Helper()
		if uj, exact := f.At(ns); uj != want || exact != wantExact {
			t.Errorf("At(%d) = %d, %v; want %d, %v", ns, uj, exact, want, wantExact)
		}
	}
	at(3*second, 300*j, true)
	at(3*second+second/2, 350*j, false)
	at(0, 100*j, false)
	at(9*second, 500*j, false)
	near := func(ns, want int64) {
		t.Helper()
		pt, ok := f.Near(ns)
		if ok != (want > 0) || (ok && pt.At != want) {
			t.Errorf("Near(%d) = %d, %v; want %d", ns, pt.At, ok, want)
		}
	}
	near(3*second, 3*second)
	near(3*second+250e6, 3*second)
	near(3*second+250e6+1, 0)
	near(4*second-250e6, 4*second)
	near(5*second+1, 5*second)
	near(9*second, 0)
	f.Trim(3*second + 5)
	at(3*second, 300*j, true)
	if n := len(f.Points()); n != 3 {
		t.Errorf("%d points are kept, want 3: the one that begins the span and those after", n)
	}
	f.Shift(-3600 * second)
	at(4*second-3600*second, 400*j, true)
	f.count(6*second-3600*second, 600*j)
	f.want("after a step of the clock", 600*j, 1)
	f.Renew()
	f.count(7*second-3600*second, 700*j)
	if last, _ := f.Last(); last.UJ != 700*j || f.Epoch() != "boot@-3594000" {
		t.Errorf("renewed: %d uJ of epoch %q", last.UJ, f.Epoch())
	}
}
