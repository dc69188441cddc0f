package watch_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/report/reporttest"
	"github.com/wattledger/wattledger/internal/watch"
	"github.com/wattledger/wattledger/internal/window"
)

const kWh = energy.Millijoules(3_600_000_000)

// troubled is a ledger of one cluster in which everything is wrong.
func troubled() *reporttest.Ledger {
	now := reporttest.Now()
	slot := window.Slot(now.UnixMilli()) * window.SlotMS
	ago := func(d time.Duration) int64 { return now.Add(-d).UnixMilli() }
	lastDay := ledger.Books{
		Cluster: "c", Metered: 101 * kWh, Unbooked: kWh / 2, MissingMS: 25_000,
		Projects: []ledger.Project{{Name: "P", Amounts: reporttest.Amounts(60*kWh, 10*kWh, 0)}},
	}
	lastDay.Nobody.Energy[energy.GPU][energy.Idle] = 23 * kWh
	lastDay.Nobody.Grades[energy.Counter] = 23 * kWh
	lastDay.Nobody.DeviceMS[energy.GPU][energy.Idle] = 75_000
	job := func(id string, held energy.Millijoules, endMS int64) ledger.JobBooks {
		return ledger.JobBooks{Cluster: "c", Job: window.Job{ID: id, Project: "P", User: "u", EndMS: endMS}, Amounts: reporttest.Amounts(0, held, 0)}
	}
	return &reporttest.Ledger{
		ByMonth: map[string]map[int64]ledger.Books{"c": {
			slot - 24*3600_000:    lastDay,
			slot - 31*24*3600_000: {Cluster: "c", Unbooked: 2 * kWh},
		}},
		Runs: []ledger.JobBooks{job("1", 5*kWh, 0), job("2", kWh/100, 0), job("3", 9*kWh, ago(time.Minute))},
		Known: []ledger.NodeStatus{
			{Node: ledger.Node{Cluster: "c", Name: "n1"}, LastMS: ago(10 * time.Second), Conflicts: 2},
			{Node: ledger.Node{Cluster: "c", Name: "n2"}, LastMS: ago(2 * time.Hour), Fenced: 1},
			{Node: ledger.Node{Cluster: "c", Name: "n3"}, LastMS: ago(200 * time.Hour), Left: true},
		},
		Apart:  []ledger.QuarantineEntry{{Node: ledger.Node{Cluster: "c", Name: "n1"}, Energy: 7200}, {Node: ledger.Node{Cluster: "c"}, Energy: 99, Settled: true}},
		Audits: map[string]ledger.AuditResult{"c": {Findings: []ledger.Finding{{Kind: "hole", Cluster: "c", Node: "n1", Meter: "gpu0", SlotMS: slot}}}},
	}
}

func page(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestWhatAnOperatorMustKnow(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	w := watch.New(watch.Options{
		Ledger: troubled(), Now: reporttest.Now, Log: zap.New(core), DataDir: t.TempDir(),
		Contract: map[string]energy.Microwatts{"c": 9_000_000 * energy.Watt},
	})
	w.Look(t.Context())
	w.Audit(t.Context())
	for range 1000 {
		w.Booked(ledger.Node{Cluster: "c", Name: "n1"}, &window.Window{Events: []window.Event{
			{AtMS: reporttest.Now().UnixMilli(), Kind: "xid", Meter: "gpu0", Detail: "Xid 79 (hardware), GPU instance 3"},
			{AtMS: reporttest.Now().Add(-time.Hour).UnixMilli(), Kind: "stuck", Meter: "gpu1"}, // a node that was away
		}})
	}
	got := page(t, w)
	for _, want := range []string{
		`wattledger_coverage_ratio{cluster="c"} 0.75`,
		`wattledger_unbooked_joules{cluster="c"} 7.2e+06`,
		`wattledger_books_difference_joules{cluster="c"} 2.7e+07`,
		`wattledger_quarantine_windows{cluster="c"} 1`,
		`wattledger_quarantine_joules{cluster="c"} 7.2`,
		`wattledger_nodes_silent{cluster="c"} 1`,
		`wattledger_node_silent_seconds{cluster="c",node="n2"} 7200`,
		`wattledger_node_conflicts{cluster="c"} 2`,
		`wattledger_node_takeovers{cluster="c"} 1`,
		`wattledger_job_held_energy_joules{cluster="c",job="1",project="P",user="u"} 1.8e+07`,
		`wattledger_node_events_total{cluster="c",kind="xid",node="n1"} 1000`,
		`wattledger_node_recent_events{cluster="c",kind="xid",node="n1"} 1000`,
		`wattledger_node_events_total{cluster="c",kind="stuck",node="n1"} 1000`,
		`wattledger_node_recent_events{cluster="c",kind="stuck",node="n1"} 0`,
		`wattledger_gpu_xid_errors_total{class="hardware",cluster="c",gpu="gpu0",node="n1",xid="79"} 1000`,
		`wattledger_gpu_recent_xid_errors{class="hardware",cluster="c",gpu="gpu0",node="n1",xid="79"} 1000`,
		`wattledger_audit_findings{cluster="c",kind="hole"} 1`,
		`wattledger_contract_power_watts{cluster="c"} 9e+06`,
		`wattledger_watch_errors_total 0`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%s is not on the page", want)
		}
	}
	for _, no := range []string{`job="2"`, `job="3"`, `node="n3"`} {
		if strings.Contains(got, no) {
			t.Errorf("%s is on the page", no)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
	if n := logs.FilterField(zap.String("kind", "xid")).Len(); n == 0 || n > 20 {
		t.Errorf("a thousand equal events are %d lines", n)
	}
	if logs.FilterMessage("the books do not close").Len() != 1 {
		t.Error("the audit's finding is not in the log")
	}
}

// A ledger that fails costs freshness, not what was seen.
func TestALedgerThatFails(t *testing.T) {
	led := troubled()
	w := watch.New(watch.Options{Ledger: led, Now: reporttest.Now})
	w.Look(t.Context())
	led.Fails = errors.New("disk full")
	w.Look(t.Context())
	if got := page(t, w); !strings.Contains(got, "wattledger_watch_errors_total 1\n") || !strings.Contains(got, "wattledger_nodes_silent") {
		t.Errorf("the page is\n%s", got)
	}
}

// Events are recent for a quarter of an hour, to the minute.
func TestRecentEvents(t *testing.T) {
	now := reporttest.Now()
	w := watch.New(watch.Options{Ledger: troubled(), Now: func() time.Time { return now }})
	for range 30 {
		w.Booked(ledger.Node{Cluster: "c", Name: "n"}, &window.Window{Events: []window.Event{{AtMS: now.UnixMilli(), Kind: "gap"}}})
		now = now.Add(time.Minute)
	}
	recent := func() string {
		for line := range strings.Lines(page(t, w)) {
			if v, ok := strings.CutPrefix(line, `wattledger_node_recent_events{cluster="c",kind="gap",node="n"} `); ok {
				return strings.TrimSpace(v)
			}
		}
		return "none"
	}
	for _, want := range []string{"14", "13", "12"} {
		if got := recent(); got != want {
			t.Errorf("%s events are recent, want %s", got, want)
		}
		now = now.Add(time.Minute)
	}
	now = now.Add(time.Hour)
	if got := recent(); got != "0" {
		t.Errorf("an hour later %s events are recent", got)
	}
}

// A cluster is audited as soon as it is seen, and then each hour.
func TestAuditsOfAnHour(t *testing.T) {
	now := reporttest.Now()
	led := troubled()
	w := watch.New(watch.Options{Ledger: led, Now: func() time.Time { return now }})
	holes := func(cluster string) string {
		w.Audit(t.Context())
		for line := range strings.Lines(page(t, w)) {
			if v, ok := strings.CutPrefix(line, `wattledger_audit_findings{cluster="`+cluster+`",kind="any"} `); ok {
				return strings.TrimSpace(v)
			}
		}
		return "not audited"
	}
	f := func(after time.Duration, c, d string) {
		t.Helper()
		now = now.Add(after)
		if got := holes("c") + ", " + holes("d"); got != c+", "+d {
			t.Errorf("findings of c and d are %s; want %s, %s", got, c, d)
		}
	}
	f(0, "1", "not audited")
	led.Audits["c"] = ledger.AuditResult{}
	f(10*time.Minute, "1", "not audited")
	led.ByMonth["d"] = nil
	led.Audits["d"] = ledger.AuditResult{}
	f(2*time.Minute, "1", "0")
	f(time.Hour, "0", "0")
}
