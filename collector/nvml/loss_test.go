package nvml

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattledger/wattledger/collector"
)

func TestLostGPU(t *testing.T) {
	for _, c := range []code{gpuIsLost, resetRequired, operatingSystem, gpuNotFound, insufficientPower} {
		synctest.Test(t, func(t *testing.T) {
			l := newFake(t, 3)
			d := l.drive(Options{})
			defer d.end()
			before := d.ticks(3)
			l.with(func() { l.gpus[1].codes[""] = c })
			if r := d.tick(); len(r) != 2 || !slices.Equal(d.failed(), []string{"gpu1"}) {
				t.Fatalf("%v: %v, %v", c, r, d.err)
			}
			text := d.err.Error()
			calls := l.gpus[1].calls[""]
			d.ticks(4)
			if n := l.gpus[1].calls[""]; n != calls {
				t.Errorf("%v: %d calls to a lost GPU", c, n-calls)
			}
			if d.err.Error() != text {
				t.Errorf("the error changes: %q, %q", text, d.err)
			}
			if d.s.Stats().Lost != 1 || !d.saw("gpu_lost", "gpu1") {
				t.Errorf("%v: %v", c, d.events)
			}
			if p := d.s.Probe(t.Context()); len(p) != 1 || p[0].Meter != "gpu1" || p[0].Mend == "" {
				t.Errorf("missing %+v", p)
			}
			d.ticks(60) // tried anew after 5, 10, 20, 40 s
			if n := l.gpus[1].calls["open"]; n < 3 || n > 6 {
				t.Errorf("%v: opened %d times in a minute", c, n)
			}
			l.with(func() { delete(l.gpus[1].codes, "") })
			after := d.ticks(90)
			if len(after) != 3 || d.err != nil || after["gpu1"].Epoch != before["gpu1"].Epoch {
				t.Fatalf("%v: after: %+v, %v", c, after["gpu1"], d.err)
			}
			if !d.saw("gpu_back", "gpu1") || d.count("gpu_lost") != 1 || d.saw("counter_reset", "gpu1") {
				t.Errorf("%v: events %v", c, d.events)
			}
			// its handle was that of a library opened once: the others have persistence
			// mode, so it may have been opened anew, and nobody has lost a joule by it
			if after["gpu0"].Epoch != before["gpu0"].Epoch {
				t.Error("the epoch of another GPU changed")
			}
		})
	}
}

// The same at each call, also while opening and in the slow round.
func TestLostAtEachCall(t *testing.T) {
	for _, call := range []string{
		"open", "uuid", "name", "minor", "pci", "persistent", "fields", "limits", "utilization", "memory", "temperature", "margin", "clocks", "mig", "slots", "slice",
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newFake(t, 2)
			l.gpus[1].migOn, l.gpus[1].mig = true, []*Slice{{UUID: "MIG-1"}}
			l.gpus[1].codes[call] = gpuIsLost
			d := l.drive(Options{Slow: 2 * time.Second})
			defer d.end()
			d.ticks(3)
			if !d.saw("gpu_lost", "gpu1") && !d.saw("missing_meter", "") && call != "utilization" {
				t.Errorf("%s: events %v", call, d.events)
			}
			if r := d.tick(); r["gpu0"].Counter == 0 {
				t.Errorf("%s: the other GPU was not read", call)
			}
			l.with(func() { delete(l.gpus[1].codes, call) })
			if r := d.ticks(150); len(r) != 2 || d.err != nil {
				t.Errorf("%s: it does not come back: %v", call, d.err)
			}
		})
	}
}

func TestCounterResetWhileLost(t *testing.T) {
	state := filepath.Join(t.TempDir(), "nvml.json")
	var epochs []string
	for run := range 2 {
		synctest.Test(t, func(t *testing.T) {
			l := newFake(t, 2)
			d := l.drive(Options{State: state})
			defer d.end()
			epochs = append(epochs, d.ticks(2)["gpu1"].Epoch)
			if run > 0 {
				return
			}
			l.with(func() { l.gpus[1].codes[""] = resetRequired })
			d.ticks(2)
			l.with(func() {
				delete(l.gpus[1].codes, "")
				l.gpus[1].base, l.gpus[1].since = 0, time.Now() // nvidia-smi --gpu-reset
			})
			epochs = append(epochs, d.ticks(10)["gpu1"].Epoch)
			if !d.saw("counter_reset", "gpu1") || !d.saw("gpu_back", "gpu1") {
				t.Errorf("events %v", d.events)
			}
		})
	}
	if epochs[1] == epochs[0] {
		t.Errorf("the counter began anew in the same epoch %q", epochs[0])
	}
	// The agent is started again: the counter goes on, and so does its epoch.
	if epochs[2] != epochs[1] {
		t.Errorf("epoch %q became %q over a restart", epochs[1], epochs[2])
	}
}

// A jump that its power limit does not allow is no going on either.
func TestCounterThatJumpedWhileLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 1)
		d := l.drive(Options{})
		defer d.end()
		before := d.ticks(2)["gpu0"].Epoch
		l.with(func() { l.gpus[0].codes[""] = gpuIsLost })
		d.tick()
		l.with(func() { delete(l.gpus[0].codes, ""); l.gpus[0].base += 1e6 })
		if after := d.ticks(10)["gpu0"].Epoch; after == before || after == "" {
			t.Errorf("epoch %q, then %q", before, after)
		}
	})
}

// Opening the driver anew could lose the counters of GPUs without persistence
// mode: it is not done while they are read.
func TestReopensOnlyWhereNothingIsLost(t *testing.T) {
	f := func(volatile bool, want int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			l := newFake(t, 3)
			l.gpus[0].volatile = volatile
			d := l.drive(Options{})
			defer d.end()
			d.ticks(2)
			l.with(func() { l.gpus[2].codes[""] = gpuIsLost })
			d.ticks(200)
			if l.inits != want {
				t.Errorf("volatile %v: opened %d times in 200 s, want %d", volatile, l.inits, want)
			}
			if len(d.failed()) != 1 {
				t.Errorf("failed %v", d.failed())
			}
		})
	}
	f(true, 1)
	f(false, 5) // and after 5, 20, 50, 110 s
}

func TestHiccups(t *testing.T) {
	for _, c := range []code{unknownError, timedOut, 27, 29, 31, 4711, invalidArgument} {
		synctest.Test(t, func(t *testing.T) {
			l := newFake(t, 2)
			d := l.drive(Options{})
			defer d.end()
			d.ticks(2)
			for range 3 { // four in a row are not five
				l.with(func() { l.gpus[0].codes["fields"] = c })
				d.ticks(4)
				l.with(func() { delete(l.gpus[0].codes, "fields") })
				if r := d.tick(); len(r) != 2 {
					t.Fatalf("%v: %v", c, d.err)
				}
			}
			if d.saw("gpu_lost", "gpu0") {
				t.Errorf("%v: lost after four", c)
			}
			l.with(func() { l.gpus[0].codes["fields"] = c })
			d.ticks(5)
			if !d.saw("gpu_lost", "gpu0") {
				t.Errorf("%v: not lost after five", c)
			}
			if st := d.s.Stats(); st.Unknown < 17 {
				t.Errorf("%v: %d counted", c, st.Unknown)
			}
			l.with(func() { delete(l.gpus[0].codes, "fields") })
			if r := d.ticks(20); len(r) != 2 || d.err != nil {
				t.Errorf("%v: it does not come back: %v", c, d.err)
			}
		})
	}
}

func TestNotSupportedIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 1)
		g := l.gpus[0]
		for _, call := range []string{"memory", "temperature", "margin", "clocks", "utilization", "processes", "mig"} {
			g.codes[call] = notSupported
		}
		g.codes["clocks"] = noPermission
		d := l.drive(Options{Slow: time.Second})
		defer d.end()
		r := d.ticks(20)["gpu0"]
		for call := range g.codes {
			if g.calls[call] != 1 {
				t.Errorf("%s was asked %d times", call, g.calls[call])
			}
		}
		if p := d.s.Probe(t.Context()); d.count("no_permission") != 1 || len(p) != 1 || p[0].Mend == "" {
			t.Errorf("events %v, missing %+v", d.events, p)
		}
		if r.Activity != collector.NotKnown {
			t.Errorf("activity %v with neither utilisation nor processes", r.Activity)
		}
		l.with(func() { g.codes[""] = gpuIsLost })
		d.tick()
		l.with(func() { clear(g.codes) })
		d.ticks(10)
		if g.calls["memory"] < 2 {
			t.Error("not asked again after the GPU came back")
		}
	})
}

// The counter stays the counter: what worked a moment ago is not replaced by
// another method because the driver has a bad day.
func TestNoSilentSwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 1)
		d := l.drive(Options{})
		defer d.end()
		before := d.ticks(2)["gpu0"]
		l.with(func() { l.gpus[0].fields[[2]uint32{fieldEnergy, 0}] = field{Code: notSupported} })
		for range 30 {
			for _, r := range d.tick() {
				t.Fatalf("a reading without its counter: %+v", r)
			}
		}
		l.with(func() { clear(l.gpus[0].fields) })
		if r := d.ticks(30)["gpu0"]; r.Scope != before.Scope || r.Epoch != before.Epoch {
			t.Errorf("before %+v, after %+v", before, r)
		}
	})
}

func TestStateThatMakesNoSense(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "nvml.json")
	m := recall(path)
	if err := m.keep("GPU-1", "boot", learned{Driver: "1", Generation: 2}); err == nil {
		t.Error("kept in a folder that is not there")
	}
	if got := m.of("GPU-1", "boot", "1"); got.Generation != 2 {
		t.Errorf("forgotten: %+v", got)
	}
	if got := m.of("GPU-1", "boot", "2"); got != (learned{}) {
		t.Errorf("another driver: %+v", got)
	}
	if got := m.of("GPU-1", "other", "1"); got.Generation != 0 {
		t.Errorf("another boot: %+v", got)
	}
	if m := recall("/dev/null"); m.Cards == nil || !strings.HasPrefix(m.path, "/dev") {
		t.Errorf("%+v", m)
	}
}
