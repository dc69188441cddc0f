package dashboardtest_test

import (
	"flag"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/dashboards/dashboardtest"
)

// run asks all queries of the last hour.
func (r *rig) run(o dashboardtest.Options) []dashboardtest.Result {
	r.t.Helper()
	o.URL, o.Now = r.url, now
	results, err := dashboardtest.Run(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	return results
}

// TestInTroubleEveryPanelShowsSomething: with every series that there can be,
// no panel is empty, no query fails.
func TestInTroubleEveryPanelShowsSomething(t *testing.T) {
	r := newRig(t)
	r.fill(machine{clusters: 2, nodes: 2, gpus: 2, span: 70 * time.Minute, step: 10 * time.Second})
	r.record(20 * time.Minute)
	results := r.run(dashboardtest.Options{Range: time.Hour})
	for _, fault := range dashboardtest.Faults(results, 0) {
		t.Error(fault)
	}
	if got := dashboardtest.Empty(results); len(got) > 0 {
		t.Errorf("these show nothing: %v", got)
	}
	for _, res := range results {
		if res.Kind == dashboardtest.Mark && res.Empty() && !strings.Contains(res.Title, "Other") {
			t.Errorf("annotation %s marks nothing", res.Name())
		}
	}
}

// TestWhatIsEmptyInQuietTimes is what MayBeEmpty says, no more and no less, on a
// machine whose driver tells neither clocks nor throttling nor memory errors, on
// a site without a contract, accounting or exporters.
func TestWhatIsEmptyInQuietTimes(t *testing.T) {
	r := newRig(t)
	r.fill(machine{
		clusters: 1, nodes: 2, gpus: 2, span: 70 * time.Minute, step: 10 * time.Second,
		skip: func(name string) bool {
			return slices.ContainsFunc([]string{
				"ALERTS", "_silent_seconds", "_events", "_xid_", "wattledger_job_", "contract", "accounting", "exporter", "_bmc_", "_clock_", "throttle",
				"ecc", "remapped", "recovery", "nvlink", "chip_power", "_limit_watts", "margin", "_meter_", "node_temperature", "_load",
			}, func(part string) bool { return strings.Contains(name, part) })
		},
	})
	r.record(20 * time.Minute)
	results := r.run(dashboardtest.Options{Range: time.Hour})
	for _, fault := range dashboardtest.Faults(results, 0) {
		t.Error(fault)
	}
	want := dashboardtest.MayBeEmpty()
	if diff := cmp.Diff(want, dashboardtest.Empty(results)); diff != "" || len(want) > 5 {
		t.Errorf("empty (-want +got):\n%s", diff)
	}
}

// TestVariablesAreChosen as Grafana does, or as the caller says.
func TestVariablesAreChosen(t *testing.T) {
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		data := `{"result":[{"value":[1,"1"]}]}`
		if strings.HasPrefix(r.URL.Path, "/api/v1/label/") {
			data = `["first","second"]`
		}
		asked = append(asked, r.FormValue("query"))
		_, _ = w.Write([]byte(`{"status":"success","data":` + data + `}`))
	}))
	defer srv.Close()
	results, err := dashboardtest.Run(t.Context(), dashboardtest.Options{
		URL: srv.URL, Token: "secret", Now: now, Vars: map[string]string{"gpu": "gpu0|gpu1", "project": "P7"},
	})
	if err != nil || len(dashboardtest.Faults(results, time.Hour)) > 0 {
		t.Fatalf("%v, %q", err, dashboardtest.Faults(results, time.Hour))
	}
	text := strings.Join(asked, "\n")
	for _, want := range []string{
		`wattledger_gpu_temperature_celsius{cluster=~"first", node="first", gpu=~"gpu0|gpu1"}`,
		`wattledger_cluster_power_watts{cluster=~".*"}[15s]`, `project=~"P7", job=~".*"}[30s]`, `{cluster=~".*"}[86400s]`, `[120s]`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("nobody asked %s", want)
		}
	}
	if left := regexp.MustCompile(`\$[a-z_{]\w*`).FindString(text); left != "" {
		t.Errorf("%s was left in a query", left)
	}
	if table := dashboardtest.Slowest(results, 3); strings.Count(table, "\n") != 4 || !strings.Contains(table, "wattledger") && !strings.Contains(table, ": ") {
		t.Errorf("the slowest are\n%s", table)
	}
}

// TestFaultsAreFound: what fails, is empty or is slow is told by name.
func TestFaultsAreFound(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.FormValue("query"), "wattledger_nodes_silent"):
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = w.Write([]byte(`{"status":"error","error":"too much"}`))
		case strings.HasPrefix(r.URL.Path, "/api/v1/label/"):
			_, _ = w.Write([]byte(`{"data":[]}`))
		default:
			_, _ = w.Write([]byte(`{"data":{"result":[{"value":[1,"NaN"]}]}}`))
		}
	}))
	defer srv.Close()
	results, err := dashboardtest.Run(t.Context(), dashboardtest.Options{URL: srv.URL, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(dashboardtest.Faults(results, 1), "\n")
	for _, want := range []string{"too much", `panel "fleet-now: Power" is empty`, `variable "node: node" is empty`, "more than 1ns"} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing is said of %s", want)
		}
	}
	if strings.Contains(text, `"jobs: Power by job" is empty`) {
		t.Error("what may be empty is a fault")
	}
}

var size = flag.Int("fleet-nodes", 25_000, "nodes of BenchmarkFleet")

// BenchmarkFleet answers all queries over the series of a large machine of which
// there is one for each node or GPU, and prints the slowest. Times depend on the
// machine it runs on, so it fails on none; it does on a query that is refused.
func BenchmarkFleet(b *testing.B) {
	r := newRig(b)
	begin := time.Now()
	r.fill(machine{clusters: 1, nodes: *size, gpus: 4, span: 6 * time.Minute, step: 10 * time.Second, skip: func(name string) bool {
		return slices.ContainsFunc([]string{"nvlink", "processes", "_edge_", "margin", "chip_power", "memory_clock", "_meter_", "_load", "bmc", "remapped_rows_total"}, func(part string) bool {
			return strings.Contains(name, part)
		})
	}})
	b.Logf("filled in %s", time.Since(begin).Round(time.Second))
	b.Logf("a round of the rules takes %s", r.record(time.Minute).Round(time.Millisecond))
	r.time(b)
}

// BenchmarkDay does so over a day of 300 projects and of the sums.
func BenchmarkDay(b *testing.B) {
	r := newRig(b)
	r.fill(machine{clusters: 1, nodes: 1, gpus: 4, projects: 300, span: 24 * time.Hour, step: 10 * time.Second})
	r.record(10 * time.Minute)
	r.time(b)
}

func (r *rig) time(b *testing.B) {
	for b.Loop() {
		results := r.run(dashboardtest.Options{})
		for _, res := range results {
			for _, q := range res.Queries {
				if q.Err != nil {
					b.Errorf("%s: %v", res.Name(), q.Err)
				}
			}
		}
		b.Logf("the slowest of %d:\n%s", len(results), dashboardtest.Slowest(results, 12))
	}
}
