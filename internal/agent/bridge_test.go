package agent_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/agent"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

const bridgeAt = int64(1_790_000_000_000) // ms

// far is a ledger's end and the first reading of a new state behind it.
func far(name string, class energy.Class, after time.Duration, drawn energy.Microjoules) (ledger.End, agent.Landfall) {
	const raw = 5_000 * energy.Joule
	return ledger.End{Meter: name, Epoch: "boot@7", UJ: raw, Raw: raw, AtMS: bridgeAt, Root: true},
		agent.Landfall{
			Scope: collector.Scope{Name: name, Class: class, Limit: 700 * energy.Watt}, Epoch: "boot",
			Raw: raw + drawn, AtMS: bridgeAt + after.Milliseconds(),
		}
}

func TestBridge(t *testing.T) {
	f := func(what string, known []job.Allocation, change func(e []ledger.End, to map[string]agent.Landfall), want sum) {
		t.Helper()
		e0, l0 := far("gpu0", energy.GPU, time.Hour, 360_000*energy.Joule)
		e1, l1 := far("gpu1", energy.GPU, time.Hour, 720_000*energy.Joule)
		ends, to := []ledger.End{e0, e1}, map[string]agent.Landfall{"gpu0": l0, "gpu1": l1}
		change(ends, to)
		n := newNode(t, options())
		n.ends["gpu0\x00boot@7"], n.ends["gpu1\x00boot@7"] = ends[0].UJ, ends[1].UJ
		n.take(agent.Bridge(options(), ends, to, known))
		n.want(what, want)
		for _, w := range n.ws {
			if !w.Bridge {
				t.Errorf("%s: a window is not marked as a bridge", what)
			}
			for _, r := range w.Ranges {
				if e := w.Catalogue.Meters[r.Meter].Epoch; e != "boot@7" {
					t.Errorf("%s: a bridge holds a range of the odometer %s, which is not the ledger's", what, e)
				}
			}
		}
		if b := n.books(); b["use idle"] != 0 || b["grade bridged"] != b["total"] {
			t.Errorf("%s: %v; a bridge is never idle and always bridged", what, b)
		}
	}
	keep := func([]ledger.End, map[string]agent.Landfall) {}
	known := []job.Allocation{{Spec: job.Spec{ID: "a", GPUs: []window.Share{{Device: "gpu0", Weight: job.Whole}}}, From: 5}}
	f("nobody known", nil, keep, sum{"total": 1_080_000_000, "use unknown": 1_080_000_000})
	f("one known at both ends", known, keep, sum{"total": 1_080_000_000, "job a/0": 360_000_000, "use unknown": 720_000_000})
	f("another epoch", known, func(_ []ledger.End, to map[string]agent.Landfall) {
		l := to["gpu1"]
		l.Epoch = "driver 2"
		to["gpu1"] = l
	}, sum{"total": 360_000_000, "job a/0": 360_000_000})
	f("more than it can have drawn", known, func(_ []ledger.End, to map[string]agent.Landfall) {
		l := to["gpu1"]
		l.Raw += 3_000_000 * energy.Joule
		to["gpu1"] = l
	}, sum{"total": 360_000_000})
	f("the counter went back", known, func(_ []ledger.End, to map[string]agent.Landfall) {
		l := to["gpu1"]
		l.Raw = 7
		to["gpu1"] = l
	}, sum{"total": 360_000_000})
	f("it may have wrapped twice", known, func(ends []ledger.End, to map[string]agent.Landfall) {
		l := to["gpu1"]
		l.Scope.Modulus = 1_000_000 * energy.Joule
		to["gpu1"] = l
		ends[1].Modulus = l.Scope.Modulus
	}, sum{"total": 360_000_000})
	f("nothing is known", known, func(_ []ledger.End, to map[string]agent.Landfall) { clear(to) }, sum{"total": 0})
}

func TestKnownAtBothEnds(t *testing.T) {
	gpu := func(d string) []window.Share { return []window.Share{{Device: d, Weight: job.Whole}} }
	jobs := []window.Job{{ID: "a"}, {ID: "b"}, {ID: "c", Restart: 1}, {ID: "d"}}
	held := []window.Holding{
		{Job: 0, Devices: gpu("gpu0")},
		{Job: 1, Devices: gpu("gpu1")},
		{Job: 2, Devices: gpu("gpu2")},
		{Job: 3, Devices: []window.Share{{Device: "node", Weight: job.Whole}}},
	}
	here := []job.Allocation{
		{Spec: job.Spec{ID: "a", GPUs: gpu("gpu0")}},
		{Spec: job.Spec{ID: "b", GPUs: gpu("gpu3")}},
		{Spec: job.Spec{ID: "c", GPUs: gpu("gpu2")}},
		{Spec: job.Spec{ID: "d"}},
		{Spec: job.Spec{ID: "e"}},
	}
	got := agent.KnownAtBothEnds(jobs, held, here)
	if len(got) != 2 || got[0].ID != "a" || got[1].ID != "d" {
		t.Errorf("known at both ends are %+v; want a, and d with its node: not b on another GPU, not another run of c", got)
	}
}

// recordedNode is half an hour of a node in windows, for a spool.
func recordedNode(t *testing.T, r *rand.Rand) *node {
	p := counterDial("package0", "", energy.CPU, 200)
	p.scope.Modulus, p.scope.Limit = 262_143*energy.Joule, 300*energy.Watt
	g := gpuDial("gpu1", 100)
	g.scope.Kind = collector.Power
	n := newNode(t, options(), gpuDial("gpu0", 300), g, p)
	n.read()
	n.begin("a", "gpu0")
	for range 60 {
		n.ticks(10 + r.IntN(30))
		n.dials[0].watts = energy.Microwatts(50+r.IntN(600)) * energy.Watt
	}
	n.flush()
	return n
}

// After a restored ledger or a rolled-back disk: wherever the ledger's ends lie,
// what is sent then joins them and adds up to what lies between.
func TestRealign(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 4))
		n := recordedNode(t, r)
		lost := r.IntN(len(n.ws)) // the ledger has them, the spool has not, or the other way round
		spooled := n.ws[r.IntN(len(n.ws)):]
		at := map[string]ledger.End{}
		for _, w := range n.ws[:lost] {
			for _, rg := range w.Ranges {
				m := w.Catalogue.Meters[rg.Meter]
				at[m.Name] = ledger.End{Meter: m.Name, Epoch: m.Epoch, UJ: rg.To, Raw: rg.Raw, AtMS: rg.ToMS, Modulus: m.Modulus, Root: m.Root}
			}
		}
		if r.IntN(2) == 0 { // cut inside a window, each odometer elsewhere
			for name, e := range at {
				step := energy.Microjoules(r.IntN(3_000)) * energy.Joule
				if e.UJ > step+2_000*energy.Joule {
					e.UJ -= step
					if e.Raw > 0 || e.Modulus > 0 {
						e.Raw = e.UJ
						if e.Modulus > 0 {
							e.Raw = e.UJ % e.Modulus
						}
					}
					e.AtMS -= int64(step / (300 * energy.Joule) * 1000)
					at[name] = e
				}
			}
		}
		var list []ledger.End
		want := map[string]energy.Microjoules{}
		for _, e := range at {
			list = append(list, e)
			want[e.Meter+"\x00"+e.Epoch] = e.UJ
		}
		scopes := map[string]collector.Scope{}
		for _, d := range n.dials {
			scopes[d.scope.Name] = d.scope
		}
		out := agent.Realign(options(), spooled, agent.EndsOf(list), scopes, nil)
		again := newNode(t, options())
		again.loose = true
		again.ends = want
		again.take(out) // that each window closes and each range joins
		for k, end := range want {
			if final := n.ends[k]; len(spooled) > 0 && max(final, end) != max(again.ends[k], end) {
				t.Errorf("seed %d: odometer %q is booked up to %d uJ, the spool held up to %d", seed, k, again.ends[k], final)
			}
		}
		if t.Failed() {
			t.Fatal(fmt.Sprint("seed ", seed, " lost ", lost, " spooled ", len(spooled)))
		}
	}
}

// The ledger was restored from yesterday: RAPL wrapped many times since, but the
// odometer knows.
func TestRealignOverManyWraps(t *testing.T) {
	p := counterDial("package0", "", energy.CPU, 200)
	p.scope.Modulus, p.scope.Limit = 262_143*energy.Joule, 300*energy.Watt
	n := newNode(t, options(), p)
	n.read()
	n.ticks(60)
	first := n.ws[0]
	for range 4 * 60 * 24 {
		n.pass(15 * time.Second)
		n.read()
	}
	n.flush()
	m := first.Catalogue.Meters[0]
	e := ledger.End{Meter: m.Name, Epoch: m.Epoch, UJ: first.Ranges[0].To, Raw: first.Ranges[0].Raw, AtMS: first.Ranges[0].ToMS, Modulus: m.Modulus, Root: true}
	last := n.ws[len(n.ws)-3:]
	out := agent.Realign(options(), last, agent.EndsOf([]ledger.End{e}), map[string]collector.Scope{"package0": p.scope}, nil)
	again := newNode(t, options())
	again.loose = true
	again.ends[m.Name+"\x00"+m.Epoch] = e.UJ
	again.take(out)
	if got := again.ends[m.Name+"\x00"+m.Epoch]; got != n.ends[m.Name+"\x00"+m.Epoch] {
		t.Errorf("booked up to %d uJ of %d", got, n.ends[m.Name+"\x00"+m.Epoch])
	}
}

func TestAnchor(t *testing.T) {
	n := newNode(t, options(), gpuDial("gpu0", 300))
	n.read()
	n.ticks(25)
	n.flush()
	starts, last := n.p.Ends()
	s := starts["gpu0"]
	old := sum{"total": 300 * 25_000}
	n.want("before", old)
	// the state was rolled back: the ledger has 18 s more than we know of
	n.p = agent.NewPipeline(options(), n.jobs)
	n.p.Resume(starts, last, 0)
	n.pass(20 * time.Second)
	n.read()
	ahead := s.UJ + 5_400*energy.Joule
	if !n.p.Anchor(agent.EndsOf([]ledger.End{{Meter: "gpu0", Epoch: s.Epoch, UJ: ahead, Raw: ahead, AtMS: last + 18_000}})) {
		t.Error("the ranges were not moved to the ledger's end")
	}
	n.ws, n.ends["gpu0\x00"+s.Epoch], n.loose = nil, ahead, true
	n.ticks(15)
	n.flush()
	n.want("after", sum{"total": 300 * (20 - 18 + 15) * 1000})
	// the ledger is beyond what our counter shows: that end is not ours to join
	starts, _ = n.p.Ends()
	beyond := starts["gpu0"].UJ + 1_000_000*energy.Joule
	n.p.Anchor(agent.EndsOf([]ledger.End{{Meter: "gpu0", Epoch: s.Epoch, UJ: beyond, Raw: beyond, AtMS: last}}))
	n.ws = nil
	n.ticks(10)
	n.flush()
	n.want("anew", sum{"total": 300 * 10_000})
	if starts, _ = n.p.Ends(); starts["gpu0"].Epoch == s.Epoch {
		t.Error("the odometer that the ledger is ahead of goes on")
	}
}
