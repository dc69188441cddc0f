//go:build e2e

package e2e_test

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestHungGPU lets one of eight GPUs hang for a minute while another is off the
// bus: the other six are read on every tick, and memory and threads stay flat.
func TestHungGPU(t *testing.T) {
	t.Parallel()
	a := startAggregator(t, t.TempDir())
	m := emulated(t, "dgx-h100", a.url(), "at 10s for 60s gpu 1 hang\nat 12s gpu 5 lost\n")
	page := m.page(t)
	time.Sleep(8 * time.Second)
	before := m.footprint(t)
	time.Sleep(55 * time.Second) // the hang is under way
	hung := fetch(t, page)
	during := m.footprint(t)
	for what, want := range map[string]string{"wattledger_nvml_gpus_hung": "1", "wattledger_nvml_gpus_lost": "1"} {
		if got := valueOf(hung, what); got != want {
			t.Errorf("%s is %s; want %s", what, got, want)
		}
	}
	// one is in the call; another is made where the first window's writes wait for
	// the disk at once, which they had not done before
	if during.threads > before.threads+2 {
		t.Errorf("%d threads while a GPU hangs, %d before", during.threads, before.threads)
	}
	if during.rss > before.rss+before.rss/4 {
		t.Errorf("%d KiB while a GPU hangs, %d before", during.rss, before.rss)
	}
	time.Sleep(12 * time.Second) // it answers again
	if code := m.agent.stop(t); code != 0 {
		t.Errorf("the agent ended with %d", code)
	}
	reads, err := strconv.Atoi(valueOf(hung, `wattledger_agent_source_reads_total{source="nvml"}`))
	if err != nil || reads < 55 {
		t.Errorf("the GPUs were asked %d times in a minute: %v", reads, err)
	}
	t.Logf("of %s ticks %s began within 50 ms of their second, %s within 100 ms", valueOf(hung, "wattledger_agent_tick_lateness_seconds_count"),
		valueOf(hung, `wattledger_agent_tick_lateness_seconds_bucket{le="0.05"}`), valueOf(hung, `wattledger_agent_tick_lateness_seconds_bucket{le="0.1"}`))
	r, _ := reportOf(t, m.url, time.Now().UTC().Format("2006-01"), m.name)
	r.closed(t)
	audited(t, m.url, m.name)
	events := eventsOf(t, m.url, m.name)
	for _, want := range []string{"gpu_hung gpu1\n", "gpu_back gpu1\n", "gpu_lost gpu5\n"} {
		if !strings.Contains(events, want) {
			t.Errorf("no event %q among:\n%s", want, events)
		}
	}
	// a tick that the others missed would say so
	if m := regexp.MustCompile(`(?m)^(no_reading|gap|late) gpu[023467]$`).FindString(events); m != "" {
		t.Logf("another GPU missed a tick on this busy machine: %s", m)
	}
}

// page is the address of the agent's metrics.
func (m *machine) page(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(m.config())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "listen: "); ok {
			return "http://" + strings.Trim(strings.TrimSpace(v), `"`) + "/metrics"
		}
	}
	t.Fatal("no listen in the configuration")
	return ""
}

type footprint struct{ threads, rss int }

func (m *machine) footprint(t *testing.T) footprint {
	t.Helper()
	pid := m.agent.cmd.Process.Pid
	return footprint{threads: status(t, pid, "Threads"), rss: status(t, pid, "VmRSS")}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func valueOf(page, series string) string {
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(page)
	if m == nil {
		return "absent"
	}
	return m[1]
}
