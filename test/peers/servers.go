package peers

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
)

// PrometheusOptions say how a Prometheus runs; zero values are right for most
// tests.
type PrometheusOptions struct {
	// Config is the text of prometheus.yml; "" is an empty one. Rule files are
	// best named by their full path.
	Config string
	// OutOfOrder is the window for samples that come late, like 1h; "" for none.
	// It is added to Config and wants that to have no storage section.
	OutOfOrder string
	// Args are added to the command line, which takes remote writes and resends
	// alerts after one second.
	Args []string
}

// Prometheus starts a Prometheus that takes remote writes at /api/v1/write.
func Prometheus(t testing.TB, o PrometheusOptions) *Peer {
	t.Helper()
	dir := t.TempDir()
	config := o.Config
	if o.OutOfOrder != "" {
		config += "\nstorage: {tsdb: {out_of_order_time_window: " + o.OutOfOrder + "}}\n"
	}
	write(t, filepath.Join(dir, "prometheus.yml"), config)
	return launch(t, debian(t, "prometheus"), dir, "/-/ready", func(address string) ([]string, error) {
		return append([]string{
			"--config.file=" + filepath.Join(dir, "prometheus.yml"),
			"--storage.tsdb.path=" + filepath.Join(dir, "data"),
			"--web.listen-address=" + address,
			"--web.enable-remote-write-receiver",
			"--web.enable-lifecycle",
			"--rules.alert.resend-delay=1s",
		}, o.Args...), nil
	})
}

// Alertmanager starts an Alertmanager with the text of an alertmanager.yml; ""
// for one route to a receiver that tells nobody.
func Alertmanager(t testing.TB, config string) *Peer {
	t.Helper()
	dir := t.TempDir()
	if config == "" {
		config = "route: {receiver: nobody, group_wait: 0s, group_interval: 1s}\nreceivers: [{name: nobody}]\n"
	}
	write(t, filepath.Join(dir, "alertmanager.yml"), config)
	return launch(t, debian(t, "prometheus-alertmanager"), dir, "/-/ready", func(address string) ([]string, error) {
		return []string{
			"--config.file=" + filepath.Join(dir, "alertmanager.yml"),
			"--storage.path=" + filepath.Join(dir, "data"),
			"--web.listen-address=" + address,
			"--cluster.listen-address=", // no gossip
		}, nil
	})
}

// VictoriaMetrics starts a single-node VictoriaMetrics, which takes remote
// writes at /api/v1/write and InfluxDB's at /write and /api/v2/write, and does
// not hide the newest samples. Args are added to its command line.
func VictoriaMetrics(t testing.TB, args ...string) *Peer {
	t.Helper()
	dir := t.TempDir()
	return launch(t, debian(t, "victoria-metrics"), dir, "/health", func(address string) ([]string, error) {
		return append([]string{
			"-storageDataPath=" + filepath.Join(dir, "data"),
			"-httpListenAddr=" + address,
			"-search.latencyOffset=0s",
			"-search.disableCache",
			"-retentionPeriod=100y",
		}, args...), nil
	})
}

// InfluxOptions say how an InfluxDB runs.
type InfluxOptions struct {
	// Database is created; "" for none.
	Database string
	// User and Password, if not empty, are the administrator's; whoever does not
	// give them is refused. The v2 API takes them as the token User:Password.
	User, Password string
}

// InfluxDB starts an InfluxDB 1.8, which takes the v2 client's writes at
// /api/v2/write; a bucket is database/retention policy, like books/autogen.
func InfluxDB(t testing.TB, o InfluxOptions) *Peer {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "influxdb.conf")
	p := launch(t, influxd(t), dir, "/ping", func(address string) ([]string, error) {
		text := fmt.Sprintf(influxConfig, FreeAddress(t), dir, address, o.User != "")
		return []string{"run", "-config", config}, os.WriteFile(config, []byte(text), 0o600)
	})
	if o.User != "" {
		p.Influx(t, url.Values{"q": {fmt.Sprintf("CREATE USER %q WITH PASSWORD '%s' WITH ALL PRIVILEGES", o.User, o.Password)}})
	}
	if o.Database != "" {
		q := url.Values{"q": {fmt.Sprintf("CREATE DATABASE %q", o.Database)}}
		if o.User != "" {
			q.Set("u", o.User)
			q.Set("p", o.Password)
		}
		p.Influx(t, q)
	}
	return p
}

const influxConfig = `reporting-disabled = true
bind-address = %q
[meta]
  dir = "%[2]s/meta"
[data]
  dir = "%[2]s/data"
  wal-dir = "%[2]s/wal"
  series-id-set-cache-size = 100
[http]
  bind-address = %[3]q
  auth-enabled = %[4]t
  log-enabled = false
  flux-enabled = true
[monitor]
  store-enabled = false
`

// Influx posts to /query of an InfluxDB 1.8 and gives the JSON that it answers.
// An error within the answer ends the test.
func (p *Peer) Influx(t testing.TB, form url.Values) []byte {
	t.Helper()
	b, err := fetch(http.MethodPost, p.URL+"/query?"+form.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Results []struct{ Error string }
	}
	decode(t, b, &answer)
	for _, r := range answer.Results {
		if r.Error != "" {
			t.Fatalf("InfluxDB does not answer %q: %s", form.Get("q"), r.Error)
		}
	}
	return b
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
