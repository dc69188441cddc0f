package nvml

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

func TestReadsEveryGPU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 4)
		l.gpus[0].minor, l.gpus[1].minor = 1, 0 // NVML's order is not that of the device files
		l.gpus[2].percent = 0
		d := l.drive(Options{})
		defer d.end()
		first := d.tick()
		if d.err != nil {
			t.Fatal(d.err)
		}
		if len(first) != 4 || first["gpu0"].Scope.Device != "GPU-0001" {
			t.Fatalf("meters %v", first)
		}
		r := first["gpu3"]
		want := collector.Scope{Name: "gpu3", Class: energy.GPU, Limit: 1050 * energy.Watt, Resolution: energy.Millijoule, Device: "GPU-0003"}
		if r.Scope != want {
			t.Errorf("scope %+v, want %+v", r.Scope, want)
		}
		if r.Counter < 1e12 || r.Counter > 1e12+3e8 || !r.HasPower || r.Power != 300*energy.Watt || r.Activity != collector.Working {
			t.Errorf("first reading %+v", r)
		}
		if first["gpu2"].Activity != collector.Resting {
			t.Error("a GPU without utilisation does not rest")
		}
		calls := l.gpus[3].calls[""]
		last := d.ticks(10)
		if got := last["gpu3"].Counter - r.Counter; got != 3000*energy.Joule {
			t.Errorf("%d uJ in 10 s of 300 W", got)
		}
		if last["gpu3"].Epoch != r.Epoch || !strings.Contains(r.Epoch, "565.57.01") {
			t.Errorf("epoch %q, then %q", r.Epoch, last["gpu3"].Epoch)
		}
		// two calls a tick, and one slow round and less in ten seconds
		if n := l.gpus[3].calls[""] - calls; n > 2*10+12 {
			t.Errorf("%d calls in 10 ticks", n)
		}
		if len(d.events) != 0 {
			t.Errorf("events %v", d.events)
		}
	})
}

func TestSlowValuesComeOnceEachTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 1)
		d := l.drive(Options{})
		defer d.end()
		seen := map[string]int{}
		for range 30 {
			for _, g := range d.tick()["gpu0"].Gauges {
				seen[g.Name]++
			}
		}
		for _, name := range []string{
			"memory_used_bytes", "temperature_celsius", "memory_temperature_celsius", "temperature_margin_celsius", "clock_sm_hertz",
			"clock_memory_hertz", "throttle_power_seconds_total", "throttle_thermal_seconds_total", "power_limit_watts", "ecc_uncorrected_total",
		} {
			if seen[name] != 3 {
				t.Errorf("%s came %d times in 30 s, want 3", name, seen[name])
			}
		}
		if seen["utilization_ratio"] != 30 {
			t.Errorf("utilisation came %d times in 30 s", seen["utilization_ratio"])
		}
		if n := l.gpus[0].calls["processes"]; n != 0 {
			t.Errorf("processes were listed %d times though there is utilisation", n)
		}
		st := d.s.Stats()
		i := slices.IndexFunc(st.Calls, func(c CallStats) bool { return c.Function == "fields" })
		if i < 0 || st.Calls[i].Calls < 30 || st.FieldSeconds <= 0 || st.Opened != 1 {
			t.Errorf("stats %+v", st)
		}
	})
}

// dcgm-exporter, NVSentinel#1748: one GPU that does not answer stops none.
func TestHungGPUCostsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 8)
		d := l.drive(Options{})
		defer d.end()
		before := d.ticks(3)
		l.with(func() { l.gpus[3].hang["fields"] = 60 * time.Second })
		threads := 0
		var worst time.Duration
		for i := range 58 {
			began := time.Now()
			r := d.tick()
			for name, x := range r {
				worst = max(worst, x.At.Sub(began))
				if name == "gpu3" {
					t.Fatalf("a reading of the GPU that hangs: %+v", x)
				}
			}
			if i > 0 && d.took > 0 {
				t.Fatalf("tick %d waited %v for a GPU that is known to hang", i, d.took)
			}
			if i == 10 {
				synctest.Wait() // those on their way out are gone
				threads = runtime.NumGoroutine()
			}
			if len(r) != 7 || !slices.Equal(d.failed(), []string{"gpu3"}) {
				t.Fatalf("tick %d: %d readings, failed %v", i, len(r), d.failed())
			}
			if i > 3 && !errors.Is(d.err, errHung) {
				t.Fatalf("tick %d: %v", i, d.err)
			}
		}
		if worst >= 100*time.Millisecond {
			t.Errorf("the others were read up to %v late", worst)
		}
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > threads {
			t.Errorf("%d goroutines, %d before", n, threads)
		}
		if d.s.Stats().Hung != 1 {
			t.Error("Stats does not say that a GPU hangs")
		}
		if p := d.s.Probe(t.Context()); len(p) != 1 || p[0].Meter != "gpu3" || !strings.Contains(p[0].Why, "fields") {
			t.Errorf("missing %+v", p)
		}
		after := d.ticks(6)
		r, ok := after["gpu3"]
		if !ok || r.Epoch != before["gpu3"].Epoch || r.At.Sub(before["gpu3"].At) < 60*time.Second {
			t.Fatalf("after the hang: %+v", r)
		}
		// an 'answered at last' reading of a minute ago is not handed on as one of now
		if got, want := r.Counter-before["gpu3"].Counter, energy.Microjoules(r.At.Sub(before["gpu3"].At).Seconds()*10+0.5)*30*energy.Joule; got != want {
			t.Errorf("%d uJ over the hang, want %d", got, want)
		}
		if !d.saw("gpu_hung", "gpu3") || !d.saw("gpu_back", "gpu3") || d.count("gpu_hung") != 1 || d.count("gpu_back") != 1 {
			t.Errorf("events %v", d.events)
		}
	})
}

// Nobody knows when a value was true that took half a second to come.
func TestSlowAnswerHasNoStamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 2)
		d := l.drive(Options{Patience: 800 * time.Millisecond})
		defer d.end()
		before := d.ticks(2)["gpu0"]
		l.with(func() { l.gpus[0].hang["fields"] = 500 * time.Millisecond })
		if r := d.tick(); len(r) != 1 || !errors.Is(d.err, errSlow) {
			t.Errorf("%v, %v", r, d.err)
		}
		if r := d.tick()["gpu0"]; r.Epoch != before.Epoch || r.Counter-before.Counter != 600*energy.Joule {
			t.Errorf("before %+v, after %+v", before, r)
		}
	})
}

func TestHangInSlowCallKeepsTheTickThatWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 2)
		l.gpus[1].hang["memory"] = 30 * time.Second
		d := l.drive(Options{})
		defer d.end()
		if r := d.tick(); len(r) != 2 || d.err != nil {
			t.Fatalf("%v, %v", r, d.err)
		}
		if r := d.tick(); len(r) != 1 || !slices.Equal(d.failed(), []string{"gpu1"}) {
			t.Fatalf("%v, %v", r, d.err)
		}
		if r := d.ticks(32); len(r) != 2 {
			t.Fatalf("%v, %v", r, d.err)
		}
	})
}

func TestHangWhileOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 3)
		l.gpus[0].hang["open"] = 20 * time.Second
		d := l.drive(Options{})
		defer d.end()
		if r := d.ticks(4); len(r) != 2 || d.err == nil {
			t.Fatalf("%v, %v", r, d.err)
		}
		if r := d.ticks(20); len(r) != 3 || d.err != nil {
			t.Fatalf("%v, %v", r, d.err)
		}
	})
}

func TestCloseWaitsForTheCallInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 2)
		d := l.drive(Options{})
		d.ticks(2)
		l.with(func() { l.gpus[0].hang["fields"] = 10 * time.Second })
		d.ticks(2)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := d.s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("closed over a call in flight: %v", err)
		}
		if !l.opened {
			t.Error("the library was shut down under a call")
		}
		if _, err := d.s.Read(t.Context()); err == nil {
			t.Error("a closed source was read")
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
	})
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 2)
		d := l.drive(Options{})
		d.ticks(2)
		d.end()
		if l.opened {
			t.Error("the library was not shut down")
		}
		if err := d.s.Close(t.Context()); err != nil {
			t.Error("closed twice:", err)
		}
	})
}

func TestNoDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 1)
		l.initCode = driverNotLoaded
		d := l.drive(Options{})
		defer d.end()
		d.tick()
		if !errors.Is(d.err, driverNotLoaded) {
			t.Fatal(d.err)
		}
		if p := d.s.Probe(t.Context()); len(p) != 1 || !strings.Contains(p[0].Why, "DRIVER_NOT_LOADED (9)") || !strings.Contains(p[0].Mend, "modprobe") {
			t.Errorf("missing %+v", p)
		}
		text := d.err.Error()
		d.ticks(299)
		if l.inits > 7 { // 0, 10, 30, 70, 150 s ...
			t.Errorf("%d attempts in five minutes", l.inits)
		}
		if d.err.Error() != text {
			t.Error("the error changes though nothing has changed")
		}
		l.with(func() { l.initCode = success })
		if r := d.ticks(301); len(r) != 1 || d.err != nil {
			t.Errorf("after the driver was loaded: %v, %v", r, d.err)
		}
	})
}

// A driver upgrade under a live agent.
func TestLibraryThatNoLongerFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 1)
		l.initCode = versionMismatch
		d := l.drive(Options{})
		defer d.end()
		if d.ticks(400); !errors.Is(d.err, ErrRestart) || !errors.Is(d.err, versionMismatch) {
			t.Fatal(d.err)
		}
		if l.inits != 1 || d.count("restart_needed") != 1 {
			t.Errorf("%d attempts, events %v", l.inits, d.events)
		}
	})
	synctest.Test(t, func(t *testing.T) { // in mid-run, seen by one GPU first
		l := newFake(t, 2)
		d := l.drive(Options{})
		defer d.end()
		d.ticks(3)
		l.with(func() { l.gpus[1].codes["fields"], l.initCode = versionMismatch, versionMismatch })
		if d.ticks(5); !errors.Is(d.err, ErrRestart) {
			t.Fatal(d.err)
		}
	})
}

func TestDriverThatForgetsUs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 2)
		d := l.drive(Options{})
		defer d.end()
		before := d.ticks(3)
		l.with(func() { l.gpus[0].codes["fields"] = uninitialized })
		d.tick()
		l.with(func() { delete(l.gpus[0].codes, "fields") })
		after := d.ticks(4)
		if len(after) != 2 || after["gpu0"].Epoch != before["gpu0"].Epoch || after["gpu1"].Epoch != before["gpu1"].Epoch {
			t.Fatalf("before %+v\nafter %+v\n%v", before, after, d.err)
		}
		if l.inits != 2 {
			t.Errorf("opened %d times", l.inits)
		}
	})
}

func TestNoLibrary(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	other := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 100)...)
	other[18] = 21 // a POWER machine
	f := func(path, want string) {
		t.Helper()
		s, err := New(Options{Library: path, Now: time.Now, Procfs: dir})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Read(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v; want %q", path, err, want)
		}
		p := s.Probe(t.Context())
		if len(p) != 1 || p[0].Mend == "" {
			t.Errorf("%s: missing %+v", path, p)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := load(soname); errors.Is(err, errNoBinding) {
		f(filepath.Join(dir, "none.so"), "built without cgo")
		return
	}
	f(filepath.Join(dir, "none.so"), "no such file")
	f(write("text.so", []byte("not a library at all")), "not a shared library")
	f(write("other.so", other), "another architecture")
}
