//go:build e2e

package e2e_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/dashboards/dashboardtest"
)

const dashboardSettings = `clusters:
  - name: leonardo
    contract_watts: 40000
  - name: lumi
    contract_watts: 40000
  - name: jupiter
    contract_watts: 40000
series:
  jobs:
    enabled: true
    limit: 200
alerts:
  evaluate_every: 5s
`

// TestDashboards: every query of every panel, over three small machines with
// three quarters of an hour behind them. What is empty in quiet times is shown
// not to be where there is trouble.
func TestDashboards(t *testing.T) {
	t.Parallel()
	a := startConfigured(t, t.TempDir(), dashboardSettings)
	machines := map[string]*process{}
	for _, name := range []string{"leonardo", "lumi", "jupiter"} {
		machines[name] = start(t, nil, "wattledger-fleet", "simulate", "--machine", name, "--cluster", name, "--nodes", "6", "--seed", "5",
			"--late-backlog", "46m", "--live", "--faults", "none", "--aggregator", a.url(), "--quiet")
	}
	// every fault asked for comes within the first seven minutes
	start(t, nil, "wattledger-fleet", "simulate", "--machine", "leonardo", "--cluster", "trouble", "--nodes", "4", "--seed", "5",
		"--live", "--faults", "xid", "--aggregator", a.url(), "--quiet")
	ask := func(cluster string) []dashboardtest.Result {
		t.Helper()
		r, err := dashboardtest.Run(t.Context(), dashboardtest.Options{URL: a.url(), Now: time.Now(), Range: 30 * time.Minute, Vars: map[string]string{"cluster": cluster}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	const patience = 9 * time.Minute
	within := func(what string, ok func() string) {
		t.Helper()
		left := ""
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Second) {
			if left = ok(); left == "" {
				return
			}
		}
		t.Errorf("%s, after %s:\n%s", what, patience, left)
	}
	for _, name := range []string{"leonardo", "lumi", "jupiter"} {
		var last []dashboardtest.Result
		within("panels of "+name, func() string {
			last = ask(name)
			return strings.Join(dashboardtest.Faults(last, 0), "\n")
		})
		t.Logf("%s: %d queries; the slowest:\n%s", name, len(last), dashboardtest.Slowest(last, 10))
	}
	machines["lumi"].kill()
	seen := map[string]bool{}
	within("panels that are empty in quiet times", func() string {
		for _, name := range []string{"leonardo", "lumi", "trouble"} {
			empty := dashboardtest.Empty(ask(name))
			for _, p := range dashboardtest.MayBeEmpty() {
				seen[p] = seen[p] || !slices.Contains(empty, p)
			}
		}
		var left []string
		for _, p := range dashboardtest.MayBeEmpty() {
			if !seen[p] {
				left = append(left, p)
			}
		}
		return strings.Join(left, "\n")
	})
	for _, name := range []string{"leonardo", "jupiter"} {
		machines[name].stop(t)
		audited(t, a.url(), name)
	}
}
