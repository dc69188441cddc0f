package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDashboardsAreWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "grafana")
	f := func(want int, text string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"dashboards"}, args...), &out, &errs)
		if code != want || !strings.Contains(out.String()+errs.String(), text) {
			t.Errorf("%v: exit %d, %q %q; want %d, %q", args, code, out.String(), errs.String(), want, text)
		}
	}
	f(exitUsage, "--out is needed")
	f(exitUsage, "is not a flag", "here")
	f(exitUsage, "flag provided but not defined", "--in", dir)
	f(exitFine, "-url ADDRESS", "--help")
	f(exitFail, "is not an address", "--out", dir, "--url", "nowhere")
	f(exitFine, filepath.Join(dir, "json", "fleet-now.json")+"\n", "--out", dir, "--url", "http://127.0.0.1:9440")
	text, err := os.ReadFile(filepath.Join(dir, "provisioning", "datasources", "wattledger.yaml"))
	if err != nil || !strings.Contains(string(text), "url: 'http://127.0.0.1:9440'\n") {
		t.Errorf("%v\n%s", err, text)
	}
}
