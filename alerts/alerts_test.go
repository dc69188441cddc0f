package alerts_test

import (
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/alerts"
)

func TestBuiltinRulesAreTaken(t *testing.T) {
	r := newRig(t)
	r.start(alerts.Options{Builtin: true, Every: time.Hour})
	r.until("all groups are loaded", func() bool { return len(r.m.Rules().AlertingRules()) > 40 })
	if got := r.metric(alerts.MetricCurrent); got != 1 {
		t.Errorf("%s = %v", alerts.MetricCurrent, got)
	}
}

// TestWrongFilesAreRefused with file, line and reason: all faults of all files.
func TestWrongFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	f := func(what, text string, want ...string) {
		t.Helper()
		path := write(t, filepath.Join(dir, "r.yml"), text)
		r := newRig(t)
		_, err := alerts.New(alerts.Options{Storage: r, Engine: engine(), Files: []string{path}})
		if err == nil {
			t.Errorf("%s: it is taken", what)
			return
		}
		got := strings.Split(strings.ReplaceAll(err.Error(), path, "FILE"), "\n")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s, -want +got:\n%s", what, diff)
		}
	}
	const head = "groups:\n- name: a\n  rules:\n"
	f("an expression", head+"  - alert: A\n    expr: power >\n",
		`FILE:5: group "a", rule 1, "A": could not parse expression: 1:8: parse error: unexpected end of input`)
	f("keys that are not known", head+"  - alert: A\n    expr: power\n    four: 1m\n  colour: red\n",
		"FILE:6: four is not a key that is known here", "FILE:7: colour is not a key that is known here")
	f("no expression", head+"  - alert: A\n    expr: power\n  - alert: B\n",
		`FILE:6: group "a", rule 2, "B": field 'expr' must be set in rule`)
	f("a template", head+"  - alert: A\n    expr: power\n    annotations: {summary: '{{ .Nonsense'}\n",
		`FILE:4: group "a", rule 1, "A": annotation "summary": template: __alert_A:1: unclosed action`)
	f("a label", head+"  - record: a:b\n    expr: power\n    labels: {\"__name__\": x}\n",
		`FILE:4: group "a", rule 1, "a:b": invalid label name: __name__`)
	f("a duration, and a name twice", head+"  - alert: A\n    expr: power\n    for: long\n- name: a\n",
		`FILE:6: not a valid duration string: "long"`)
	f("two groups of a name", head+"  - {alert: A, expr: power}\n- name: a\n",
		`FILE:5: groupname: "a" is repeated in the same file`)
	f("no YAML", "groups:\n- name: [\n", "FILE:2: did not find expected node content")
	f("another kind of file", "global:\n  scrape_interval: 1s\n", "FILE:1: global is not a key that is known here")

	absent := filepath.Join(dir, "absent.yml")
	err := alerts.Check([]string{absent, filepath.Join(dir, "none-*.yml"), oneRule(t, "Fine", "")})
	if err == nil || err.Error() != "cannot read rules: open "+absent+": no such file or directory" {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := alerts.Check([]string{filepath.Join(dir, "none-*.yml"), oneRule(t, "Fine", "")}); err != nil {
		t.Errorf("no file for a pattern: %v", err)
	}
	r := newRig(t)
	for _, a := range []alerts.Alertmanager{{URL: "alertmanager:9093"}, {URL: "https://a", CAFile: absent}} {
		if _, err := alerts.New(alerts.Options{Storage: r, Engine: engine(), Alertmanagers: []alerts.Alertmanager{a}}); err == nil {
			t.Errorf("%+v is taken", a)
		}
	}
}

// TestReload: a wrong file changes nothing; a right one does.
func TestReload(t *testing.T) {
	r := newRig(t)
	path := oneRule(t, "Before", "")
	r.start(alerts.Options{Files: []string{path}})
	r.put(time.Now(), 9, "power")
	r.until("it fires", func() bool { return r.state("Before") == "firing" })

	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(good)+"  - alert: Worse\n    expr: power >\n")
	err = r.m.Reload()
	if err == nil || !strings.Contains(err.Error(), path+":8: ") || !strings.Contains(err.Error(), "those in force go on") {
		t.Errorf("reload of a wrong file: %v", err)
	}
	if r.state("Before") != "firing" || r.metric(alerts.MetricCurrent) != 0 {
		t.Errorf("after it: %s, %v", r.state("Before"), r.metric(alerts.MetricCurrent))
	}
	asked := r.asked.Load()
	r.until("the old rules are evaluated", func() bool { return r.asked.Load() > asked+3 })

	write(t, path, strings.ReplaceAll(string(good), "Before", "After"))
	if err := r.m.Reload(); err != nil {
		t.Fatal(err)
	}
	r.until("the new rule fires", func() bool { return r.state("After") == "firing" })
	if r.state("Before") != "none" || r.metric(alerts.MetricCurrent) != 1 {
		t.Errorf("after it: %s, %v", r.state("Before"), r.metric(alerts.MetricCurrent))
	}
}

// TestRulesWaitForTheStore, and may be reloaded and stopped before it is open.
func TestRulesWaitForTheStore(t *testing.T) {
	r := newRig(t)
	var open atomic.Bool
	var polls atomic.Int64
	ready := func() error {
		polls.Add(1)
		if !open.Load() {
			return errors.New("its log is being replayed")
		}
		return nil
	}
	r.put(time.Now(), 9, "power")
	r.start(alerts.Options{Files: []string{oneRule(t, "High", "")}, Ready: ready})
	r.until("the store was asked twice whether it is open", func() bool { return polls.Load() > 2 })
	if err := r.m.Reload(); err != nil {
		t.Error(err)
	}
	if r.asked.Load() != 0 || r.logs.Len() != 0 || r.state("High") != "unknown" {
		t.Errorf("%d queries before it was; %s; logs: %v", r.asked.Load(), r.state("High"), r.logs.All())
	}
	open.Store(true)
	r.until("it fires", func() bool { return r.state("High") == "firing" })

	open.Store(false)
	r.start(alerts.Options{Files: []string{oneRule(t, "High", "")}, Ready: ready})
	r.until("it is loaded", func() bool { return r.state("High") == "unknown" })
	r.stop()
}

// TestAlertsReachAnAlertmanager with a token over TLS; one that was down gets
// them later; what is over is told.
func TestAlertsReachAnAlertmanager(t *testing.T) {
	am := &receiver{token: "Bearer secret-0123456789"}
	am.down.Store(true)
	srv := httptest.NewTLSServer(am)
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	ca := write(t, filepath.Join(dir, "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	r := newRig(t)
	r.start(alerts.Options{
		Files:         []string{oneRule(t, "High", `annotations: {summary: "{{ $value }} W in {{ $labels.cluster }}"}`)},
		Alertmanagers: []alerts.Alertmanager{{URL: srv.URL + "/am", TokenFile: write(t, filepath.Join(dir, "token"), "secret-0123456789\n"), CAFile: ca}},
		ExternalURL:   "https://books.example.org",
	})
	r.put(time.Now(), 9, "power", "cluster", "c")
	r.until("alerts that were not taken are counted", func() bool { return r.metric(alerts.MetricDropped) > 5 })
	if n := r.logs.FilterLevelExact(2).Len(); n < 1 || n > 3 {
		t.Errorf("%d lines of errors; want 1 to 3:\n%v", n, r.logs.All())
	}
	am.down.Store(false)
	var got sent
	r.until("the alert is sent again", func() (ok bool) { got, ok = am.last("High"); return ok })
	want := sent{
		Labels: map[string]string{"alertname": "High", "cluster": "c"}, Annotations: map[string]string{"summary": "9 W in c"},
		GeneratorURL: "https://books.example.org/prometheus/api/v1/query?query=power+%3E+5",
	}
	if !got.EndsAt.After(time.Now()) {
		t.Errorf("a lasting alert ends at %s", got.EndsAt)
	}
	got.StartsAt, got.EndsAt = time.Time{}, time.Time{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	r.put(time.Now(), 1, "power", "cluster", "c")
	r.until("it is told that it is over", func() bool {
		s, _ := am.last("High")
		return s.EndsAt.Before(time.Now())
	})
}

// TestFiringGoesOnAfterRestart: an alert that waits an hour, and fired for one when
// the aggregator ended, fires at once if that was less than an hour ago.
func TestFiringGoesOnAfterRestart(t *testing.T) {
	f := func(what string, away time.Duration, want string) {
		r := newRig(t)
		now := time.Now()
		began := now.Add(-away - 2*time.Hour)
		r.put(now.Add(-away), float64(began.Unix()), "ALERTS_FOR_STATE", "alertname", "Long", "severity", "warning")
		r.put(now, 9, "power")
		r.start(alerts.Options{Files: []string{oneRule(t, "Long", "for: 1h\n    labels: {severity: warning}")}})
		r.until(what, func() bool { return len(r.m.Rules().AlertingRules()) > 0 && r.m.Rules().AlertingRules()[0].Restored() })
		asked := r.asked.Load()
		r.until("it was evaluated after that", func() bool { return r.asked.Load() > asked+2 })
		if got := r.state("Long"); got != want {
			t.Errorf("%s: %s; want %s", what, got, want)
		}
		r.stop()
	}
	f("after five minutes", 5*time.Minute, "firing")
	f("after two hours", 2*time.Hour, "pending")
}
