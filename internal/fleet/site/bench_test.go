package site

import (
	"bufio"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkGenerate is one window, made and encoded, and not sent.
func BenchmarkGenerate(b *testing.B) {
	for _, machine := range Machines() {
		b.Run(machine, func(b *testing.B) {
			o := options(machine)
			o.Nodes, o.For, o.Truth, o.Faults, o.Batch = 500, 0, false, nil, 1
			s := site(b, o)
			w := newWorker(b.Context(), s, 0)
			at, made := s.first, 0
			size := 0
			b.ReportAllocs()
			b.ResetTimer()
			for made < b.N {
				r := s.next(at, begin())
				at, w.round = r.to, r
				for _, n := range s.nodes {
					w.b.run(n, r, w.keep)
					for i := range n.link.pending {
						size += len(n.link.pending[i].bytes)
					}
					made += len(n.link.pending)
					n.link.pending = n.link.pending[:0]
				}
			}
			b.ReportMetric(float64(size)/float64(made), "bytes/window")
		})
	}
}

// BenchmarkSite is two minutes of machines of a size, as fast as they go with one
// window in a request: nowhere, and into a real aggregator with its series. It
// says how many times faster than it happens that is, and what a window costs on
// either side.
func BenchmarkSite(b *testing.B) {
	program := filepath.Join(b.TempDir(), "wattledger-aggregator")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", program, "../../../cmd/wattledger-aggregator").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	for _, nodes := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("generator/%d", nodes), func(b *testing.B) {
			for b.Loop() {
				benchmarkSite(b, nodes, "")
			}
		})
		b.Run(fmt.Sprintf("aggregator/%d", nodes), func(b *testing.B) {
			for b.Loop() {
				cmd, url := started(b, program)
				windows := benchmarkSite(b, nodes, url)
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					b.Fatal(err)
				}
				if err := cmd.Wait(); err != nil {
					b.Fatal(err)
				}
				spent := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
				b.ReportMetric(float64(spent.Microseconds())/float64(windows), "aggregator-us/window")
			}
		})
	}
}

// started runs an aggregator on a free port.
func started(b *testing.B, program string) (*exec.Cmd, string) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), program, "--data-dir", b.TempDir(), "--listen", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_, url, ok := strings.Cut(strings.TrimSpace(line), "listens on ")
	if err != nil || !ok {
		b.Fatalf("the aggregator says %q: %v", line, err)
	}
	return cmd, url
}

func benchmarkSite(b *testing.B, nodes int, url string) (windows int64) {
	b.Helper()
	o := options("gigafactory")
	o.Nodes, o.For, o.URL, o.Batch, o.Truth, o.Faults, o.FewGauges = nodes, 2*time.Minute, url, 1, false, nil, true
	o.Start = time.Now().Add(-o.For).Truncate(10 * time.Second)
	begun, spent := time.Now(), cpu(b)
	s := site(b, o)
	if err := s.Run(b.Context()); err != nil {
		b.Fatal(err)
	}
	p := s.Progress()
	b.ReportMetric(o.For.Seconds()/time.Since(begun).Seconds(), "x-real-time")
	b.ReportMetric(float64((cpu(b)-spent).Microseconds())/float64(p.Windows), "fleet-us/window")
	b.ReportMetric(float64(p.P99.Milliseconds()), "ack-p99-ms")
	return p.Windows
}

// cpu is the CPU time of this process.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
