//go:build peers

package alerts_test

import (
	"encoding/json"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/alerts"
	"github.com/wattledger/wattledger/test/peers"
)

// TestPromtool: the files are what promtool and a Prometheus take, and its unit
// tests pass.
func TestPromtool(t *testing.T) {
	promtool := peers.Promtool(t)
	f := func(pattern string, args ...string) {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		for _, file := range files {
			t.Run(file, func(t *testing.T) {
				t.Parallel()
				if out, err := exec.CommandContext(t.Context(), promtool, append(args, file)...).CombinedOutput(); err != nil {
					t.Errorf("promtool %s %s: %v\n%s", strings.Join(args, " "), file, err, out)
				}
			})
		}
	}
	f("*.rules.yml", "check", "rules")
	f("*.test.yml", "test", "rules")
}

// listed are the alerts of a name that an Alertmanager has and that are not over.
func listed(t *testing.T, am *peers.Peer, name string) []sent {
	t.Helper()
	var out []sent
	q := url.Values{"filter": {`alertname="` + name + `"`}}
	if err := json.Unmarshal(am.Get(t, "/api/v2/alerts?"+q.Encode()), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestAlertmanager: an alert reaches a real one, and is over there when it is
// over here. It is not sent again within the test, so that the Alertmanager
// would keep it for hours.
func TestAlertmanager(t *testing.T) {
	am := peers.Alertmanager(t, "")
	r := newRig(t)
	r.put(time.Now(), 9, "power", "cluster", "c")
	r.start(alerts.Options{
		Files:         []string{oneRule(t, "High", `annotations: {summary: "{{ $value }} W in {{ $labels.cluster }}"}`)},
		Alertmanagers: []alerts.Alertmanager{{URL: am.URL}}, Resend: time.Hour,
	})
	peers.Eventually(t, "the alert is there", func() bool { return len(listed(t, am, "High")) == 1 })
	if a := listed(t, am, "High")[0]; a.Annotations["summary"] != "9 W in c" || a.Labels["cluster"] != "c" {
		t.Errorf("%+v", a)
	}
	r.put(time.Now(), 1, "power", "cluster", "c")
	peers.Eventually(t, "it is over there", func() bool { return len(listed(t, am, "High")) == 0 })
	if got := r.metric(alerts.MetricDropped); got != 0 {
		t.Errorf("%v alerts were not taken", got)
	}
}

// TestAlertmanagerThatIsAway: what it missed it gets when it is back.
func TestAlertmanagerThatIsAway(t *testing.T) {
	am := peers.Alertmanager(t, "")
	r := newRig(t)
	r.start(alerts.Options{Files: []string{oneRule(t, "High", "")}, Alertmanagers: []alerts.Alertmanager{{URL: am.URL}}})
	here := func(what string, n int) {
		t.Helper()
		peers.Eventually(t, what, func() bool { return len(listed(t, am, "High")) == n })
	}
	am.Kill(t)
	dropped := r.metric(alerts.MetricDropped)
	r.put(time.Now(), 11, "power", "cluster", "c")
	r.until("alerts that nobody takes are counted", func() bool { return r.metric(alerts.MetricDropped) > dropped })
	am.Restart(t)
	here("the alert comes after the Alertmanager was away", 1)
	am.Freeze(t) // takes connections and does not answer
	r.put(time.Now(), 1, "power", "cluster", "c")
	r.until("it is over here", func() bool { return r.state("High") == "inactive" })
	am.Thaw(t)
	here("it is over there, too", 0)
}

// TestBuiltinAlertInAlertmanager: a rule of ours over a series of ours.
func TestBuiltinAlertInAlertmanager(t *testing.T) {
	am := peers.Alertmanager(t, "")
	r := newRig(t)
	r.put(time.Now(), 2, "wattledger_node_recent_events", "cluster", "leonardo", "node", "lrdn0001", "kind", "gpu_lost", "job", "wattledger-aggregator")
	r.start(alerts.Options{Builtin: true, Alertmanagers: []alerts.Alertmanager{{URL: am.URL}}})
	peers.Eventually(t, "a lost GPU is there", func() bool { return len(listed(t, am, "GPULost")) == 1 })
	a := listed(t, am, "GPULost")[0]
	if a.Labels["severity"] != "critical" || a.Labels["node"] != "lrdn0001" || a.Annotations["runbook"] != "docs/runbooks/gpu-lost.md" {
		t.Errorf("%+v", a)
	}
}
