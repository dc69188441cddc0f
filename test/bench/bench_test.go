//go:build bench

// Package bench_test measures what the aggregator costs beside victoria-metrics
// and Prometheus, and how far it goes on this machine. Servers are processes of
// their own; the load is made by the test process, whose CPU is reported apart.
package bench_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/wattledger/wattledger/internal/fleet/site"
	"github.com/wattledger/wattledger/internal/series"
	"github.com/wattledger/wattledger/test/peers"
)

// What each run sends, and how long it may take.
const (
	peerNodes = 1000
	peerFor   = 10 * time.Minute // of simulated time
	warmFor   = time.Minute      // of it that makes the series and is not counted
	within    = 75 * time.Second
)

// load is the fleet, seen from its beginning: the same options make the same
// windows to the byte.
func load(nodes int, start time.Time, length time.Duration) site.Options {
	return site.Options{
		Machine: "gigafactory", Nodes: nodes, Seed: 7, Start: start, For: length, Cluster: "bench",
		Connections: nodes, Batch: 1, Now: time.Now,
	}
}

// row is a line of the table.
type row struct {
	what                string
	cpu, generator, all time.Duration
	windows, samples    int64
	told                int64 // samples with those that are not stored, since they have never left 0
	peak                float64
	disk                int64
	p50, p99            time.Duration
}

// table prints lines under a title.
func table(title string, lines ...[]string) {
	var text strings.Builder
	fmt.Fprintf(&text, "\n%s\n", title)
	w := tabwriter.NewWriter(&text, 2, 0, 2, ' ', tabwriter.AlignRight)
	for _, l := range lines {
		fmt.Fprintln(w, strings.Join(l, "\t")+"\t")
	}
	_ = w.Flush()
	_, _ = os.Stdout.WriteString(text.String())
}

// machine says on what it ran.
func machine() string {
	avg, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%d cores shared with the load and with whatever else runs here (load average %s): trust ratios, not digits",
		runtime.NumCPU(), strings.Join(strings.Fields(string(avg))[:3], " "))
}

func cell(format string, v float64, ok bool) string {
	if !ok {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

func (r *row) cells() []string {
	samples, windows := r.samples > 0, r.windows > 0
	return []string{
		r.what,
		cell("%.2f", r.cpu.Seconds()*1e6/float64(r.told), samples),
		cell("%.2f", r.cpu.Seconds()*1e6/float64(r.samples), samples),
		cell("%.0f", float64(r.cpu.Microseconds())/float64(r.windows), windows),
		cell("%.0f", float64(r.windows)/r.all.Seconds(), windows),
		cell("%.0f", r.peak, true),
		cell("%.1f", float64(r.disk)/float64(r.samples), samples),
		r.p50.Round(100 * time.Microsecond).String(), r.p99.Round(100 * time.Microsecond).String(),
		cell("%.0f", float64(r.generator.Microseconds())/float64(r.windows), windows),
	}
}

// BenchmarkPeers gives the same data to the aggregator, with series and without,
// and by remote write to victoria-metrics and Prometheus.
func BenchmarkPeers(b *testing.B) {
	for b.Loop() {
		start := time.Now().Truncate(10 * time.Second).Add(-peerFor)
		o := load(peerNodes, start, peerFor)
		var rows []row
		rows = append(rows, saturate(b, "wattledger, all in", o, true, warmFor), saturate(b, "wattledger, books alone", o, false, warmFor))
		rec := record(b, o)
		if all := rows[0].samples; float64(all) > 1.01*float64(rec.samples) {
			b.Errorf("the aggregator stored %d samples in part of the run, and the recording has %d", all, rec.samples)
		}
		for _, nodes := range []int{50, 1} {
			what := fmt.Sprintf("remote write, %d nodes a request", nodes)
			rows = append(rows, remote(b, "victoria-metrics, "+what, peers.VictoriaMetrics(b), "data", rec, nodes))
			rows = append(rows, remote(b, "prometheus, "+what, peers.Prometheus(b, peers.PrometheusOptions{OutOfOrder: "26h"}), "data", rec, nodes))
		}
		lines := [][]string{{"", "CPU-s/Msample", "stored", "CPU us/window", "windows/s", "peak MiB", "B/sample", "ack p50", "p99", "load us/window"}}
		for i := range rows {
			lines = append(lines, rows[i].cells())
		}
		table(fmt.Sprintf("The same data of %d nodes x 4 GPUs, %v after the first %v, as fast as it goes. A sample is a value that a node told; what was never anything but 0 is\ntaken in and not stored by wattledger, and not sent to the others.\n%s", peerNodes, peerFor-warmFor, warmFor, machine()), lines...)
		b.ReportMetric(rows[0].cpu.Seconds()*1e6/float64(rows[0].told), "cpu-s/Msample")
		b.ReportMetric(float64(rows[1].cpu.Microseconds())/float64(rows[1].windows), "books-cpu-us/window")
	}
}

// saturate sends a load as fast as the aggregator takes it.
func saturate(b *testing.B, what string, o site.Options, withSeries bool, warmFor time.Duration) row {
	b.Helper()
	nodes := 0
	if withSeries {
		nodes = o.Nodes
	}
	a := startAggregator(b, b.TempDir(), "127.0.0.1:0", nodes)
	defer a.kill()
	o.URL = a.url
	s, err := site.New(o)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), within)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	warm := int64(o.Nodes) * int64(warmFor/(10*time.Second))
	for s.Progress().Windows < warm && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	m := a.metrics(b)
	r := row{what: what, cpu: -cpuOf(b, a.pid()), generator: -ownCPU(), samples: -int64(m["wattledger_series_appended_samples_total"])}
	r.windows, r.told = -s.Progress().Windows, r.samples-int64(m[series.MetricUnmoved])
	begin := time.Now()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	p := s.Progress()
	r.all, r.generator = time.Since(begin), r.generator+ownCPU()
	m = a.drained(b)
	r.cpu += cpuOf(b, a.pid())
	r.windows += p.Windows
	r.samples += int64(m["wattledger_series_appended_samples_total"])
	r.told += int64(m["wattledger_series_appended_samples_total"]) + int64(m[series.MetricUnmoved])
	r.p50, r.p99, r.peak = p.P50, p.P99, memoryOf(b, a.pid(), "VmHWM")
	r.disk = sizeOf(b, a.dir+"/data/series") * r.samples / max(1, int64(m["wattledger_series_appended_samples_total"]))
	if n := m["wattledger_series_dropped_windows_total"]; n > 0 {
		b.Errorf("%s: %.0f windows were dropped before they were stored", what, n)
	}
	if want := int64(o.Nodes) * int64(o.For/(10*time.Second)); ctx.Err() == nil && p.Windows < want {
		b.Errorf("%s: %d windows were booked of %d", what, p.Windows, want)
	}
	return r
}

// remote sends a recording to a peer.
func remote(b *testing.B, what string, p *peers.Peer, data string, rec *recording, nodes int) row {
	b.Helper()
	defer p.Kill(b)
	r := row{what: what}
	var begin time.Time
	var before int64
	warm := func() {
		begin, before = time.Now(), sizeOf(b, p.Dir+"/"+data)
		r.cpu, r.generator = -cpuOf(b, p.Pid()), -ownCPU()
	}
	samples, acks := feed(b, rec, p.URL+"/api/v1/write", nodes, peerNodes*int64(warmFor/(10*time.Second)), warm, within)
	r.all, r.generator = time.Since(begin), r.generator+ownCPU()
	time.Sleep(6 * time.Second) // what it has taken goes to its files
	r.cpu += cpuOf(b, p.Pid())
	r.samples, r.told, r.windows = samples, samples, samples*rec.writes/rec.samples
	r.p50, r.p99, r.peak = acks.quantile(0.5), acks.quantile(0.99), memoryOf(b, p.Pid(), "VmHWM")
	r.disk = sizeOf(b, p.Dir+"/"+data) - before
	return r
}
