package intake_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/wattledger/wattledger/internal/intake"
	"github.com/wattledger/wattledger/internal/intake/intaketest"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// bench is an intake behind a real HTTP server, with a ledger in memory.
type bench struct {
	t   testing.TB
	led *intaketest.Ledger
	reg *prometheus.Registry
	srv *httptest.Server
	end func() // of Run
}

func newBench(t testing.TB, change func(o *intake.Options)) *bench {
	t.Helper()
	b := &bench{t: t, led: intaketest.New(), reg: prometheus.NewPedanticRegistry()}
	o := intake.Options{Ledger: b.led, CommitEvery: 5 * time.Millisecond, Now: time.Now, Registerer: b.reg}
	if change != nil {
		change(&o)
	}
	in, err := intake.New(o)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	in.Register(mux)
	b.srv = httptest.NewServer(mux)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = in.Run(ctx) }()
	b.end = func() {
		cancel()
		<-done
	}
	t.Cleanup(func() {
		b.srv.Close()
		b.end()
	})
	return b
}

func head(node string, incarnation uint64) wire.Head {
	return wire.Head{Node: ledger.Node{Cluster: "c", Name: node}, Incarnation: incarnation, Session: "s", NowMS: 1}
}

func batch(t testing.TB, h wire.Head, cats []*window.Catalogue, ws ...*window.Window) []byte {
	t.Helper()
	b, err := wire.AppendHead(nil, h)
	if err != nil {
		t.Fatal(err)
	}
	f, err := wire.EncodeFragment(cats, ws)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, f...)
}

// post sends a body; headers come in pairs.
func (b *bench) post(path string, body []byte, headers ...string) (*http.Response, []byte) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.srv.URL+path, bytes.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", wire.ContentType)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := b.srv.Client().Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, out
}

func (b *bench) open(node string) ledger.Opening {
	b.t.Helper()
	body, err := wire.EncodeOpenRequest(ledger.OpenRequest{Node: ledger.Node{Cluster: "c", Name: node}, Nonce: "n", Session: "s"})
	if err != nil {
		b.t.Fatal(err)
	}
	resp, out := b.post(wire.PathOpen, body)
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("open: %d %s", resp.StatusCode, out)
	}
	o, _, err := wire.DecodeOpening(out)
	if err != nil {
		b.t.Fatal(err)
	}
	return o
}

// send posts a batch and reads its answer.
func (b *bench) send(body []byte, headers ...string) (int, wire.Response) {
	b.t.Helper()
	resp, out := b.post(wire.PathWindows, body, headers...)
	if resp.Header.Get("Content-Type") != wire.ContentType {
		return resp.StatusCode, wire.Response{}
	}
	r, err := wire.DecodeResponse(out)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, r
}

func (b *bench) metric(name string, labels ...string) float64 {
	b.t.Helper()
	families, err := b.reg.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name || len(labels) > 0 && m.GetLabel()[0].GetValue() != labels[0] {
				continue
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	b.t.Fatalf("no metric %s %v", name, labels)
	return 0
}

func packed(t testing.TB, b []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return enc.EncodeAll(b, nil)
}
