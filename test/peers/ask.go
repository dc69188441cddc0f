package peers

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"
)

// Point is a value at a time.
type Point struct {
	MS int64 // since 1970, in milliseconds
	V  float64
}

// Series are the points of one set of labels, __name__ among them.
type Series struct {
	Labels map[string]string
	Points []Point
}

// Get asks for a path and gives the body of an answer of 2xx; anything else
// ends the test.
func (p *Peer) Get(t testing.TB, path string) []byte {
	t.Helper()
	b, err := fetch(http.MethodGet, p.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Query evaluates PromQL at a time on a Prometheus or a VictoriaMetrics. With a
// range, like up[1h], the points are those that are stored.
func (p *Peer) Query(t testing.TB, expr string, at time.Time) []Series {
	t.Helper()
	form := url.Values{"query": {expr}, "time": {strconv.FormatFloat(float64(at.UnixMilli())/1e3, 'f', 3, 64)}}
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  *pair
				Values []pair
			}
		}
	}
	decode(t, p.Get(t, "/api/v1/query?"+form.Encode()), &answer)
	var out []Series
	for _, r := range answer.Data.Result {
		s := Series{Labels: r.Metric}
		if r.Value != nil {
			r.Values = append(r.Values, *r.Value)
		}
		for _, v := range r.Values {
			s.Points = append(s.Points, Point(v))
		}
		out = append(out, s)
	}
	return out
}

// Export gives the stored points of a VictoriaMetrics, as they are, from from to
// to inclusive. Points of one set of labels may come in several pieces.
func (p *Peer) Export(t testing.TB, selector string, from, to time.Time) []Series {
	t.Helper()
	form := url.Values{
		"match[]": {selector}, "reduce_mem_usage": {"1"},
		"start": {strconv.FormatInt(from.Unix(), 10)}, "end": {strconv.FormatInt(to.Unix(), 10)},
	}
	p.Get(t, "/internal/force_flush")
	var out []Series
	for dec := json.NewDecoder(bytes.NewReader(p.Get(t, "/api/v1/export?"+form.Encode()))); dec.More(); {
		var line struct {
			Metric     map[string]string
			Values     []float64
			Timestamps []int64
		}
		if err := dec.Decode(&line); err != nil {
			t.Fatalf("cannot read the export of %s: %v", p.name, err)
		}
		s := Series{Labels: line.Metric}
		for i, v := range line.Values {
			s.Points = append(s.Points, Point{MS: line.Timestamps[i], V: v})
		}
		out = append(out, s)
	}
	return out
}

// pair is [seconds, "value"] of the Prometheus API.
type pair Point

// UnmarshalJSON reads [1700000000.123, "4.5"].
func (p *pair) UnmarshalJSON(b []byte) error {
	var seconds float64
	var value string
	if err := json.Unmarshal(b, &[]any{&seconds, &value}); err != nil {
		return err
	}
	v, err := strconv.ParseFloat(value, 64)
	p.MS, p.V = int64(seconds*1e3+0.5), v
	return err
}

func decode(t testing.TB, b []byte, to any) {
	t.Helper()
	if err := json.Unmarshal(b, to); err != nil {
		t.Fatalf("cannot read an answer: %v: %.500s", err, b)
	}
}

// Eventually polls until done is true, and ends the test with what was awaited
// if that does not come in time.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("not within %v: %s", patience, what)
}
