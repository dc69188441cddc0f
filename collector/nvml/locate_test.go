package nvml

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/collector"
)

var (
	_ collector.Locator       = (*Source)(nil)
	_ collector.ProcessSource = (*Source)(nil)
)

// named are four GPUs whose device files run in another order than the driver's;
// GPU 2 of the driver is in MIG mode.
func named(t *testing.T) *fakeLibrary {
	l := newFake(t, 4)
	for i, minor := range []int{2, 0, 3, 1} {
		l.gpus[i].minor = minor
	}
	g := l.gpus[2]
	g.migOn = true
	g.mig = []*Slice{
		{UUID: "MIG-aaaa", Instance: 1, Slices: 3, InstanceSlices: 3},
		nil,
		{UUID: "MIG-bbbb", Instance: 5, Slices: 1, InstanceSlices: 2}, // two compute instances share one GPU instance
		{UUID: "MIG-cccc", Instance: 5, Compute: 1, Slices: 1, InstanceSlices: 2},
		{UUID: "MIG-dddd", Instance: 9}, // a driver that does not tell sizes
	}
	return l
}

const migMinors = "config 1\nmonitor 2\ngpu3/gi1/access 417\ngpu3/gi1/ci0/access 418\ngpu3/gi5/ci1/access 455\ngpu2/gi1/ci0/access 283\ngpu3/gi7/ci0/access 472\nbad\ngpu3/gi1/odd 500\n"

func TestLocate(t *testing.T) {
	procfs := t.TempDir()
	caps := filepath.Join(procfs, "driver/nvidia-caps")
	if err := os.MkdirAll(caps, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(caps, "mig-minors"), []byte(migMinors), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		d := named(t).drive(Options{Procfs: procfs})
		defer d.end()
		if _, ok := d.s.Locate("minor:0"); ok {
			t.Error("a GPU was found before any was opened")
		}
		d.ticks(2)
		f := func(ref, meter string, weight uint32) {
			t.Helper()
			got, ok := d.s.Locate(ref)
			want := collector.Place{Meter: meter, Weight: weight}
			if meter == "" {
				want = collector.Place{}
			}
			if ok != (meter != "") || got != want {
				t.Errorf("%q is %+v, %v; want %+v", ref, got, ok, want)
			}
		}
		const whole = collector.Whole
		f("minor:2", "gpu2", whole)
		f("minor:0", "gpu0", whole)
		f("minor:4", "", 0)
		f("minor:-1", "", 0)
		f("minor:", "", 0)
		f("minor:0x2", "", 0)
		f("index:0", "gpu2", whole)
		f("index:3", "gpu1", whole)
		f("index:4", "", 0)
		f("pci:0000:10:00.0", "gpu2", whole)
		f("pci:00000000:11:00.0", "gpu0", whole)
		f("pci:0000:13:00.1", "", 0)
		f("pci:10:00.0", "", 0)
		f("pci:0000:1x:00.0", "", 0)
		f("pci:", "", 0)
		f("GPU-0001", "gpu0", whole)
		f("gpu-0001", "", 0)
		f("GPU-9999", "", 0)
		f("MIG-aaaa", "gpu3", 3*whole/7)
		f("MIG-bbbb", "gpu3", whole/7)
		f("MIG-dddd", "", 0)
		f("MIG-eeee", "", 0)
		f("gi:3/1", "gpu3", 3*whole/7)
		f("gi:3/5", "gpu3", 2*whole/7)
		f("gi:2/1", "", 0) // 2 is the index of that board, not its number
		f("gi:3/2", "", 0)
		f("gi:3", "", 0)
		f("gi:3/9", "", 0)
		f("capability:418", "gpu3", 3*whole/7)
		f("capability:455", "gpu3", whole/7)
		f("capability:417", "", 0) // of the instance, beside those in it
		f("capability:283", "", 0) // of a board that is whole
		f("capability:472", "", 0) // of an instance that is not made
		f("capability:1", "", 0)
		f("capability:500", "", 0)
		f("capability:9999", "", 0)
		f("", "", 0)
		f("gpu2", "", 0)
	})
}

// Nothing is guessed: a driver that does not tell the number of the device file
// leaves it unknown, and a number that two claim is neither's.
func TestLocateDoesNotGuess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 3)
		l.gpus[0].codes["minor"] = functionNotFound
		l.gpus[1].minor, l.gpus[2].minor = 5, 5
		d := l.drive(Options{})
		defer d.end()
		r := d.ticks(2)
		for _, ref := range []string{"minor:0", "minor:5", "minor:6", "capability:3"} {
			if p, ok := d.s.Locate(ref); ok {
				t.Errorf("%s is %+v", ref, p)
			}
		}
		for ref, meter := range map[string]string{"index:0": "gpu0", "index:1": "gpu5", "index:2": "gpu6", "GPU-0002": "gpu6"} {
			if p, ok := d.s.Locate(ref); !ok || p.Meter != meter {
				t.Errorf("%s is %+v, %v; want %s", ref, p, ok, meter)
			}
		}
		if len(r) != 3 {
			t.Errorf("meters %v", r)
		}
	})
}

// A job on a module holds gpu0, though the counter is the module's; a GPU that is
// lost keeps its names.
func TestLocateOnAModuleAndWhenLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 2)
		l.superchip(0, 100, 190, scopeModule)
		d := l.drive(Options{})
		defer d.end()
		if r := d.ticks(33); r["module0"].Counter == 0 {
			t.Fatalf("%v", r)
		}
		l.with(func() { l.gpus[1].codes[""] = gpuIsLost })
		d.ticks(30)
		for _, name := range []string{"minor:0", "index:0", "GPU-0000"} {
			if p, ok := d.s.Locate(name); !ok || p.Meter != "gpu0" || p.Weight != collector.Whole {
				t.Errorf("%s is %+v, %v", name, p, ok)
			}
		}
		if p, ok := d.s.Locate("index:1"); !ok || p.Meter != "gpu1" {
			t.Errorf("the lost one is %+v, %v", p, ok)
		}
	})
}

func TestProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 2)
		g := l.gpus[0]
		g.processes = []process{{pid: 12, memory: 3 << 30}, {pid: 11, memory: 1 << 30}}
		d := l.drive(Options{Slow: 2 * time.Second, Processes: true})
		defer d.end()
		began := time.Now()
		us := func(after time.Duration) uint64 { return uint64(began.Add(after).UnixMicro()) }
		g.uses = []use{{pid: 12, stampUS: us(-time.Second), percent: 60}, {pid: 11, stampUS: us(-time.Hour), percent: 90}, {pid: 9, stampUS: us(0), percent: 5}, {pid: 8, stampUS: us(0), percent: 101}}
		d.ticks(1)
		want := []collector.DeviceProcesses{
			{Meter: "gpu0", At: began.UnixNano(), HasUse: true, Processes: []collector.Process{
				{PID: 9, Use: 50_000}, {PID: 11, Memory: 1 << 30}, {PID: 12, Use: 600_000, Memory: 3 << 30},
			}},
			{Meter: "gpu1", At: began.UnixNano(), HasUse: true},
		}
		if diff := cmp.Diff(want, d.s.Processes()); diff != "" {
			t.Error("want (-), got (+)\n", diff)
		}
		if d.s.Stats().Refused == 0 {
			t.Error("101 % is not counted as refused")
		}
		d.ticks(59)
		// once in ten seconds, whatever Slow is; since what was seen before
		if n := g.calls["process_use"]; n != 6 || g.calls["processes"] != 6 {
			t.Errorf("asked %d and %d times in a minute", n, g.calls["processes"])
		}
		if g.asked[0] != us(-10*time.Second) || g.asked[1] != us(0) {
			t.Errorf("asked for use since %v; began at %d", g.asked, us(0))
		}
		// the same answer again is no news
		if got := d.s.Processes()[0].Processes; len(got) != 2 || got[1].Use != 0 {
			t.Errorf("processes %+v", got)
		}
		l.with(func() { g.codes[""] = gpuIsLost })
		d.ticks(2)
		if got := d.s.Processes(); len(got) != 1 || got[0].Meter != "gpu1" {
			t.Errorf("processes of a lost GPU: %+v", got)
		}
	})
}

// Without utilisation of processes the list is all there is; with neither,
// nothing is said.
func TestProcessesWithoutUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 3)
		for _, g := range l.gpus {
			g.processes = []process{{pid: 7, memory: 5}}
		}
		l.gpus[0].migOn = true
		l.gpus[1].codes["process_use"] = functionNotFound
		l.gpus[2].codes["process_use"], l.gpus[2].codes["processes"] = noPermission, noPermission
		d := l.drive(Options{Processes: true})
		defer d.end()
		d.ticks(30)
		got := d.s.Processes()
		if len(got) != 2 || got[0].HasUse || got[1].HasUse || len(got[0].Processes) != 1 || len(got[1].Processes) != 1 {
			t.Errorf("processes %+v", got)
		}
		if n := l.gpus[1].calls["process_use"]; n != 1 {
			t.Errorf("asked %d times for what it does not have", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 1)
		d := l.drive(Options{})
		defer d.end()
		d.ticks(30)
		if g := l.gpus[0]; g.calls["processes"] != 0 || g.calls["process_use"] != 0 || len(d.s.Processes()) != 0 {
			t.Errorf("nobody wants processes, yet they were asked for: %v", g.calls)
		}
	})
}
