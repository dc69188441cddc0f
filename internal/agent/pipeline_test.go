package agent_test

import (
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/agent"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

type sum = map[string]energy.Millijoules

func gpuDial(name string, w energy.Microwatts) *dial { return counterDial(name, "", energy.GPU, w) }

// CEEMS: a job seen by one scrape has no energy. DESIGN section 6, promise 6.
func TestJobOfTwoSeconds(t *testing.T) {
	n := newNode(t, options(), gpuDial("gpu0", 300))
	n.read()
	n.ticks(4)
	n.pass(300 * time.Millisecond)
	n.begin("a", "gpu0")
	n.dials[0].watts = 700 * energy.Watt
	n.pass(700 * time.Millisecond)
	n.read()
	n.ticks(1)
	n.pass(300 * time.Millisecond)
	n.end("a")
	n.dials[0].watts = 100 * energy.Watt
	n.pass(700 * time.Millisecond)
	n.read()
	n.ticks(4)
	n.flush()
	n.want("a job of 2 s at 700 W", sum{
		"job a/0": 1_400_000, "use idle": 300*4_300 + 100*4_700, "grade bridged": 0, "missing ms gpu": 0,
	})
}

func TestBackToBackJobsShareNoJoule(t *testing.T) {
	n := newNode(t, options(), gpuDial("gpu0", 300))
	n.read()
	n.ticks(3)
	n.begin("a", "gpu0")
	n.ticks(8)
	n.pass(400 * time.Millisecond)
	n.end("a")
	n.dials[0].watts = 700 * energy.Watt
	n.begin("b", "gpu0") // the same instant
	n.pass(600 * time.Millisecond)
	n.read()
	n.ticks(5)
	n.end("b")
	n.flush()
	n.want("two jobs back to back", sum{"job a/0": 300 * 8_400, "job b/0": 700 * 5_600, "use idle": 900_000})
}

// CEEMS: requeued job, each incarnation gets the whole sum.
func TestRequeuedJobIsTwoRuns(t *testing.T) {
	n := newNode(t, options(), gpuDial("gpu0", 100))
	n.read()
	n.begin("a", "gpu0")
	n.ticks(5)
	n.end("a")
	if err := n.p.Begin(job.Spec{ID: "a", Restart: 1, GPUs: []window.Share{{Device: "gpu0", Weight: job.Whole}}}, n.now); err != nil {
		t.Fatal(err)
	}
	n.ticks(7)
	n.flush()
	n.want("requeued", sum{"job a/0": 500_000, "job a/1": 700_000, "total": 1_200_000})
}

func TestHeldAndIdle(t *testing.T) {
	n := newNode(t, options(), gpuDial("gpu0", 90), gpuDial("gpu1", 90))
	n.dials[0].rests = true
	n.read()
	n.begin("a", "gpu0")
	n.ticks(20)
	n.flush()
	n.want("CEEMS: GPU allocated but idle, 90 W", sum{"job a/0": 1_800_000, "use held": 1_800_000, "use idle": 1_800_000})
}

// CEEMS: scrape failed 10 of 15 min at 100 W: 25 Wh -> 8.6 Wh, no flag.
func TestCounterBridgesAGap(t *testing.T) {
	n := newNode(t, options(), gpuDial("gpu0", 100), gpuDial("gpu1", 200))
	n.read()
	n.begin("a", "gpu0", "gpu1")
	n.ticks(30)
	n.dials[1].silent = true
	n.ticks(20)
	n.dials[1].silent = false
	n.ticks(30)
	n.flush()
	n.want("one device silent for 20 s", sum{"total": 300 * 80_000, "job a/0": 300 * 80_000})
	b := n.books()
	if got := b["grade bridged"]; got < 200*15_000 || got > 200*35_000 {
		t.Errorf("bridged are %d mJ; what one device burnt in 20 s is %d", got, 200*20_000)
	}
	if got := b["missing ms gpu"]; got > 22_000 {
		t.Errorf("missing are %d ms of device time, of one device for 20 s", got)
	}
}

func TestAllSilentForThreeHours(t *testing.T) {
	n := newNode(t, options(), gpuDial("gpu0", 100), gpuDial("gpu1", 200))
	n.read()
	n.begin("a", "gpu0")
	n.ticks(30)
	before := len(n.ws)
	n.pass(3 * time.Hour)
	n.read()
	between := len(n.ws) - before
	n.ticks(30)
	n.flush()
	secs := energy.Millijoules(60 + 3*3600)
	n.want("silent for 3 hours", sum{"total": 300_000 * secs, "job a/0": 100_000 * secs, "use idle": 200_000 * secs, "missing ms gpu": 0})
	if between < 12 || between > 20 {
		t.Errorf("three hours are %d windows; one per slot is 12 or 13, with a few at the ends", between)
	}
	if b := n.books()["grade bridged"]; b < 300_000*3*3500 {
		t.Errorf("bridged are %d mJ of three hours", b)
	}
}

// facts/measurement.md I.2: a gap longer than a wrap yields no number.
func TestGapLongerThanAWrap(t *testing.T) {
	d := counterDial("package0", "", energy.CPU, 200)
	d.scope.Modulus, d.scope.Limit = 262_143*energy.Joule, 500*energy.Watt
	n := newNode(t, options(), d, gpuDial("gpu0", 100))
	n.read()
	n.ticks(2000) // 400 kJ: it wraps
	n.want("wraps", sum{"class cpu": 200_000 * energy.Millijoules(n.lands-n.ws[0].StartMS) / 1000})
	if len(n.first) != 2 {
		t.Errorf("odometers are %v; a wrap begins no epoch", n.first)
	}
	n.pass(20 * time.Minute)
	n.read()
	n.ticks(30)
	n.flush()
	n.want("a gap of 20 min", sum{"class cpu": 200_000 * 2030, "class gpu": 100_000 * (2030 + 1200)})
	if n.events("ambiguous") != 1 || len(n.first) != 3 {
		t.Errorf("%d events, odometers %v; want one event and a new epoch", n.events("ambiguous"), n.first)
	}
	if ms := n.books()["missing ms cpu"]; ms < 1_199_000 || ms > 1_210_000 {
		t.Errorf("missing are %d ms of 20 min", ms)
	}
}

func TestPowerMeterWithGaps(t *testing.T) {
	d := gpuDial("gpu0", 100)
	d.scope.Kind = collector.Power
	n := newNode(t, options(), d)
	n.read()
	n.ticks(30)
	n.pass(20 * time.Second)
	n.read()
	n.want("so far", sum{"missing ms gpu": 0})
	n.ticks(40)
	n.pass(100 * time.Second)
	n.read()
	n.ticks(30)
	n.flush()
	n.want("power with a gap of 20 s and one of 100 s", sum{"total": 100_000 * (30 + 20 + 40 + 30), "grade bridged": 100_000 * 20, "missing ms gpu": 100_000})
}

// A window never crosses a slot, whatever its length.
func TestWindowsKeepToSlots(t *testing.T) {
	for _, w := range []time.Duration{10 * time.Second, 7 * time.Second, time.Minute, 15 * time.Minute, time.Hour} {
		opt := options()
		opt.Window = w
		n := newNode(t, opt, gpuDial("gpu0", 100))
		n.read()
		for range 100 { // 40 min
			n.pass(24 * time.Second)
			n.read()
		}
		n.flush()
		n.want(w.String(), sum{"total": 100_000 * 2400})
	}
}

func TestParentBelowChildrenBecomesAWitness(t *testing.T) {
	parent := counterDial("node", "", energy.Node, 250)
	n := newNode(t, options(), parent, counterDial("gpu0", "node", energy.GPU, 200), counterDial("package0", "node", energy.CPU, 100))
	n.read()
	n.begin("a")
	n.ticks(240)
	if len(n.p.Demoted()) != 0 {
		t.Fatal("the parent is a witness after four minutes")
	}
	n.ticks(180)
	n.flush()
	if d := n.p.Demoted(); len(d) != 1 || d[0] != "node" || n.events("demoted") != 1 {
		t.Fatalf("demoted are %v, with %d events; want node, said once", d, n.events("demoted"))
	}
	below, after := energy.Millijoules(0), energy.Millijoules(0)
	for _, w := range n.ws {
		s := energy.Millijoules(w.EndMS - w.StartMS)
		if len(w.Catalogue.Meters) == 3 {
			below += s
		} else {
			after += s
		}
	}
	if below < 300_000 || below > 320_000 || after != 420_000-below {
		t.Errorf("%d ms under the parent, %d after; want five minutes and the rest", below, after)
	}
	n.want("signed remainder, then none", sum{
		"class other": -50 * below, "total": 250*below + 300*after, "class gpu": 200 * 420_000, "class cpu": 100 * 420_000, "job a/0": 250*below + 300*after,
	})
}

func TestParentThatReadsLessForAMomentStays(t *testing.T) {
	parent := counterDial("node", "", energy.Node, 250)
	n := newNode(t, options(), parent, counterDial("gpu0", "node", energy.GPU, 300))
	n.read()
	for range 10 {
		parent.watts = 250 * energy.Watt
		n.ticks(100)
		parent.watts = 400 * energy.Watt
		n.ticks(100)
	}
	n.flush()
	if len(n.p.Demoted()) != 0 {
		t.Error("a parent that makes up for it within minutes was made a witness")
	}
}

func TestClockSteps(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour, 3 * time.Second, -3 * time.Second, 17 * time.Minute} {
		n := newNode(t, options(), gpuDial("gpu0", 100), counterDial("node", "", energy.Node, 250))
		n.dials[0].scope.Parent = "node"
		n.read()
		n.ticks(20)
		n.begin("old", "gpu0")
		n.ticks(33)
		n.begin("new")
		n.ticks(4)
		n.loose = true
		n.p.Step(by)
		n.now = n.now.Add(by)
		n.ticks(40)
		n.end("new")
		n.ticks(23)
		n.flush()
		n.want("stepped by "+by.String(), sum{
			"total": 250_000 * 120, "class gpu": 100_000 * 120, "missing ms gpu": 0, "use idle": 250*20_000 + 0,
			"grade bridged": 0,
		})
		if len(n.p.Demoted()) != 0 || n.events("clock_step") != 1 {
			t.Errorf("stepped by %v: demoted %v, %d events", by, n.p.Demoted(), n.events("clock_step"))
		}
	}
}

// A meter that comes later, one whose driver is loaded again, one that goes on:
// an agent that was down for an hour sees all of them at once.
func TestResumeWithOneMeterAnew(t *testing.T) {
	a, b := gpuDial("gpu0", 100), gpuDial("gpu1", 200)
	n := newNode(t, options(), a, b)
	n.read()
	n.begin("a", "gpu0", "gpu1")
	n.ticks(25)
	n.flush()
	starts, last := n.p.Ends()
	n.p = agent.NewPipeline(options(), n.jobs)
	n.p.Resume(starts, last, 0)
	n.pass(time.Hour)
	b.epoch, b.raw = "driver 2", 7_000_000
	n.read()
	n.ticks(25)
	n.flush()
	n.want("one of two began anew", sum{"class gpu": 100_000*(50+3600) + 200_000*50, "use idle": 0, "use unknown": 0, "missing ms gpu": 3600_000})
	if n.events("new_epoch") != 1 {
		t.Errorf("%d events, want one", n.events("new_epoch"))
	}
}

func TestMeterThatComesLater(t *testing.T) {
	late := gpuDial("gpu1", 200)
	late.silent = true
	n := newNode(t, options(), gpuDial("gpu0", 100), late)
	n.read()
	n.ticks(33)
	late.silent = false
	n.ticks(33)
	n.flush()
	n.want("gpu1 comes after 33 s", sum{"total": 100_000*66 + 200_000*32})
}

// Kepler: one socket's read error costs the other's energy.
func TestResetOfOneDevice(t *testing.T) {
	a, b := gpuDial("gpu0", 100), gpuDial("gpu1", 200)
	n := newNode(t, options(), a, b)
	n.read()
	n.begin("a", "gpu0", "gpu1")
	n.ticks(33)
	b.epoch, b.raw = "driver 2", 5
	n.ticks(33)
	n.flush()
	n.want("gpu1 is reset after 33 s", sum{"total": 100_000*66 + 200_000*(33+32), "job a/0": 100_000*66 + 200_000*65, "missing ms gpu": 1000})
}

// After a restart the parent's source answers late: what its children burnt
// while nobody looked is booked once.
func TestParentComesLateAfterARestart(t *testing.T) {
	f := func(late int, want sum) {
		t.Helper()
		parent := counterDial("node", "", energy.Node, 500)
		n := newNode(t, options(), parent, counterDial("gpu0", "node", energy.GPU, 300))
		n.read()
		n.ticks(25)
		n.flush()
		starts, last := n.p.Ends()
		n.p = agent.NewPipeline(options(), n.jobs)
		n.p.Resume(starts, last, 0)
		n.pass(40 * time.Second)
		parent.silent = true
		n.read()
		n.ticks(late)
		if kept, _ := n.p.Ends(); len(kept) != 2 {
			t.Errorf("a state saved meanwhile has %d odometers, want both", len(kept))
		}
		parent.silent = false
		n.ticks(25)
		n.flush()
		n.want("parent late", want)
	}
	f(1, sum{"total": 500_000 * (25 + 40 + 1 + 25), "class gpu": 300_000 * 91})
	// far too late: the rest of that time is not claimed, the GPU's energy is booked once
	f(20, sum{"total": 500_000*25 + 300_000*(40+20+1) + 500_000*24, "class gpu": 300_000 * 110})
}

// A stamp from the future would make every true one after it an old one.
func TestStampFromTheFuture(t *testing.T) {
	d := gpuDial("gpu0", 100)
	n := newNode(t, options(), d)
	n.read()
	n.ticks(20)
	n.take(n.p.Observe(n.now, []collector.Reading{d.reading(n.now.Add(time.Hour))}))
	n.ticks(20)
	n.flush()
	n.want("a stamp an hour ahead", sum{"total": 100_000 * 40, "missing ms gpu": 0})
	if n.events("future") != 1 {
		t.Errorf("%d events, want one", n.events("future"))
	}
}

// A parent whose source is away for a quarter of an hour is not a parent that
// reads too little: its counter tells all of it when it is back.
func TestParentThatIsNotReadForAWhile(t *testing.T) {
	parent := counterDial("node", "", energy.Node, 500)
	n := newNode(t, options(), parent, counterDial("gpu0", "node", energy.GPU, 300))
	n.read()
	n.begin("a")
	n.ticks(60)
	parent.silent = true
	n.ticks(900)
	parent.silent = false
	n.ticks(60)
	n.flush()
	n.want("away for 15 min", sum{"total": 500_000 * 1020, "class gpu": 300_000 * 1020, "class other": 200_000 * 1020, "job a/0": 500_000 * 1020})
	if d := n.p.Demoted(); len(d) != 0 {
		t.Errorf("demoted are %v", d)
	}
	parent.silent = true
	n.ticks(3700)
	if d := n.p.Demoted(); len(d) != 1 {
		t.Errorf("after an hour without a reading demoted are %v, want node: its children are the roots", d)
	}
}
