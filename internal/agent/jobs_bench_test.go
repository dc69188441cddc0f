package agent_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

// What 500 jobs on a node cost each tick, windows and all: resting, and with jobs
// that end and begin each second, each with a reading of its edge.
func BenchmarkManyJobs(b *testing.B) {
	for _, churn := range []int{0, 1, 5} {
		b.Run(fmt.Sprint(churn, " a second"), func(b *testing.B) { manyJobs(b, 500, churn) })
	}
}

func manyJobs(b *testing.B, jobs, churn int) {
	dials := []*dial{counterDial("node", "", energy.Node, 4000)}
	for g := range 8 {
		dials = append(dials, counterDial(fmt.Sprint("gpu", g), "node", energy.GPU, 300))
	}
	for p := range 2 {
		dials = append(dials, counterDial(fmt.Sprint("package", p), "node", energy.CPU, 150))
	}
	n := newNode(b, options(), dials...)
	n.read()
	begin := func(i int) {
		s := job.Spec{ID: fmt.Sprint(i), CPUs: 1, Project: "p"}
		if i%2 == 0 {
			s.GPUs = []window.Share{{Device: fmt.Sprint("gpu", i/2%8), Weight: job.Whole / 32}}
		}
		if err := n.p.Begin(s, n.now); err != nil {
			b.Fatal(err)
		}
	}
	for i := range jobs {
		begin(i)
	}
	n.ticks(20)
	next, pause := jobs, time.Second/time.Duration(churn+1)
	for b.Loop() {
		for range churn {
			n.pass(pause)
			n.end(fmt.Sprint(next - jobs))
			begin(next)
			next++
		}
		n.pass(pause)
		n.read()
		n.ws = nil
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N)/float64(jobs), "ms/job")
}
