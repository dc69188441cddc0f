package series_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/series"
	"github.com/wattledger/wattledger/internal/window"
)

// cpu is the CPU time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// load is a store and the nodes that send to it, at a clock of their own.
type load struct {
	*testing.B
	s     *series.Store
	reg   *prometheus.Registry
	now   atomic.Int64
	names []ledger.Node
	most  int // windows that wait for the store
	stop  func()
}

func newLoad(b *testing.B, dir string, nodes int) *load {
	b.Helper()
	l := &load{B: b, reg: prometheus.NewRegistry(), most: 4 * nodes}
	l.now.Store(begin)
	var err error
	l.s, err = series.New(b.Context(), series.Options{
		Dir: dir, Ledger: nothing{}, Now: func() time.Time { return time.UnixMilli(l.now.Load()) }, Every: 20 * time.Millisecond, Registerer: l.reg,
		QueueBytes: 1 << 30,
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- l.s.Run(ctx) }()
	for l.s.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	for i := range nodes {
		l.names = append(l.names, node(fmt.Sprintf("node%05d", i)))
	}
	l.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
	return l
}

func (l *load) count(name string) float64 {
	families, err := l.reg.Gather()
	if err != nil {
		l.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return 0
}

// round is a window of each node.
func (l *load) round(k int, change func(i int, w *window.Window)) {
	start := begin + int64(k)*10_000
	catalogue := gpus(begin, 4, 1).Catalogue
	for i, n := range l.names {
		w := gpus(start, 4, int64(200+(i*7+k*13)%300))
		w.Catalogue, w.Jobs[0].Project = catalogue, fmt.Sprintf("P%03d", i%300)
		loaded(w, i+k)
		change(i, w)
		l.s.Booked(n, w)
		if i%l.most == l.most-1 {
			l.wait()
		}
	}
	l.now.Store(start + 11_000)
	l.wait()
}

func (l *load) wait() {
	for l.count(series.MetricQueue) > float64(l.most) {
		time.Sleep(5 * time.Millisecond)
	}
}

// drained waits until all of so many windows are in the store.
func (l *load) drained(windows int) {
	const samples = 10*(1+4) + 4*(8+12) + 6 // of a window, those that stand at 0 among them
	for l.count(series.MetricQueue) > 0 || l.count(series.MetricAppended)+l.count(series.MetricUnmoved) < float64(windows*samples) {
		time.Sleep(5 * time.Millisecond)
	}
}

// BenchmarkBooked is one window of a node with four GPUs per operation, from
// 1,000 nodes and 300 projects: 1-second power of node and GPUs, eight gauges a
// GPU and six of the node, twelve of each GPU that stand at 0, the sums of
// projects and cluster made and stored with them. cpu-s/Msample is the CPU time
// of the process over the samples that were stored, that of making the windows
// included; heap-B/series what is alive after a collection, all in.
func BenchmarkBooked(b *testing.B) {
	const nodes = 1000
	least := alive()
	l := newLoad(b, b.TempDir(), nodes)
	rounds := max(3, b.N/nodes)
	asItIs := func(int, *window.Window) {}
	l.round(0, asItIs)
	l.drained(nodes) // series are made, once
	before, stored, heap := cpu(), l.count(series.MetricAppended), alive()-least
	b.ResetTimer()
	for k := range rounds {
		l.round(k+1, asItIs)
	}
	l.drained((rounds + 1) * nodes)
	b.StopTimer()
	used := cpu() - before
	stored = l.count(series.MetricAppended) - stored
	b.ReportMetric(used.Seconds()/stored*1e6, "cpu-s/Msample")
	b.ReportMetric(stored/float64(rounds*nodes), "samples/window")
	b.ReportMetric(float64(used.Microseconds())/float64(rounds*nodes), "cpu-us/window")
	b.ReportMetric(heap/l.count(series.MetricHead), "heap-B/series")
	b.ReportMetric(heap/nodes, "heap-B/node")
	l.stop()
}

// BenchmarkCompaction runs nodes through three hours and a quarter, until the
// storage has written two hours of its head to a block, and tells what the process
// takes at most meanwhile. Two sizes, each to be run in a process of its own
// (-bench Compaction/1000), tell what a node takes beside what any store does. The
// collector is set as the aggregator sets it.
func BenchmarkCompaction(b *testing.B) {
	for _, nodes := range []int{1000, 3000} {
		b.Run(strconv.Itoa(nodes), func(b *testing.B) {
			defer debug.SetGCPercent(debug.SetGCPercent(60))
			for b.Loop() {
				compact(b, nodes)
			}
		})
	}
}

func compact(b *testing.B, nodes int) {
	b.Helper()
	const rounds = 3*360 + 90
	dir := b.TempDir()
	l := newLoad(b, dir, nodes)
	l.most = 500 // what waits here takes ten times what it takes packed, as it does in an aggregator
	r := rand.New(rand.NewPCG(1, 2))
	blocks := func() int {
		found, err := filepath.Glob(dir + "/tsdb/*/meta.json")
		if err != nil {
			b.Fatal(err)
		}
		return len(found)
	}
	var heap, anon float64
	for k := range rounds {
		l.round(k, func(_ int, w *window.Window) {
			for i := range w.Telemetry {
				for m := range w.Telemetry[i].Milli[1:] {
					w.Telemetry[i].Milli[m+1] += r.Int64N(40) * 1000 // power is never the same for long
				}
			}
		})
		if k%6 == 0 { // a minute
			l.s.MapChunks()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heap, anon = max(heap, float64(m.HeapInuse)), max(anon, status(b, "RssAnon"))
		}
	}
	for end := time.Now().Add(time.Minute); blocks() == 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatal("no block was written")
		}
		anon = max(anon, status(b, "RssAnon"))
	}
	b.ReportMetric(heap/(1<<20), "heap-MiB")
	b.ReportMetric(anon/(1<<20), "anonymous-MiB")
	b.ReportMetric(status(b, "VmHWM")/(1<<20), "resident-MiB")
	b.ReportMetric(l.count(series.MetricHead)/float64(nodes), "series/node")
	l.stop()
}

// status is a line of /proc/self/status, in bytes.
func status(b *testing.B, line string) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n"+line+":")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		b.Fatalf("no %s of this process", line)
	}
	kib, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib * 1024
}

// alive is the heap after a collection: the least of some, since a batch may
// still be on its way.
func alive() float64 {
	least := math.Inf(1)
	for range 4 {
		var m runtime.MemStats
		time.Sleep(20 * time.Millisecond)
		runtime.GC()
		runtime.ReadMemStats(&m)
		least = min(least, float64(m.HeapAlloc))
	}
	return least
}

// loaded adds the gauges of a node that works.
func loaded(w *window.Window, k int) {
	v := float64(k % 17)
	for m := range 4 {
		for _, name := range []string{
			"utilization_ratio", "memory_used_bytes", "temperature_celsius", "memory_temperature_celsius",
			"clock_sm_hertz", "clock_memory_hertz", "power_limit_watts", "throttle_thermal_seconds_total",
		} {
			gauge(w, m, name, 50+v, 60+v, 55+v)
		}
		for _, name := range []string{
			"ecc_corrected_total", "ecc_uncorrected_total", "recovery_action", "remapped_rows_corrected_total", "remapped_rows_failure",
			"remapped_rows_pending", "remapped_rows_uncorrected_total", "throttle_board_limit_seconds_total", "throttle_power_brake_seconds_total",
			"throttle_reliability_seconds_total", "throttle_software_thermal_seconds_total", "throttle_sync_boost_seconds_total",
		} {
			gauge(w, m, name, 0, 0, 0)
		}
	}
	for _, name := range []string{"cpu_utilization_ratio", "load1", "load5", "load15", "memory_used_bytes", "memory_total_bytes"} {
		gauge(w, -1, name, v, v+1, v)
	}
}
