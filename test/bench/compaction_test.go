//go:build bench

package bench_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkCompaction runs a fleet fast until the store of series has written two
// hours of it to a block, which is when it takes the most memory. What a node takes
// then is what one of 25,000 takes: both grow with the series alone.
func BenchmarkCompaction(b *testing.B) {
	const (
		nodes    = 2000
		speed    = 18
		ago      = 3*time.Hour + 20*time.Minute
		atMost   = ago / speed
		afterIt  = 15 * time.Second
		interval = 2 * time.Second
	)
	for b.Loop() {
		a := startAggregator(b, b.TempDir(), "127.0.0.1:0", nodes)
		s, done, stop := fleet(b, a, "live", nodes, speed, ago.Seconds())
		var heap, anon float64
		var m map[string]float64
		begin, cpu := time.Now(), cpuOf(b, a.pid())
		var end time.Time // once it has begun
		for end.IsZero() || time.Now().Before(end) {
			time.Sleep(interval)
			m = a.metrics(b)
			heap, anon = max(heap, heapOf(m)), max(anon, memoryOf(b, a.pid(), "RssAnon"))
			if blocks, _ := filepath.Glob(a.dir + "/data/series/tsdb/*/meta.json"); end.IsZero() && len(blocks) > 0 {
				end = time.Now().Add(afterIt)
			}
			if time.Since(begin) > atMost {
				b.Error("no block was written")
				break
			}
		}
		wall := time.Since(begin)
		cores := (cpuOf(b, a.pid()) - cpu).Seconds() / wall.Seconds()
		peak, simulated := memoryOf(b, a.pid(), "VmHWM"), time.Duration(s.Progress().Windows)*10*time.Second/nodes
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
		a.kill()
		cell := func(v float64) string { return fmt.Sprintf("%.0f", v) }
		whole := 25_000.0 / nodes
		table(fmt.Sprintf("%d nodes, %v of them %d times as fast as it happens, through a compaction of the head; the most of each.\n%s", nodes, simulated.Round(time.Minute), speed, machine()),
			[]string{"", "heap MiB", "anonymous MiB", "resident MiB", "core", "series", "windows dropped"},
			[]string{"measured", cell(heap), cell(anon), cell(peak), fmt.Sprintf("%.2f", cores), cell(m["wattledger_series_head_series"]), cell(m["wattledger_series_dropped_windows_total"])},
			[]string{"of 25,000 nodes", cell(heap * whole), cell(anon * whole), cell(peak * whole), "", "", ""},
		)
	}
}
