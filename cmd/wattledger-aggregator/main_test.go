package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/intake/intaketest"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/sender"
	"github.com/wattledger/wattledger/internal/spool"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// start runs the aggregator on a free port; stop ends it as SIGTERM does.
func start(t *testing.T, dir string, more ...string) (url string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"--data-dir", dir, "--listen", "127.0.0.1:0"}, more...), w, os.Stderr)
		_ = w.Close()
	}()
	line := make([]byte, 200)
	n, err := r.Read(line)
	if err != nil {
		t.Fatalf("no line with an address: %v, exit %d", err, <-code)
	}
	_, url, ok := strings.Cut(strings.TrimSpace(string(line[:n])), "listens on ")
	if !ok {
		t.Fatalf("line = %q", line[:n])
	}
	var result *int
	stop = func() int {
		cancel()
		if result == nil {
			c := <-code
			result = &c
		}
		return *result
	}
	t.Cleanup(func() { stop() })
	return url, stop
}

func get(t *testing.T, url string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// deliver sends n windows that join through a spool and a sender.
func deliver(t *testing.T, url string, ws []*window.Window) {
	t.Helper()
	sp, err := spool.Open(spool.Options{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range ws {
		b, err := wire.EncodeFragment([]*window.Catalogue{w.Catalogue}, []*window.Window{w})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sp.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	x, err := sender.New(sender.Options{
		Spool: sp, URL: url, Node: ledger.Node{Cluster: "c", Name: "n1"}, Nonce: "nonce", Session: t.Name(),
		OnRefused: func(_ []byte, reason string) error { t.Errorf("refused: %s", reason); return nil }, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go func() { _ = x.Run(ctx) }()
	if err := x.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestBooksFromTheLink: windows come in, are shown, survive a restart, and come
// again without being booked again.
func TestBooksFromTheLink(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "books")
	_, ws := intaketest.Windows(30, 2)
	url, stop := start(t, dir)
	deliver(t, url, ws[:20])
	sum := func(url string) string {
		code, page := get(t, url+"/metrics")
		if code != http.StatusOK {
			t.Fatalf("metrics: %d", code)
		}
		for line := range strings.Lines(page) {
			if strings.HasPrefix(line, "wattledger_cluster_energy_joules_total") {
				return strings.TrimSpace(line)
			}
		}
		return ""
	}
	const labels = `wattledger_cluster_energy_joules_total{class="gpu",cluster="c",use="idle"} `
	if got := sum(url); got != labels+"160000" {
		t.Errorf("after 20 windows: %s", got)
	}
	for _, path := range []string{"/healthz", "/readyz", "/"} {
		if code, _ := get(t, url+path); code != http.StatusOK {
			t.Errorf("%s: %d", path, code)
		}
	}
	if code := stop(); code != exitFine {
		t.Fatalf("exit %d", code)
	}
	url, stop = start(t, dir)
	deliver(t, url, ws)
	if got := sum(url); got != labels+"240000" {
		t.Errorf("after all 30, 20 of them again: %s", got)
	}
	if code := stop(); code != exitFine {
		t.Fatalf("exit %d", code)
	}
}

func TestTokensGuardEverything(t *testing.T) {
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	if err := os.WriteFile(tokens, []byte("- {name: g, role: reader, token: reader-0123456789}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "aggregator.yaml")
	if err := os.WriteFile(file, []byte("tokens_file: "+tokens+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url, _ := start(t, filepath.Join(dir, "books"), "--config", file)
	for path, want := range map[string]int{"/metrics": 401, "/": 401, "/api/v1/report": 401, "/healthz": 200, "/readyz": 200} {
		if code, _ := get(t, url+path); code != want {
			t.Errorf("%s without a token: %d; want %d", path, code, want)
		}
	}
	if code, _ := get(t, url+"/metrics", "Authorization", "Bearer reader-0123456789"); code != http.StatusOK {
		t.Errorf("metrics with a reader's token: %d", code)
	}
	resp, err := http.Post(url+"/api/v1/quarantine/1", "", nil)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("POST without a token: %v, %v", resp, err)
	}
	_ = resp.Body.Close()
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	f := func(want int, text string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		code := run(t.Context(), args, &out, &errs)
		if code != want || !strings.Contains(out.String()+errs.String(), text) {
			t.Errorf("%v: exit %d, %q %q; want %d, %q", args, code, out.String(), errs.String(), want, text)
		}
	}
	f(exitFine, "wattledger-aggregator ", "--version")
	f(exitFine, "the configuration is fine", "--check-config", "--data-dir", dir)
	f(exitUsage, "flag provided but not defined", "--nonsense")
	f(exitUsage, "is not a flag", "serve")
	f(exitUsage, "needs TLS", "--data-dir", dir, "--listen", "0.0.0.0:0")
	f(exitUsage, "cannot read the configuration", "--config", filepath.Join(dir, "absent.yaml"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	f(exitFail, "cannot listen", "--data-dir", dir, "--listen", l.Addr().String())
}
