package hwmon_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/collector/hwmon"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/meter"
	"github.com/wattledger/wattledger/internal/sample"
	"github.com/wattledger/wattledger/internal/sysfs/sysfstest"
)

const (
	acpi       = "sys/devices/LNXSYSTM:00/LNXSYBUS:00/ACPI000D:"
	grace0     = acpi + "01/power1_average"
	graceName  = acpi + "01/power1_oem_info"
	graceLabel = "Grace Power Socket 0"
)

var (
	_ collector.EventSource = (*hwmon.Source)(nil)
	_ collector.Prober      = (*hwmon.Source)(nil)
)

type node struct {
	*sysfstest.Tree
	t   *testing.T
	at  time.Time
	src *hwmon.Source
}

func with(t *testing.T, tree *sysfstest.Tree) *node {
	n := &node{Tree: tree, t: t, at: time.Unix(1_790_000_000, 0)}
	n.src = hwmon.New(n.Root("sys"), n.Root("proc"), func() time.Time { return n.at })
	return n
}

func open(t *testing.T) *node { return with(t, sysfstest.Open(t, "testdata/jupiter.txtar")) }

func (n *node) read() (map[string]collector.Reading, error) {
	rs, err := n.src.Read(context.Background())
	out := map[string]collector.Reading{}
	for _, r := range rs {
		out[r.Scope.Name] = r
	}
	return out, err
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

// shape is the booked tree as "name<parent".
func shape(t *testing.T, got map[string]collector.Reading, more ...collector.Scope) string {
	t.Helper()
	for _, r := range got {
		more = append(more, r.Scope)
	}
	tree, err := meter.New(more)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, n := range tree.Nodes {
		s := n.Name
		if n.Up >= 0 {
			s += "<" + tree.Nodes[n.Up].Name
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func TestJupiter(t *testing.T) {
	n := open(t)
	got, err := n.read()
	if err != nil || len(got) != 16 {
		t.Fatalf("%d readings, %v", len(got), err)
	}
	for k := range 4 {
		m, g := got[fmt.Sprintf("module%d-hwmon", k)], got[fmt.Sprintf("grace%d", k)]
		if m.Power != energy.Microwatts(520+k)*energy.Watt || !m.Scope.Witness || m.Scope.Kind != collector.Power {
			t.Errorf("%+v", m)
		}
		want := collector.Scope{
			Name: fmt.Sprintf("grace%d", k), Parent: fmt.Sprintf("module%d", k), Class: energy.CPU, Rest: energy.CPU, Kind: collector.Power,
			Limit: 1500 * energy.Watt, Device: fmt.Sprintf("Grace Power Socket %d", k),
		}
		if g.Scope != want || g.Power != energy.Microwatts(180+k)*energy.Watt || !g.HasPower || !g.At.Equal(n.at) {
			t.Errorf("%+v", g)
		}
		for what, watts := range map[string]int{"cpu": 110, "sysio": 40} {
			p := got[fmt.Sprintf("%s%d", what, k)]
			if p.Scope.Kind != collector.Gauges || len(p.Gauges) != 1 || p.Gauges[0] != (collector.Gauge{Name: "power_watts", Value: float64(watts + k)}) {
				t.Errorf("%+v", p)
			}
		}
	}
	if s := shape(t, got); s != "grace0 grace1 grace2 grace3" {
		t.Errorf("booked by itself: %s", s)
	}
	module := collector.Scope{Name: "module1", Class: energy.GPU, Rest: energy.GPU}
	if s := shape(t, got, module); s != "grace0 grace1<module1 grace2 grace3 module1" {
		t.Errorf("booked beside NVML's module: %s", s)
	}
	n.wantEvents()
	if missing := n.src.Probe(context.Background()); len(missing) != 0 {
		t.Errorf("Probe misses %+v", missing)
	}
}

// TestParts: cpu and sysio are booked inside grace, never beside it.
func TestParts(t *testing.T) {
	n := open(t)
	n.src.Parts = true
	got, err := n.read()
	if err != nil || got["cpu0"].Power != 110*energy.Watt {
		t.Fatal(got["cpu0"], err)
	}
	if s := shape(t, got); !strings.HasPrefix(s, "cpu0<grace0 ") || !strings.Contains(s, "sysio3<grace3") {
		t.Errorf("booked: %s", s)
	}
}

// TestZeros: a zero is no reading and no power. Those around it are joined by
// the line between them; the run is an error once, and its count an event.
func TestZeros(t *testing.T) {
	n := open(t)
	got, err := n.read()
	if err != nil {
		t.Fatal(err)
	}
	track := &sample.Track{Scope: got["grace0"].Scope, MaxGap: 30e9}
	track.Add(got["grace0"])
	n.Set(grace0, "0\n")
	for i := range 3 {
		n.at = n.at.Add(time.Second)
		got, err = n.read()
		if i == 0 {
			_ = device(t, err, "grace0")
		} else if err != nil {
			t.Errorf("said again: %v", err)
		}
		if _, there := got["grace0"]; there || len(got) != 15 {
			t.Errorf("a zero: %v", got["grace0"])
		}
	}
	n.wantEvents()
	n.Set(grace0, "200000000\n")
	n.at = n.at.Add(time.Second)
	if got, err = n.read(); err != nil {
		t.Fatal(err)
	}
	track.Add(got["grace0"])
	if p, _ := track.Last(); p.UJ != 4*190*energy.Joule {
		t.Errorf("%d uJ over 4 s between 180 and 200 W", p.UJ)
	}
	n.wantEvents("zero_readings grace0")
	n.Set(grace0, "0\n")
	_, err = n.read()
	_ = device(t, err, "grace0") // another run
	if missing := n.src.Probe(context.Background()); len(missing) != 1 || missing[0].Meter != "grace0" {
		t.Errorf("Probe says %+v", missing)
	}
}

func TestOneSensorFails(t *testing.T) {
	n := open(t)
	f := func(what string, is error) {
		t.Helper()
		got, err := n.read()
		if cause := device(t, err, "grace0"); is != nil && !errors.Is(cause, is) {
			t.Errorf("%s: %v", what, cause)
		}
		if len(got) != 15 {
			t.Errorf("%s: %d readings", what, len(got))
		}
	}
	n.Set(grace0, "N/A\n")
	f("no number", nil)
	n.Set(grace0, "-5000000\n")
	f("less than nothing", nil)
	n.Set(grace0, "18446744073709551615\n")
	f("all ones", nil)
	n.Break(grace0)
	f("a read that fails", syscall.EISDIR)
	n.Remove(grace0)
	n.Set(grace0, "1000000\n")
	n.Forbid(grace0)
	sysfstest.AsNobody(t, func() { f("forbidden", fs.ErrPermission) })
	if got, err := n.read(); err != nil || got["grace0"].Power != energy.Watt {
		t.Errorf("again: %v, %v", got["grace0"], err)
	}
}

// TestNames: a meter is what firmware calls it; what it does not name is not read.
func TestNames(t *testing.T) {
	for _, label := range []string{"", "Chassis Power", "Grace Power Socket", "Grace Power Socket x", "Grace Power Socket 99999", "GPU Power Socket 0"} {
		n := open(t)
		n.Set(graceName, label+"\n")
		if got, err := n.read(); err != nil || len(got) != 15 {
			t.Errorf("%q: %d readings, %v", label, len(got), err)
		}
		n.wantEvents("unknown_meter hwmon2")
	}
	n := open(t)
	n.Set(graceName, "Grace Power Socket 1\n")
	if got, err := n.read(); err != nil || len(got) != 15 || got["grace1"].Power != 180*energy.Watt {
		t.Errorf("two of one name: %v", err)
	}
	n.wantEvents("duplicate_meter grace1")
	n.at = n.at.Add(time.Minute)
	if _, err := n.read(); err != nil {
		t.Error(err)
	}
	n.wantEvents()
	// attributes with the chip, as newer kernels have them
	n = with(t, sysfstest.Parse(t, "-- sys/class/hwmon/hwmon3/name --\npower_meter\n-- sys/class/hwmon/hwmon3/power1_average --\n7000000\n-- sys/class/hwmon/hwmon3/power1_oem_info --\n"+graceLabel+"\n"))
	if got, err := n.read(); err != nil || got["grace0"].Power != 7*energy.Watt {
		t.Errorf("attributes with the chip: %v, %v", got, err)
	}
}

func TestSensorsComeAndGo(t *testing.T) {
	n := open(t)
	if _, err := n.read(); err != nil {
		t.Fatal(err)
	}
	n.Remove("sys/class/hwmon/hwmon2")
	n.at = n.at.Add(time.Minute)
	if got, err := n.read(); err != nil || len(got) != 15 {
		t.Errorf("%d readings, %v", len(got), err)
	}
	n.Remove("sys/class/hwmon")
	n.at = n.at.Add(time.Minute)
	if _, err := n.read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	n = with(t, sysfstest.Parse(t, "-- sys/class/hwmon/ --\n-- proc/ --\n"))
	if got := n.src.Probe(context.Background()); len(got) != 1 || got[0].Mend != "" || !strings.Contains(got[0].Why, "no Grace node") {
		t.Errorf("elsewhere: Probe says %+v", got)
	}
	n.Set("sys/devices/system/cpu/cpu0/regs/identification/midr_el1", "0x00000000410fd4f0\n")
	if got := n.src.Probe(context.Background()); len(got) != 1 || !strings.Contains(got[0].Mend, "force_cap_on") {
		t.Errorf("on Grace: Probe says %+v", got)
	}
	if _, err := n.read(); err == nil {
		t.Error("no sensor, no error")
	}
}

const xe = `
-- proc/sys/kernel/random/boot_id --
boot
-- sys/class/hwmon/hwmon1 --
-> ../../devices/pci0000:00/0000:4d:00.0/hwmon/hwmon1
-- sys/devices/pci0000:00/0000:4d:00.0/hwmon/hwmon1/device --
-> ../../../0000:4d:00.0
-- sys/devices/pci0000:00/0000:4d:00.0/hwmon/hwmon1/name --
xe
-- sys/devices/pci0000:00/0000:4d:00.0/hwmon/hwmon1/energy1_input --
123456789
-- sys/devices/pci0000:00/0000:4d:00.0/hwmon/hwmon1/energy2_input --
100000000
-- sys/devices/pci0000:00/0000:4d:00.0/hwmon/hwmon1/power1_max --
600000000
`

func TestIntel(t *testing.T) {
	n := with(t, sysfstest.Parse(t, xe))
	if got, err := n.read(); len(got) != 0 || err == nil {
		t.Errorf("not asked for: %v, %v", got, err)
	}
	n.src.Intel = true
	n.at = n.at.Add(time.Minute)
	got, err := n.read()
	r := got["gpu0"]
	want := collector.Scope{Name: "gpu0", Class: energy.GPU, Kind: collector.Counter, Limit: 1200 * energy.Watt, Device: "0000:4d:00.0"}
	if err != nil || len(got) != 1 || r.Scope != want || r.Counter != 123456789 || r.Epoch != "boot/0000:4d:00.0/hwmon1" {
		t.Errorf("%+v, %v", r, err)
	}
	const file = "sys/devices/pci0000:00/0000:4d:00.0/hwmon/hwmon1/energy1_input"
	n.Set(file, "0\n") // of a counter, a value
	if got, err := n.read(); err != nil || len(got) != 1 {
		t.Errorf("a counter at 0: %v, %v", got, err)
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
	tree := sysfstest.Open(b, "testdata/jupiter.txtar")
	at := time.Unix(0, 0)
	s := hwmon.New(tree.Root("sys"), tree.Root("proc"), func() time.Time { return at })
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Read(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
