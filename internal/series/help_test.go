package series_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/series"
	"github.com/wattledger/wattledger/internal/window"
)

// begin is a full hour.
const begin = int64(1_790_002_800_000)

// nothing is an empty ledger.
type nothing struct{}

func (nothing) Totals(context.Context) ([]ledger.ProjectTotal, error) { return nil, nil }
func (nothing) Nodes(context.Context) ([]ledger.NodeStatus, error)    { return nil, nil }
func (nothing) Books(context.Context, string, int64, int64, int64) (ledger.Books, error) {
	return ledger.Books{}, nil
}

// rig is a store that runs, with a clock of its own.
type rig struct {
	t     *testing.T
	now   atomic.Int64
	reg   *prometheus.Registry
	store *series.Store
	srv   *httptest.Server
	stop  func()
}

func newRig(t *testing.T, o series.Options) *rig {
	t.Helper()
	r := &rig{t: t, reg: prometheus.NewPedanticRegistry()}
	r.now.Store(begin)
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Ledger == nil {
		o.Ledger = nothing{}
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	o.Now = func() time.Time { return time.UnixMilli(r.now.Load()) }
	o.Every, o.Registerer = 5*time.Millisecond, r.reg
	var err error
	if r.store, err = series.New(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	r.store.Register(mux, func(h http.Handler) http.Handler { return h })
	r.srv = httptest.NewServer(mux)
	t.Cleanup(r.srv.Close)
	return r
}

// run runs the store until the test, or stop, ends it.
func (r *rig) run() *rig {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.store.Run(ctx); err != nil {
			r.t.Error(err)
		}
	}()
	r.stop = func() {
		cancel()
		<-done
	}
	r.t.Cleanup(r.stop)
	r.until("the store is open", func() bool { return r.store.Ready() == nil })
	return r
}

func (r *rig) until(what string, f func() bool) {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("never came: %s", what)
		}
	}
}

// answer is what the API says.
type answer struct {
	Status, ErrorType, Error string
	Data                     json.RawMessage
}

func (r *rig) get(path string, params ...string) (int, answer) {
	r.t.Helper()
	v := url.Values{}
	for i := 0; i < len(params); i += 2 {
		v.Add(params[i], params[i+1])
	}
	resp, err := http.Get(r.srv.URL + path + "?" + v.Encode())
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		r.t.Fatalf("%s: %d, %v", path, resp.StatusCode, err)
	}
	return resp.StatusCode, a
}

// query asks for a vector at a time: values by the labels, as JSON spells them.
func (r *rig) query(text string, ms int64) map[string]float64 {
	r.t.Helper()
	code, a := r.get("/api/v1/query", "query", text, "time", strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64))
	if code != http.StatusOK {
		r.t.Fatalf("%s: %d %s", text, code, a.Error)
	}
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	if err := json.Unmarshal(a.Data, &data); err != nil {
		r.t.Fatalf("%s: %v: %s", text, err, a.Data)
	}
	out := map[string]float64{}
	for _, x := range data.Result {
		key, err := json.Marshal(x.Metric)
		if err != nil {
			r.t.Fatal(err)
		}
		v, err := strconv.ParseFloat(fmt.Sprint(x.Value[1]), 64)
		if err != nil {
			r.t.Fatal(err)
		}
		out[string(key)] = v
	}
	return out
}

// value is the one value of a query.
func (r *rig) value(text string, ms int64) float64 {
	r.t.Helper()
	got := r.query(text, ms)
	if len(got) != 1 {
		r.t.Fatalf("%s at %d s: %v; want one value", text, (ms-begin)/1000, got)
	}
	for _, v := range got {
		return v
	}
	return 0
}

// find gives a metric of the store's own; ok is false if there is none.
func (r *rig) find(name string, labels ...string) (v float64, ok bool) {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (len(labels) == 0 || m.GetLabel()[0].GetValue() == labels[0]) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue(), true
			}
		}
	}
	return 0, false
}

func (r *rig) metric(name string, labels ...string) float64 {
	r.t.Helper()
	v, ok := r.find(name, labels...)
	if !ok {
		r.t.Fatalf("no metric %s %v", name, labels)
	}
	return v
}

func node(name string) ledger.Node { return ledger.Node{Cluster: "c", Name: name} }

// gpus is a window of 10 s of a node with counters of GPUs that draw watts each
// and one of the CPU that draws 100 W, all of it a job's of project P.
func gpus(start int64, n int, watts int64) *window.Window {
	w := &window.Window{
		Catalogue: &window.Catalogue{ID: uint64(n)}, StartMS: start, EndMS: start + 10_000,
		Jobs: []window.Job{{ID: "71001", Project: "P"}},
	}
	meter := func(m window.Meter, watts int64) {
		i := len(w.Catalogue.Meters)
		w.Catalogue.Meters = append(w.Catalogue.Meters, m)
		w.Ranges = append(w.Ranges, window.Range{Meter: i, To: energy.Microjoules(watts * 10_000_000), FromMS: start, ToMS: w.EndMS})
		w.Postings = append(w.Postings, window.Posting{Class: m.Class, Energy: energy.Millijoules(watts * 10_000), DeviceMS: 10_000})
		if m.Class == energy.GPU {
			s := window.Series{Meter: i, Name: "power_watts", StartMS: start, StepMS: 1000}
			for range 10 {
				s.Milli = append(s.Milli, watts*1000)
			}
			w.Telemetry = append(w.Telemetry, s)
		}
	}
	for i := range n {
		meter(window.Meter{Name: fmt.Sprintf("gpu%d", i), Epoch: "e", Class: energy.GPU, Root: true, Leaf: true}, watts)
	}
	meter(window.Meter{Name: "package0", Epoch: "e", Class: energy.CPU, Root: true}, 100)
	return w
}

func gauge(w *window.Window, meter int, name string, mean, most, last float64) {
	w.Telemetry = append(w.Telemetry, window.Series{
		Meter: meter, Name: name, StartMS: w.StartMS, StepMS: w.EndMS - w.StartMS,
		Milli: []int64{int64(mean * 1000)}, Max: int64(most * 1000), Last: int64(last * 1000),
	})
}

// at moves the clock to a time, never back.
func (r *rig) at(ms int64) { r.now.Store(max(ms, r.now.Load())) }

// live lets nodes send windows from a time on, as they would, and waits until
// the sums have them.
func (r *rig) live(from int64, windows, nodes int, change ...func(i int, n ledger.Node, w *window.Window)) {
	r.t.Helper()
	for i := range windows {
		start := from + int64(i)*10_000
		r.at(start + 10_500)
		for k := range nodes {
			n, w := node(fmt.Sprintf("n%d", k)), gpus(start, 4, 200+int64(k))
			for _, f := range change {
				f(i, n, w)
			}
			r.store.Booked(n, w)
		}
	}
	end := from + int64(windows)*10_000
	r.at(end + 10_500)
	ahead := 0
	r.until("all is emitted", func() bool {
		if r.metric(series.MetricQueue) == 0 && ahead < 40 { // sums wait at the start, and at edges of slots
			r.now.Add(1000)
			ahead++
		}
		step, ok := r.find(series.MetricStep, "c")
		return ok && step >= float64(end)/1000 && r.metric(series.MetricQueue) == 0
	})
}
