package report_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/report"
	"github.com/wattledger/wattledger/internal/report/reporttest"
)

var update = flag.Bool("update", false, "rewrite testdata from what the code says now")

func october(t *testing.T) report.Period {
	t.Helper()
	return report.Month(zone(t, "Europe/Rome"), 2026, time.October)
}

func build(t *testing.T, l ledger.Ledger, project string) report.Report {
	t.Helper()
	r, err := report.Build(t.Context(), l, "leonardo", october(t), project, reporttest.Now())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func golden(t *testing.T, name string, write func(io.Writer) error) []byte {
	t.Helper()
	var got bytes.Buffer
	if err := write(&got); err != nil {
		t.Fatal(err)
	}
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s (-update rewrites): %v; got:\n%s\nwant:\n%s", name, err, &got, want)
	}
	return got.Bytes()
}

func TestReportGolden(t *testing.T) {
	r := build(t, reporttest.Demo(), "")
	doc := golden(t, "report.json", func(w io.Writer) error { return report.WriteJSON(w, r) })
	golden(t, "report.csv", func(w io.Writer) error { return report.WriteCSV(w, &r) })
	golden(t, "report.txt", func(w io.Writer) error { return report.WriteText(w, &r) })

	var back report.Report
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&back); err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := report.WriteJSON(&again, back); err != nil || !bytes.Equal(again.Bytes(), doc) {
		t.Errorf("read back and written again it differs: %v", err)
	}
}

// TestPromisedKeys: the keys of the schema, with the kinds of value people's
// programs were written for.
func TestPromisedKeys(t *testing.T) {
	var b bytes.Buffer
	if err := report.WriteJSON(&b, build(t, reporttest.Demo(), "")); err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	const text, number = "string", "float64"
	f := func(in any, kind string, keys ...string) {
		t.Helper()
		m, ok := in.(map[string]any)
		for _, key := range keys {
			v, there := m[key]
			_, isText := v.(string)
			_, isNumber := v.(float64)
			if !ok || !there || kind == text && !isText || kind == number && !isNumber {
				t.Errorf("%s = %v (%T); want a %s", key, v, v, kind)
			}
		}
	}
	f(doc, text, "schema", "cluster")
	f(doc["period"], text, "start", "end", "timezone")
	f(doc["period"], number, "hours")
	f(doc["totals"], text, "metered_mj", "booked_mj", "unbooked_mj", "difference_mj", "kwh")
	f(doc["uses"], text, "busy_mj", "held_mj", "idle_mj", "system_mj", "unknown_mj")
	f(doc["classes"], text, "gpu_mj", "cpu_mj", "memory_mj", "other_mj", "node_mj")
	f(doc["grades"], text, "counter_mj", "sampled_mj", "bridged_mj", "modelled_mj")
	f(doc["grades"], number, "missing_device_seconds")
	projects, _ := doc["projects"].([]any)
	if len(projects) != 8 {
		t.Fatalf("%d projects; want 8", len(projects))
	}
	f(projects[0], text, "project", "energy_mj", "kwh", "busy_mj", "held_mj", "gpu_hours")
	f(projects[0], number, "jobs")
}

// TestSumsOfReport: uses, classes, grades, and projects + nobody each add up to
// what is booked.
func TestSumsOfReport(t *testing.T) {
	r := build(t, reporttest.Demo(), "")
	f := func(what string, parts ...energy.Millijoules) {
		t.Helper()
		var sum energy.Millijoules
		for _, p := range parts {
			sum += p
		}
		if sum != r.Totals.Booked || sum == 0 {
			t.Errorf("%s add up to %s mJ; booked are %s", what, sum, r.Totals.Booked)
		}
	}
	u, c, g := r.Uses, r.Classes, r.Grades
	f("uses", u.Busy, u.Held, u.Idle, u.System, u.Unknown)
	f("classes", c.GPU, c.CPU, c.Memory, c.Other, c.Node)
	f("grades", g.Counter, g.Sampled, g.Bridged, g.Modelled)
	lines := []energy.Millijoules{u.Idle, u.System, u.Unknown}
	for _, p := range r.Projects {
		lines = append(lines, p.Energy)
		if p.Energy != p.Busy+p.Held {
			t.Errorf("project %s: busy + held are not its energy", p.Name)
		}
	}
	f("lines", lines...)
}

func TestDifferenceIsMeteredMinusBookedMinusUnbooked(t *testing.T) {
	f := func(metered, unbooked, difference energy.Millijoules, state report.State, words string) {
		t.Helper()
		l := reporttest.Demo()
		b := l.ByMonth["leonardo"][october(t).Start.UnixMilli()]
		b.Metered += metered
		b.Unbooked = unbooked
		l.ByMonth["leonardo"][b.FromMS] = b
		r := build(t, l, "")
		if r.Totals.Difference != difference || r.State() != state || !strings.Contains(r.Verdict(), words) {
			t.Errorf("metered %+d, unbooked %d: difference %s, %q; want %s, %q", metered, unbooked, r.Totals.Difference, r.Verdict(), difference, words)
		}
	}
	f(0, 0, 0, report.Closes, "Books close")
	f(1, 0, 1, report.Broken, "BOOKS DO NOT CLOSE by 1 mJ")
	f(-1, 0, -1, report.Broken, "BOOKS DO NOT CLOSE by -1 mJ")
	f(7_200_000, 7_200_000, 0, report.Open, "0.002 kWh were metered and are not booked")
	f(0, 5, -5, report.Broken, "by -5 mJ")
}

func TestOneProject(t *testing.T) {
	all, one := build(t, reporttest.Demo(), ""), build(t, reporttest.Demo(), "IscrB_"+strings.Repeat("turbulence-", 26)+"long")
	if len(one.Projects) != 1 || !strings.HasPrefix(one.Projects[0].Name, "IscrB_") || one.Totals != all.Totals {
		t.Errorf("filtered: %d projects, totals %+v; want 1 and the cluster's totals %+v", len(one.Projects), one.Totals, all.Totals)
	}
	_, err := report.Build(t.Context(), reporttest.Demo(), "leonardo", october(t), "EUHPC_A01_01", reporttest.Now())
	var none *report.NoEnergyError
	if !errors.As(err, &none) || !strings.Contains(err.Error(), "EUHPC_A01_001") {
		t.Errorf("unknown project: %v; want an error that lists those there are", err)
	}
}

// TestSameBooksSameBytes: a report of a past month does not know when it is made.
func TestSameBooksSameBytes(t *testing.T) {
	write := func(now time.Time) string {
		l := reporttest.Demo()
		r, err := report.Build(context.Background(), l, "leonardo", october(t), "", now)
		if err != nil {
			t.Fatal(err)
		}
		if l.AskedNowMS != now.UnixMilli() {
			t.Errorf("the ledger was asked as of %d; want %d", l.AskedNowMS, now.UnixMilli())
		}
		var b bytes.Buffer
		if err := errors.Join(report.WriteJSON(&b, r), report.WriteCSV(&b, &r), report.WriteText(&b, &r)); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if write(reporttest.Now()) != write(reporttest.Now().AddDate(3, 0, 0)) {
		t.Error("the same books gave other bytes at another time")
	}
}

func TestEmptyMonth(t *testing.T) {
	r, err := report.Build(t.Context(), reporttest.Demo(), "leonardo", october(t).Next(), "", reporttest.Now())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "empty.json", func(w io.Writer) error { return report.WriteJSON(w, r) })
	golden(t, "empty.txt", func(w io.Writer) error { return report.WriteText(w, &r) })
}

func TestLedgerErrorIsWrapped(t *testing.T) {
	l := reporttest.Demo()
	l.Fails = errors.New("disk gone")
	_, err := report.Build(t.Context(), l, "leonardo", october(t), "", reporttest.Now())
	if !errors.Is(err, l.Fails) || !strings.Contains(err.Error(), "cluster leonardo for 2026-10") {
		t.Errorf("Build: %v", err)
	}
}

func TestEvilNames(t *testing.T) {
	l := reporttest.Demo()
	b := l.ByMonth["leonardo"][october(t).Start.UnixMilli()]
	b.Projects[1].Name = reporttest.Evil
	r := build(t, l, "")
	var text, table bytes.Buffer
	if err := errors.Join(report.WriteText(&text, &r), report.WriteCSV(&table, &r)); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(text.String(), "\x1b\u202e") {
		t.Errorf("a name reached the terminal raw:\n%q", &text)
	}
	rows, err := csv.NewReader(&table).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if got := rows[2][5]; got != "'"+reporttest.Evil {
		t.Errorf("CSV name %q; want it whole, behind an apostrophe", got)
	}
	if n := len(rows); n != 1+8+7 {
		t.Errorf("%d lines of CSV; want 16", n)
	}
}

func TestHours(t *testing.T) {
	f := func(ms int64, want string) {
		t.Helper()
		if got := report.Hours(ms); got != want {
			t.Errorf("Hours(%d) = %s; want %s", ms, got, want)
		}
	}
	f(0, "0.00")
	f(17_999, "0.00")
	f(18_000, "0.01")
	f(3_600_000, "1.00")
	f(3_600_000*745*24_000+36_000, "17880000.01")
}

func TestPercent(t *testing.T) {
	f := func(part, whole energy.Millijoules, want string) {
		t.Helper()
		if got := report.Percent(part, whole); got != want {
			t.Errorf("Percent(%d, %d) = %s; want %s", part, whole, got, want)
		}
	}
	f(0, 0, "0.0 %")
	f(1, 1_000_000, "<0.1 %")
	f(999_999, 1_000_000, ">99.9 %")
	f(1, 1, "100.0 %")
	f(-5, 10, "0.0 %")
	f(20_000_000_000_000_000, 80_000_000_000_000_000, "25.0 %")
}

func TestAudit(t *testing.T) {
	f := func(r ledger.AuditResult, closes bool) {
		t.Helper()
		a := report.NewAudit(0, 1)
		a.Add("x", &ledger.AuditResult{Slots: 1, Metered: 5, Booked: 5})
		a.Add("y", &r)
		a.Add("z", &ledger.AuditResult{Slots: 1, Metered: 5, Booked: 5})
		if a.Closes != closes {
			t.Errorf("%+v: closes = %v; want %v", r, a.Closes, closes)
		}
	}
	f(ledger.AuditResult{Slots: 9, Metered: 100, Booked: 100}, true)
	f(ledger.AuditResult{Metered: 100, Booked: 99}, false)
	f(ledger.AuditResult{Metered: 100, Booked: 90, Unbooked: 10}, false)
	f(ledger.AuditResult{Metered: 100, Booked: 100, Unbooked: 10}, false)
	f(ledger.AuditResult{Metered: 100, Booked: 100, Findings: []ledger.Finding{{Kind: "rollup"}}}, false)

	a := report.NewAudit(0, 1000)
	a.Add("leonardo", &ledger.AuditResult{Slots: 9, Metered: 100, Booked: 90, Unbooked: 9, Findings: []ledger.Finding{{
		Kind: "difference", Cluster: "leonardo", Node: "lrdn0001", Meter: "gpu0", SlotMS: 1790805600000, Difference: 1, Detail: "postings 90, ranges 91",
	}}})
	golden(t, "audit.json", func(w io.Writer) error { return report.WriteJSON(w, a) })
	golden(t, "audit.txt", func(w io.Writer) error { return report.WriteAuditText(w, &a) })
}
