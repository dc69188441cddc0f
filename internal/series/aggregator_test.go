package series_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/fleet"
	"github.com/wattledger/wattledger/internal/intake"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/ledger/sqlite"
	"github.com/wattledger/wattledger/internal/replay"
	"github.com/wattledger/wattledger/internal/series"
	"github.com/wattledger/wattledger/internal/window"
)

// site is an aggregator with durable books: intake, ledger and, in turn, stores
// of series.
type site struct {
	t    *testing.T
	led  ledger.Ledger
	url  string
	view atomic.Pointer[series.Store]
	// Windows that were booked are handed to the store after their sender was
	// answered.
	handed atomic.Int64
	intake *prometheus.Registry
}

func newSite(t *testing.T) *site {
	s := &site{t: t, intake: prometheus.NewRegistry()}
	led, err := sqlite.Open(t.TempDir(), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.led = led
	in, err := intake.New(intake.Options{
		Ledger: led, CommitEvery: 2 * time.Millisecond, Now: time.Now,
		Registerer: s.intake,
		Booked: func(n ledger.Node, w *window.Window) {
			s.view.Load().Booked(n, w)
			s.handed.Add(1)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	in.Register(mux)
	srv := httptest.NewServer(mux)
	s.url = srv.URL
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = in.Run(ctx) }()
	t.Cleanup(func() {
		srv.Close()
		cancel()
		<-done
		if err := led.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// hour lets simulated nodes of every layout live through an hour, with faults,
// through the agents' own pipeline and over the wire.
func (s *site) hour(start time.Time, seed uint64) {
	s.t.Helper()
	sim, err := fleet.Simulate(fleet.SimOptions{Seed: seed, Nodes: 4, Start: start, For: time.Hour})
	if err != nil {
		s.t.Fatal(err)
	}
	r := replay.New(replay.Options{
		Cluster: "c", URL: s.url, Name: sim.Digest(), SpoolDir: s.t.TempDir(), CPUs: 32, Grace: 2 * time.Second, Now: time.Now, Log: zap.NewNop(),
	})
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	if err := r.Run(ctx, sim.Feeds()); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); s.handed.Load() != s.booked(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%d windows were handed to the store, %d were booked", s.handed.Load(), s.booked())
		}
	}
}

// booked is how many windows the intake says it has booked.
func (s *site) booked() int64 {
	families, err := s.intake.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != intake.MetricWindows {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == ledger.Booked.String() {
				return int64(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// compare holds the counters of an hour against its books.
func (s *site) compare(r *rig, start time.Time, powered bool) {
	s.t.Helper()
	end := start.Add(time.Hour)
	b, err := s.led.Books(s.t.Context(), "c", start.UnixMilli(), end.UnixMilli(), end.UnixMilli())
	if err != nil {
		s.t.Fatal(err)
	}
	difference := func(what string, want float64) {
		s.t.Helper()
		got := r.value(fmt.Sprintf("%s @ %d - %s @ %d", what, end.Unix(), what, start.Unix()), end.UnixMilli())
		if math.Abs(got-want) > 1e-9*math.Abs(want)+1e-6 {
			s.t.Errorf("%s from %s: %v J; the books have %v J", what, start.UTC().Format(time.TimeOnly), got, want)
		}
	}
	if len(b.Projects) < 2 {
		s.t.Fatalf("only %d projects", len(b.Projects))
	}
	var all float64
	for _, p := range b.Projects {
		want := float64(p.Amounts.Total().Joules())
		difference(fmt.Sprintf("wattledger_project_energy_joules_total{cluster=\"c\",project=%q}", p.Name), want)
		all += want
	}
	all += float64(b.Nobody.Total().Joules())
	got := r.value(fmt.Sprintf("sum(wattledger_cluster_energy_joules_total @ %d) - sum(wattledger_cluster_energy_joules_total @ %d)", end.Unix(), start.Unix()), end.UnixMilli())
	if math.Abs(got-all) > 1e-9*all+1e-6 {
		s.t.Errorf("the cluster from %s: %v J; the books have %v J", start.UTC().Format(time.TimeOnly), got, all)
	}
	if !powered {
		return
	}
	// The power of the cluster is its energy, as far as its seconds are whole.
	power := r.value("sum_over_time(wattledger_cluster_power_watts[1h])", end.UnixMilli())
	if math.Abs(power-all) > 0.01*all {
		s.t.Errorf("power from %s adds up to %v J; the books have %v J", start.UTC().Format(time.TimeOnly), power, all)
	}
}

// TestAnHourOfTheSeriesIsAnHourOfTheBooks, with real books, agents' windows over
// the wire, faults on the nodes, jobs, and a kill between the hours and within
// the second, from which the store comes back with what its folder holds.
func TestAnHourOfTheSeriesIsAnHourOfTheBooks(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	start := time.Now().Add(-5 * time.Hour).Truncate(time.Hour)
	open := func() *rig {
		r := newRig(t, series.Options{Dir: dir, Ledger: s.led})
		r.now.Store(time.Now().UnixMilli())
		s.view.Store(r.store)
		return r.run()
	}
	emitted := func(r *rig, to time.Time) {
		// The clock may go on once all is in the sums, or it would be late.
		r.until("all is in the sums", func() bool { return r.metric(series.MetricQueue) == 0 })
		r.now.Add(120_000)
		r.until("all is emitted", func() bool {
			r.now.Add(1000)
			at, ok := r.find(series.MetricStep, "c")
			return ok && at >= float64(to.Unix())
		})
	}
	r := open()
	s.hour(start, 3)
	emitted(r, start.Add(time.Hour))
	s.compare(r, start, true)

	dir = copied(t, dir) // killed
	open()
	s.hour(start.Add(time.Hour), 4)
	// Killed again before any of the second hour was emitted: the clock stands.
	dir = copied(t, dir)
	r = open()
	s.hour(start.Add(2*time.Hour), 5)
	emitted(r, start.Add(3*time.Hour))
	for h := range 3 { // the power of what was not emitted is gone, its energy is not
		s.compare(r, start.Add(time.Duration(h)*time.Hour), h != 1)
	}
}
