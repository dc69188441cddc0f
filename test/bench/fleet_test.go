//go:build bench

package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/fleet/site"
)

// connections at most: both ends hold a file each.
const mostConnections = 5000

// realTime is a fleet at its own pace.
type realTime struct {
	nodes         int
	core, load    float64 // CPU seconds a second
	perWindow     float64 // us
	p50, p99      time.Duration
	heap, anon    [2]float64 // MiB at the beginning and the end of what is measured
	peak          float64
	series, swept float64
	windows       int64
}

// live begins a fleet of the present.
func live(b *testing.B, a *aggregator, cluster string, nodes int) (*site.Site, <-chan error, context.CancelFunc) {
	b.Helper()
	return fleet(b, a, cluster, nodes, 1, 0)
}

// fleet begins one of so many seconds ago that goes faster than it happens.
func fleet(b *testing.B, a *aggregator, cluster string, nodes int, speed, ago float64) (*site.Site, <-chan error, context.CancelFunc) {
	b.Helper()
	o := load(nodes, time.Now().Add(-time.Duration(ago*float64(time.Second))).Truncate(10*time.Second), 0)
	o.URL, o.Speed, o.Cluster, o.Connections = a.url, speed, cluster, min(nodes, mostConnections)
	s, err := site.New(o)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, done, cancel
}

func heapOf(m map[string]float64) float64 { return m["go_memstats_heap_inuse_bytes"] / (1 << 20) }

// measure looks at a fleet for a while, once it has been there for some rounds.
func measure(b *testing.B, a *aggregator, s *site.Site, nodes int, warm, span time.Duration) realTime {
	b.Helper()
	time.Sleep(warm)
	first := a.metrics(b)
	r := realTime{nodes: nodes, windows: -s.Progress().Windows}
	s.ForgetAcks()
	r.heap[0], r.anon[0] = heapOf(first), memoryOf(b, a.pid(), "RssAnon")
	begin, cpu, own := time.Now(), cpuOf(b, a.pid()), ownCPU()
	time.Sleep(span)
	wall := time.Since(begin).Seconds()
	cpu, own = cpuOf(b, a.pid())-cpu, ownCPU()-own
	p := s.Progress()
	last := a.metrics(b)
	r.windows += p.Windows
	r.core, r.load, r.perWindow = cpu.Seconds()/wall, own.Seconds()/wall, float64(cpu.Microseconds())/float64(r.windows)
	r.p50, r.p99, r.peak = p.P50, p.P99, memoryOf(b, a.pid(), "VmHWM")
	r.heap[1], r.anon[1] = heapOf(last), memoryOf(b, a.pid(), "RssAnon")
	r.series = last["wattledger_series_head_series"]
	r.swept = last["wattledger_series_dropped_windows_total"]
	return r
}

func (r *realTime) cells() []string {
	return []string{
		fmt.Sprint(r.nodes), fmt.Sprintf("%.3f", r.core), fmt.Sprintf("%.1f", r.core*1e6/float64(r.nodes)), fmt.Sprintf("%.0f", r.perWindow),
		r.p50.Round(time.Millisecond).String(), r.p99.Round(time.Millisecond).String(), fmt.Sprintf("%.0f", r.series),
		fmt.Sprintf("%.0f > %.0f", r.heap[0], r.heap[1]), fmt.Sprintf("%.0f > %.0f", r.anon[0], r.anon[1]), fmt.Sprintf("%.0f", r.peak),
		fmt.Sprintf("%.0f", r.swept), fmt.Sprintf("%.3f", r.load),
	}
}

// BenchmarkFleet runs fleets at their own pace, with series. The largest is
// then met by a crash of the aggregator.
func BenchmarkFleet(b *testing.B) {
	for b.Loop() {
		head := []string{"nodes", "core", "us/node/s", "us/window", "ack p50", "p99", "series", "heap MiB", "anonymous MiB", "peak MiB", "dropped", "load, core"}
		for _, nodes := range sizes() {
			a := startAggregator(b, b.TempDir(), "127.0.0.1:0", nodes)
			s, done, stop := live(b, a, "live", nodes)
			warm := warmOf(nodes)
			r := measure(b, a, s, nodes, warm, 40*time.Second)
			table(fmt.Sprintf("A fleet of %d nodes x 4 GPUs with a window every 10 s, from %v on for 40 s; rules are off.\n%s", nodes, warm, machine()), head, r.cells())
			if nodes == slices.Max(sizes()) {
				table("The aggregator is killed and started again, its agents go on:", killed(b, a, s)...)
				b.ReportMetric(r.core, "core")
			}
			stop()
			if err := <-done; err != nil {
				b.Error(err)
			}
			a.kill()
		}
	}
}

// killed sends SIGKILL and starts the aggregator again on the same data and
// address, while the fleet goes on.
func killed(b *testing.B, a *aggregator, s *site.Site) [][]string {
	b.Helper()
	address := strings.TrimPrefix(a.url, "http://")
	a.kill()
	before, begin := s.Progress().Windows, time.Now()
	again := startAggregator(b, a.dir, address, 1) // the books know how many there are
	*a = *again
	listens := time.Since(begin)
	await := func(what string, within time.Duration, f func() bool) time.Duration {
		for time.Since(begin) < within {
			if f() {
				return time.Since(begin)
			}
			time.Sleep(5 * time.Millisecond)
		}
		b.Errorf("not within %v of the crash: %s", within, what)
		return within
	}
	books := await("a window is booked", time.Minute, func() bool { return s.Progress().Windows > before })
	level := await("every node is level again", time.Minute, func() bool { return s.Progress().Lag < time.Second })
	ready := await("queries are answered", 4*time.Minute, func() bool {
		r, err := http.Get(a.url + "/api/v1/query?query=1")
		if err != nil {
			return false
		}
		_ = r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	m := a.drained(b)
	return [][]string{
		{"listens", "first window booked", "all nodes level", "queries answered", "windows dropped from the series"},
		{
			fmt.Sprintf("%.1f s", listens.Seconds()), fmt.Sprintf("%.1f s", books.Seconds()), fmt.Sprintf("%.1f s", level.Seconds()),
			fmt.Sprintf("%.1f s", ready.Seconds()), fmt.Sprintf("%.0f", m["wattledger_series_dropped_windows_total"]),
		},
	}
}

// sizes are the fleets that are compared; BENCH_NODES names one alone.
func sizes() []int {
	if n, err := strconv.Atoi(os.Getenv("BENCH_NODES")); err == nil && n > 0 {
		return []int{n}
	}
	return []int{1000, 5000, 25_000}
}

// windowsPerSecond is what 25,000 nodes send.
const windowsPerSecond = 2500

// BenchmarkScale compares what a window costs in fleets of different size that
// send the same number of windows: the small ones as many times faster than it
// happens.
func BenchmarkScale(b *testing.B) {
	for b.Loop() {
		lines := [][]string{{"nodes", "x real time", "core", "us/window", "ack p50", "p99", "series", "anonymous MiB", "dropped"}}
		for _, nodes := range sizes() {
			speed := windowsPerSecond * 10 / float64(nodes)
			warm, span := warmOf(nodes), 30*time.Second
			a := startAggregator(b, b.TempDir(), "127.0.0.1:0", nodes)
			s, done, stop := fleet(b, a, "live", nodes, speed, (warm+span).Seconds()*(speed-1))
			r := measure(b, a, s, nodes, warm, span)
			stop()
			if err := <-done; err != nil {
				b.Error(err)
			}
			a.kill()
			c := r.cells()
			lines = append(lines, []string{c[0], fmt.Sprintf("%.0f", speed), c[1], c[3], c[4], c[5], c[6], c[8], c[10]})
		}
		table(fmt.Sprintf("Fleets of different size, %d windows a second of each; rules are off.\n%s", windowsPerSecond, machine()), lines...)
	}
}

// warmOf is how long a fleet is left alone: its series are made.
func warmOf(nodes int) time.Duration {
	return 20*time.Second + time.Duration(nodes)*1900*time.Microsecond
}

// ageOf is how old the newest point of the live fleet is, in seconds: between
// two rounds some ten.
func ageOf(b *testing.B, a *aggregator) float64 {
	b.Helper()
	q := url.Values{"query": {`time() - max(timestamp(wattledger_node_power_watts{cluster="live"}))`}}
	r, err := http.Get(a.url + "/api/v1/query?" + q.Encode())
	if err != nil {
		b.Fatal(err)
	}
	defer r.Body.Close()
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil || len(answer.Data.Result) != 1 {
		return 0
	}
	v, _ := answer.Data.Result[0].Value[1].(string)
	age, err := strconv.ParseFloat(v, 64)
	if err != nil {
		b.Fatal(err)
	}
	return age
}

// BenchmarkBacklog lets nodes come back after a day without a link, while others
// go on.
func BenchmarkBacklog(b *testing.B) {
	const late, others = 200, 2000
	for b.Loop() {
		a := startAggregator(b, b.TempDir(), "127.0.0.1:0", late+others)
		s, done, stop := live(b, a, "live", others)
		calm := measure(b, a, s, others, 15*time.Second, 5*time.Second)
		calmAge := 0.0
		for range 15 {
			calmAge = max(calmAge, ageOf(b, a))
			time.Sleep(time.Second)
		}
		calm.p99 = s.Progress().P99
		o := load(late, time.Now().Truncate(10*time.Second), 10*time.Second)
		o.URL, o.Cluster, o.Backlog, o.Connections = a.url, "late", 24*time.Hour, late
		back, err := site.New(o)
		if err != nil {
			b.Fatal(err)
		}
		s.ForgetAcks()
		ctx, cancel := context.WithTimeout(b.Context(), within)
		begin, cpu, own := time.Now(), cpuOf(b, a.pid()), ownCPU()
		finished := make(chan error, 1)
		go func() { finished <- back.Run(ctx) }()
		var lag, behind float64
		for over := false; !over; {
			select {
			case err := <-finished:
				if err != nil {
					b.Error(err)
				}
				over = true
			case <-time.After(time.Second):
				lag = max(lag, ageOf(b, a))
				behind = max(behind, s.Progress().Lag.Seconds())
			}
		}
		cancel()
		wall := time.Since(begin)
		cpu, own = cpuOf(b, a.pid())-cpu, ownCPU()-own
		p, q := back.Progress(), s.Progress()
		simulated := time.Duration(p.Windows) * 10 * time.Second / late
		m := a.drained(b)
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
		a.kill()
		times, cores := simulated.Seconds()/wall.Seconds(), cpu.Seconds()/wall.Seconds()
		b.ReportMetric(times, "x-real-time")
		table(fmt.Sprintf("%d nodes bring %.1f h in %.0f s (of 24 h; it is stopped after %v), %d others go on.\n%s", late, simulated.Hours(), wall.Seconds(), within, others, machine()),
			[]string{"x real time", "core", "x real time of a core", "live ack p99 before", "live ack p99", "live behind", "newest live point before", "newest live point", "dropped", "refused samples", "load, core"},
			[]string{
				fmt.Sprintf("%.0f", times), fmt.Sprintf("%.2f", cores), fmt.Sprintf("%.0f", times/max(cores-calm.core, 0.01)), calm.p99.Round(time.Millisecond).String(),
				q.P99.Round(time.Millisecond).String(), fmt.Sprintf("%.1f s", behind), fmt.Sprintf("%.1f s old", calmAge), fmt.Sprintf("%.1f s old", lag),
				fmt.Sprintf("%.0f", m["wattledger_series_dropped_windows_total"]), fmt.Sprintf("%.0f", m["wattledger_series_refused_samples_total"]), fmt.Sprintf("%.2f", own.Seconds()/wall.Seconds()),
			})
	}
}
