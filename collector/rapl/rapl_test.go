package rapl_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/collector/rapl"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/meter"
	"github.com/wattledger/wattledger/internal/sample"
	"github.com/wattledger/wattledger/internal/sysfs/sysfstest"
)

const (
	virtual   = "sys/devices/virtual/powercap/intel-rapl/"
	pkgEnergy = virtual + "intel-rapl:0/energy_uj"
	memEnergy = virtual + "intel-rapl:0/intel-rapl:0:0/energy_uj"
)

var (
	_ collector.EventSource = (*rapl.Source)(nil)
	_ collector.Prober      = (*rapl.Source)(nil)
)

// node is a machine with a clock.
type node struct {
	*sysfstest.Tree
	at  time.Time
	src *rapl.Source
}

func open(t *testing.T, archive string) *node {
	n := &node{Tree: sysfstest.Open(t, "testdata/"+archive), at: time.Unix(1_760_000_000, 0)}
	n.src = rapl.New(n.Root("sys"), n.Root("proc"), func() time.Time { return n.at })
	return n
}

// read gives readings by meter, and the error.
func (n *node) read() (map[string]collector.Reading, error) {
	rs, err := n.src.Read(context.Background())
	out := map[string]collector.Reading{}
	for _, r := range rs {
		out[r.Scope.Name] = r
	}
	return out, err
}

// device fails unless err is about that meter alone.
func device(t *testing.T, err error, name string) error {
	t.Helper()
	var de *collector.DeviceError
	if !errors.As(err, &de) || de.Device != name || strings.Count(err.Error(), "device ") != 1 {
		t.Fatalf("the error is %v; want one of %s", err, name)
	}
	return de.Err
}

func TestLeonardo(t *testing.T) {
	n := open(t, "leonardo.txtar")
	got, err := n.read()
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	p, d := got["package0"], got["dram0"]
	if p.Counter != 102030405060 || d.Counter != 15030405060 {
		t.Errorf("counters %d and %d", p.Counter, d.Counter)
	}
	if p.Epoch != "9e6f0c1e-7d0b-4c7e-9a25-0d5f6a3b1c01" || d.Epoch != p.Epoch || !p.At.Equal(n.at) {
		t.Errorf("epoch %q, at %v", p.Epoch, p.At)
	}
	// 2^32 units of 61.035 and of 15.3 uJ
	want := collector.Scope{Name: "package0", Class: energy.CPU, Kind: collector.Counter, Modulus: 262143328911, Resolution: 62, Limit: 776 * energy.Watt, Device: "intel-rapl:0"}
	if p.Scope != want {
		t.Errorf("scope %+v\nwant  %+v", p.Scope, want)
	}
	want = collector.Scope{Name: "dram0", Class: energy.Memory, Kind: collector.Counter, Modulus: 65712999628, Resolution: 16, Limit: 200 * energy.Watt, Device: "intel-rapl:0:0"}
	if d.Scope != want {
		t.Errorf("scope %+v\nwant  %+v", d.Scope, want)
	}
	n.src = rapl.New(n.Root("sys"), n.Root("proc"), func() time.Time { return n.at })
	n.src.Witness = true
	if got, err := n.read(); err != nil || len(got) != 2 || !got["package0-rapl"].Scope.Witness || !got["dram0-rapl"].Scope.Witness {
		t.Errorf("as witnesses: %v, %v", got, err)
	}
	if missing := n.src.Probe(context.Background()); len(missing) != 0 {
		t.Errorf("Probe misses %+v", missing)
	}
}

// TestWhatIsSummed: package and dram, by name; nothing twice.
func TestWhatIsSummed(t *testing.T) {
	n := open(t, "two_sockets.txtar")
	rs, err := n.src.Read(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var scopes []collector.Scope
	var got []string
	sum := energy.Microjoules(0)
	for _, r := range rs {
		scopes = append(scopes, r.Scope)
		got = append(got, fmt.Sprintf("%s=%d", r.Scope.Name, r.Counter))
		if !r.Scope.Witness {
			sum += r.Counter
		}
	}
	want := "package1=1000001 dram1=300001 package0-die1=1000002 dram0-die1=300002 package0-die0=1000003 psys=9000000 package15=1000004"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("read %s\nwant %s", s, want)
	}
	if sum != 4*1000000+1+2+3+4+600003 {
		t.Errorf("the sum is %d", sum)
	}
	tree, err := meter.New(scopes)
	if err != nil || len(tree.Nodes) != 6 || !slices.Equal(tree.Witnesses, []string{"psys"}) {
		t.Errorf("tree %+v, %v", tree, err)
	}
	events := n.src.Events()
	if len(events) != 1 || events[0].Kind != "duplicate_meter" || events[0].Meter != "package15" {
		t.Errorf("events %+v", events)
	}
	n.at = n.at.Add(2 * time.Minute) // looked for anew: nothing new to say
	if _, err := n.read(); err != nil || len(n.src.Events()) != 0 {
		t.Errorf("the second look has news, or %v", err)
	}
}

// TestWraps: two domains that wrap at different times lose nothing; one that is
// read later than it may take to wrap is a gap and no number.
func TestWraps(t *testing.T) {
	n := open(t, "leonardo.txtar")
	const pkgModulus, memModulus = 262143328911, 65712999628
	tracks := map[string]*sample.Track{}
	var verdicts []energy.Verdict
	step := func() {
		got, err := n.read()
		if err != nil || len(got) != 2 {
			t.Fatal(got, err)
		}
		for name, r := range got {
			if tracks[name] == nil {
				tracks[name] = &sample.Track{Scope: r.Scope, MaxGap: 30e9}
			}
			if _, odd := tracks[name].Add(r); odd != nil {
				verdicts = append(verdicts, odd.Verdict)
			}
		}
	}
	const second = 1_000_000
	pkg, mem := uint64(pkgModulus-7_000*second), uint64(memModulus-100*second)
	set := func() {
		n.Set(pkgEnergy, strconv.FormatUint(pkg%pkgModulus, 10)+"\n")
		n.Set(memEnergy, strconv.FormatUint(mem%memModulus, 10)+"\n")
	}
	set()
	step()
	first := map[string]sample.Point{}
	for name, tr := range tracks {
		first[name], _ = tr.Last()
	}
	for range 40 { // 300 W and 30 W; the memory wraps in the 4th second, the package in the 24th
		n.at = n.at.Add(time.Second)
		pkg, mem = pkg+300*second, mem+30*second
		set()
		step()
	}
	for name, want := range map[string]energy.Microjoules{"package0": 40 * 300 * second, "dram0": 40 * 30 * second} {
		last, _ := tracks[name].Last()
		if got := last.UJ - first[name].UJ; got != want {
			t.Errorf("%s: %d uJ over a wrap; want %d", name, got, want)
		}
	}
	if len(verdicts) != 0 {
		t.Errorf("verdicts %v", verdicts)
	}
	epoch := tracks["package0"].Epoch()
	n.at = n.at.Add(340 * time.Second) // 264 kJ at the package's 776 W; 68 kJ at the memory's 200 W
	pkg, mem = pkg+300*340*second, mem+30*340*second
	set()
	step()
	if !slices.Equal(verdicts, []energy.Verdict{energy.Ambiguous, energy.Ambiguous}) || tracks["package0"].Epoch() == epoch {
		t.Errorf("after longer than a wrap: %v", verdicts)
	}
}

// TestOneZoneFails: the others are read on.
func TestOneZoneFails(t *testing.T) {
	n := open(t, "leonardo.txtar")
	failing := func(what string, is error) {
		t.Helper()
		got, err := n.read()
		if cause := device(t, err, "package0"); is != nil && !errors.Is(cause, is) {
			t.Errorf("%s: %v; want %v", what, cause, is)
		}
		if _, ok := got["dram0"]; !ok || len(got) != 1 {
			t.Errorf("%s: %v", what, got)
		}
	}
	n.Set(pkgEnergy, "N/A\n")
	failing("no number", nil)
	n.Set(pkgEnergy, "\n")
	failing("nothing", nil)
	n.Break(pkgEnergy)
	failing("a read that fails", syscall.EISDIR)
	n.Remove(pkgEnergy)
	failing("no file", fs.ErrNotExist)
	n.Set(pkgEnergy, "5\n")
	if got, err := n.read(); err != nil || got["package0"].Counter != 5 {
		t.Errorf("back again: %v, %v", got, err)
	}
	n.Forbid(pkgEnergy)
	sysfstest.AsNobody(t, func() { // kept open: the right was checked when it was opened
		if got, err := n.read(); err != nil || len(got) != 2 {
			t.Errorf("an open file: %v, %v", got, err)
		}
		n.src = rapl.New(n.Root("sys"), n.Root("proc"), func() time.Time { return n.at })
		failing("forbidden", fs.ErrPermission)
	})
}

// TestNoRange: without the range a wrap is no wrap; the zone is not read until
// it can be.
func TestNoRange(t *testing.T) {
	const name = virtual + "intel-rapl:0/max_energy_range_uj"
	n := open(t, "leonardo.txtar")
	for _, bad := range []string{"", "0\n", "9223372036854775807\n", "no\n"} {
		n.Set(name, bad)
		got, err := n.read()
		_ = device(t, err, "package0")
		if len(got) != 1 {
			t.Errorf("range %q: %v", bad, got)
		}
	}
	n.Set(name, "1000000\n") // no multiple of a unit: values are 0 to 1000000
	if got, err := n.read(); err != nil || got["package0"].Scope.Modulus != 1_000_001 {
		t.Errorf("a range of another make: %+v, %v", got["package0"].Scope, err)
	}
}

// TestModulus: one step above the largest value that is shown.
func TestModulus(t *testing.T) {
	f := func(top string, want energy.Microjoules) {
		t.Helper()
		n := open(t, "leonardo.txtar")
		n.Set(virtual+"intel-rapl:0/max_energy_range_uj", top)
		if got, err := n.read(); err != nil || got["package0"].Scope.Modulus != want {
			t.Errorf("range %s: modulus %d, %v; want %d", top, got["package0"].Scope.Modulus, err, want)
		}
	}
	f("262143328850", 262143328911)
	f("65532610987", 65532611002) // AMD, and Intel since Skylake servers: 15.258 uJ
	f("65712999613", 65712999628)
	f("4294967", 4294967) // a unit of a nanojoule
	f("262143328849", 262143328850)
}

func TestLimits(t *testing.T) {
	f := func(uw string, want energy.Microwatts) {
		t.Helper()
		n := open(t, "leonardo.txtar")
		n.Remove(virtual + "intel-rapl:0/constraint_1_max_power_uw")
		n.Set(virtual+"intel-rapl:0/constraint_0_max_power_uw", uw)
		if got, err := n.read(); err != nil || got["package0"].Scope.Limit != want*energy.Watt {
			t.Errorf("%s: %d, %v; want %d W", uw, got["package0"].Scope.Limit, err, want)
		}
	}
	f("300000000", 600)
	f("0", 1000)
	f("no", 1000)
	f("1000000", 400)
	f("1500000000", 2000)
	f("18446744073709551615", 1000)
}

func TestZonesComeAndGo(t *testing.T) {
	n := open(t, "leonardo.txtar")
	n.Remove("sys/class/powercap/intel-rapl:0:0")
	if got, err := n.read(); err != nil || len(got) != 1 {
		t.Errorf("without dram: %v, %v", got, err)
	}
	n.Link("sys/class/powercap/intel-rapl:0:0", "../../devices/virtual/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:0")
	n.at = n.at.Add(time.Minute)
	if got, err := n.read(); err != nil || len(got) != 2 {
		t.Errorf("a minute later: %v, %v", got, err)
	}
	n.Remove("sys/class/powercap/intel-rapl:0")
	n.at = n.at.Add(time.Second)
	if got, err := n.read(); len(got) != 2 || err != nil { // it is open
		t.Errorf("the link is gone: %v, %v", got, err)
	}
	n.at = n.at.Add(time.Minute)
	if got, err := n.read(); len(got) != 0 || err == nil {
		t.Errorf("no package: %v, %v", got, err) // and memory without a package has no name
	}
	n.Remove("sys/class/powercap")
	n.at = n.at.Add(time.Minute)
	if _, err := n.read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no powercap: %v", err)
	}
}

func TestNoBootNoReading(t *testing.T) {
	n := open(t, "leonardo.txtar")
	n.Remove("proc")
	if got, err := n.read(); len(got) != 0 || err == nil || !strings.Contains(err.Error(), "boot_id") {
		t.Errorf("%v, %v", got, err)
	}
}

func TestProbe(t *testing.T) {
	n := open(t, "leonardo.txtar")
	n.Forbid(memEnergy)
	sysfstest.AsNobody(t, func() {
		got := n.src.Probe(context.Background())
		if len(got) != 1 || got[0].Meter != "dram0" || !strings.Contains(got[0].Why, "permission denied") || !strings.Contains(got[0].Mend, "systemd-tmpfiles --create") {
			t.Errorf("forbidden: %+v", got)
		}
	})
	n.Remove("sys/class/powercap/intel-rapl:0:0")
	if got := n.src.Probe(context.Background()); len(got) != 1 || got[0].Meter != "dram0" || got[0].Mend != "" {
		t.Errorf("AMD: %+v", got)
	}
	n.Remove("sys/class/powercap")
	if got := n.src.Probe(context.Background()); len(got) != 1 || got[0].Meter != "rapl" || !strings.Contains(got[0].Mend, "modprobe intel_rapl_msr") {
		t.Errorf("no module: %+v", got)
	}
	n.Set("sys/devices/system/cpu/cpu0/regs/identification/midr_el1", "0x00000000410fd4f0\n")
	if got := n.src.Probe(context.Background()); len(got) != 1 || got[0].Mend != "" || !strings.Contains(got[0].Why, "ARM") {
		t.Errorf("no module can mend an ARM processor: %+v", got)
	}
}

func TestReadEndsWithItsContext(t *testing.T) {
	n := open(t, "leonardo.txtar")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if rs, err := n.src.Read(ctx); len(rs) != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", rs, err)
	}
}

func TestAllocations(t *testing.T) {
	n := open(t, "two_sockets.txtar")
	if got := testing.AllocsPerRun(100, func() {
		if _, err := n.src.Read(context.Background()); err != nil {
			t.Fatal(err)
		}
	}); got > 1 { // the readings themselves
		t.Errorf("%v allocations in a read", got)
	}
}

func BenchmarkRead(b *testing.B) {
	tree := sysfstest.Open(b, "testdata/leonardo.txtar")
	at := time.Unix(0, 0)
	s := rapl.New(tree.Root("sys"), tree.Root("proc"), func() time.Time { return at })
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Read(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
