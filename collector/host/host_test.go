package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
)

const start = 1_790_000_000

func now() time.Time { return time.Unix(start, 0) }

// clock gives a source a clock that is ten seconds on at each look.
func clock() func() time.Time {
	at := now().Add(-10 * time.Second)
	return func() time.Time {
		at = at.Add(10 * time.Second)
		return at
	}
}

// machine lays out a procfs of what the source reads.
func machine(t *testing.T, stat string) string {
	t.Helper()
	dir := t.TempDir()
	put(t, dir, "stat", stat)
	put(t, dir, "loadavg", "1.25 2.50 3.75 2/345 6789\n")
	put(t, dir, "meminfo", "MemTotal:       1000 kB\nMemFree:         300 kB\nMemAvailable:    600 kB\nBuffers:          50 kB\nCached:          150 kB\n")
	return dir
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const idle = "cpu  100 10 50 800 40 0 0 0 0 0\ncpu0 100 10 50 800 40 0 0 0 0 0\n"

func read(t *testing.T, s *Source) map[string]float64 {
	t.Helper()
	rs, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(rs) != 1 || rs[0].Scope.Name != "host" || rs[0].Scope.Kind != collector.Gauges || rs[0].At.Before(now()) || rs[0].HasPower || rs[0].Counter != 0 {
		t.Fatalf("readings %+v", rs)
	}
	out := map[string]float64{}
	for _, g := range rs[0].Gauges {
		out[g.Name] = g.Value
	}
	return out
}

func TestGauges(t *testing.T) {
	dir := machine(t, idle)
	s := &Source{Procfs: dir, Now: clock()}
	got := read(t, s)
	if _, ok := got["cpu_utilization_ratio"]; ok {
		t.Error("a utilisation at the first reading")
	}
	f := func(name string, want float64) {
		t.Helper()
		if v, ok := got[name]; !ok || v < want-1e-9 || v > want+1e-9 {
			t.Errorf("%s: %v, %v; want %v", name, v, ok, want)
		}
	}
	f("load1", 1.25)
	f("load5", 2.5)
	f("load15", 3.75)
	f("memory_total_bytes", 1000*1024)
	f("memory_used_bytes", 500*1024)

	// 40 ticks of 100 worked; 5 of the 60 others waited for a disk.
	put(t, dir, "stat", strings.ReplaceAll(idle, "100 10 50 800 40", "130 10 60 855 45"))
	got = read(t, s)
	f("cpu_utilization_ratio", 0.4)

	got = read(t, s) // no tick has passed
	if v, ok := got["cpu_utilization_ratio"]; ok {
		t.Errorf("a utilisation of %v of no time", v)
	}
	put(t, dir, "stat", idle) // it went backwards
	got = read(t, s)
	if v, ok := got["cpu_utilization_ratio"]; ok {
		t.Errorf("a utilisation of %v of negative time", v)
	}
}

func TestOneFailureCostsItself(t *testing.T) {
	f := func(name, text, want string, gauges int) {
		t.Helper()
		dir := machine(t, idle)
		put(t, dir, name, text)
		rs, err := (&Source{Procfs: dir, Now: now}).Read(t.Context())
		var de *collector.DeviceError
		if !errors.As(err, &de) || de.Device != "host" || !strings.Contains(err.Error(), want) {
			t.Errorf("error: %v; want %q", err, want)
		}
		if len(rs) != 1 || len(rs[0].Gauges) != gauges {
			t.Errorf("readings %+v; want one of %d gauges", rs, gauges)
		}
	}
	f("stat", "", "cannot read processor times", 5)
	f("meminfo", "MemTotal: lots kB\n", "cannot read memory", 3)
}

// One look in a span of ten seconds, whatever the agent's tick; a clock that is set
// back does not silence it.
func TestLooksEveryTenSeconds(t *testing.T) {
	dir := machine(t, idle)
	at := now()
	s := &Source{Procfs: dir, Now: func() time.Time { return at }}
	var looked []int
	for i := range 35 {
		at = now().Add(time.Duration(i)*time.Second + 3*time.Millisecond)
		rs, err := s.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(rs) > 0 {
			looked = append(looked, i)
		}
	}
	if want := []int{0, 10, 20, 30}; !slices.Equal(looked, want) {
		t.Errorf("looked at %v; want %v", looked, want)
	}
	at = now().Add(-time.Hour)
	if rs, err := s.Read(t.Context()); len(rs) != 1 || err != nil {
		t.Errorf("after the clock was set back: %v, %v", rs, err)
	}
}

func TestThisMachine(t *testing.T) {
	if _, err := os.Stat("/proc/meminfo"); err != nil {
		t.Skipf("no procfs: %v", err)
	}
	got := read(t, &Source{Now: now})
	if got["memory_total_bytes"] < 1<<20 || got["memory_used_bytes"] > got["memory_total_bytes"] {
		t.Errorf("gauges %v", got)
	}
}

func TestEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&Source{Now: now}).Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v; want that of the context", err)
	}
}

func BenchmarkRead(b *testing.B) {
	s := &Source{Now: clock()}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Read(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
