//go:build bench

package bench_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// built is where the program lies once it is built.
var built struct {
	dir  string
	once sync.Once
	err  error
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "wattledger-bench-")
	if err != nil {
		panic(err)
	}
	built.dir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// program builds wattledger-aggregator from this checkout. BENCH_AGGREGATOR
// names another, to compare.
func program(tb testing.TB) string {
	tb.Helper()
	if other := os.Getenv("BENCH_AGGREGATOR"); other != "" {
		return other
	}
	path := filepath.Join(built.dir, "wattledger-aggregator")
	built.once.Do(func() {
		c := exec.Command("go", "build", "-o", path, "github.com/wattledger/wattledger/cmd/wattledger-aggregator")
		c.Stderr = os.Stderr
		built.err = c.Run()
	})
	if built.err != nil {
		tb.Fatalf("cannot build the aggregator: %v", built.err)
	}
	return path
}

// aggregator is one that runs.
type aggregator struct {
	dir, url string
	cmd      *exec.Cmd
}

// startAggregator starts one, with series laid out for so many nodes, or without
// series for none, and returns when it listens.
func startAggregator(tb testing.TB, dir, listen string, nodes int) *aggregator {
	tb.Helper()
	config := filepath.Join(dir, "aggregator.yaml")
	text := "data_dir: " + filepath.Join(dir, "data") + "\nlisten: " + listen + "\n"
	// Rules ask the store of series; what that takes is not what windows take.
	text += "alerts: {builtin: false}\n"
	if nodes > 0 {
		text += fmt.Sprintf("series: {nodes: %d}\n", nodes)
	} else {
		text += "series: {enabled: false}\n"
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "aggregator.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()
	a := &aggregator{dir: dir, cmd: exec.Command(program(tb), "--config", config)}
	a.cmd.Stderr = log
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(a.kill)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, url, ok := strings.Cut(lines.Text(), " listens on "); ok {
			a.url = url
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return a
		}
	}
	b, _ := os.ReadFile(log.Name())
	tb.Fatalf("the aggregator does not start:\n%s", b)
	return nil
}

func (a *aggregator) pid() int { return a.cmd.Process.Pid }

// kill ends it as a crash would.
func (a *aggregator) kill() {
	if a.cmd.ProcessState == nil {
		_ = a.cmd.Process.Signal(syscall.SIGKILL)
		_ = a.cmd.Wait()
	}
}

// metrics reads its page: families without labels, and sums over labels.
func (a *aggregator) metrics(tb testing.TB) map[string]float64 {
	tb.Helper()
	r, err := http.Get(a.url + "/metrics")
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Body.Close()
	out := map[string]float64{}
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		l := lines.Text()
		space := strings.LastIndexByte(l, ' ')
		if strings.HasPrefix(l, "#") || space < 0 {
			continue
		}
		name, _, _ := strings.Cut(l[:space], "{")
		v, err := strconv.ParseFloat(l[space+1:], 64)
		if err == nil {
			out[name] += v
		}
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return out
}

// drained waits until the store of series has taken all that was booked.
func (a *aggregator) drained(tb testing.TB) map[string]float64 {
	tb.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(250 * time.Millisecond) {
		m := a.metrics(tb)
		if m["wattledger_series_queue_windows"] == 0 {
			return m
		}
		if time.Now().After(end) {
			tb.Fatalf("%.0f windows still wait for the store of series", m["wattledger_series_queue_windows"])
		}
	}
}
