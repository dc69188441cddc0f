package site

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/fleet"
	"github.com/wattledger/wattledger/internal/intake"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/ledger/sqlite"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// aggregator is the real intake before a real ledger.
type aggregator struct {
	*httptest.Server
	led  ledger.Ledger
	stop func()
	// broken refuses every so many requests, as one that was killed would.
	every, seen atomic.Int64
}

func aggregate(t testing.TB, dir string) *aggregator {
	t.Helper()
	led, err := sqlite.Open(dir, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in, err := intake.New(intake.Options{Ledger: led, CommitEvery: 5 * time.Millisecond, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	a := &aggregator{led: led}
	mux := http.NewServeMux()
	in.Register(mux)
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if every := a.every.Load(); every > 0 && a.seen.Add(1)%every == 0 {
			if a.seen.Load()%2 == 0 {
				mux.ServeHTTP(httptest.NewRecorder(), r) // booked, and the answer is lost
			}
			panic(http.ErrAbortHandler)
		}
		mux.ServeHTTP(seesAll{w}, r)
	}))
	a.Config.ErrorLog = nil
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = in.Run(ctx) }()
	stopped := false
	a.stop = func() {
		if stopped {
			return
		}
		stopped = true
		a.Close()
		cancel()
		<-done
		if err := led.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(a.stop)
	return a
}

// booked is what a ledger holds, by truth key.
func booked(t testing.TB, led ledger.Ledger, s *Site, rows []fleet.TruthRow) fleet.Booked {
	t.Helper()
	ctx := t.Context()
	from := (s.first/window.SlotMS - 8) * window.SlotMS
	to := (s.end/window.SlotMS + 8) * window.SlotMS
	books, err := led.Books(ctx, "c", from, to, to)
	if err != nil {
		t.Fatal(err)
	}
	out := fleet.Booked{
		fleet.TruthKey(fleet.KindTotal, ""): books.Metered - books.Unbooked,
		fleet.TruthKey(fleet.KindIdle, ""):  books.Nobody.Use(energy.Idle),
	}
	for i := range books.Projects {
		out[fleet.TruthKey(fleet.KindProject, books.Projects[i].Name)] = books.Projects[i].Amounts.Total()
	}
	for _, r := range rows {
		if r.Kind != fleet.KindJob {
			continue
		}
		runs, err := led.Job(ctx, "c", r.ID)
		if err != nil {
			t.Fatal(err)
		}
		for i := range runs {
			out[fleet.TruthKey(fleet.KindJob, r.ID)] += runs[i].Amounts.Total()
		}
	}
	audit, err := led.Audit(ctx, "c", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(audit.Findings) > 0 || audit.Metered != audit.Booked || audit.Unbooked != 0 {
		t.Errorf("the audit finds %d things, metered %d, booked %d: %+v", len(audit.Findings), audit.Metered, audit.Booked, first(audit.Findings))
	}
	return out
}

func first(f []ledger.Finding) []ledger.Finding { return f[:min(3, len(f))] }

// meet compares to the millijoule.
func meet(t *testing.T, led ledger.Ledger, s *Site) {
	t.Helper()
	rows := s.Truth()
	have := booked(t, led, s, rows)
	if d := fleet.CompareTruth(rows, have, false); len(d) > 0 {
		t.Errorf("%d of %d rows differ; the first: %v", len(d), len(rows), d[0])
	}
	if len(have) < 60 || have[fleet.TruthKey(fleet.KindTotal, "")] < 1_000_000 {
		t.Errorf("only %d rows to compare", len(have))
	}
}

// seesAll is a ResponseWriter whose connection cannot be taken over: what stands
// before the intake then sees all requests.
type seesAll struct{ http.ResponseWriter }

// TestBooksHoldTheTruth of each machine with every fault, history and backlog,
// over connections that break.
func TestBooksHoldTheTruth(t *testing.T) {
	for _, machine := range Machines() {
		t.Run(machine, func(t *testing.T) {
			t.Parallel()
			a := aggregate(t, t.TempDir())
			a.every.Store(7)
			o := options(machine)
			o.URL, o.History, o.Backlog, o.Final = a.URL, 26*time.Hour, 30*time.Minute, true
			s := site(t, o)
			if err := s.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			p := s.Progress()
			if p.Repeated == 0 || p.Retries == 0 || p.Undelivered != 0 || !p.Delivered.Equal(o.Start.Add(o.For)) {
				t.Errorf("progress %+v", p)
			}
			meet(t, a.led, s)
			nodes, err := a.led.Nodes(t.Context())
			if err != nil || len(nodes) != o.Nodes {
				t.Errorf("%d nodes: %v", len(nodes), err)
			}
		})
	}
}

// TestResumesWhereTheBooksAre: stopped in the middle, begun again, and run once
// more after its end.
func TestResumesWhereTheBooksAre(t *testing.T) {
	a := aggregate(t, t.TempDir())
	o := options("leonardo")
	o.URL, o.History, o.Batch = a.URL, 2*time.Hour, 2
	ctx, cancel := context.WithCancel(t.Context())
	s := site(t, o)
	go func() {
		for s.windows.Load() < 300 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if s.Progress().Delivered.Equal(o.Start.Add(o.For)) {
		t.Error("it was not stopped in the middle")
	}
	meet2 := func(s *Site) {
		t.Helper()
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		meet(t, a.led, s)
	}
	again := site(t, o)
	meet2(again)
	third := site(t, o)
	meet2(third)
	if third.bytes.Load() != 0 || again.bytes.Load() == 0 {
		t.Errorf("%d bytes were sent of a simulation that is in the books, %d before", third.bytes.Load(), again.bytes.Load())
	}
}

// TestRefusesBooksOfAnother: nothing is booked over what somebody else sent.
func TestRefusesBooksOfAnother(t *testing.T) {
	a := aggregate(t, t.TempDir())
	o := options("lumi")
	o.URL, o.For = a.URL, 10*time.Minute
	if err := site(t, o).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.Seed++
	if err := site(t, o).Run(t.Context()); err == nil {
		t.Error("another simulation of the same nodes was booked")
	}
}

// TestForgetfulAggregator: one that has lost a catalogue, or knows the session no
// more, is told again.
func TestForgetfulAggregator(t *testing.T) {
	a := aggregate(t, t.TempDir())
	var forgot, told, reopened atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if r.URL.Path != wire.PathWindows {
			if forgot.Load() > 1 {
				reopened.Add(1)
			}
			a.Config.Handler.ServeHTTP(seesAll{w}, r)
			return
		}
		if parts, err := wire.SplitBatch(body); err == nil && len(parts.Catalogues) > 0 && forgot.Load() == 1 {
			told.Add(1)
		}
		answer, err := wire.EncodeResponse(wire.Response{Unknown: []uint64{1}})
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		switch n := a.seen.Add(1); n {
		case 20, 40:
			forgot.Add(1)
			w.Header().Set("Content-Type", wire.ContentType)
			w.WriteHeader(map[int64]int{20: http.StatusFailedDependency, 40: http.StatusPreconditionRequired}[n])
			_, _ = w.Write(answer)
		default:
			a.Config.Handler.ServeHTTP(seesAll{w}, r)
		}
	}))
	defer front.Close()
	o := options("lumi")
	o.URL, o.Nodes, o.Batch, o.Faults, o.History = front.URL, 1, 1, nil, 48*time.Hour
	s := site(t, o)
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if told.Load() != 1 || reopened.Load() != 1 {
		t.Errorf("the catalogue was sent again %d times, opened again %d times", told.Load(), reopened.Load())
	}
	meet(t, a.led, s)
}

// TestRestartOfTheAggregator in mid-stream, on the same address.
func TestRestartOfTheAggregator(t *testing.T) {
	dir := t.TempDir()
	a := aggregate(t, dir)
	var to atomic.Pointer[aggregator]
	to.Store(a)
	var asked atomic.Int64
	gone := make(chan struct{})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 30 { // this one is cut, too
			to.Store(nil)
			close(gone)
		}
		now := to.Load()
		if now == nil {
			panic(http.ErrAbortHandler)
		}
		now.Config.Handler.ServeHTTP(seesAll{w}, r)
	}))
	defer front.Close()
	o := options("jupiter")
	o.URL, o.History = front.URL, 6*time.Hour
	s := site(t, o)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context()) }()
	select {
	case <-gone:
	case err := <-ended:
		t.Fatalf("it ended after %d requests: %v", asked.Load(), err)
	}
	a.stop()
	b := aggregate(t, dir)
	to.Store(b)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if s.Progress().Retries == 0 {
		t.Error("nothing had to be sent again")
	}
	meet(t, b.led, s)
}
