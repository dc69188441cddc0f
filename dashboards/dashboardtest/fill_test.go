package dashboardtest_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"github.com/wattledger/wattledger/dashboards/dashboardtest"
	"github.com/wattledger/wattledger/internal/report/reporttest"
	"github.com/wattledger/wattledger/internal/series"
)

// now is when the synthetic samples end.
var now = time.Date(2026, 10, 20, 12, 0, 0, 0, time.UTC)

// machine is what the synthetic series are of.
type machine struct {
	clusters, nodes, gpus int
	projects              int // 3 unless said
	span, step            time.Duration
	skip                  func(metric string) bool
}

// rig is a store of series with Prometheus' API.
type rig struct {
	t     testing.TB
	store *series.Store
	url   string
}

func newRig(t testing.TB) *rig {
	t.Helper()
	s, err := series.New(context.Background(), series.Options{Dir: t.TempDir(), Ledger: &reporttest.Ledger{}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	mux := http.NewServeMux()
	s.Register(mux, func(h http.Handler) http.Handler { return h })
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		srv.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for end := time.Now().Add(20 * time.Second); s.Ready() != nil; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the store does not open")
		}
	}
	return &rig{t: t, store: s, url: srv.URL}
}

// fill makes series of everything that is declared.
func (r *rig) fill(m machine) {
	r.t.Helper()
	declared, err := dashboardtest.Declared()
	if err != nil {
		r.t.Fatal(err)
	}
	var sets []labels.Labels
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		if m.skip == nil || !m.skip(name) {
			sets = m.combine(sets, name, labels.FromStrings(model.MetricNameLabel, name), declared[name].Labels)
		}
	}
	refs := make([]storage.SeriesRef, len(sets))
	for at := now.Add(-m.span); !at.After(now); at = at.Add(m.step) {
		app := r.store.Storage().Appender(r.t.Context())
		for i, l := range sets {
			name := l.Get(model.MetricNameLabel)
			first := at
			if strings.HasPrefix(name, "wattledger_cluster_power_") || strings.HasPrefix(name, "wattledger_project_power_") {
				first = at.Add(time.Second - m.step) // these are there at 1 s
			}
			for t := first; !t.After(at); t = t.Add(time.Second) {
				if refs[i], err = app.Append(refs[i], l, t.UnixMilli(), value(name, t, i)); err != nil {
					r.t.Fatal(l, err)
				}
			}
		}
		if err := app.Commit(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// combine adds a series for each combination of values of the labels that are
// left.
func (m machine) combine(sets []labels.Labels, name string, have labels.Labels, left []string) []labels.Labels {
	if len(left) == 0 {
		return append(sets, have)
	}
	for _, v := range m.values(name, left[0]) {
		b := labels.NewBuilder(have)
		b.Set(left[0], v)
		sets = m.combine(sets, name, b.Labels(), left[1:])
	}
	return sets
}

// values are those of a label of a metric.
func (m machine) values(name, label string) []string {
	xid, held := strings.Contains(name, "xid"), strings.Contains(name, "_held_")
	switch label {
	case "cluster":
		return numbered("c", m.clusters)
	case "node":
		if name == "ALERTS" || strings.Contains(name, "_silent_") || strings.Contains(name, "events") || xid {
			return numbered("n", min(m.nodes, 100)) // few have any
		}
		return numbered("n", m.nodes)
	case "gpu":
		return numbered("gpu", m.gpus)
	case "project":
		return numbered("P", cmp.Or(m.projects, 3))
	case "exported_job":
		return numbered("7100", 3)
	case "job":
		if strings.HasPrefix(name, "wattledger_job_") && !held {
			return numbered("7100", 3)
		}
		return []string{"wattledger-aggregator"}
	case "class":
		if xid {
			return []string{"hardware"}
		}
		return []string{"gpu", "cpu"}
	case "kind":
		if strings.Contains(name, "ecc") || strings.Contains(name, "rows") {
			return []string{"corrected", "uncorrected"}
		}
		return []string{"any", "xid"}
	case "reason":
		return []string{"thermal", "software_thermal", "hardware_thermal", "power_brake", "board_limit"}
	}
	if v := map[string][]string{
		"use": {"busy", "held", "idle"}, "le": {"0.1", "1", "+Inf"}, "severity": {"critical", "warning"},
		"alertstate": {"firing"}, "which": {"newest", "oldest"}, "component": {"aggregator"},
	}[label]; v != nil {
		return v
	}
	return []string{"some " + label}
}

func numbered(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(prefix, i)
	}
	return out
}

// value makes counters rise and keeps gauges in a range that can be.
func value(name string, at time.Time, i int) float64 {
	seconds := at.Sub(now.Add(-24 * time.Hour)).Seconds()
	switch {
	case strings.HasSuffix(name, "_timestamp_seconds"):
		return float64(at.Unix()) - 10
	case strings.Contains(name, "throttle"):
		return map[bool]float64{true: seconds / 3}[i%13 == 0]
	case strings.HasSuffix(name, "_total"), strings.HasSuffix(name, "_bucket"), strings.HasSuffix(name, "_bmc_energy_joules"):
		return seconds * float64(1+i%10)
	case strings.HasSuffix(name, "_ratio"):
		return 0.5
	case strings.HasSuffix(name, "_celsius"):
		return 40 + float64(i%50)
	}
	return float64(100 + i%1000)
}

// record evaluates the rules that record, once a minute over the last span.
func (r *rig) record(span time.Duration) (perRound time.Duration) {
	r.t.Helper()
	var recorded []rulefmt.Rule
	files, err := filepath.Glob("../../alerts/*.rules.yml")
	if err != nil || len(files) == 0 {
		r.t.Fatalf("no rules: %v", err)
	}
	for _, file := range files {
		groups, errs := rulefmt.ParseFile(file, false, model.UTF8Validation, parser.NewParser(parser.Options{}), nil)
		if len(errs) > 0 {
			r.t.Fatal(errs)
		}
		for _, g := range groups.Groups {
			for _, rule := range g.Rules {
				if rule.Record != "" {
					recorded = append(recorded, rule)
				}
			}
		}
	}
	begin, rounds := time.Now(), 0
	for at := now.Add(-span); !at.After(now); at = at.Add(time.Minute) {
		rounds++
		for _, rule := range recorded {
			r.evaluate(rule, at)
		}
	}
	return time.Since(begin) / time.Duration(rounds)
}

func (r *rig) evaluate(rule rulefmt.Rule, at time.Time) {
	r.t.Helper()
	q, err := r.store.Engine().NewInstantQuery(r.t.Context(), r.store.Storage(), nil, rule.Expr, at)
	if err != nil {
		r.t.Fatal(rule.Record, err)
	}
	defer q.Close()
	result := q.Exec(r.t.Context())
	vector, err := result.Vector()
	if err != nil {
		r.t.Fatal(rule.Record, err)
	}
	app := r.store.Storage().Appender(r.t.Context())
	for _, s := range vector {
		b := labels.NewBuilder(s.Metric)
		b.Set(model.MetricNameLabel, rule.Record)
		for name, v := range rule.Labels {
			b.Set(name, v)
		}
		if _, err := app.Append(0, b.Labels(), at.UnixMilli(), s.F); err != nil {
			r.t.Fatal(rule.Record, err)
		}
	}
	if err := app.Commit(); err != nil {
		r.t.Fatal(err)
	}
}
