package selfscrape_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/wattledger/wattledger/internal/selfscrape"
)

// store keeps what is committed as lines of text.
type store struct {
	mu    sync.Mutex
	lines []string
	full  error
}

type appender struct {
	storage.Appender // what is not here is not called
	to               *store
	lines            []string
}

func (s *store) Appender(context.Context) storage.Appender { return &appender{to: s} }

func (a *appender) Append(_ storage.SeriesRef, l labels.Labels, ms int64, v float64) (storage.SeriesRef, error) {
	text := strconv.FormatFloat(v, 'g', -1, 64)
	if value.IsStaleNaN(v) {
		text = "gone"
	}
	a.lines = append(a.lines, l.String()+" "+text+" "+time.UnixMilli(ms).UTC().Format("05"))
	return 0, nil
}

func (a *appender) Commit() error {
	a.to.mu.Lock()
	defer a.to.mu.Unlock()
	if a.to.full != nil {
		return a.to.full
	}
	a.to.lines = append(a.to.lines, a.lines...)
	return nil
}

func (a *appender) Rollback() error { return nil }

// TestAPageAsAPrometheusWouldHaveIt: names, labels and values of every type;
// labels of the scrape stand before those of the same name; what has gone is
// marked; what is to be skipped is not there.
func TestAPageAsAPrometheusWouldHaveIt(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	polls := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "polls_total", Help: "."}, []string{"job"})
	took := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds", Help: ".", Buckets: []float64{0.5, 1}})
	pause := prometheus.NewSummary(prometheus.SummaryOpts{Name: "pause_seconds", Help: ".", Objectives: map[float64]float64{0.5: 0.1}})
	known := prometheus.NewGauge(prometheus.GaugeOpts{Name: "known_elsewhere", Help: "."})
	reg.MustRegister(polls, took, pause, known)
	polls.WithLabelValues("7").Add(3)
	took.Observe(0.7)
	pause.Observe(2)
	s, now := &store{}, time.Unix(1_790_000_000, 0)
	sc := selfscrape.New(selfscrape.Options{
		Gatherer: reg, Store: s, Skip: map[string]bool{"known_elsewhere": true}, Instance: "a:1", Now: func() time.Time { return now },
	})
	if err := sc.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	polls.Reset()
	now = now.Add(15 * time.Second)
	if err := sc.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	page := func(second string) []string {
		of := `instance="a:1", job="wattledger-aggregator"`
		return []string{
			`{__name__="pause_seconds", ` + of + `, quantile="0.5"} 2 ` + second,
			`{__name__="pause_seconds_count", ` + of + `} 1 ` + second,
			`{__name__="pause_seconds_sum", ` + of + `} 2 ` + second,
			`{__name__="took_seconds_bucket", ` + of + `, le="+Inf"} 1 ` + second,
			`{__name__="took_seconds_bucket", ` + of + `, le="0.5"} 0 ` + second,
			`{__name__="took_seconds_bucket", ` + of + `, le="1"} 1 ` + second,
			`{__name__="took_seconds_count", ` + of + `} 1 ` + second,
			`{__name__="took_seconds_sum", ` + of + `} 0.7 ` + second,
		}
	}
	poll := `{__name__="polls_total", exported_job="7", instance="a:1", job="wattledger-aggregator"} `
	want := append(append(page("20"), page("35")...), poll+"3 20", poll+"gone 35")
	slices.Sort(want)
	slices.Sort(s.lines)
	if diff := cmp.Diff(want, s.lines); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestRun begins when the store can take samples, goes on every 15 s, and says
// once what fails again and again.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "g", Help: "."}))
		core, logs := observer.New(zap.WarnLevel)
		s, opened := &store{}, time.Now().Add(20*time.Second)
		sc := selfscrape.New(selfscrape.Options{Gatherer: reg, Store: s, Now: time.Now, Log: zap.New(core), Ready: func() error {
			if time.Now().Before(opened) {
				return errors.New("it is being replayed")
			}
			return nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- sc.Run(ctx) }()
		time.Sleep(66 * time.Second)
		synctest.Wait()
		if len(s.lines) != 4 || !strings.Contains(s.lines[0], `__name__="g"`) {
			t.Errorf("%d samples in 46 s: %v; want 4", len(s.lines), s.lines)
		}
		s.mu.Lock()
		s.full = errors.New("disk full")
		s.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if logs.Len() != 1 {
			t.Errorf("%d lines of a minute of failures; want one", logs.Len())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
