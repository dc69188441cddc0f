package series_test

import (
	"context"
	"fmt"
	"math"
	"runtime"
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

// BenchmarkBooked is one window of a node with four GPUs per operation, from
// 1,000 nodes and 300 projects: 1-second power of node and GPUs, eight gauges a
// GPU and six of the node, twelve of each GPU that stand at 0, the sums of
// projects and cluster made and stored with them. cpu-s/Msample is the CPU time
// of the process over the samples that were stored, that of making the windows
// included; heap-B/series what is alive after a collection, all in.
func BenchmarkBooked(b *testing.B) {
	const nodes = 1000
	reg := prometheus.NewRegistry()
	var now atomic.Int64
	now.Store(begin)
	s, err := series.New(b.Context(), series.Options{
		Dir: b.TempDir(), Ledger: nothing{}, Now: func() time.Time { return time.UnixMilli(now.Load()) }, Every: 20 * time.Millisecond, Registerer: reg,
		QueueBytes: 1 << 30,
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for s.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	least := alive()
	names := make([]ledger.Node, nodes)
	catalogue := gpus(begin, 4, 1).Catalogue
	for i := range names {
		names[i] = node(fmt.Sprintf("node%05d", i))
	}
	count := func(name string) float64 {
		families, err := reg.Gather()
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == name {
				return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return 0
	}
	rounds := max(3, b.N/nodes)
	round := func(k int) {
		start := begin + int64(k)*10_000
		for i, n := range names {
			w := gpus(start, 4, int64(200+(i*7+k*13)%300))
			w.Catalogue, w.Jobs[0].Project = catalogue, fmt.Sprintf("P%03d", i%300)
			loaded(w, i+k)
			s.Booked(n, w)
		}
		now.Store(start + 11_000)
		for count(series.MetricQueue) > 4*nodes {
			time.Sleep(5 * time.Millisecond)
		}
	}
	const samples = 10*(1+4) + 4*(8+12) + 6 // of a window, those that stand at 0 among them
	drained := func(windows int) {
		for count(series.MetricQueue) > 0 || count(series.MetricAppended)+count(series.MetricUnmoved) < float64(windows*samples) {
			time.Sleep(5 * time.Millisecond)
		}
	}
	round(0)
	drained(nodes) // series are made, once
	before, stored, heap := cpu(), count(series.MetricAppended), alive()-least
	b.ResetTimer()
	for k := range rounds {
		round(k + 1)
	}
	drained((rounds + 1) * nodes)
	b.StopTimer()
	used := cpu() - before
	stored = count(series.MetricAppended) - stored
	b.ReportMetric(used.Seconds()/stored*1e6, "cpu-s/Msample")
	b.ReportMetric(stored/float64(rounds*nodes), "samples/window")
	b.ReportMetric(float64(used.Microseconds())/float64(rounds*nodes), "cpu-us/window")
	b.ReportMetric(heap/count(series.MetricHead), "heap-B/series")
	b.ReportMetric(heap/nodes, "heap-B/node")
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
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
