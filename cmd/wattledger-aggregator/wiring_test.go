package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"

	"github.com/wattledger/wattledger/exporters"
	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/intake/intaketest"
	"github.com/wattledger/wattledger/internal/series"
)

// hears is a receiver of remote writes that notes the names it was sent.
type hears struct {
	mu    sync.Mutex
	names map[string]int
}

func (h *hears) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err == nil {
		b, err = s2.Decode(nil, b)
	}
	var req prompb.WriteRequest
	if err == nil {
		err = req.Unmarshal(b)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.names[err.Error()]++
	}
	for _, s := range req.Timeseries {
		for _, l := range s.Labels {
			if l.Name == "__name__" {
				h.names[l.Value] += len(s.Samples)
			}
		}
	}
}

func (h *hears) of(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.names[name]
}

func settings(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "aggregator.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// until polls a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
	}
}

// TestEverythingIsWired: windows come out of an exporter as what it wants of
// them; the aggregator's own metrics and alert rules are among its series; what
// the watch sees is on the page; a stop loses nothing that was taken.
func TestEverythingIsWired(t *testing.T) {
	h := &hears{names: map[string]int{}}
	srv := httptest.NewServer(h)
	defer srv.Close()
	file := settings(t, "clusters: [{name: c, contract_watts: 9000000}]\nexporters: {remote_write: [{name: h, url: "+srv.URL+
		", only: [wattledger_node_*, wattledger_gpu_power_watts], linger: 10ms}]}\n")
	dir := filepath.Join(t.TempDir(), "books")
	url, stop := start(t, dir, "--config", file)
	_, ws := intaketest.Windows(12, 2)
	at := time.Now().Add(-10 * time.Minute).Truncate(10 * time.Second).UnixMilli()
	for i, w := range ws { // of now, or the store refuses them as too old
		shift := at + int64(i)*10_000 - w.StartMS
		w.StartMS, w.EndMS = w.StartMS+shift, w.EndMS+shift
		for k := range w.Ranges {
			w.Ranges[k].FromMS, w.Ranges[k].ToMS = w.Ranges[k].FromMS+shift, w.Ranges[k].ToMS+shift
		}
		for k := range w.Telemetry {
			w.Telemetry[k].StartMS += shift
		}
	}
	deliver(t, url, ws)
	until(t, "node power at the receiver", func() bool { return h.of("wattledger_node_power_watts") >= 12 })
	until(t, "own metrics, rules and contract among the series", func() bool {
		_, own := get(t, url+"/api/v1/query?query=wattledger_intake_windows_total")
		_, rules := get(t, url+"/api/v1/rules")
		_, page := get(t, url+"/metrics")
		return strings.Contains(own, "wattledger-aggregator") && strings.Contains(rules, "BooksDoNotClose") &&
			strings.Contains(page, `wattledger_contract_power_watts{cluster="c"} 9e+06`)
	})
	if code := stop(); code != exitFine {
		t.Fatalf("exit %d", code)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.names {
		if name != "wattledger_gpu_power_watts" && !strings.HasPrefix(name, "wattledger_node_") {
			t.Errorf("%s was sent and is not wanted", name)
		}
	}
}

// TestWrongRules are told by --check-config and at the start; at a reload the old
// rules go on, and tokens are read all the same.
func TestWrongRules(t *testing.T) {
	dir := t.TempDir()
	rules, tokens := filepath.Join(dir, "site.yml"), filepath.Join(dir, "tokens")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := settings(t, "tokens_file: "+tokens+"\nalerts: {builtin: false, rule_files: ["+rules+"]}\n")
	write(tokens, "- {name: g, role: reader, token: reader-0123456789}\n")
	write(rules, "groups: [{name: g, rules: [{alert: A, expr: 'sum('}]}]\n")
	for _, args := range [][]string{{"--check-config"}, {"--listen", "127.0.0.1:0"}} {
		var errs bytes.Buffer
		code := run(t.Context(), append(args, "--config", file, "--data-dir", filepath.Join(dir, "books")), io.Discard, &errs)
		if code != exitUsage || !strings.Contains(errs.String(), "site.yml:1") {
			t.Errorf("%v: exit %d: %s", args, code, &errs)
		}
	}
	write(rules, "groups: [{name: g, rules: [{alert: A, expr: vector(1)}]}]\n")
	url, _ := start(t, filepath.Join(dir, "books"), "--config", file)
	write(rules, "groups: [{name: g, rules: [{alert: B, expr: 'sum('}]}]\n")
	write(tokens, "- {name: g, role: reader, token: another-9876543210}\n")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "the new token", func() bool {
		code, _ := get(t, url+"/metrics", "Authorization", "Bearer another-9876543210")
		return code == http.StatusOK
	})
	until(t, "the old rule, and that the new one is wrong", func() bool {
		_, list := get(t, url+"/api/v1/rules", "Authorization", "Bearer another-9876543210")
		_, page := get(t, url+"/metrics", "Authorization", "Bearer another-9876543210")
		return strings.Contains(list, `"name":"A"`) && !strings.Contains(list, `"name":"B"`) && strings.Contains(page, "wattledger_alert_rules_current 0")
	})
}

func TestHandout(t *testing.T) {
	if out, err := handoutOf(nil, config.Exporters{}); out != nil || err != nil {
		t.Errorf("without exporters: %v, %v", out, err)
	}
	fan, err := exporters.NewFan(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	power, energy := labels.FromStrings("__name__", "p", "node", "n", "gpu", "g"), labels.FromStrings("__name__", "e")
	f := func(c config.Exporters, wantPower, wantEnergy bool) {
		t.Helper()
		out, err := handoutOf(fan, c)
		if err != nil || (out.Series(power) != nil) != wantPower || (out.Series(energy) != nil) != wantEnergy {
			t.Errorf("%+v: %v, %v, %v", c, out.Series(power), out.Series(energy), err)
		}
	}
	onlyP, onlyE, all := config.Receiver{Only: []string{"p"}}, config.Receiver{Only: []string{"e"}}, config.Receiver{}
	f(config.Exporters{RemoteWrite: []config.Receiver{onlyP}}, true, false)
	f(config.Exporters{RemoteWrite: []config.Receiver{onlyP}, InfluxDB: []config.Receiver{onlyE}}, true, true)
	f(config.Exporters{RemoteWrite: []config.Receiver{onlyP}, InfluxDB: []config.Receiver{all}}, true, true)

	h := &handout{fan: fan}
	p, e := h.Series(power), h.Series(energy)
	got := batchOf([]series.Handed{{Of: p, MS: 1, V: 10}, {Of: p, MS: 2, V: 20}, {Of: e, MS: 1, V: 1}, {Of: p, MS: 3, V: 30}})
	of := []exporters.Label{{Name: "gpu", Value: "g"}, {Name: "node", Value: "n"}}
	want := exporters.Batch{Series: []exporters.Series{
		{Name: "p", Labels: of, Points: []exporters.Point{{MS: 1, V: 10}, {MS: 2, V: 20}}},
		{Name: "e", Labels: []exporters.Label{}, Points: []exporters.Point{{MS: 1, V: 1}}},
		{Name: "p", Labels: of, Points: []exporters.Point{{MS: 3, V: 30}}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if slices.ContainsFunc(got.Series, func(s exporters.Series) bool { return cap(s.Points) != len(s.Points) }) {
		t.Error("who appends to one series writes into the next")
	}
}
