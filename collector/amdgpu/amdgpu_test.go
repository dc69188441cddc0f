package amdgpu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/sample"
	"github.com/wattledger/wattledger/internal/sysfs/sysfstest"
)

var (
	_ collector.EventSource = (*Source)(nil)
	_ collector.Prober      = (*Source)(nil)
)

const pci = "sys/devices/pci0000:00/0000:"

// modules of the recording: the first die counts for both.
func modules() [][2]string {
	return [][2]string{{"c1", "d6"}, {"c6", "de"}, {"c9", "ce"}, {"d1", "d9"}}
}

func dev(bus, file string) string { return pci + bus + ":00.0/" + file }

type node struct {
	*sysfstest.Tree
	t     *testing.T
	at    time.Time
	src   *Source
	joule float64 // of every module
	clock uint64  // of the firmware, 10 ns
}

// open is the recorded node; its dies know their modules by serial numbers.
func open(t *testing.T, archives ...string) *node {
	n := bare(t, archives...)
	for i, m := range modules() {
		for _, bus := range m {
			n.Set(dev(bus, "serial_number"), fmt.Sprintf("PCB03-%04d\n", i))
		}
	}
	return n
}

// bare is the node without them.
func bare(t *testing.T, archives ...string) *node {
	n := &node{Tree: sysfstest.Open(t, append([]string{"testdata/lumi.txtar"}, archives...)...), t: t, at: time.Unix(1_790_000_000, 0), joule: 1000}
	n.restart()
	n.step(0, 0)
	return n
}

func (n *node) restart() {
	n.src = New(n.Root("sys"), n.Root("proc"), func() time.Time { return n.at })
}

// table is what a die of MI250X shows: gpu_metrics 1.3.
func (n *node) table(joule float64, watts uint16) blob {
	b := newBlob(120, 1, 3).u16(22, watts).u16(16, 0).u64(32, 1e9+n.clock*10).u64(96, n.clock)
	return b.u64(24, uint64(joule*65536))
}

// step lets time pass, and every module draw that power.
func (n *node) step(d time.Duration, watts float64) {
	n.t.Helper()
	n.at = n.at.Add(d)
	n.clock += uint64(d / 10)
	n.joule += watts * d.Seconds()
	for i, m := range modules() {
		n.Set(dev(m[0], "gpu_metrics"), string(n.table(n.joule+float64(i), 90)))
		n.Set(dev(m[1], "gpu_metrics"), string(n.table(0, 0)))
	}
}

func (n *node) read() (map[string]collector.Reading, error) {
	rs, err := n.src.Read(context.Background())
	out := map[string]collector.Reading{}
	for _, r := range rs {
		out[r.Scope.Name] = r
	}
	return out, err
}

func (n *node) must() map[string]collector.Reading {
	n.t.Helper()
	got, err := n.read()
	if err != nil {
		n.t.Fatal(err)
	}
	return got
}

func (n *node) wantEvents(want ...string) {
	n.t.Helper()
	var got []string
	for _, e := range n.src.Events() {
		got = append(got, e.Kind+" "+e.Meter)
	}
	if !slices.Equal(got, want) {
		n.t.Errorf("events %q; want %q", got, want)
	}
}

func device(t *testing.T, err error, name string) error {
	t.Helper()
	var de *collector.DeviceError
	if !errors.As(err, &de) || de.Device != name || strings.Count(err.Error(), "device ") != 1 {
		t.Fatalf("the error is %v; want one of %s", err, name)
	}
	return de.Err
}

func gaugesOf(r collector.Reading) map[string]float64 {
	out := map[string]float64{}
	for _, g := range r.Gauges {
		out[g.Name] = g.Value
	}
	return out
}

func TestLumi(t *testing.T) {
	n := open(t)
	got := n.must()
	if len(got) != 4 {
		t.Fatalf("%v", got)
	}
	for i, m := range modules() {
		r := got[fmt.Sprintf("gpu%d", i)]
		want := collector.Scope{Name: fmt.Sprintf("gpu%d", i), Class: energy.GPU, Kind: collector.Counter, Resolution: 16, Limit: 1120 * energy.Watt, Device: "0000:" + m[0] + ":00.0"}
		if r.Scope != want || r.Counter != energy.Microjoules(1000+i)*energy.Joule || r.Power != 90*energy.Watt || !r.HasPower || !r.At.Equal(n.at) ||
			r.Epoch != "0d0f7a52-3c0e-45f2-8f0a-6a1b2c3d4e5f/0000:"+m[0]+":00.0" {
			t.Errorf("%+v", r)
		}
	}
	// of c1 and d6: the hotter, the mean, the sum
	want := map[string]float64{
		"edge_temperature_celsius": 40, "temperature_celsius": 42, "memory_temperature_celsius": 45,
		"memory_used_bytes": 2 * 10960896, "memory_total_bytes": 2 * 68702699520, "utilization_ratio": 0,
	}
	for name, v := range gaugesOf(got["gpu0"]) {
		if v != want[name] {
			t.Errorf("%s = %v; want %v", name, v, want[name])
		}
		delete(want, name)
	}
	if len(want) != 0 {
		t.Errorf("no %v", want)
	}
	n.wantEvents()
	if missing := n.src.Probe(context.Background()); len(missing) != 0 {
		t.Errorf("Probe misses %+v", missing)
	}
	n.restart()
	n.src.Witness = true
	if got := n.must(); len(got) != 4 || !got["gpu3-amdgpu"].Scope.Witness {
		t.Errorf("as witnesses: %v", got)
	}
}

func TestActivity(t *testing.T) {
	n := open(t)
	f := func(first, second string, want collector.Activity) {
		t.Helper()
		n.Set(dev("c1", "gpu_busy_percent"), first)
		n.Set(dev("d6", "gpu_busy_percent"), second)
		n.step(time.Second, 90)
		if got := n.must()["gpu0"].Activity; got != want {
			t.Errorf("%q and %q: %v; want %v", first, second, got, want)
		}
	}
	f("0\n", "0\n", collector.Resting)
	f("1\n", "0\n", collector.Working)
	f("0\n", "100\n", collector.Working)
	f("bad\n", "0\n", collector.NotKnown)
	f("bad\n", "7\n", collector.Working)
	f("101\n", "0\n", collector.NotKnown) // no such share
}

// TestOneDeviceFails: that module alone, and it keeps its number.
func TestOneDeviceFails(t *testing.T) {
	n := open(t)
	f := func(content string, want string) {
		t.Helper()
		try := func() {
			t.Helper()
			n.Set(dev("c6", "gpu_metrics"), content)
			got, err := n.read()
			if cause := device(t, err, "gpu1"); !strings.Contains(cause.Error(), want) || !strings.Contains(cause.Error(), "gpu_metrics") {
				t.Errorf("%v; want %q", cause, want)
			}
			if _, there := got["gpu1"]; there || len(got) != 3 || got["gpu2"].Scope.Device != "0000:c9:00.0" {
				t.Errorf("%q: %v", want, got)
			}
		}
		n.restart()
		try() // from the start
		n.step(time.Second, 90)
		n.restart()
		n.must()
		n.step(time.Second, 90)
		try() // and later
		n.step(time.Second, 90)
		if got := n.must(); len(got) != 4 {
			t.Errorf("after %q: %v", want, got)
		}
	}
	whole := string(n.table(1000, 90))
	f("", "cut off")
	f(whole[:119], "cut off")
	f(string(newBlob(120, 1, 3)), "no data")
	f(string(newBlob(64, 1, 9)), "1.9")
	f(string(n.table(1000, 90).u64(24, 1<<63)), "beyond any device's life")
	f(whole+strings.Repeat("x", 4096), "longer")

	n.restart()
	n.Set(dev("c6", "gpu_metrics"), string(newBlob(122, 1, 3)))
	for range 3 {
		_, err := n.read()
		_ = device(t, err, "gpu1")
	}
	events := n.src.Events()
	if len(events) != 2 || events[0].Kind != "unknown_layout" && events[1].Kind != "unknown_layout" {
		t.Errorf("an unknown table, events %+v", events)
	}
	n.step(time.Second, 90)
	n.Forbid(dev("c6", "gpu_metrics"))
	n.restart()
	sysfstest.AsNobody(t, func() {
		_, err := n.read()
		if cause := device(t, err, "gpu1"); !errors.Is(cause, fs.ErrPermission) {
			t.Errorf("%v", cause)
		}
	})
}

// TestCounterAfterFirst: a counter that was good and shows 0 has no data.
func TestZeroIsNoData(t *testing.T) {
	n := open(t)
	n.must()
	n.step(time.Second, 90)
	n.Set(dev("c9", "gpu_metrics"), string(n.table(0, 90)))
	_, err := n.read()
	if cause := device(t, err, "gpu2"); !errors.Is(cause, errNoData) {
		t.Errorf("%v", cause)
	}
}

func TestReset(t *testing.T) {
	n := open(t)
	was := n.must()["gpu0"]
	track := &sample.Track{Scope: was.Scope, MaxGap: 30e9}
	track.Add(was)
	n.step(5*time.Second, 90)
	n.must()
	n.step(time.Second, 90)
	b := n.table(n.joule+100, 90).u64(96, 17) // it even goes on, but the firmware's clock went back
	n.Set(dev("c1", "gpu_metrics"), string(b))
	got := n.must()
	if r := got["gpu0"]; r.Epoch == was.Epoch || !strings.HasPrefix(r.Epoch, was.Epoch+"/") || got["gpu1"].Epoch != "0d0f7a52-3c0e-45f2-8f0a-6a1b2c3d4e5f/0000:c6:00.0" {
		t.Errorf("epochs %q and %q", r.Epoch, got["gpu1"].Epoch)
	}
	if broke, odd := track.Add(got["gpu0"]); !broke || odd == nil || odd.Verdict != energy.NewEpoch {
		t.Errorf("over a reset: %v, %+v", broke, odd)
	}
	n.wantEvents("gpu_reset gpu0")
	n.step(time.Second, 90)
	b = n.table(n.joule, 90).u64(32, 3).u64(96, 18)
	n.Set(dev("c1", "gpu_metrics"), string(b))
	if r := n.must()["gpu0"]; r.Epoch == got["gpu0"].Epoch {
		t.Error("the host's clock went back and the epoch went on")
	}
	n.wantEvents("gpu_reset gpu0")
}

func TestNoGPU(t *testing.T) {
	n := open(t)
	n.Remove("sys/class/drm")
	if _, err := n.read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	want := func(what, why, mend string) {
		t.Helper()
		if got := n.src.Probe(context.Background()); len(got) != 1 || got[0].Mend != mend || !strings.Contains(got[0].Why, why) {
			t.Errorf("%s: Probe says %+v", what, got)
		}
	}
	want("no device", "no AMD GPU on the PCI bus", "")
	n.Set("sys/bus/pci/devices/0000:00:18.3/vendor", "0x1002\n") // a bridge
	n.Set("sys/bus/pci/devices/0000:00:18.3/class", "0x060400\n")
	n.Set("sys/bus/pci/devices/0000:c4:00.0/vendor", "0x1a03\n") // the board's own display
	n.Set("sys/bus/pci/devices/0000:c4:00.0/class", "0x030000\n")
	want("no GPU", "no AMD GPU on the PCI bus", "")
	n.Set("sys/bus/pci/devices/0000:c1:00.0/vendor", "0x1002\n")
	n.Set("sys/bus/pci/devices/0000:c1:00.0/class", "0x038000\n")
	want("no driver", "at 0000:c1:00.0", "modprobe amdgpu")
	n = open(t)
	n.Remove(dev("d1", "gpu_metrics"))
	if got := n.src.Probe(context.Background()); len(got) != 2 || got[0].Meter != "gpu3" || !strings.Contains(got[0].Mend, "newer amdgpu") || got[1].Meter != "0000:d9:00.0" {
		t.Errorf("an old driver: %+v", got)
	}
	n = open(t)
	n.Remove("proc")
	if _, err := n.read(); err == nil || !strings.Contains(err.Error(), "boot_id") {
		t.Errorf("no boot id: %v", err)
	}
}

func TestAllocations(t *testing.T) {
	n := open(t)
	if got := testing.AllocsPerRun(100, func() {
		if _, err := n.src.Read(context.Background()); err != nil {
			t.Fatal(err)
		}
	}); got > 2 { // the readings themselves, and their gauges
		t.Errorf("%v allocations in a read", got)
	}
}

func BenchmarkRead(b *testing.B) {
	tree := sysfstest.Open(b, "testdata/lumi.txtar")
	for _, m := range modules() {
		tree.Set(dev(m[0], "gpu_metrics"), string(golden()["1.3"]))
		tree.Set(dev(m[1], "gpu_metrics"), string(golden()["1.3"].u64(24, 0)))
	}
	at := time.Unix(0, 0)
	s := New(tree.Root("sys"), tree.Root("proc"), func() time.Time { return at })
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Read(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
