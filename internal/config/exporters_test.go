package config_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/config"
)

func TestFaultsOfExporters(t *testing.T) {
	_, err := config.LoadAggregator("testdata/exporters-bad.yaml", config.AggregatorFlags{DataDir: t.TempDir()})
	if err == nil {
		t.Fatal("no error")
	}
	const golden = "testdata/exporters-bad.faults"
	got := err.Error() + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || got != string(want) {
		t.Errorf("%v, -want +got:\n%s", err, cmp.Diff(string(want), got))
	}
}

func TestExporters(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("ada:lovelace\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "aggregator.yaml")
	text := `
exporters:
  remote_write:
    - name: vm
      url: http://vm.example.org:8428/api/v1/write?extra_label=a=b
    - name: mimir
      url: https://mimir.example.org/api/v1/push
      headers: {X-Scope-OrgID: site}
      token_file: ` + token + `
      labels: {site: bologna}
      only: [wattledger_project_*]
      samples: 20000
      linger: 5s
      timeout: 1m
      rewind: 0s
      buffer: 10GiB
  influxdb:
    - name: influx
      url: https://influx.example.org:8086
      org: cineca
      bucket: books/autogen
      basic_auth: {user: ada, password_file: ` + token + `}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := config.LoadAggregator(file, config.AggregatorFlags{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	usual := func(kind, name, url string) config.Receiver {
		return config.Receiver{
			Name: name, URL: url, Samples: 5000, Linger: time.Second, Timeout: 30 * time.Second, Rewind: 15 * time.Second,
			BufferBytes: 1 << 30, BufferDir: filepath.Join(dir, "exporters", kind+"-"+name),
		}
	}
	vm := usual("remote_write", "vm", "http://vm.example.org:8428/api/v1/write?extra_label=a=b")
	mimir := usual("remote_write", "mimir", "https://mimir.example.org/api/v1/push")
	mimir.Headers, mimir.TokenFile = map[string]string{"X-Scope-OrgID": "site"}, token
	mimir.Labels, mimir.Only = map[string]string{"site": "bologna"}, []string{"wattledger_project_*"}
	mimir.Samples, mimir.Linger, mimir.Timeout, mimir.Rewind, mimir.BufferBytes = 20000, 5*time.Second, time.Minute, -1, 10<<30
	influx := usual("influxdb", "influx", "https://influx.example.org:8086")
	influx.Org, influx.Bucket, influx.User, influx.PasswordFile = "cineca", "books/autogen", "ada", token
	want := config.Exporters{RemoteWrite: []config.Receiver{vm, mimir}, InfluxDB: []config.Receiver{influx}}
	if diff := cmp.Diff(want, a.Exporters); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
