package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones that binaries carry

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/report"
	"github.com/wattledger/wattledger/internal/report/reporttest"
	"github.com/wattledger/wattledger/internal/web"
)

var update = flag.Bool("update", false, "rewrite the outputs in testdata from what the code says now")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"wattledger": main})
}

// TestScripts are the specification of the command line. Each script finds four
// aggregators: DEMO, TWO (two clusters), DAMAGED (an audit finds something and
// two windows are in quarantine) and EMPTY, and one that wants a token, GUARDED.
func TestScripts(t *testing.T) {
	damaged := reporttest.Demo()
	damaged.Audits = map[string]ledger.AuditResult{"leonardo": {
		Slots: 9, Metered: 100, Booked: 99,
		Findings: []ledger.Finding{{
			Kind: "difference", Cluster: "leonardo", Node: "lrdn0001", Meter: "gpu0",
			SlotMS: 1790805600000, Difference: energy.Millijoules(1), Detail: "ranges 100, postings 99",
		}},
	}}
	from := time.Date(2026, 10, 5, 8, 0, 0, 0, time.UTC).UnixMilli()
	damaged.Apart = []ledger.QuarantineEntry{
		{ID: 7, Node: ledger.Node{Cluster: "leonardo", Name: "lrdn0001"}, AtMS: from + 11_000, StartMS: from, EndMS: from + 10_000, Reason: "postings do not add up to the ranges", Energy: 14_400_000},
		{ID: 8, Node: ledger.Node{Cluster: "leonardo", Name: "lrdn0002"}, AtMS: from + 11_000, StartMS: from, EndMS: from + 10_000, Reason: "window is from the future", Settled: true},
	}
	guard := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer s3cret" {
				http.Error(w, `{"error":"a token is wanted"}`, http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	addresses := map[string]string{
		"DEMO": serve(t, handler(t, reporttest.Demo())), "TWO": serve(t, handler(t, reporttest.TwoClusters())),
		"DAMAGED": serve(t, handler(t, damaged)), "EMPTY": serve(t, handler(t, &reporttest.Ledger{})),
		"GUARDED": serve(t, guard(handler(t, reporttest.Demo()))), "WEBSITE": serve(t, http.NotFoundHandler()),
		"SLOW": serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })),
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata", UpdateScripts: *update, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			for name, address := range addresses {
				e.Setenv(name, address)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code},
	})
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func handler(t *testing.T, l ledger.Ledger) http.Handler {
	t.Helper()
	rome, err := report.ParseZone("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	return web.Handler(web.Deps{Ledger: l, Now: reporttest.Now, Zone: func(cluster string) *time.Location {
		if cluster == "leonardo" {
			return rome
		}
		return nil
	}})
}

// code runs a command and wants that exit code: code 2 wattledger report x.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N program args...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // testscript hands it on as it is
		got = strings.TrimPrefix(exit.Error(), "exit status ")
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != args[0] {
		ts.Fatalf("exit code %s; want %s", got, args[0])
	}
}

// TestOutputIsWholeOrNotThere: an answer that breaks off leaves the old file.
func TestOutputIsWholeOrNotThere(t *testing.T) {
	half := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("cluster,"))
	}))
	dir := t.TempDir()
	path := dir + "/out.csv"
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	ask := func(args ...string) (int, string) {
		var stdout, stderr bytes.Buffer
		n := run(context.Background(), args, &stdout, &stderr, func(string) string { return "" })
		return n, stderr.String()
	}
	if n, words := ask("report", "--format", "csv", "-o", path, "--url", half); n != exitNo || !strings.Contains(words, "did not come through") {
		t.Errorf("half an answer: exit %d, %q", n, words)
	}
	if n, words := ask("report", "-o", dir+"/none/x", "--url", serve(t, handler(t, reporttest.Demo()))); n != exitNo || !strings.Contains(words, "cannot write "+dir+"/none/x") {
		t.Errorf("no folder: exit %d, %q", n, words)
	}
	files, err := os.ReadDir(dir)
	got, err2 := os.ReadFile(path)
	if err != nil || err2 != nil || len(files) != 1 || string(got) != "old" {
		t.Errorf("%d files, %q, %v %v; want the old one alone", len(files), got, err, err2)
	}
}

// TestWaitIsUntilAllIsBooked: an end alone is not enough, the scheduler may know
// it before the last windows come.
func TestWaitIsUntilAllIsBooked(t *testing.T) {
	answers := []string{`{"error":"no"}`, `{"end":null}`, `{"end":"2026-10-01T00:00:00Z","booked_to_end":false}`, `{"end":"2026-10-01T00:00:00Z","booked_to_end":true}`}
	asked := 0
	address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked == 0 {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write([]byte(answers[min(asked, len(answers)-1)]))
		asked++
	}))
	k := newCall(command{name: "job"}, nil, io.Discard, func(string) string { return address })
	k.again = time.Millisecond
	if err := k.untilEnded(t.Context(), "/api/v1/job/1", nil, time.Minute); err != nil || asked != len(answers) {
		t.Errorf("asked %d times, %v; want %d", asked, err, len(answers))
	}
}
