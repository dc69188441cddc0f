//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	promapi "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/wattledger/wattledger/test/peers"
)

// TestPeersGetWhatIsStored: a Prometheus, two VictoriaMetrics and an InfluxDB get
// every sample that the aggregator's own PromQL knows, with its value, over a
// SIGKILL of each of them and of the aggregator in mid-stream.
func TestPeersGetWhatIsStored(t *testing.T) {
	prom, vm, vmInflux := peers.Prometheus(t, peers.PrometheusOptions{OutOfOrder: "4h"}), peers.VictoriaMetrics(t), peers.VictoriaMetrics(t)
	influx := peers.InfluxDB(t, peers.InfluxOptions{Database: "books"})
	a := startConfigured(t, t.TempDir(), "series: {wait: 2s}\nexporters:\n  remote_write:\n"+
		remoteWriteTo("prom", prom.URL+"/api/v1/write")+remoteWriteTo("vm", vm.URL+"/api/v1/write")+
		"  influxdb:\n"+influxTo("influx", influx.URL)+influxTo("vminflux", vmInflux.URL))
	receivers := []receiver{
		{"Prometheus", prom, 0, func() samples { return kept(t, prom.URL) }},
		{"VictoriaMetrics", vm, 1e-9, func() samples { return flushed(t, vm) }},
		{"VictoriaMetrics (InfluxDB's protocol)", vmInflux, 1e-9, func() samples { return flushed(t, vmInflux) }},
		{"InfluxDB", influx, 0, func() samples { return influxSamples(t, influx) }},
	}
	one, _ := peersNode(t, a, "n1", "P")
	two, _ := peersNode(t, a, "n2", "Q")
	streams := func(what string) {
		t.Helper()
		n := kept(t, a.url()).len()
		eventually(t, "samples are stored "+what, func() bool { return kept(t, a.url()).len() > n+100 })
	}
	streams("at first")
	for _, r := range receivers {
		r.peer.Kill(t)
	}
	streams("while nobody takes them")
	for _, r := range receivers {
		r.peer.Restart(t)
	}
	streams("with receivers that are back")
	a.kill()
	killed := time.Now()
	a.restart(t)
	eventually(t, "series are queried again", func() bool {
		r, err := http.Get(a.url() + "/api/v1/query?query=1")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	streams("after a kill")
	for _, r := range receivers {
		r.peer.Kill(t)
		r.peer.Restart(t)
	}
	streams("at last")
	one.stop(t)
	two.stop(t)
	var local samples
	books, _ := reportOf(t, a.url(), time.Now().UTC().Format("2006-01"), liveCluster)
	eventually(t, "the counters are those of the books", func() bool {
		local = kept(t, a.url())
		for _, p := range books.Projects {
			points := local[fmt.Sprintf(`wattledger_project_energy_joules_total{cluster=%q, project=%q}`, liveCluster, p.Project)]
			if len(points) == 0 || math.Abs(points[slices.Max(slices.Collect(maps.Keys(points)))]-float64(mj(t, p.Energy).Joules())) > 1e-6 {
				return false
			}
		}
		return len(books.Projects) == 2
	})
	for _, r := range receivers {
		var lacking []string
		caughtUp := func() bool {
			local = kept(t, a.url())
			lacking = local.lacking(r.got(), r.part)
			return len(lacking) == 0
		}
		for end := time.Now().Add(30 * time.Second); !caughtUp() && time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		}
		if len(lacking) > 0 {
			t.Errorf("%s lacks %d of %d samples: %.2000s", r.name, len(lacking), local.len(), strings.Join(lacking, "\n"))
		}
		// What was handed out and not committed when the aggregator was killed is
		// there and not here.
		over := 0
		for key, points := range r.got() {
			for ms := range points {
				_, ok := local[key][ms]
				switch since := killed.Sub(time.UnixMilli(ms)); {
				case !ok && since < 30*time.Second && since > -5*time.Second:
					over++
				case !ok:
					t.Errorf("%s has a sample that was never stored: %s at %d", r.name, key, ms)
				}
			}
		}
		t.Logf("%s: %d samples, %d more from the moment of the kill", r.name, local.len(), over)
	}
	audited(t, a.url(), liveCluster)
}

// TestPeersScrape: a Prometheus scrapes agent and aggregator, promtool finds no
// fault with either page, and what it has is what the pages say.
func TestPeersScrape(t *testing.T) {
	a := startConfigured(t, t.TempDir(), "exporters:\n  remote_write:\n"+remoteWriteTo("away", "http://"+peers.FreeAddress(t)))
	n, page := peersNode(t, a, "n1", "P")
	host := func(url string) string { return strings.TrimPrefix(url, "http://") }
	prom := peers.Prometheus(t, peers.PrometheusOptions{Config: fmt.Sprintf(`
global: {scrape_interval: 1s}
scrape_configs:
- {job_name: agent, honor_labels: true, static_configs: [{targets: [%q]}]}
- {job_name: aggregator, honor_labels: true, static_configs: [{targets: [%q]}]}
`, host(page), host(a.url()))})
	for _, url := range []string{page, a.url()} {
		eventually(t, "energy is on the page of "+url, func() bool {
			for key, v := range metricsOf(t, url) {
				if strings.Contains(key, "energy_joules_total") && v > 0 {
					return true
				}
			}
			return false
		})
		cmd := exec.CommandContext(t.Context(), peers.Promtool(t), "check", "metrics")
		r, err := http.Get(url + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = r.Body
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool check metrics of %s: %v\n%s", url, err, out)
		}
		r.Body.Close()
	}
	for job, url := range map[string]string{"agent": page, "aggregator": a.url()} {
		before := metricsOf(t, url)
		from := time.Now()
		has := samples{}
		eventually(t, "a scrape of "+job, func() bool {
			now := time.Now()
			up := prom.Query(t, `timestamp(up{job="`+job+`"}) and up{job="`+job+`"} == 1`, now)
			if len(up) == 1 && up[0].Points[0].V > float64(from.UnixMicro())/1e6 {
				has = samples{}
				has.add(prom.Query(t, `{job="`+job+`"}`, now))
				return true
			}
			return false
		})
		after := metricsOf(t, url)
		var same, within int
		for key, v := range before {
			to, still := after[key]
			m := has[scraped(t, key, job, host(url))]
			if !still || len(m) != 1 {
				if still && strings.Contains(key, "wattledger_") {
					t.Errorf("%s of the %s is not in Prometheus", key, job)
				}
				continue
			}
			for _, got := range m {
				switch {
				case v == to && got == v:
					same++
				case v == to && !strings.Contains(key, "wattledger_") && !strings.Contains(key, "_total"):
					continue // the runtime's own may go up and come back between
				case v == to && v != 0:
					t.Errorf("%s of the %s: %v; Prometheus has %v", key, job, v, got)
				case strings.Contains(key, "_total") && (got < v || got > to):
					t.Errorf("%s of the %s: %v to %v; Prometheus has %v", key, job, v, to, got)
				case strings.Contains(key, "_total"):
					within++
				}
			}
		}
		t.Logf("%s: %d values equal, %d counters within", job, same, within)
		if same < 30 || within == 0 {
			t.Errorf("%s: only %d values stood still and %d counters grew", job, same, within)
		}
	}
	n.stop(t)
}

// TestPeersClient: a client of Prometheus' own reads the aggregator, as Grafana's
// data source does.
func TestPeersClient(t *testing.T) {
	a := startConfigured(t, t.TempDir(), "series: {wait: 2s}\n")
	peersNode(t, a, "n1", "P")
	c, err := api.NewClient(api.Config{Address: a.url()})
	if err != nil {
		t.Fatal(err)
	}
	client, ctx := promapi.NewAPI(c), t.Context()
	const energy = `wattledger_project_energy_joules_total{project="P"}`
	eventually(t, "energy of the project", func() bool {
		v, _, err := client.Query(ctx, energy+" > 0", time.Now())
		vector, ok := v.(model.Vector)
		return err == nil && ok && len(vector) == 1
	})
	must := func(err error, what string, ok bool, got any) {
		t.Helper()
		if err != nil || !ok {
			t.Errorf("%s: %v, %v", what, err, got)
		}
	}
	from, to := time.Now().Add(-time.Minute), time.Now()
	v, _, err := client.QueryRange(ctx, `wattledger_gpu_power_watts`, promapi.Range{Start: from, End: to, Step: time.Second})
	matrix, _ := v.(model.Matrix)
	must(err, "query_range", len(matrix) == 2 && len(matrix[0].Values) > 0, v)
	names, _, err := client.LabelNames(ctx, []string{energy}, from, to)
	must(err, "labels", slices.Equal(names, model.LabelNames{"__name__", "cluster", "project"}), names)
	values, _, err := client.LabelValues(ctx, "node", nil, from, to)
	must(err, "label values", len(values) == 1 && values[0] == "n1", values)
	series, _, err := client.Series(ctx, []string{energy}, from, to)
	must(err, "series", len(series) == 1 && series[0]["cluster"] == liveCluster, series)
	meta, err := client.Metadata(ctx, "", "")
	must(err, "metadata", len(meta["wattledger_gpu_power_watts"]) == 1 && meta["wattledger_gpu_power_watts"][0].Type == promapi.MetricTypeGauge &&
		len(meta["wattledger_intake_commit_seconds"]) == 1 && meta["wattledger_intake_commit_seconds"][0].Type == promapi.MetricTypeHistogram, len(meta))
	rules, err := client.Rules(ctx, nil)
	must(err, "rules", len(rules.Groups) > 3, rules)
	alerts, err := client.Alerts(ctx)
	must(err, "alerts", true, alerts)
	build, err := client.Buildinfo(ctx)
	must(err, "buildinfo", strings.HasPrefix(build.Version, "3."), build)
	// The aggregator's own page is there, as if it had been scraped.
	v, _, err = client.Query(ctx, `{__name__="wattledger_intake_windows_total",status="booked",job="wattledger-aggregator"}`, time.Now())
	vector, _ := v.(model.Vector)
	must(err, "own metrics", len(vector) == 1 && string(vector[0].Metric["instance"]) == a.addr, v)
}

// TestPeersBooksAgree: of past hours without late data the counters' differences
// are the report's figures.
func TestPeersBooksAgree(t *testing.T) {
	a := startConfigured(t, t.TempDir(), "series: {wait: 2s}\n")
	start := time.Now().UTC().Add(-4 * time.Hour).Truncate(time.Hour)
	if start.Month() != start.Add(2*time.Hour).Month() {
		start = start.Add(-2 * time.Hour)
	}
	middle, end := start.Add(time.Hour), start.Add(2*time.Hour)
	fleetRun(t, "simulate", "--nodes", "4", "--for", "2h", "--seed", "9", "--start", start.Format(time.RFC3339), "--cluster", "past", "--aggregator", a.url(), "--quiet")
	eventually(t, "all is in the series", func() bool {
		return metricsOf(t, a.url())[`wattledger_series_emitted_step_timestamp_seconds{cluster="past"}`] >= float64(end.Unix())
	})
	value := func(expr string, from, to time.Time) float64 {
		t.Helper()
		text := fmt.Sprintf("%s @ %d - %s @ %d", expr, to.Unix(), expr, from.Unix())
		got := (&peers.Peer{URL: a.url()}).Query(t, text, time.Now())
		if len(got) != 1 {
			t.Fatalf("%s gives %d values", text, len(got))
		}
		return got[0].Points[0].V
	}
	equal := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-12*math.Abs(want)+1e-6 {
			t.Errorf("%s: PromQL says %v J, the books %v J", what, got, want)
		}
	}
	books, _ := reportOf(t, a.url(), start.Format("2006-01"), "past")
	if len(books.Projects) < 3 {
		t.Fatalf("only %d projects", len(books.Projects))
	}
	for _, p := range books.Projects {
		x := fmt.Sprintf(`wattledger_project_energy_joules_total{cluster="past",project=%q}`, p.Project)
		equal(p.Project, value(x, start, end), float64(mj(t, p.Energy).Joules()))
	}
	for _, hour := range [][2]time.Time{{start, middle}, {middle, end}} {
		out, code := cli(t, a.url(), "audit", "--cluster", "past", "--from", hour[0].Format(time.RFC3339), "--to", hour[1].Format(time.RFC3339), "--format", "json")
		var audit struct {
			Booked string `json:"booked_mj"`
		}
		if err := json.Unmarshal([]byte(out), &audit); err != nil || code != 0 {
			t.Fatalf("audit: exit %d, %v: %s", code, err, out)
		}
		x := fmt.Sprintf(`sum(wattledger_cluster_energy_joules_total{cluster="past"} @ %d) - sum(wattledger_cluster_energy_joules_total{cluster="past"} @ %d)`, hour[1].Unix(), hour[0].Unix())
		got := (&peers.Peer{URL: a.url()}).Query(t, x, time.Now())
		equal("the hour from "+hour[0].Format(time.TimeOnly), got[0].Points[0].V, float64(mj(t, audit.Booked).Joules()))
	}
}

// TestPeersThatDoNotWork: one that is away, refuses the token, answers pages of a
// login, hangs or talks without end keeps neither the books nor another receiver
// from anything; each is seen on the aggregator's page.
func TestPeersThatDoNotWork(t *testing.T) {
	serve := func(answer http.HandlerFunc) string {
		srv := httptest.NewServer(answer)
		t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
		return srv.URL
	}
	stop := make(chan struct{})
	bad := map[string]string{
		"away":  "http://" + peers.FreeAddress(t),
		"token": serve(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "who are you", http.StatusUnauthorized) }),
		"login": serve(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<html>please log in"))
		}),
		"slow": serve(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-stop:
			}
		}),
		"endless": serve(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}),
	}
	t.Cleanup(func() { close(stop) }) // before the servers wait for who answers
	prom := peers.Prometheus(t, peers.PrometheusOptions{OutOfOrder: "4h"})
	text := "series: {wait: 2s}\nexporters:\n  remote_write:\n" + remoteWriteTo("well", prom.URL+"/api/v1/write")
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		text += remoteWriteTo(name, bad[name])
	}
	a := startConfigured(t, t.TempDir(), text)
	n, _ := peersNode(t, a, "n1", "P")
	eventually(t, "each is known not to work, and nothing is given up", func() bool {
		page := metricsOf(t, a.url())
		for name := range bad {
			of := fmt.Sprintf(`{exporter="remote_write", receiver=%q}`, name)
			if page["wattledger_exporter_failing_since_timestamp_seconds"+of] == 0 || page["wattledger_exporter_pending_samples"+of] < 500 {
				return false
			}
		}
		return page[`wattledger_exporter_failing_since_timestamp_seconds{exporter="remote_write", receiver="well"}`] == 0
	})
	n.stop(t)
	eventually(t, "the one that works has everything", func() bool {
		local := kept(t, a.url())
		return local.len() > 500 && len(local.lacking(kept(t, prom.URL), 0)) == 0
	})
	books, _ := reportOf(t, a.url(), time.Now().UTC().Format("2006-01"), liveCluster)
	books.closed(t)
	audited(t, a.url(), liveCluster)
	for key, v := range metricsOf(t, a.url()) {
		if strings.HasPrefix(key, "wattledger_exporter_overrun_samples_total") && v != 0 ||
			strings.HasPrefix(key, "wattledger_exporter_samples_total") && v != 0 && !strings.Contains(key, `result="delivered"`) {
			t.Errorf("%s: %v; want nothing given up", key, v)
		}
	}
	a.signal(syscall.SIGTERM)
	select {
	case <-a.gone:
	case <-time.After(30 * time.Second):
		t.Error("the aggregator does not stop because of its receivers")
	}
}
