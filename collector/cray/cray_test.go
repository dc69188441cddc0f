package cray_test

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
	"github.com/wattledger/wattledger/collector/cray"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/meter"
	"github.com/wattledger/wattledger/internal/sysfs/sysfstest"
)

const (
	folder = "sys/cray/pm_counters/"
	began  = 1790000000123456 // newest stamp of the recording, us
)

var (
	_ collector.EventSource = (*cray.Source)(nil)
	_ collector.Prober      = (*cray.Source)(nil)
)

type node struct {
	*sysfstest.Tree
	t   *testing.T
	at  time.Time
	src *cray.Source
	// onNow is called at every look at the clock: in the middle of a read
	onNow func()
}

func open(t *testing.T) *node {
	n := &node{Tree: sysfstest.Open(t, "testdata/lumi.txtar"), t: t, at: time.UnixMicro(began).Add(40 * time.Millisecond)}
	n.restart()
	return n
}

// restart is another agent on the same node.
func (n *node) restart() {
	n.src = cray.New(n.Root("sys"), n.Root("proc"), func() time.Time {
		if n.onNow != nil {
			n.onNow()
		}
		return n.at
	})
}

func (n *node) read() (map[string]collector.Reading, error) {
	rs, err := n.src.Read(context.Background())
	out := map[string]collector.Reading{}
	for _, r := range rs {
		out[r.Scope.Name] = r
	}
	return out, err
}

// scan is the controller's next look, d later: every stamp moves, the counters
// by J joules.
func (n *node) scan(d time.Duration, freshness int, joules uint64) {
	n.t.Helper()
	n.at = n.at.Add(d)
	names := []string{"accel0", "accel1", "accel2", "accel3", "cpu", "memory", ""}
	for i, name := range names {
		if name != "" {
			name += "_"
		}
		us := n.at.UnixMicro() - int64(i)*19300
		n.Set(folder+name+"energy", fmt.Sprintf("%d J %d us\n", joules+uint64(i), us))
		n.Set(folder+name+"power", fmt.Sprintf("400 W %d us\n", us))
	}
	n.Set(folder+"freshness", fmt.Sprintf("%d\n", freshness))
}

func (n *node) wantEvents(want ...string) {
	n.t.Helper()
	var got []string
	for _, e := range n.src.Events() {
		got = append(got, strings.TrimSpace(e.Kind+" "+e.Meter))
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

func TestLumi(t *testing.T) {
	n := open(t)
	got, err := n.read()
	if err != nil {
		t.Fatal(err)
	}
	var scopes []collector.Scope
	for _, r := range got {
		scopes = append(scopes, r.Scope)
		if r.Epoch != "0d0f7a52-3c0e-45f2-8f0a-6a1b2c3d4e5f/1785248000000000" || r.Scope.Resolution != energy.Joule || r.Scope.Modulus != 0 || !r.HasPower || r.Scope.Limit == 0 {
			t.Errorf("%+v", r)
		}
	}
	want := func(name string, uj energy.Microjoules, watts energy.Microwatts, us int64, class energy.Class) {
		t.Helper()
		r := got[name]
		if r.Counter != uj || r.Power != watts*energy.Watt || r.At.UnixMicro() != us || r.Scope.Class != class {
			t.Errorf("%s: %d uJ, %d uW at %d, %v", name, r.Counter, r.Power, r.At.UnixMicro(), r.Scope.Class)
		}
	}
	// each at its own stamp
	want("gpu0", 1000000001e6, 495, began, energy.GPU)
	want("gpu3", 1000000004e6, 485, began-3*19300, energy.GPU)
	want("package0", 300000005e6, 150, began-4*19300, energy.CPU)
	want("dram0", 100000006e6, 60, began-5*19300, energy.Memory)
	want("node", 4709000000e6, 2300, began, energy.Node)
	tree, err := meter.New(scopes)
	if err != nil || len(tree.Nodes) != 7 {
		t.Fatal(tree, err)
	}
	for _, m := range tree.Nodes {
		if m.Root() != (m.Name == "node") {
			t.Errorf("%s is a root: %v", m.Name, m.Root())
		}
	}
	if c := tree.Nodes[tree.Find("node")].PostClass(); c != energy.Other {
		t.Errorf("the rest of the node is %v", c)
	}
	if len(got["node"].Gauges) != 0 {
		t.Errorf("no cap, and the gauges are %v", got["node"].Gauges)
	}
	n.wantEvents()
	if missing := n.src.Probe(context.Background()); len(missing) != 0 {
		t.Errorf("Probe misses %+v", missing)
	}
}

// TestWithoutNodeMeter: then every other meter is a root.
func TestWithoutNodeMeter(t *testing.T) {
	n := open(t)
	n.Remove(folder + "energy")
	got, err := n.read()
	if err != nil || len(got) != 6 || got["gpu0"].Scope.Parent != "" {
		t.Errorf("%v, %v", got, err)
	}
}

// TestProcessorsOfTheirOwn: on GH200 nodes cpu_energy is the sum of cpuN.
func TestProcessorsOfTheirOwn(t *testing.T) {
	n := open(t)
	for i := range 4 {
		n.Set(fmt.Sprintf("%scpu%d_energy", folder, i), fmt.Sprintf("%d J %d us\n", 100+i, began))
	}
	got, err := n.read()
	if err != nil || got["package0"].Counter != 100e6 || got["package3"].Counter != 103e6 || len(got) != 10 {
		t.Errorf("%v, %v", got, err)
	}
}

// TestOneFileFails: that meter alone; and a power that fails costs no energy.
func TestOneFileFails(t *testing.T) {
	n := open(t)
	f := func(content string) {
		t.Helper()
		n.Set(folder+"accel2_energy", content)
		got, err := n.read()
		_ = device(t, err, "gpu2")
		if _, there := got["gpu2"]; there || len(got) != 6 {
			t.Errorf("%q: %v", content, got)
		}
	}
	f("")
	f("NA J 1790000000123456 us\n")
	f("-5 J 1790000000123456 us\n")
	f("1000000003 W 1790000000123456 us\n")
	f("1000000003 J 1790000000123456\n")
	f("1000000003 J 1790000000123456 us extra\n")
	f("1000000003 J 0 us\n")
	f("1000000003 J 99999999999999999999 us\n")
	f("9999999999999999 J 1790000000123456 us\n")
	f("1000000003\n")
	n.Set(folder+"accel2_energy", "1000000003 J 1790000000123456 us\n")
	n.Set(folder+"accel2_power", "bad\n")
	got, err := n.read()
	if err != nil || len(got) != 7 || got["gpu2"].HasPower {
		t.Errorf("no power: %+v, %v", got["gpu2"], err)
	}
	n.wantEvents("no_power gpu2")

	n.Remove(folder + "accel2_energy")
	for range 3 { // found anew in between
		n.at = n.at.Add(time.Minute)
		n.scan(0, 47530000+n.at.Second(), 1_000_000_100)
		n.Remove(folder + "accel2_energy")
		got, err = n.read()
		if cause := device(t, err, "gpu2"); !errors.Is(cause, fs.ErrNotExist) || len(got) != 6 {
			t.Errorf("a file that has gone: %v, %v", got, err)
		}
		n.at = n.at.Add(time.Second)
	}
}

// TestMissingAccelerator: one that was never there, among others.
func TestMissingAccelerator(t *testing.T) {
	n := open(t)
	n.Remove(folder + "accel1_energy")
	if got, err := n.read(); err != nil || len(got) != 6 {
		t.Errorf("%v, %v", got, err)
	}
	n.wantEvents("missing_meter gpu1")
	if got := n.src.Probe(context.Background()); len(got) != 1 || got[0].Meter != "gpu1" {
		t.Errorf("Probe says %+v", got)
	}
}

func TestPowerCap(t *testing.T) {
	n := open(t)
	if _, err := n.read(); err != nil {
		t.Fatal(err)
	}
	n.Set(folder+"power_cap", "1800 W\n")
	n.Set(folder+"generation", "13\n")
	n.scan(time.Second, 47520011, 1_000_000_400)
	_, err := n.read()
	if err != nil {
		t.Fatal(err)
	}
	n.wantEvents("power_cap node")
	n.scan(time.Second, 47520021, 1_000_000_800)
	got, err := n.read()
	if err != nil || len(got["node"].Gauges) != 1 || got["node"].Gauges[0] != (collector.Gauge{Name: "power_limit_watts", Value: 1800}) {
		t.Errorf("%v, %v", got["node"].Gauges, err)
	}
	n.Set(folder+"power_cap", "0 W\n")
	n.Set(folder+"generation", "14\n")
	for i := range 2 {
		n.scan(time.Second, 47520031+i, 1_000_001_200)
		if got, err = n.read(); err != nil {
			t.Fatal(err)
		}
	}
	if len(got["node"].Gauges) != 0 {
		t.Errorf("uncapped: %v", got["node"].Gauges)
	}
	n.wantEvents("power_cap node")
}

func TestNoCray(t *testing.T) {
	n := open(t)
	n.Remove("sys/cray")
	if _, err := n.read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if got := n.src.Probe(context.Background()); len(got) != 1 || !strings.Contains(got[0].Why, "not an HPE Cray EX") {
		t.Errorf("Probe says %+v", got)
	}
	n.Set(folder+"version", "2\n")
	if _, err := n.read(); err == nil {
		t.Error("no file, no error")
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
		if _, err := n.read2(); err != nil {
			t.Fatal(err)
		}
	}); got > 1 { // the readings themselves
		t.Errorf("%v allocations in a read", got)
	}
}

func (n *node) read2() ([]collector.Reading, error) { return n.src.Read(context.Background()) }

func BenchmarkRead(b *testing.B) {
	tree := sysfstest.Open(b, "testdata/lumi.txtar")
	at := time.UnixMicro(began)
	s := cray.New(tree.Root("sys"), tree.Root("proc"), func() time.Time { return at })
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Read(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
