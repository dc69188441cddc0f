package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/ledger/ledgertest"
	"github.com/wattledger/wattledger/internal/ledger/sqlite"
	"github.com/wattledger/wattledger/internal/report"
	"github.com/wattledger/wattledger/internal/window"
)

// TestOnTheRealLedger: what the hand-made ledger of the other tests promises, the
// one that sites use keeps.
func TestOnTheRealLedger(t *testing.T) {
	l, err := sqlite.Open(t.TempDir(), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	a := ledgertest.NewAgent("alps", "n1", 1)
	a.Jobs = []window.Job{{ID: "71001", Project: "p1", User: "u1", StartMS: ledgertest.Start}}
	a.Open(t, l)
	for range 2 * 90 { // two slots of windows of 10 s
		ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(10_000)))
	}
	told := window.Job{ID: "71001", Project: "p1", User: "u1", StartMS: ledgertest.Start, EndMS: ledgertest.Start + 1_790_000}
	silent := window.Job{ID: "71002", Project: "p1", User: "u1", StartMS: ledgertest.Start, EndMS: ledgertest.Start + 600_000}
	if err := l.Describe(t.Context(), []ledger.JobFacts{
		{Cluster: "alps", Job: told, Name: "gpt", State: "COMPLETED", Nodes: []string{"n1"}, ClaimedJoules: 5},
		{Cluster: "alps", Job: silent, State: "FAILED", Nodes: []string{"n2"}, ClaimedJoules: -1},
	}); err != nil {
		t.Fatal(err)
	}
	address := serve(t, handler(t, l))
	ask := func(want int, args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		env := func(string) string { return address }
		begun := time.Now()
		if got := run(context.Background(), args, &stdout, &stderr, env); got != want {
			t.Errorf("wattledger %v: exit %d; want %d\n%s%s", args, got, want, &stdout, &stderr)
		}
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("wattledger %v took %s", args, d)
		}
		return stdout.String()
	}
	var r report.Report
	if err := json.Unmarshal([]byte(ask(0, "report", "--month", "2026-10", "--format", "json")), &r); err != nil {
		t.Fatal(err)
	}
	if r.State() != report.Closes || r.Totals.Booked == 0 || len(r.Projects) != 1 || r.Projects[0].Jobs != 1 {
		t.Errorf("report %+v", r)
	}
	if text := ask(0, "job", "71001"); !strings.Contains(text, "project p1, user u1") || !strings.Contains(text, "n1") {
		t.Errorf("job:\n%s", text)
	}
	if text := ask(0, "jobs", "--project", "p1"); !strings.Contains(text, "71001") {
		t.Errorf("jobs:\n%s", text)
	}
	if text := ask(0, "job", "71001"); !strings.Contains(text, "on cluster alps: COMPLETED\ngpt, project p1, user u1") || !strings.Contains(text, "figure is 0.000 kWh") {
		t.Errorf("job that the scheduler told of:\n%s", text)
	}
	if text := ask(0, "jobs", "--missing", "--since", "2026-10-01"); !strings.Contains(text, "71002") || strings.Contains(text, "71001") {
		t.Errorf("jobs that the books hold nothing of:\n%s", text)
	}
	if text := ask(0, "jobs", "--sort", "energy", "--format", "csv"); !strings.Contains(text, "\r\nalps,71001,0,p1,u1,gpt,") {
		t.Errorf("jobs as CSV:\n%s", text)
	}
	ask(1, "job", "71002")
	if text := ask(0, "audit"); !strings.Contains(text, "Books close: 2 node-slots") {
		t.Errorf("audit:\n%s", text)
	}
	if text := ask(0, "quarantine"); !strings.Contains(text, "empty") {
		t.Errorf("quarantine:\n%s", text)
	}
	ask(1, "job", "9")
	ask(1, "report", "--cluster", "other")
}
