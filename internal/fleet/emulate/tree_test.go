package emulate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

// still is a node that stands still: the test moves it.
type still struct {
	*testing.T
	*Emulator
}

func stand(t *testing.T, machine, scenario string) *still {
	t.Helper()
	now := time.UnixMilli(1_790_000_000_000)
	dir := t.TempDir()
	o := Options{Machine: machine, Root: filepath.Join(dir, "node"), Seed: 7, Now: func() time.Time { return now }}
	if scenario != "" {
		o.Scenario = filepath.Join(dir, "scenario.txt")
		if err := os.WriteFile(o.Scenario, []byte(scenario), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e, err := prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.tree.close)
	return &still{t, e}
}

func (s *still) move(after time.Duration) time.Time {
	s.Helper()
	at := s.start.Add(after)
	if err := s.tree.update(at); err != nil {
		s.Error(err)
	}
	return at
}

// read opens a file below ROOT/sys as an agent does that may not leave it.
func (s *still) read(path string) string {
	s.Helper()
	root, err := os.OpenRoot(filepath.Join(s.root, "sys"))
	if err != nil {
		s.Fatal(err)
	}
	defer root.Close()
	b, err := root.ReadFile(path)
	if err != nil {
		s.Error(err)
	}
	return strings.TrimSuffix(string(b), "\n")
}

func (s *still) number(path string) uint64 {
	s.Helper()
	n, err := strconv.ParseUint(s.read(path), 10, 64)
	if err != nil {
		s.Errorf("%s: %v", path, err)
	}
	return n
}

func (s *still) truth(meter string, from, to time.Time) energy.Microjoules {
	s.Helper()
	e, err := s.Truth(meter, from, to)
	if err != nil {
		s.Fatal(err)
	}
	return e
}

// TestRAPLWraps: each domain wraps at its own time, and what it counts over the
// wraps is the truth.
func TestRAPLWraps(t *testing.T) {
	s := stand(t, "leonardo", "")
	wrapped := map[string]time.Duration{}
	for zone, meter := range map[string]string{
		"intel-rapl:0": "package0", "intel-rapl:1": "package1", "intel-rapl:0:0": "dram0", "intel-rapl:1:0": "dram1", "intel-rapl-mmio:0": "package0",
	} {
		dir := "class/powercap/" + zone
		modulus := s.number(dir + "/max_energy_range_uj")
		at := s.move(0)
		was, sum := s.number(dir+"/energy_uj"), uint64(0)
		for after := time.Duration(0); after < 40*time.Second; after += time.Second {
			at = s.move(after)
			is := s.number(dir + "/energy_uj")
			if is < was {
				wrapped[zone] = after
				sum += modulus
			}
			sum += is - was
			was = is
		}
		if want := s.truth(meter, s.start, at); energy.Microjoules(sum) != want {
			t.Errorf("%s counted %d uJ; the truth is %d", zone, sum, want)
		}
	}
	seen := map[time.Duration]string{}
	for _, zone := range []string{"intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"} {
		if at, ok := wrapped[zone]; !ok || seen[at] != "" {
			t.Errorf("%s wrapped at %s, as %q did", zone, at, seen[at])
		}
		seen[wrapped[zone]] = zone
	}
	if name := s.read("class/powercap/intel-rapl:2/name"); name != "psys" {
		t.Errorf("zone 2 is %s", name)
	}
	if info, err := os.Stat(filepath.Join(s.root, "sys/class/powercap/intel-rapl:0/energy_uj")); err != nil || info.Mode() != 0o400 {
		t.Errorf("energy_uj: %v, %v", info.Mode(), err)
	}
}

// cray reads a file of pm_counters: value and stamp.
func (s *still) cray(name, unit string) (uint64, time.Time) {
	s.Helper()
	var v uint64
	var us int64
	text := s.read("cray/pm_counters/" + name)
	if n, err := fmt.Sscanf(text, "%d "+unit+" %d us", &v, &us); n != 2 || err != nil {
		s.Fatalf("%s: %q: %v", name, text, err)
	}
	return v, time.UnixMicro(us)
}

func TestCray(t *testing.T) {
	s := stand(t, "lumi", "at 30s startup\nat 50s for 5s freshness stuck")
	spread := map[time.Duration]bool{}
	for file, meter := range map[string]string{"": "node", "cpu_": "package0", "memory_": "dram0", "accel0_": "gpu0", "accel3_": "gpu3"} {
		now := s.move(3 * time.Second)
		a, from := s.cray(file+"energy", "J")
		spread[now.Sub(from)] = true
		s.move(20 * time.Second)
		b, to := s.cray(file+"energy", "J")
		w, _ := s.cray(file+"power", "W")
		want := s.truth(meter, from, to)
		if got := energy.Microjoules(b-a) * energy.Joule; got > want+energy.Joule || got+energy.Joule < want {
			t.Errorf("%senergy counted %d J; the truth is %d uJ", file, b-a, want)
		}
		if w == 0 {
			t.Errorf("%spower is 0", file)
		}
	}
	if len(spread) < 4 {
		t.Errorf("stamps lie %v behind: one for all", spread)
	}
	fresh, up := s.number("cray/pm_counters/freshness"), s.number("cray/pm_counters/startup")
	s.move(20*time.Second + quantum)
	if again := s.number("cray/pm_counters/freshness"); again != fresh+1 {
		t.Errorf("freshness %d after %d", again, fresh)
	}
	s.move(30 * time.Second)
	if v, _ := s.cray("energy", "J"); v > 200 {
		t.Errorf("%d J at once after the controller started", v)
	}
	s.move(32 * time.Second)
	v, at := s.cray("energy", "J")
	if want := s.truth("node", s.start.Add(30*time.Second), at) / energy.Joule; energy.Microjoules(v) != want {
		t.Errorf("%d J since the controller started; the truth is %d", v, want)
	}
	if now := s.number("cray/pm_counters/startup"); now == up || s.number("cray/pm_counters/freshness") != 20 {
		t.Errorf("startup %d after %d", now, up)
	}
	s.move(50 * time.Second)
	was := s.read("cray/pm_counters/energy") + s.read("cray/pm_counters/freshness")
	s.move(54 * time.Second)
	if is := s.read("cray/pm_counters/energy") + s.read("cray/pm_counters/freshness"); is != was {
		t.Errorf("a controller that is stuck shows %s after %s", is, was)
	}
	s.move(56 * time.Second)
	if is := s.read("cray/pm_counters/energy") + s.read("cray/pm_counters/freshness"); is == was {
		t.Error("the controller is still stuck")
	}
}

func TestGraceSensors(t *testing.T) {
	s := stand(t, "jupiter", "")
	labels := map[string]string{}
	for n := 1; n <= 16; n++ {
		dir := fmt.Sprintf("class/hwmon/hwmon%d/", n)
		if name := s.read(dir + "name"); name != "power_meter" {
			t.Errorf("hwmon%d is %s", n, name)
		}
		labels[s.read(dir+"device/power1_oem_info")] = dir + "device/power1_average"
	}
	zeros, reads := 0, 0
	for after := time.Duration(0); after < 60*time.Second; after += 300 * time.Millisecond {
		at := s.move(after)
		for label, meter := range map[string]string{"Grace Power Socket 0": "grace0", "CPU Power Socket 2": "cpu2", "SysIO Power Socket 3": "sysio3"} {
			uw := s.number(labels[label])
			reads++
			if uw == 0 {
				zeros++
			} else if want := s.shown.mean(s.shown.index[meter], at, quantum) * 1000; uw != want {
				t.Fatalf("%s: %d uW; the truth is %d", label, uw, want)
			}
		}
		if at.Truncate(time.Second).Equal(at) {
			uw := s.number(labels["Module Power Socket 1"])
			if want := s.shown.mean(s.shown.index["module1"], at, time.Second) * 1000; uw != want && uw != 0 {
				t.Errorf("module 1: %d uW; the truth is %d", uw, want)
			}
		}
	}
	if zeros == 0 || zeros*50 > reads {
		t.Errorf("%d of %d readings are 0", zeros, reads)
	}
}

func TestFileFaults(t *testing.T) {
	const file = "class/powercap/intel-rapl:0/energy_uj"
	s := stand(t, "leonardo", `
		at 10s for 5s file sys/class/powercap/intel-rapl:0/energy_uj vanish
		at 20s for 5s file sys/class/powercap/intel-rapl:0/energy_uj garbage
		at 30s for 5s file sys/class/powercap/intel-rapl:0/energy_uj eio
		at 40s for 5s file sys/class/powercap/intel-rapl:0/energy_uj is 12 34
		at 50s for 5s file sys/class/powercap/intel-rapl:0/energy_uj empty
		at 60s for 5s file sys/class/powercap/intel-rapl:0/energy_uj permission
		at 70s for 5s file sys/class/powercap/intel-rapl:0/energy_uj stuck
		at 80s for 5s file sys/class/powercap/intel-rapl:1 vanish
		at 90s for 5s meter package0 absurd
		at 90s for 5s meter package1 zero
	`)
	full := filepath.Join(s.root, "sys", file)
	s.move(9 * time.Second)
	kept, err := os.Open(full)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	well := func(after time.Duration) {
		t.Helper()
		at := s.move(after)
		if got, want := s.number(file), s.shown.counter("package0", at); got != uint64(want) {
			t.Errorf("after %s: %d uJ; want %d", after, got, want)
		}
	}
	s.move(10 * time.Second)
	if _, err := os.ReadFile(full); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("vanished: %v", err)
	}
	if n, _ := kept.ReadAt(make([]byte, 64), 0); n != 0 {
		t.Errorf("a kept file has %d bytes after it vanished", n)
	}
	well(15 * time.Second)
	s.move(21 * time.Second)
	if got := s.read(file); got != "no value" {
		t.Errorf("garbage: %q", got)
	}
	well(25 * time.Second)
	s.move(31 * time.Second)
	if _, err := os.ReadFile(full); !errors.Is(err, syscall.EIO) {
		t.Errorf("eio: %v", err)
	}
	well(35 * time.Second)
	s.move(41 * time.Second)
	if got := s.read(file); got != "12 34" {
		t.Errorf("is: %q", got)
	}
	well(45 * time.Second)
	s.move(51 * time.Second)
	if got := s.read(file); got != "" {
		t.Errorf("empty: %q", got)
	}
	well(55 * time.Second)
	s.move(61 * time.Second)
	if info, err := os.Stat(full); err != nil || info.Mode() != 0 {
		t.Errorf("permission: %v, %v", info.Mode(), err)
	}
	well(65 * time.Second)
	s.move(70 * time.Second)
	was := s.read(file)
	s.move(74 * time.Second)
	if is := s.read(file); is != was {
		t.Errorf("stuck: %s after %s", is, was)
	}
	well(76 * time.Second)
	s.move(81 * time.Second)
	if _, err := os.Stat(filepath.Join(s.root, "sys/class/powercap/intel-rapl:1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a zone that vanished: %v", err)
	}
	s.move(86 * time.Second)
	if s.number("class/powercap/intel-rapl:1/energy_uj") == 0 {
		t.Error("the zone came back with 0")
	}
	s.move(91 * time.Second)
	if v := s.number(file); v < uint64(packageRange) {
		t.Errorf("absurd: %d", v)
	}
	if v := s.number("class/powercap/intel-rapl:1/energy_uj"); v != 0 {
		t.Errorf("zero: %d", v)
	}
	well(95 * time.Second)
}

func TestFaultOfAFileThatIsNot(t *testing.T) {
	dir := t.TempDir()
	scenario := filepath.Join(dir, "s.txt")
	if err := os.WriteFile(scenario, []byte("\nfile sys/class/powercap/intel-rapl:9/name vanish"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := prepare(Options{Machine: "leonardo", Root: filepath.Join(dir, "node"), Scenario: scenario, Now: time.Now})
	if err == nil || !strings.HasSuffix(err.Error(), "s.txt:2: sys/class/powercap/intel-rapl:9/name: nothing in the tree has that path") {
		t.Errorf("%v", err)
	}
}

// TestValuesAreWrittenInPlace: a reader that keeps a file open sees each value,
// whether they grow or shrink, and nothing of the one before.
func TestValuesAreWrittenInPlace(t *testing.T) {
	a := &attribute{path: "x", mode: 0o600}
	dir := t.TempDir()
	if err := a.create(dir); err != nil {
		t.Fatal(err)
	}
	defer a.file.Close()
	kept, err := os.Open(filepath.Join(dir, "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	for _, v := range []string{"262143328849\n", "7\n", "1234\n", "1234\n", "99999\n", "100000\n", "\n"} {
		if err := a.write(v); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		if n, _ := kept.ReadAt(buf, 0); string(buf[:n]) != v {
			t.Errorf("read %q after %q", buf[:n], v)
		}
	}
}
