package series_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/series"
	"github.com/wattledger/wattledger/internal/window"
)

func TestWhatGoesInComesOut(t *testing.T) {
	r := newRig(t, series.Options{}).run()
	r.live(begin, 18, 3, func(i int, _ ledger.Node, w *window.Window) {
		gauge(w, 0, "temperature_celsius", 50, 60+float64(i), 55)
		gauge(w, 1, "throttle_thermal_seconds_total", 1, 3, 2)
		gauge(w, -1, "load1", 1, 3, 2.5)
	})
	f := func(query string, at int64, want float64) {
		t.Helper()
		if got := r.value(query, begin+at*1000); got != want {
			t.Errorf("%s at %d s = %v; want %v", query, at, got, want)
		}
	}
	f(`wattledger_gpu_power_watts{node="n1",gpu="gpu3"}`, 77, 201)
	f(`count(wattledger_gpu_power_watts)`, 77, 12)
	f(`wattledger_node_power_watts{cluster="c",node="n2"}`, 41, 4*202+100)
	f(`count_over_time(wattledger_node_power_watts{node="n2"}[60s])`, 120, 60)
	f(`wattledger_project_power_watts{cluster="c",project="P"}`, 41, 3*100+4*(200+201+202))
	f(`wattledger_cluster_power_watts{cluster="c"}`, 41, 3*100+4*(200+201+202))
	f(`wattledger_cluster_power_ramp_watts_per_second{cluster="c"}`, 41, 0)
	f(`wattledger_cluster_power_nodes`, 60, 3)
	f(`wattledger_project_energy_joules_total{cluster="c",project="P"}`, 100, 100*(3*100+4*(200+201+202)))
	f(`wattledger_project_held_energy_joules_total`, 120, 0)
	f(`wattledger_cluster_energy_joules_total{class="cpu",use="busy"}`, 100, 100*3*100)
	f(`wattledger_gpu_temperature_celsius{node="n0",gpu="gpu0"}`, 20, 61)
	f(`wattledger_gpu_throttle_seconds_total{node="n0",gpu="gpu1",reason="thermal"}`, 20, 2)
	f(`wattledger_node_load1{node="n0"}`, 20, 2.5)
	if got := r.metric(series.MetricRefused, "unknown_name"); got != 0 {
		t.Errorf("%v samples refused", got)
	}
}

// TestTheStoreIsLaidOutForItsNodes: for those that the books know, or for those
// that it is told to expect.
func TestTheStoreIsLaidOutForItsNodes(t *testing.T) {
	f := func(known, expected, want int) {
		t.Helper()
		r := newRig(t, series.Options{Nodes: expected, Ledger: many(known)})
		if got := r.store.Stripes(); got != want {
			t.Errorf("%d nodes, %d expected: %d stripes; want %d", known, expected, got, want)
		}
	}
	f(0, 0, 1<<16)
	f(6500, 0, 1<<16)
	f(6600, 0, 1<<17)
	f(0, 25_000, 1<<18)
	f(25_000, 1000, 1<<18)
	f(0, 1_000_000, 1<<19)
}

// many is a ledger that knows nodes, and no more.
type many int

func (n many) Totals(context.Context) ([]ledger.ProjectTotal, error) { return nil, nil }

func (n many) Nodes(context.Context) ([]ledger.NodeStatus, error) {
	var out []ledger.NodeStatus
	for i := range int(n) {
		out = append(out, ledger.NodeStatus{Node: node(fmt.Sprint(i)), LastMS: begin})
	}
	return out, nil
}

func (n many) Books(context.Context, string, int64, int64, int64) (ledger.Books, error) {
	return ledger.Books{}, nil
}

func TestTheAPI(t *testing.T) {
	r := newRig(t, series.Options{})
	if code, a := r.get("/api/v1/query", "query", "1"); code != http.StatusServiceUnavailable || !strings.Contains(a.Error, "its log is being replayed") {
		t.Errorf("before the store is open: %d %+v", code, a)
	}
	r.run()
	r.live(begin, 6, 2)
	f := func(path, want string, params ...string) {
		t.Helper()
		for _, prefix := range []string{"", "/prometheus"} {
			code, a := r.get(prefix+"/api/v1"+path, params...)
			if code != http.StatusOK || a.Status != "success" || !strings.Contains(string(a.Data), want) {
				t.Errorf("%s%s: %d %s %s; want %s", prefix, path, code, a.Error, a.Data, want)
			}
		}
	}
	at, from := "1790002850", "1790002800"
	f("/query", `"1790002850"`, "query", "time()", "time", at)
	f("/query_range", `"values":[[1790002860,"1804"]]`, "query", "wattledger_project_power_watts", "start", "1790002860", "end", "1790002860", "step", "15")
	f("/labels", `["__name__","class","cluster","gpu","node","project","use"]`)
	f("/label/project/values", `["P"]`)
	f("/label/__name__/values", `"wattledger_node_power_watts"`)
	f("/series", `"gpu":"gpu3"`, "match[]", "wattledger_gpu_power_watts", "start", from, "end", at)
	f("/metadata", `{"wattledger_project_energy_joules_total":[{"type":"counter"`, "metric", "wattledger_project_energy_joules_total")
	f("/rules", `"groups":[]`)
	f("/alerts", `"alerts":[]`)
	f("/status/buildinfo", `"version":"3.`)
	f("/format_query", `"a + b"`, "query", "a+b")
	f("/parse_query", `"binaryExpr"`, "query", "a+b")
	f("/query_exemplars", "null", "query", "a", "start", from, "end", at)
	for path, want := range map[string]int{
		"/api/v1/targets": 404, "/prometheus/api/v1/write": 404, "/prometheus/api/v1/admin/tsdb/snapshot": 404,
		"/prometheus/api/v1/status/config": 404, "/prometheus/": 404, "/api/v1/query?query=%28": 400,
	} {
		resp, err := http.Get(r.srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d; want %d", path, resp.StatusCode, want)
		}
	}
	resp, err := http.PostForm(r.srv.URL+"/api/v1/query", map[string][]string{"query": {"vector(7)"}})
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("POST: %v, %v", resp, err)
	}
	_ = resp.Body.Close()
}
