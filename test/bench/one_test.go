//go:build bench

package bench_test

import (
	"testing"
	"time"
)

// BenchmarkAllIn and BenchmarkBooks are the first lines of BenchmarkPeers alone.
func BenchmarkAllIn(b *testing.B) { benchmarkOne(b, true) }

func BenchmarkBooks(b *testing.B) { benchmarkOne(b, false) }

func benchmarkOne(b *testing.B, withSeries bool) {
	for b.Loop() {
		r := saturate(b, "wattledger", load(peerNodes, time.Now().Truncate(10*time.Second).Add(-peerFor), peerFor), withSeries, warmFor)
		b.ReportMetric(float64(r.cpu.Microseconds())/float64(r.windows), "cpu-us/window")
		b.ReportMetric(float64(r.generator.Microseconds())/float64(r.windows), "load-us/window")
		b.ReportMetric(float64(r.windows)/r.all.Seconds(), "windows/s")
		if withSeries {
			b.ReportMetric(r.cpu.Seconds()*1e6/float64(r.told), "cpu-s/Msample")
			b.ReportMetric(r.cpu.Seconds()*1e6/float64(r.samples), "cpu-s/Mstored")
		}
	}
}
