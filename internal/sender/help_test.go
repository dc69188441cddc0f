package sender_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wattledger/wattledger/internal/intake/intaketest"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/sender"
	"github.com/wattledger/wattledger/internal/spool"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

func node() ledger.Node { return ledger.Node{Cluster: "c", Name: "n1"} }

// call is one request as a scripted aggregator saw it.
type call struct {
	path       string
	windows    int
	catalogues int
	packed     bool
	at         time.Time
}

// script answers requests with what is next in line, then 200 for ever. It is a
// RoundTripper, so that a test needs no sockets and can live in a synctest bubble.
type script struct {
	t  *testing.T
	mu sync.Mutex
	// steps answer POST windows.
	steps []func(w http.ResponseWriter, p *wire.Parts)
	// always answers when there is no step left; nil books everything.
	always func(w http.ResponseWriter, p *wire.Parts)
	calls  []call
	opens  int
	noOpen int // openings that get no answer
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := httptest.NewRecorder()
	c := call{path: r.URL.Path, at: time.Now(), packed: r.Header.Get("Content-Encoding") == "zstd"}
	if r.URL.Path == wire.PathOpen {
		s.opens++
		if s.noOpen > 0 {
			s.noOpen--
			return nil, io.ErrUnexpectedEOF
		}
		b, err := wire.EncodeOpening(ledger.Opening{Incarnation: 7}, time.Now().UnixMilli()+2000)
		if err != nil {
			s.t.Error(err)
		}
		proto(w, http.StatusOK, b)
		return w.Result(), nil
	}
	if c.packed {
		body = unpacked(s.t, body)
	}
	p, err := wire.SplitBatch(body)
	if err != nil {
		s.t.Errorf("the sender sent nonsense: %v", err)
		return nil, err
	}
	if p.Head.Incarnation != 7 {
		s.t.Errorf("incarnation %d in a batch; want that of the opening", p.Head.Incarnation)
	}
	c.windows, c.catalogues = len(p.Windows), len(p.Catalogues)
	s.calls = append(s.calls, c)
	switch {
	case len(s.steps) > 0:
		step := s.steps[0]
		s.steps = s.steps[1:]
		step(w, p)
	case s.always != nil:
		s.always(w, p)
	default:
		booked(w, p)
	}
	return w.Result(), nil
}

func (s *script) seen() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]call(nil), s.calls...)
}

func proto(w http.ResponseWriter, code int, b []byte) {
	w.Header().Set("Content-Type", wire.ContentType)
	w.WriteHeader(code)
	_, _ = w.Write(b)
}

// answer is an answer with these results.
func answer(code int, unknown []uint64, results ...ledger.Result) func(w http.ResponseWriter, p *wire.Parts) {
	return func(w http.ResponseWriter, _ *wire.Parts) {
		b, _ := wire.EncodeResponse(wire.Response{Results: results, Unknown: unknown, NowMS: time.Now().UnixMilli() + 2000})
		proto(w, code, b)
	}
}

func booked(w http.ResponseWriter, p *wire.Parts) {
	answer(http.StatusOK, nil, make([]ledger.Result, len(p.Windows))...)(w, p)
}

// status is a refusal in a line of text; reason "" is somebody on the way.
func status(code int, reason string, headers ...string) func(w http.ResponseWriter, p *wire.Parts) {
	return func(w http.ResponseWriter, _ *wire.Parts) {
		if reason != "" {
			w.Header().Set(wire.HeaderReason, reason)
		}
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		http.Error(w, "no", code)
	}
}

// fill makes a spool of n records of one window each.
func fill(t *testing.T, n int) *spool.Spool {
	t.Helper()
	sp, err := spool.Open(spool.Options{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sp.Close() })
	c, ws := intaketest.Windows(n, 2)
	for _, w := range ws {
		b, err := wire.EncodeFragment([]*window.Catalogue{c}, []*window.Window{w})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sp.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	return sp
}

func options(sp sender.Spool, rt http.RoundTripper) sender.Options {
	return sender.Options{
		Spool: sp, Client: &http.Client{Transport: rt}, URL: "http://aggregator", Node: node(), Nonce: "n", Session: "s",
		OnRefused: func([]byte, string) error { return nil }, Now: time.Now, Registerer: prometheus.NewPedanticRegistry(),
	}
}
