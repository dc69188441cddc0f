package remotewrite_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/wattledger/wattledger/exporters"
	"github.com/wattledger/wattledger/exporters/remotewrite"
	"github.com/wattledger/wattledger/internal/outbox"
)

// BenchmarkWrite buffers windows of many nodes, as a fan merges them: 4 GPUs of
// 12 series and 15 of the node.
func BenchmarkWrite(b *testing.B) {
	dir := b.TempDir()
	e, err := remotewrite.New(remotewrite.Options{Name: "b", Buffer: outbox.Options{Dir: dir, Now: time.Now}})
	if err != nil {
		b.Fatal(err)
	}
	batch := fleet(80)
	b.ReportAllocs()
	for b.Loop() {
		if err := e.Write(batch); err != nil {
			b.Fatal(err)
		}
	}
	samples := float64(batch.Len()) * float64(b.N)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/samples, "ns/sample")
	b.ReportMetric(float64(size(b, dir))/samples, "B/sample")
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
}

// size is how much lies in a folder.
func size(b *testing.B, dir string) (n int64) {
	b.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			b.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

func fleet(nodes int) exporters.Batch {
	var out exporters.Batch
	r := rand.New(rand.NewPCG(1, 2))
	add := func(name string, labels ...exporters.Label) {
		out.Series = append(out.Series, exporters.Series{Name: name, Labels: labels, Points: []exporters.Point{{MS: 1_795_330_384_000, V: float64(r.IntN(700_000)) / 1000}}})
	}
	for n := range nodes {
		node := []exporters.Label{{Name: "cluster", Value: "leonardo"}, {Name: "node", Value: fmt.Sprintf("lrdn%04d", n)}}
		for i := range 15 {
			add(fmt.Sprintf("wattledger_node_gauge_%d", i), node...)
		}
		for gpu := range 4 {
			for i := range 12 {
				add(fmt.Sprintf("wattledger_gpu_gauge_%d", i), append(node[:2:2], exporters.Label{Name: "gpu", Value: fmt.Sprint(gpu)})...)
			}
		}
	}
	return out
}
