package main

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"testing"
)

func TestSimulateWithoutAnAggregator(t *testing.T) {
	file := filepath.Join(t.TempDir(), "truth.csv")
	code := run(t.Context(), []string{
		"simulate", "--machine", "lumi", "--nodes", "3", "--for", "10m", "--start", "2026-10-10T08:00:00Z",
		"--cluster", "c", "--aggregator", "none", "--truth", file, "--quiet",
	})
	if code != 0 {
		t.Fatalf("exit %d", code)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, r := range rows {
		kinds[r[0]]++
	}
	for kind, least := range map[string]int{"kind": 1, "meter": 21, "job": 1, "project": 1, "idle": 1, "total": 1} {
		if kinds[kind] < least {
			t.Errorf("%d rows of %s; want %d", kinds[kind], kind, least)
		}
	}
}

func TestWrongCommandLines(t *testing.T) {
	f := func(args ...string) {
		t.Helper()
		if code := run(t.Context(), args); code != 2 {
			t.Errorf("%q: exit %d; want 2", args, code)
		}
	}
	site := func(more ...string) {
		t.Helper()
		f(append([]string{"simulate", "--machine", "lumi", "--cluster", "c", "--aggregator", "none", "--quiet"}, more...)...)
	}
	f()
	f("conjure")
	f("simulate", "--machine", "lumi")
	f("simulate", "--machine", "hal", "--cluster", "c", "--aggregator", "none")
	f("simulate", "--machine", "mixed", "--cluster", "c", "--aggregator", "none")
	f("simulate", "--machine", "mixed", "--cluster", "c", "--history", "1h")
	site("--faults", "locusts")
	site("--gauges", "most")
	site("--for", "7s")
	site("--for", "0")
	site("--start", "soon")
	site("--nodes", "-1")
	site("--speed", "0")
	site("more")
}
