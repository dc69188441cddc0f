package influxdb_test

import (
	"context"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/wattledger/wattledger/exporters"
	"github.com/wattledger/wattledger/exporters/influxdb"
	"github.com/wattledger/wattledger/internal/outbox"
)

// receiver takes lines.
type receiver struct {
	*httptest.Server

	mu       sync.Mutex
	code     int // what it answers; 0: it takes the lines
	requests int
	last     *http.Request
	lines    []string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests, r.last = r.requests+1, req
	if r.code != 0 {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(r.code)
		_, _ = io.WriteString(w, `{"code":"x","message":"garbage`)
		return
	}
	r.lines = append(r.lines, strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")...)
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) set(code int) { r.mu.Lock(); r.code = code; r.mu.Unlock() }

func (r *receiver) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.lines...)
}

func (r *receiver) request() *http.Request { r.mu.Lock(); defer r.mu.Unlock(); return r.last }

func (r *receiver) asked() int { r.mu.Lock(); defer r.mu.Unlock(); return r.requests }

func open(t *testing.T, url string, change func(*influxdb.Options)) *influxdb.Exporter {
	t.Helper()
	o := influxdb.Options{
		Name: "test", Endpoint: exporters.Endpoint{URL: url}, Bucket: "books/autogen",
		Buffer: outbox.Options{
			Dir: filepath.Join(t.TempDir(), "buffer"), Now: time.Now, Rewind: -1,
			Linger: time.Millisecond, Shortest: time.Millisecond, Longest: 10 * time.Millisecond, Timeout: time.Second,
		},
	}
	if change != nil {
		change(&o)
	}
	e, err := influxdb.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func eventually(t *testing.T, what string, want any, got func() any) {
	t.Helper()
	var diff string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if diff = cmp.Diff(want, got()); diff == "" {
			return
		}
	}
	t.Fatalf("%s, -want +got:\n%s", what, diff)
}

func series(name string, points []exporters.Point, labels ...string) exporters.Series {
	s := exporters.Series{Name: name, Points: points}
	for i := 0; i < len(labels); i += 2 {
		s.Labels = append(s.Labels, exporters.Label{Name: labels[i], Value: labels[i+1]})
	}
	return s
}

func one(ms int64, v float64) []exporters.Point { return []exporters.Point{{MS: ms, V: v}} }

// TestSchema is what docs/influxdb.md says.
func TestSchema(t *testing.T) {
	r := newReceiver(t)
	reg := prometheus.NewPedanticRegistry()
	e := open(t, r.URL, func(o *influxdb.Options) {
		o.Labels = map[string]string{"site": "bologna", "cluster": "unknown"}
		o.Org = "cineca"
		o.Buffer.Registerer = reg
	})
	node := []string{"node", "lrdn0001", "cluster", "leonardo"}
	err := e.Write(exporters.Batch{Series: []exporters.Series{
		series("wattledger_node_power_watts", []exporters.Point{{MS: 2000, V: 1500.25}, {MS: 1000, V: 1400}}, node...),
		series("wattledger_node_temperature_celsius", one(1000, 31), node...),
		series("wattledger_gpu_power_watts", one(1000, 399.5), append(node, "gpu", "0", "uuid", "GPU-1 2,3=4")...),
		series("wattledger_gpu_throttle_seconds_total", one(1000, 12.125), append(node, "gpu", "0", "reason", "power")...),
		series("wattledger_project_energy_joules_total", one(1000, 9007199254740993), "cluster", "leonardo", "project", `EUHPC A\01`, "none", ""),
		series("wattledger_cluster_power_ramp_watts_per_second", one(1000, -1e-300), "cluster", "leonardo"),
		series("wattledger_books_difference_joules", one(1000, 0)),
		series("up", one(1000, 1)),
		series("wattledger_node_power_watts", []exporters.Point{
			{MS: 1, V: math.NaN()}, {MS: 2, V: math.Inf(1)}, {MS: math.MaxInt64, V: 1}, {MS: math.MinInt64, V: 1},
		}, node...),
		series("wattledger_node_power_watts", one(1, 1), "twice", "1", "twice", "2"),
		series("wattledger_node_power_watts", one(1, 1), "", "1"),
		series("wattledger_node_power_watts", one(1, 1), "tail", `ends\`),
		series("wattledger_node_power_watts", one(1, 1), "lines", "a\nwattledger_project,project=x energy_joules_total=0"),
		series("line\nbreak", one(1, 1)),
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`wattledger_node,cluster=leonardo,node=lrdn0001,site=bologna power_watts=1400,temperature_celsius=31 1000`,
		`wattledger_gpu,cluster=leonardo,gpu=0,node=lrdn0001,site=bologna,uuid=GPU-1\ 2\,3\=4 power_watts=399.5 1000`,
		`wattledger_gpu,cluster=leonardo,gpu=0,node=lrdn0001,reason=power,site=bologna throttle_seconds_total=12.125 1000`,
		`wattledger_project,cluster=leonardo,project=EUHPC\ A\01,site=bologna energy_joules_total=9.007199254740992e+15 1000`,
		`wattledger_cluster,cluster=leonardo,site=bologna power_ramp_watts_per_second=-1e-300 1000`,
		`wattledger,cluster=unknown,site=bologna books_difference_joules=0,up=1 1000`,
		`wattledger_node,cluster=leonardo,node=lrdn0001,site=bologna power_watts=1500.25 2000`,
	}
	eventually(t, "lines", want, func() any { return r.got() })
	if q := r.request().URL.String(); q != "/api/v2/write?bucket=books%2Fautogen&org=cineca&precision=ms" {
		t.Errorf("posted to %s", q)
	}
	text := `
# HELP wattledger_exporter_samples_total Samples for a receiver by what became of them.
# TYPE wattledger_exporter_samples_total counter
wattledger_exporter_samples_total{exporter="influxdb",receiver="test",result="damaged"} 0
wattledger_exporter_samples_total{exporter="influxdb",receiver="test",result="delivered"} 9
wattledger_exporter_samples_total{exporter="influxdb",receiver="test",result="dropped"} 0
wattledger_exporter_samples_total{exporter="influxdb",receiver="test",result="refused"} 0
wattledger_exporter_samples_total{exporter="influxdb",receiver="test",result="unbuffered"} 0
wattledger_exporter_samples_total{exporter="influxdb",receiver="test",result="unfit"} 9
`
	eventually(t, "metrics", "", func() any {
		if err := testutil.GatherAndCompare(reg, strings.NewReader(text), outbox.MetricSamples); err != nil {
			return err.Error()
		}
		return ""
	})
}

func TestPointWithoutTags(t *testing.T) {
	r := newReceiver(t)
	e := open(t, r.URL, nil)
	if err := e.Write(exporters.Batch{Series: []exporters.Series{series("a, b", one(1, 2))}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "lines", []string{`wattledger a\,\ b=2 1`}, func() any { return r.got() })
}

func TestManyPointsTravelInFewRequests(t *testing.T) {
	r := newReceiver(t)
	e := open(t, r.URL, func(o *influxdb.Options) { o.Buffer.Linger = 300 * time.Millisecond })
	var points []exporters.Point
	for ms := range int64(9000) {
		points = append(points, exporters.Point{MS: ms, V: float64(ms)})
	}
	if err := e.Write(exporters.Batch{Series: []exporters.Series{series("wattledger_node_power_watts", points, "node", "n")}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "lines", 9000, func() any { return len(r.got()) })
	if n := r.asked(); n > 4 {
		t.Errorf("%d requests for 9,000 points, 5,000 at a time", n)
	}
}

// TestFaults: whatever a receiver answers, it has everything once it is well.
func TestFaults(t *testing.T) {
	for _, code := range []int{302, 401, 403, 404, 429, 500, 503} {
		r := newReceiver(t)
		r.set(code)
		e := open(t, r.URL, nil)
		if err := e.Write(exporters.Batch{Series: []exporters.Series{series("wattledger_node_power_watts", one(1, 1), "node", "n")}}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "tried again", true, func() any { return r.asked() >= 3 })
		r.set(0)
		eventually(t, "lines", []string{"wattledger_node,node=n power_watts=1 1"}, func() any { return r.got() })
	}
}

func TestRefusedPointsDoNotBlock(t *testing.T) {
	for _, code := range []int{400, 413, 422} {
		r := newReceiver(t)
		r.set(code)
		e := open(t, r.URL, nil)
		batch := exporters.Batch{Series: []exporters.Series{series("wattledger_node_power_watts", one(1, 1), "node", "n")}}
		if err := e.Write(batch); err != nil {
			t.Fatal(err)
		}
		eventually(t, "asked", true, func() any { return r.asked() >= 1 })
		r.set(0)
		batch.Series[0].Points = one(2, 2)
		if err := e.Write(batch); err != nil {
			t.Fatal(err)
		}
		eventually(t, "lines", []string{"wattledger_node,node=n power_watts=2 2"}, func() any { return r.got() })
	}
}

func TestToken(t *testing.T) {
	r := newReceiver(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("ada:lovelace\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := open(t, r.URL, func(o *influxdb.Options) { o.Endpoint.TokenFile = file })
	if err := e.Write(exporters.Batch{Series: []exporters.Series{series("a", one(1, 1))}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "asked", 1, func() any { return r.asked() })
	if got := r.request().Header.Get("Authorization"); got != "Token ada:lovelace" {
		t.Errorf("Authorization: %q", got)
	}
}

func TestRefusesWhatCannotWork(t *testing.T) {
	f := func(want string, change func(*influxdb.Options)) {
		t.Helper()
		o := influxdb.Options{Name: "x", Endpoint: exporters.Endpoint{URL: "http://h"}, Buffer: outbox.Options{Dir: t.TempDir(), Now: time.Now}}
		change(&o)
		if _, err := influxdb.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	f("without a clock", func(o *influxdb.Options) { o.Buffer.Now = nil })
	f("not the address", func(o *influxdb.Options) { o.Endpoint.URL = "host:1" })
	f("not a pattern", func(o *influxdb.Options) { o.Only = []string{"["} })
	f("no such file", func(o *influxdb.Options) { o.Endpoint.CAFile = "none.pem" })
	f("without a name", func(o *influxdb.Options) { o.Name = "" })
}
