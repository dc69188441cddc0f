//go:build e2e

package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// cost is what a process took over a span.
type cost struct {
	rssMiB      float64
	cpuMS       float64 // a tick
	calls       float64 // system calls a tick
	threads     int
	threadsMore int // since the span began
}

const benchTicks = 40

// BenchmarkAgent runs the agent on an emulated node with 8 GPUs and 9 jobs, and
// beside it prometheus-node-exporter scraped once a second, for the same time.
func BenchmarkAgent(b *testing.B) {
	for b.Loop() {
		a := startAggregator(b, b.TempDir())
		root := b.TempDir()
		start(b, nil, "wattledger-fleet", "emulate", "--machine", "dgx-h100", "--root", root, "--seed", "3")
		config := filepath.Join(root, "agent.yaml")
		eventually(b, "the emulated node is ready", func() bool { _, err := os.Stat(config); return err == nil })
		ag := start(b, nil, "wattledger-agent", "--config", config, "--aggregator", a.url())
		socket := filepath.Join(root, "agent.sock")
		eventually(b, "the agent listens", func() bool { _, err := os.Stat(socket); return err == nil })
		for i := range 9 {
			args := []string{"job", "begin", "--socket", socket, "--id", strconv.Itoa(i + 1), "--project", "P", "--gpus", strconv.Itoa(i%8) + ":50%", "--cpus", strconv.Itoa(i)}
			if out, err := exec.Command(bin(b, "wattledger-agent"), args...).CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		}
		exporter, scrape := startExporter(b)
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
					if r, err := http.Get(scrape); err == nil {
						_, _ = io.Copy(io.Discard, r.Body)
						r.Body.Close()
					}
				}
			}
		}()
		time.Sleep(10 * time.Second)
		costs := map[int]*cost{ag.cmd.Process.Pid: {}, exporter: {}}
		measure(b, costs)
		close(stop)
		fmt.Printf("\n%-44s %8s %10s %12s %8s\n", "8 GPUs, 9 jobs, 1 Hz", "RSS MiB", "CPU ms", "calls", "threads")
		show := func(name string, c *cost) {
			fmt.Printf("%-44s %8.1f %10.2f %12.0f %5d %+d\n", name, c.rssMiB, c.cpuMS, c.calls, c.threads, c.threadsMore)
		}
		show("wattledger-agent (a tick; target 16, 0.5)", costs[ag.cmd.Process.Pid])
		show("prometheus-node-exporter (a scrape)", costs[exporter])
	}
}

func startExporter(b *testing.B) (pid int, url string) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	cmd := exec.Command("prometheus-node-exporter", "--web.listen-address="+addr)
	if err := cmd.Start(); err != nil {
		b.Fatalf("cannot start the peer (make bench-agent installs it): %v", err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid, "http://" + addr + "/metrics"
}

// measure watches processes: first undisturbed for CPU, then under strace for
// the count of system calls.
func measure(b *testing.B, costs map[int]*cost) {
	b.Helper()
	before := map[int]float64{}
	threads := map[int]int{}
	for pid := range costs {
		before[pid], threads[pid] = cpuMS(b, pid), status(b, pid, "Threads")
	}
	time.Sleep(benchTicks * time.Second)
	for pid, c := range costs {
		c.cpuMS = (cpuMS(b, pid) - before[pid]) / benchTicks
		c.rssMiB = float64(status(b, pid, "VmRSS")) / 1024
		c.threads = status(b, pid, "Threads")
		c.threadsMore = c.threads - threads[pid]
	}
	for pid, c := range costs {
		c.calls = systemCalls(b, pid)
	}
}

// systemCalls counts them for ten seconds.
func systemCalls(b *testing.B, pid int) float64 {
	b.Helper()
	out, err := exec.Command("timeout", "-s", "INT", "10", "strace", "-f", "-c", "-p", strconv.Itoa(pid)).CombinedOutput()
	m := regexp.MustCompile(`(?m)^100\.00\s+\S+\s+(?:\S+\s+)?(\d+)\s+.*total$`).FindSubmatch(out)
	if m == nil {
		b.Logf("strace: %v: %s", err, tail(string(out), 500))
		return 0
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		b.Fatal(err)
	}
	return float64(n) / 10
}

func cpuMS(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(text)[strings.LastIndexByte(string(text), ')')+2:])
	user, err1 := strconv.ParseFloat(f[11], 64)
	sys, err2 := strconv.ParseFloat(f[12], 64)
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	return (user + sys) * 10 // USER_HZ is 100
}

func status(b testing.TB, pid int, key string) int {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, key+":"); ok {
			n, err := strconv.Atoi(strings.Fields(v)[0])
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("no %s for process %d", key, pid)
	return 0
}
