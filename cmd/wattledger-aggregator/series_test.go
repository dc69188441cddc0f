package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSeriesAreServed where Grafana looks for them, to those who may read, and
// not where they are turned off.
func TestSeriesAreServed(t *testing.T) {
	dir := t.TempDir()
	tokens, file := filepath.Join(dir, "tokens"), filepath.Join(dir, "aggregator.yaml")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(tokens, "- {name: g, role: reader, token: reader-0123456789}\n- {name: n, role: agent, cluster: c, node: n, token: agent-90123456789}\n")
	write(file, "tokens_file: "+tokens+"\n")
	url, stop := start(t, filepath.Join(dir, "books"), "--config", file)
	for _, path := range []string{"/api/v1/query?query=6*7", "/prometheus/api/v1/query?query=6*7"} {
		if code, _ := get(t, url+path); code != http.StatusUnauthorized {
			t.Errorf("%s without a token: %d", path, code)
		}
		if code, _ := get(t, url+path, "Authorization", "Bearer agent-90123456789"); code != http.StatusForbidden {
			t.Errorf("%s with an agent's token: %d", path, code)
		}
		code, body := 0, ""
		for end := time.Now().Add(20 * time.Second); code != http.StatusOK && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if code, body = get(t, url+path, "Authorization", "Bearer reader-0123456789"); code == http.StatusServiceUnavailable && !strings.Contains(body, "replayed") {
				t.Fatalf("503 without a reason: %s", body)
			}
		}
		if !strings.Contains(body, `"42"`) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code := stop(); code != exitFine {
		t.Fatalf("exit %d", code)
	}
	write(file, "tokens_file: "+tokens+"\nseries: {enabled: false}\n")
	url, _ = start(t, filepath.Join(dir, "books"), "--config", file)
	if code, _ := get(t, url+"/api/v1/query?query=1", "Authorization", "Bearer reader-0123456789"); code != http.StatusNotFound {
		t.Errorf("turned off: %d", code)
	}
}
