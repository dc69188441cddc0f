//go:build peers

package peers_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/test/peers"
)

func TestVictoriaMetricsKeepsWhatItTook(t *testing.T) {
	vm := peers.VictoriaMetrics(t)
	post(t, vm.URL+"/api/v1/import/prometheus", "taken 42 1700000000123\n")
	want := []peers.Series{{Labels: map[string]string{"__name__": "taken"}, Points: []peers.Point{{MS: 1_700_000_000_123, V: 42}}}}
	around := time.Unix(1_700_000_000, 0)
	see := func() []peers.Series { return vm.Export(t, "taken", around, around.Add(time.Minute)) }
	if diff := cmp.Diff(want, see()); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(want, vm.Query(t, "taken[1m]", around.Add(30*time.Second))); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	vm.Stop(t)
	vm.Restart(t)
	if diff := cmp.Diff(want, see()); diff != "" {
		t.Errorf("after a restart, -want +got:\n%s", diff)
	}
	old := vm.Pid()
	vm.Kill(t)
	if err := syscall.Kill(old, 0); err == nil {
		t.Errorf("process %d is still there", old)
	}
}

func TestInfluxDBAsksForItsPassword(t *testing.T) {
	db := peers.InfluxDB(t, peers.InfluxOptions{Database: "books", User: "ada", Password: "lovelace"})
	send := func(token string) int {
		req, err := http.NewRequest(http.MethodPost, db.URL+"/api/v2/write?bucket=books/autogen&precision=ms", strings.NewReader("m f=1.5 1700000000123"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Token "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if code := send("ada:babbage"); code != http.StatusUnauthorized {
		t.Errorf("a wrong password is answered %d; want 401", code)
	}
	if code := send("ada:lovelace"); code != http.StatusNoContent {
		t.Errorf("the right password is answered %d; want 204", code)
	}
	got := db.Influx(t, url.Values{"db": {"books"}, "q": {"SELECT f FROM m"}, "epoch": {"ms"}, "u": {"ada"}, "p": {"lovelace"}})
	if !strings.Contains(string(got), "[1700000000123,1.5]") {
		t.Errorf("what was written is not there: %s", got)
	}
}

// TestAlertReachesAlertmanager starts the two together, as a rule's test would.
func TestAlertReachesAlertmanager(t *testing.T) {
	am := peers.Alertmanager(t, "")
	rules := filepath.Join(t.TempDir(), "a.rules.yml")
	text := "groups: [{name: g, interval: 1s, rules: [{alert: Always, expr: vector(1)}]}]\n"
	if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	peers.Prometheus(t, peers.PrometheusOptions{Config: "rule_files: [" + rules + "]\nalerting: {alertmanagers: [{static_configs: [{targets: [" +
		strings.TrimPrefix(am.URL, "http://") + "]}]}]}\n"})
	peers.Eventually(t, "an alert at the Alertmanager", func() bool {
		var alerts []struct{ Labels map[string]string }
		if err := json.Unmarshal(am.Get(t, "/api/v2/alerts"), &alerts); err != nil {
			t.Fatal(err)
		}
		return len(alerts) == 1 && alerts[0].Labels["alertname"] == "Always"
	})
}

func TestPromtoolIsTheOneOfTheModule(t *testing.T) {
	cmd := exec.Command(peers.Promtool(t), "check", "metrics")
	cmd.Stdin = strings.NewReader("# HELP a_seconds A.\n# TYPE a_seconds gauge\na_seconds 1\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool refuses a clean page: %v: %s", err, out)
	}
	cmd = exec.Command(peers.Promtool(t), "check", "metrics")
	cmd.Stdin = strings.NewReader("# TYPE a counter\na 1\n")
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("promtool takes a page without help: %s", out)
	}
}

func post(t *testing.T, url, body string) {
	t.Helper()
	resp, err := http.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s answers %s", url, resp.Status)
	}
}
