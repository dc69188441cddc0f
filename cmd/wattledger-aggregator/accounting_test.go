package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAccounting: a slurmrestd's jobs are kept; one that is away, a token that is
// not there and a bad list of projects keep nothing from starting.
func TestAccounting(t *testing.T) {
	rest := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := map[string]string{
			"/openapi/v3":                   `{"paths":{"/slurmdb/v0.0.38/jobs":{},"/slurmdb/v0.0.38/accounts":{},"/slurmdb/v0.0.38/associations":{}}}`,
			"/slurmdb/v0.0.38/jobs":         `{"jobs":[{"job_id":7,"account":"physics","user":"alice","nodes":"n1","state":{"current":"RUNNING"},"time":{"submission":1795332254,"start":1795332256}}]}`,
			"/slurmdb/v0.0.38/accounts":     `{"accounts":[{"name":"physics"}]}`,
			"/slurmdb/v0.0.38/associations": `{"associations":[]}`,
		}[r.URL.Path]
		_, _ = w.Write([]byte(text))
	}))
	defer rest.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "aggregator.yaml")
	text := "clusters:\n" +
		"- {name: c, accounting: {url: \"" + rest.URL + "\", every: 5s}}\n" +
		"- {name: d, accounting: {socket: " + filepath.Join(dir, "absent.sock") + ", projects_file: " + filepath.Join(dir, "absent.csv") + "}}\n" +
		"- {name: e, accounting: {url: \"" + rest.URL + "\", token_file: " + filepath.Join(dir, "absent.jwt") + "}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	url, stop := start(t, filepath.Join(dir, "books"), "--config", file)
	want := []string{
		`wattledger_accounting_polls_total{cluster="c",result="ok"} 1`,
		`wattledger_accounting_polls_total{cluster="d",result="unreachable"} 1`,
		`wattledger_accounting_polls_total{cluster="e",result="refused"} 1`,
	}
	var page string
	for deadline := time.Now().Add(30 * time.Second); ; {
		var code int
		if code, page = get(t, url+"/metrics"); code != http.StatusOK {
			t.Fatalf("metrics: %d", code)
		}
		missing := 0
		for _, w := range want {
			if !strings.Contains(page, w) {
				missing++
			}
		}
		if missing == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %q are not in\n%s", missing, want, page)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if code, _ := get(t, url+"/readyz"); code != http.StatusOK {
		t.Errorf("readyz: %d", code)
	}
	if code := stop(); code != exitFine {
		t.Errorf("exit %d", code)
	}
}
