//go:build cgo && linux

package nvml_test

import (
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/collector/nvml"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/fleet/emulate"
)

// node is an emulated node as a process sees it that reads its GPUs.
type node struct {
	*testing.T
	truth  *emulate.Node
	s      *nvml.Source
	events []collector.Event
	last   error
	late   []time.Duration // of readings, after their tick
}

// scene is an emulated node and what must be seen on it.
type scene struct {
	name, machine, scenario string
	see                     func(*node)
}

const nodeKey = "WATTLEDGER_TEST_NODE"

// TestEmulated runs each scene in a process of its own: the symbols of a library
// are bound once per process. They run at once: all of them wait, mostly.
func TestEmulated(t *testing.T) {
	if name, root, ok := strings.Cut(os.Getenv(nodeKey), ":"); ok {
		inside(t, name, root)
		return
	}
	var wg sync.WaitGroup
	for _, s := range scenes() {
		if s.name == "gh200" && testing.Short() {
			continue // it takes 40 s
		}
		o := emulate.Options{Machine: s.machine, Root: filepath.Join(t.TempDir(), "node"), Seed: 5, Now: time.Now}
		if s.scenario != "" {
			o.Scenario = filepath.Join(t.TempDir(), "scenario")
			if err := os.WriteFile(o.Scenario, []byte(s.scenario), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		e, err := emulate.Start(o)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer e.Close()
			cmd := exec.Command(os.Args[0], "-test.run=^TestEmulated$", "-test.v", "-test.timeout=90s")
			cmd.Env = append(os.Environ(), nodeKey+"="+s.name+":"+e.Root())
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "PASS") {
				t.Errorf("%s: %v\n%s", s.name, err, out)
			} else if testing.Verbose() {
				t.Logf("%s: %s", s.name, out)
			}
		})
	}
	wg.Wait()
}

// inside is the process of a scene.
func inside(t *testing.T, name, root string) {
	truth, err := emulate.OpenNode(root)
	if err != nil {
		t.Fatal(err)
	}
	s, err := nvml.New(nvml.Options{
		Library: filepath.Join(root, "lib", "libnvidia-ml.so.1"), Procfs: filepath.Join(root, "proc"),
		State: filepath.Join(root, "nvml.json"), Now: time.Now, Slow: 2 * time.Second, Processes: name == "names",
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{T: t, truth: truth, s: s}
	for _, scene := range scenes() {
		if scene.name == name {
			scene.see(n)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

// reads ticks of a second, on the second, until so long after the node began;
// see is given each.
func (n *node) reads(until time.Duration, see func(time.Duration, map[string]collector.Reading)) {
	n.Helper()
	end := n.truth.Start.Add(until)
	for {
		tick := time.Now().Truncate(time.Second).Add(time.Second)
		if !tick.Before(end) {
			return
		}
		time.Sleep(time.Until(tick))
		began := time.Now()
		ctx, cancel := context.WithTimeout(n.Context(), time.Second)
		readings, err := n.s.Read(ctx)
		cancel()
		n.last = err
		n.events = append(n.events, n.s.Events()...)
		got := map[string]collector.Reading{}
		for _, r := range readings {
			got[r.Scope.Name] = r
			n.late = append(n.late, r.At.Sub(began))
		}
		if see != nil {
			see(began.Sub(n.truth.Start), got)
		}
	}
}

func (n *node) saw(kind, meter, detail string) bool {
	return slices.ContainsFunc(n.events, func(e collector.Event) bool {
		return e.Kind == kind && e.Meter == meter && strings.Contains(e.Detail, detail)
	})
}

// agrees compares what a counter says of a span with the truth: to one update of
// 100 ms at either edge.
func (n *node) agrees(meter string, a, b collector.Reading) {
	n.Helper()
	got := b.Counter - a.Counter
	least, err := n.truth.Energy(meter, a.At, b.At.Add(-120*time.Millisecond))
	if err != nil {
		n.Fatal(err)
	}
	most, err := n.truth.Energy(meter, a.At.Add(-120*time.Millisecond), b.At)
	if err != nil {
		n.Fatal(err)
	}
	if got+2*energy.Millijoule < least || got > most+2*energy.Millijoule || got == 0 {
		n.Errorf("%s: %d uJ from %v to %v; the truth is %d to %d", meter, got, a.At, b.At, least, most)
	}
}

func TestLibraryOfAnotherArchitecture(t *testing.T) {
	machine := uint16(183)
	if runtime.GOARCH == "arm64" {
		machine = 62
	}
	head := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 57)...)
	binary.LittleEndian.PutUint16(head[18:], machine)
	path := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	if err := os.WriteFile(path, head, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := nvml.New(nvml.Options{Library: path, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "another architecture than "+runtime.GOARCH) {
		t.Error(err)
	}
}

// BenchmarkRead is a tick of eight GPUs on the emulated library, the slow round
// every 10 s left out: what our side costs.
func BenchmarkRead(b *testing.B) {
	e, err := emulate.Start(emulate.Options{Machine: "dgx-h100", Root: filepath.Join(b.TempDir(), "node"), Seed: 5, Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	if err := e.Close(); err != nil { // the library moves without it
		b.Fatal(err)
	}
	s, err := nvml.New(nvml.Options{Library: e.Library(), Now: time.Now, Slow: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	for range 3 {
		if r, err := s.Read(b.Context()); err != nil || len(r) != 8 {
			b.Fatal(len(r), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Read(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		b.Fatal(err)
	}
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
	for _, c := range s.Stats().Calls {
		if c.Function == "fields" {
			b.ReportMetric(c.Seconds/float64(c.Calls)*1e9, "ns/fields")
		}
	}
	if err := s.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}
