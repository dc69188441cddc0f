package series_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/series"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// TestAHostileAgentCostsItself: its samples are refused and counted, and the
// others' are there.
func TestAHostileAgentCostsItself(t *testing.T) {
	r := newRig(t, series.Options{NewSeries: 100}).run()
	huge := strings.Repeat("g", 1<<20)
	r.live(begin, 3, 2, func(i int, n ledger.Node, w *window.Window) {
		if n.Name != "n1" {
			return
		}
		for k := range 500 {
			gauge(w, 0, fmt.Sprintf("name_%d_%d", i, k), 1, 1, 1)
		}
		w.Telemetry = append(w.Telemetry, window.Series{Meter: 0, Name: "temperature_celsius", Milli: []int64{1}}, // no time of its own is taken
			window.Series{Meter: 1, Name: "power_watts", StartMS: 4_070_908_800_000, StepMS: 1000, Milli: []int64{1, 2, 3}},
			window.Series{Meter: 2, Name: "power_watts", StartMS: -1, StepMS: 1000, Milli: []int64{1, 2, 3}},
			window.Series{Meter: 77, Name: "power_watts", StepMS: 1000, Milli: []int64{1}}) // no such meter: a panic, contained
	})
	for k := range 30 { // many meters, of new names each time
		w := gpus(begin+30_000, 8, 300)
		for i := range w.Catalogue.Meters {
			w.Catalogue.Meters[i].Name = fmt.Sprintf("gpu-%d-%d", k, i)
		}
		w.Catalogue.ID = uint64(1000 + k)
		r.store.Booked(node("n2"), w)
	}
	long := gpus(begin+30_000, 1, 300)
	long.Catalogue.Meters[0].Name = huge
	r.store.Booked(node("n3"), long)
	far := gpus(begin+400_000, 1, 300) // of a clock that is ahead
	r.store.Booked(node("n4"), far)
	r.until("all is stored", func() bool { return r.metric(series.MetricQueue) == 0 && r.metric(series.MetricRefused, "future") > 0 })
	for reason, least := range map[string]float64{
		"unknown_name": 1500, "outside_window": 18, "series_limit": 1000, "label": 10, "future": 20,
	} {
		if got := r.metric(series.MetricRefused, reason); got < least {
			t.Errorf("refused as %s: %v; want %v or more", reason, got, least)
		}
	}
	if got := r.metric(series.MetricErrors, "panic"); got < 3 {
		t.Errorf("%v panics; want one for each impossible window", got)
	}
	if got := r.value(`count({node="n2"})`, begin+40_000); got != 100 {
		t.Errorf("n2 has %v series; want its limit", got)
	}
	if got := r.value(`wattledger_gpu_power_watts{node="n0",gpu="gpu0"}`, begin+20_000); got != 200 {
		t.Errorf("n0: %v; want 200", got)
	}
	if got := r.query(`max_over_time(wattledger_gpu_power_watts{node="n4"}[1h])`, begin+3_600_000); len(got) != 0 {
		t.Errorf("of the future: %v", got)
	}
	if got := r.value(`wattledger_project_energy_joules_total{project="P"}`, begin+30_000); got != 30*(900+904) {
		t.Errorf("energy of P = %v: the books have taken all of it", got)
	}
}

// TestPackedTelemetryIsStoredAlike; what cannot be read costs itself alone.
func TestPackedTelemetryIsStoredAlike(t *testing.T) {
	r := newRig(t, series.Options{}).run()
	r.live(begin, 6, 2, tell("temperature_celsius", 41, 42, 43, 44, 45, 46), func(i int, n ledger.Node, w *window.Window) {
		b, err := wire.EncodeFragment(nil, []*window.Window{w})
		if err != nil {
			t.Fatal(err)
		}
		parts, err := wire.SplitFragment(b)
		if err != nil {
			t.Fatal(err)
		}
		parts.Telemetry = wire.Packed
		batch, err := parts.Decode(func(uint64) *window.Catalogue { return w.Catalogue })
		if err != nil {
			t.Fatal(err)
		}
		*w = *batch.Windows[0]
		if w.Telemetry != nil || len(w.Packed) == 0 {
			t.Fatal("it is not packed")
		}
		if n.Name == "n1" && i == 3 {
			w.Packed = []byte("nonsense")
		}
	})
	r.hasPoints(`wattledger_gpu_temperature_celsius{node="n0"}`, 60, "10:41 20:42 30:43 40:44 50:45 60:46 ")
	r.hasPoints(`wattledger_gpu_temperature_celsius{node="n1"}`, 60, "10:41 20:42 30:43 50:45 60:46 ")
	if got := r.value(`count_over_time(wattledger_node_power_watts{node="n1"}[60s])`, begin+60_000); got != 60 {
		t.Errorf("%v seconds of the node's power; want 60: its mean is known", got)
	}
	if got := r.metric(series.MetricRefused, "invalid"); got != 1 {
		t.Errorf("%v refused; want the one that cannot be read", got)
	}
	if got := r.value("wattledger_project_energy_joules_total", begin+60_000); got != 60*(900+904) {
		t.Errorf("energy = %v; want %v", got, 60*(900+904))
	}
}

func TestQueriesAreBounded(t *testing.T) {
	f := func(name string, o series.Options, want, query string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			r := newRig(t, o).run()
			r.live(begin, 12, 3)
			code, a := r.get("/api/v1/query_range", "query", query, "start", "1790002800", "end", "1790002920", "step", "1")
			if code != http.StatusUnprocessableEntity && code != http.StatusServiceUnavailable || !strings.Contains(a.Error, want) {
				t.Errorf("%d %s; want %s", code, a.Error, want)
			}
			if got := r.metric(series.MetricQueries, "limit"); got != 1 {
				t.Errorf("limit counted %v times", got)
			}
			if o.Limits.Timeout != 0 {
				return
			}
			if code, a := r.get("/api/v1/query", "query", "wattledger_cluster_power_watts", "time", "1790002860"); code != http.StatusOK {
				t.Errorf("a small query: %d %s", code, a.Error)
			}
		})
	}
	f("samples", series.Options{Limits: series.Limits{Samples: 300}}, "the limit series.query.max_samples is 300 samples; ask for less", "wattledger_gpu_power_watts")
	f("series", series.Options{Limits: series.Limits{Series: 11}}, "the limit series.query.max_series is 11 series; ask for less", "sum(wattledger_gpu_power_watts)")
	f("time", series.Options{Limits: series.Limits{Timeout: time.Nanosecond}}, "the limit series.query.timeout is 1ns", "wattledger_gpu_power_watts")
}

func TestListingsAreBounded(t *testing.T) {
	r := newRig(t, series.Options{Limits: series.Limits{Series: 5}}).run()
	r.live(begin, 3, 3)
	code, a := r.get("/api/v1/series", "match[]", "{__name__=~\".+\"}", "start", "1790002800", "end", "1790002920")
	if code != http.StatusUnprocessableEntity || !strings.Contains(a.Error, "series.query.max_series is 5") {
		t.Errorf("%d %s", code, a.Error)
	}
}

// TestAFullQueueDropsTelemetryAlone: what does not fit is counted, and its
// energy is in the counters all the same.
func TestAFullQueueDropsTelemetryAlone(t *testing.T) {
	r := newRig(t, series.Options{QueueBytes: 20_000})
	for i := range 20 {
		r.now.Store(begin + int64(i)*10_000 + 10_500)
		r.store.Booked(node("n0"), gpus(begin+int64(i)*10_000, 4, 200))
	}
	if got := r.metric(series.MetricQueueBytes); got > 20_000 {
		t.Errorf("%v bytes wait", got)
	}
	r.run()
	r.now.Store(begin + 230_000)
	r.until("all is emitted", func() bool {
		if r.now.Load() < begin+300_000 {
			r.now.Add(1000)
		}
		step, ok := r.find(series.MetricStep, "c")
		return ok && step == float64(begin+200_000)/1000
	})
	dropped := r.metric(series.MetricDropped)
	if dropped < 5 || dropped > 19 {
		t.Errorf("%v windows dropped of 20", dropped)
	}
	if got := r.value("wattledger_project_energy_joules_total", begin+200_000); got != 200*900 {
		t.Errorf("energy = %v; want %v", got, 200*900)
	}
	if got := r.value("count_over_time(wattledger_gpu_power_watts{gpu=\"gpu0\"}[300s])", begin+200_000); got != 10*(20-dropped) {
		t.Errorf("%v samples of a GPU; want those of the windows that were kept", got)
	}
}
