//go:build e2e

package e2e_test

import (
	"errors"
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
		ag := start(b, nil, installed(b, "wattledger-agent"), "--config", config, "--aggregator", a.url())
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
		time.Sleep(30 * time.Second) // both have settled
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

// installed copies one of our programs as a package manager unpacks it, as the
// peer was. A file that the linker has just written lies in the page cache in
// pieces of 2 MiB on newer kernels, and a touch maps a whole piece: its resident
// size would be that of the file, whatever is used of it.
func installed(b *testing.B, name string) string {
	b.Helper()
	from, err := os.Open(bin(b, name))
	if err != nil {
		b.Fatal(err)
	}
	defer from.Close()
	const suffix = "-installed"
	to, err := os.OpenFile(bin(b, name+suffix), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		b.Fatal(err)
	}
	type plain struct{ io.Writer } // no copying inside the kernel
	_, err = io.CopyBuffer(plain{to}, struct{ io.Reader }{from}, make([]byte, 32<<10))
	if err = errors.Join(err, to.Close()); err != nil {
		b.Fatal(err)
	}
	return name + suffix
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

// cpuMS is the time that the threads have run, in the scheduler's nanoseconds:
// those of /proc/PID/stat are hundredths of a second.
func cpuMS(b *testing.B, pid int) float64 {
	b.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		b.Fatalf("cannot tell what process %d has run: %v", pid, err)
	}
	sum := 0.0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		ran, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseFloat(ran, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += ns / 1e6
	}
	return sum
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
