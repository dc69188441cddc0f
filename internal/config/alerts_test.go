package config_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/energy"
)

func TestAlerts(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("secret-0123456789\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(text string, want config.Alerts, contract map[string]energy.Microwatts) {
		t.Helper()
		path := filepath.Join(dir, "a.yaml")
		if err := os.WriteFile(path, []byte("data_dir: "+dir+"\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := config.LoadAggregator(path, config.AggregatorFlags{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, a.Alerts); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if diff := cmp.Diff(contract, a.Contract); diff != "" {
			t.Errorf("contracts, -want +got:\n%s", diff)
		}
	}
	f("clusters:\n- {name: small}\n", config.Alerts{Builtin: true, Every: 15 * time.Second, Resend: time.Minute}, map[string]energy.Microwatts{})
	f(`
clusters:
- {name: leonardo, contract_watts: 10000000}
- {name: small}
alerts:
  builtin: false
  rule_files: [/etc/wattledger/rules/*.yml]
  alertmanagers:
  - {url: "http://alertmanager:9093/"}
  - {url: "https://alerts.example.org/am", token_file: `+token+`}
  external_url: https://wattledger.example.org/
  evaluate_every: 30s
  resend: 2m
`, config.Alerts{
		RuleFiles: []string{"/etc/wattledger/rules/*.yml"},
		Alertmanagers: []config.Alertmanager{
			{URL: "http://alertmanager:9093"}, {URL: "https://alerts.example.org/am", TokenFile: token},
		},
		ExternalURL: "https://wattledger.example.org", Every: 30 * time.Second, Resend: 2 * time.Minute,
	}, map[string]energy.Microwatts{"leonardo": 10_000_000_000_000})
}

func TestFaultsOfAlerts(t *testing.T) {
	_, err := config.LoadAggregator("testdata/alerts-bad.yaml", config.AggregatorFlags{DataDir: t.TempDir()})
	if err == nil {
		t.Fatal("no error")
	}
	const golden = "testdata/alerts-bad.faults"
	got := err.Error() + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || got != string(want) {
		t.Errorf("%v, -want +got:\n%s", err, cmp.Diff(string(want), got))
	}
}
