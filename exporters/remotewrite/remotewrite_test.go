package remotewrite_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/prompb"

	"github.com/wattledger/wattledger/exporters"
	"github.com/wattledger/wattledger/exporters/remotewrite"
	"github.com/wattledger/wattledger/internal/outbox"
)

// receiver takes remote writes as the protocol says.
type receiver struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	fault    func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
	requests int
	took     map[string][]exporters.Point // by labels
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t, took: map[string][]exporters.Point{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	packed, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	if r.fault != nil && r.fault(w, req) {
		return
	}
	for name, want := range map[string]string{
		"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0",
	} {
		if got := req.Header.Get(name); got != want {
			r.t.Errorf("%s: %q; want %q", name, got, want)
		}
	}
	plain, err := s2.Decode(nil, packed)
	if err != nil {
		r.t.Errorf("not snappy: %v", err)
	}
	var m prompb.WriteRequest
	if err := m.Unmarshal(plain); err != nil {
		r.t.Errorf("not a WriteRequest: %v", err)
	}
	for _, ts := range m.Timeseries {
		name := labels(r.t, ts.Labels)
		for _, s := range ts.Samples {
			r.took[name] = append(r.took[name], exporters.Point{MS: s.Timestamp, V: s.Value})
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func labels(t *testing.T, in []prompb.Label) string {
	var out []string
	for _, l := range in {
		out = append(out, l.Name+"="+l.Value)
	}
	if !slices.IsSortedFunc(in, func(a, b prompb.Label) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("labels are not sorted: %v", out)
	}
	return strings.Join(out, ",")
}

func (r *receiver) set(f func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	r.fault = f
	r.mu.Unlock()
}

func (r *receiver) asked() int { r.mu.Lock(); defer r.mu.Unlock(); return r.requests }

// got is what has come, each instant once, in its order.
func (r *receiver) got() map[string][]exporters.Point {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := maps.Clone(r.took)
	for name, points := range out {
		points = slices.Clone(points)
		slices.SortStableFunc(points, func(a, b exporters.Point) int { return int(a.MS - b.MS) })
		out[name] = slices.Compact(points)
	}
	return out
}

func open(t *testing.T, url string, change func(*remotewrite.Options)) *remotewrite.Exporter {
	t.Helper()
	o := remotewrite.Options{
		Name: "test", Endpoint: exporters.Endpoint{URL: url},
		Buffer: outbox.Options{
			Dir: filepath.Join(t.TempDir(), "buffer"), Now: time.Now,
			Linger: time.Millisecond, Shortest: time.Millisecond, Longest: 10 * time.Millisecond, Timeout: time.Second,
		},
	}
	if change != nil {
		change(&o)
	}
	e, err := remotewrite.New(o)
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

// eventually polls until two things are the same.
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

func write(t *testing.T, e *remotewrite.Exporter, series ...exporters.Series) {
	t.Helper()
	if err := e.Write(exporters.Batch{Series: series}); err != nil {
		t.Fatal(err)
	}
}

func power(node string, from, to int64) exporters.Series {
	s := exporters.Series{Name: "wattledger_node_power_watts", Labels: []exporters.Label{{Name: "node", Value: node}, {Name: "cluster", Value: "c"}}}
	for ms := from; ms < to; ms++ {
		s.Points = append(s.Points, exporters.Point{MS: ms, V: math.Sqrt(float64(ms))})
	}
	return s
}

func key(node string) string { return "__name__=wattledger_node_power_watts,cluster=c,node=" + node }

func TestForm(t *testing.T) {
	r := newReceiver(t)
	e := open(t, r.URL, func(o *remotewrite.Options) {
		o.Labels = map[string]string{"site": "bologna", "cluster": "of the exporter", "empty": ""}
		o.Only = []string{"A*", "up"}
	})
	one := []exporters.Point{{MS: 1, V: 1}}
	label := func(pairs ...string) (out []exporters.Label) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, exporters.Label{Name: pairs[i], Value: pairs[i+1]})
		}
		return out
	}
	write(
		t, e,
		exporters.Series{Name: "A", Labels: label("z", "1", "Big", "2", "none", ""), Points: []exporters.Point{{MS: 7, V: -0.1}, {MS: -5, V: 3}, {MS: 7, V: 4}}},
		exporters.Series{Name: "A", Labels: label("cluster", "own", "bad", "a\xffb"), Points: one},
		exporters.Series{Name: "A", Labels: label("twice", "1", "twice", "2"), Points: one},
		exporters.Series{Name: "A", Labels: label("", "1"), Points: one},
		exporters.Series{Name: "A"},
		exporters.Series{Name: "not chosen", Points: one},
		exporters.Series{Name: "up", Points: one},
	)
	want := map[string][]exporters.Point{
		"Big=2,__name__=A,cluster=of the exporter,site=bologna,z=1": {{MS: -5, V: 3}, {MS: 7, V: -0.1}, {MS: 7, V: 4}},
		"__name__=A,bad=a\uFFFDb,cluster=own,site=bologna":          one,
		"__name__=up,cluster=of the exporter,site=bologna":          one,
	}
	eventually(t, "what came", want, func() any { return r.got() })
}

func TestLongSeriesAreCutAndSmallOnesJoined(t *testing.T) {
	r := newReceiver(t)
	e := open(t, r.URL, func(o *remotewrite.Options) { o.Buffer.Linger = 300 * time.Millisecond; o.Buffer.MaxValues = 4000 })
	long, want := power("long", 0, 9000), map[string][]exporters.Point{}
	want[key("long")] = long.Points
	write(t, e, long)
	for i := range 100 {
		s := power(fmt.Sprint(i), 0, 3)
		want[key(fmt.Sprint(i))] = s.Points
		write(t, e, s)
	}
	eventually(t, "what came", want, func() any { return r.got() })
	if n := r.asked(); n > 8 {
		t.Errorf("%d requests for 9,300 samples, 4,000 at a time", n)
	}
}

// TestFaults: whatever a receiver does, it has everything once it is well.
func TestFaults(t *testing.T) {
	code := func(code int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(code); return true }
	}
	faults := map[string]func(http.ResponseWriter, *http.Request) bool{
		"401": code(401), "403": code(403), "404": code(404), "429": code(429), "500": code(500), "503": code(503),
		"slow": func(_ http.ResponseWriter, r *http.Request) bool {
			select {
			case <-r.Context().Done():
			case <-time.After(3 * time.Second):
			}
			return true
		},
		"login page": func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>")
			return true
		},
		"garbage": func(w http.ResponseWriter, _ *http.Request) bool {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = c.Write([]byte("garbage\r\n\r\n"))
				_ = c.Close()
			}
			return true
		},
		"hangs up": func(w http.ResponseWriter, _ *http.Request) bool {
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = c.Close()
			}
			return true
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			r.set(fault)
			e := open(t, r.URL, func(o *remotewrite.Options) { o.Buffer.Timeout = 200 * time.Millisecond })
			for ms := range int64(50) {
				write(t, e, power("n", ms*10, ms*10+10))
			}
			eventually(t, "tried again", true, func() any { return r.asked() >= 3 })
			if n := len(r.got()); n != 0 {
				t.Fatalf("%d series came in spite of the fault", n)
			}
			r.set(nil)
			eventually(t, "what came", map[string][]exporters.Point{key("n"): power("n", 0, 500).Points}, func() any { return r.got() })
		})
	}
}

func TestRefusedSamplesDoNotBlock(t *testing.T) {
	r := newReceiver(t)
	r.set(func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "out of order", http.StatusBadRequest)
		return true
	})
	e := open(t, r.URL, nil)
	write(t, e, power("n", 0, 10))
	eventually(t, "asked", true, func() any { return r.asked() >= 1 })
	r.set(nil)
	write(t, e, power("n", 10, 20))
	eventually(t, "what came", map[string][]exporters.Point{key("n"): power("n", 10, 20).Points}, func() any { return r.got() })
}

func TestRefusesWhatCannotWork(t *testing.T) {
	f := func(want string, change func(*remotewrite.Options)) {
		t.Helper()
		o := remotewrite.Options{Name: "x", Buffer: outbox.Options{Dir: t.TempDir(), Now: time.Now}}
		change(&o)
		if _, err := remotewrite.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	f("without a clock", func(o *remotewrite.Options) { o.Buffer.Now = nil })
	f("without a name", func(o *remotewrite.Options) { o.Name = "" })
	f("not a pattern", func(o *remotewrite.Options) { o.Only = []string{"["} })
	f("without a folder", func(o *remotewrite.Options) { o.Buffer.Dir = "" })
	f("no such file", func(o *remotewrite.Options) { o.Endpoint.CAFile = "none.pem" })
}
