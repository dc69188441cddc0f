package obs_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/wattledger/wattledger/internal/obs"
)

// TestLogDoesNotRepeatItself: ten of a kind are written, the rest is counted.
func TestLogDoesNotRepeatItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	reg := obs.NewRegistry("test")
	log, err := obs.NewLogger("info", out, reg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		log.Warn("again", zap.Int("i", i))
		log.Debug("never")
	}
	log.Error("once")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(b), "\n"); lines != 11 || !strings.Contains(string(b), `"msg":"once"`) {
		t.Errorf("%d lines; want 11 of JSON:\n%s", lines, b)
	}
	want := "# HELP wattledger_log_messages_suppressed_total Log messages that were not written because the same text was, often, within a minute.\n" +
		"# TYPE wattledger_log_messages_suppressed_total counter\nwattledger_log_messages_suppressed_total 990\n"
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), obs.MetricLogsSuppressed); err != nil {
		t.Error(err)
	}
	if _, err := obs.NewLogger("loud", out, nil); err == nil {
		t.Error("level loud is accepted")
	}
}

func TestLimit(t *testing.T) {
	now := time.Unix(1000, 0)
	l := obs.Limit{Every: time.Minute, Now: func() time.Time { return now }}
	f := func(after time.Duration, ok bool, skipped int) {
		t.Helper()
		now = now.Add(after)
		if gotOK, got := l.Allow(); gotOK != ok || got != skipped {
			t.Errorf("%v, %d; want %v, %d", gotOK, got, ok, skipped)
		}
	}
	f(0, true, 0)
	f(time.Second, false, 1)
	f(time.Second, false, 2)
	f(time.Minute, true, 2)
	f(time.Minute, true, 0)
}

func TestMetricsPage(t *testing.T) {
	w := httptest.NewRecorder()
	obs.Metrics(obs.NewRegistry("agent"), zap.NewNop()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	b, err := io.ReadAll(w.Body)
	if err != nil || !strings.Contains(string(b), `wattledger_build_info{component="agent",version="`) || !strings.Contains(string(b), "process_resident_memory_bytes") {
		t.Errorf("%v\n%s", err, b)
	}
}

// TestSlog: what packages say with log/slog is in our log, under their part, with
// what they attached; their information is for debugging.
func TestSlog(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	log := obs.Slog(zap.New(core), "alerts").With("file", "r.yml").WithGroup("rule")
	log.Info("started")
	log.Warn("failed", "name", "A")
	log.Error("lost")
	var got []string
	for _, e := range logs.All() {
		got = append(got, fmt.Sprint(e.Level, " ", e.Message, " ", e.ContextMap()))
	}
	want := []string{"debug alerts: started map[file:r.yml]", "warn alerts: failed map[file:r.yml rule.name:A]", "error alerts: lost map[file:r.yml]"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}
