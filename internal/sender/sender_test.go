package sender_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/wattledger/wattledger/internal/intake/intaketest"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/sender"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

func unpacked(t *testing.T, b []byte) []byte {
	t.Helper()
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	out, err := dec.DecodeAll(b, nil)
	if err != nil {
		t.Error(err)
	}
	return out
}

// deliver runs a sender over n records in a bubble until the spool is empty or a
// virtual hour is over, and gives what Run returned and how long it took.
func deliver(t *testing.T, n int, s *script, change func(o *sender.Options)) (left int, took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.t = t
		sp := fill(t, n)
		o := options(sp, s)
		if change != nil {
			change(&o)
		}
		x, newErr := sender.New(o)
		if newErr != nil {
			t.Fatal(newErr)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		begin := time.Now()
		go func() { done <- x.Run(ctx) }()
		for sp.Len() > 0 && len(done) == 0 && time.Since(begin) < time.Hour {
			time.Sleep(10 * time.Millisecond)
		}
		took = time.Since(begin)
		cancel()
		err = <-done
		left = sp.Len()
	})
	return left, took, err
}

func TestInOrderAndCatalogueOnce(t *testing.T) {
	s := &script{}
	left, _, err := deliver(t, 20, s, func(o *sender.Options) { o.MaxRecords = 8 })
	if left != 0 || err != nil {
		t.Fatalf("%d left, %v", left, err)
	}
	calls := s.seen()
	if s.opens != 1 || len(calls) != 3 || calls[0].windows != 8 || calls[2].windows != 4 {
		t.Errorf("opens %d, calls %+v", s.opens, calls)
	}
	if calls[0].catalogues != 1 || calls[1].catalogues != 0 {
		t.Errorf("catalogues sent: %d, %d; want 1, 0", calls[0].catalogues, calls[1].catalogues)
	}
}

func TestPartlyTaken(t *testing.T) {
	s := &script{steps: []func(http.ResponseWriter, *wire.Parts){
		answer(http.StatusConflict, nil, ledger.Result{}, ledger.Result{Status: ledger.Duplicate}, ledger.Result{Status: ledger.Quarantined},
			ledger.Result{Status: ledger.Apart, Ends: []ledger.End{{Meter: "gpu0", UJ: 5}}}),
	}}
	var got []ledger.End
	left, took, _ := deliver(t, 6, s, func(o *sender.Options) {
		o.OnApart = func(ends []ledger.End) error { got = ends; return nil }
	})
	if calls := s.seen(); left != 0 || len(calls) != 2 || calls[1].windows != 3 {
		t.Errorf("%d left, calls %+v; want the last 3 sent again", left, calls)
	}
	if len(got) != 1 || got[0].UJ != 5 {
		t.Errorf("ends = %+v", got)
	}
	if took > 50*time.Millisecond {
		t.Errorf("sent again after %v; want at once", took)
	}
}

func TestApartForEverIsNotDroppedAndNotHammered(t *testing.T) {
	calls := 0
	s := &script{always: answer(http.StatusConflict, nil, ledger.Result{Status: ledger.Apart})}
	left, _, _ := deliver(t, 3, s, func(o *sender.Options) {
		o.OnApart = func([]ledger.End) error { calls++; return nil }
	})
	if left != 3 {
		t.Errorf("%d records left; want all 3", left)
	}
	if calls < 50 || calls > 400 {
		t.Errorf("%d tries in an hour; want a pause of up to 30 s between them", calls)
	}
}

func TestConflictIsToldWithItsHash(t *testing.T) {
	s := &script{steps: []func(http.ResponseWriter, *wire.Parts){
		answer(http.StatusConflict, nil, ledger.Result{}, ledger.Result{Status: ledger.Conflict, Reason: "other content"}),
	}}
	var hash uint64
	left, _, _ := deliver(t, 2, s, func(o *sender.Options) {
		o.OnConflict = func(h uint64, r ledger.Result) error { hash = h; return nil }
	})
	if hash == 0 || left != 0 {
		t.Errorf("hash %x, %d left", hash, left)
	}
}

func TestFenced(t *testing.T) {
	s := &script{steps: []func(http.ResponseWriter, *wire.Parts){answer(http.StatusGone, nil, ledger.Result{Status: ledger.Fenced})}}
	if left, _, err := deliver(t, 2, s, nil); !errors.Is(err, sender.ErrFenced) || left != 2 {
		t.Errorf("err %v, %d left", err, left)
	}
	foreign := &script{steps: []func(http.ResponseWriter, *wire.Parts){status(http.StatusGone, "")}}
	if left, _, err := deliver(t, 2, foreign, nil); err != nil || left != 0 {
		t.Errorf("410 of a proxy: err %v, %d left", err, left)
	}
}

func TestReopen(t *testing.T) {
	s := &script{steps: []func(http.ResponseWriter, *wire.Parts){booked, answer(http.StatusPreconditionRequired, nil)}}
	opened := 0
	left, _, _ := deliver(t, 4, s, func(o *sender.Options) {
		o.MaxRecords = 2
		o.OnOpen = func(ledger.Opening) error { opened++; return nil }
	})
	calls := s.seen()
	if left != 0 || opened != 2 || len(calls) != 3 || calls[2].catalogues != 1 {
		t.Errorf("%d left, opened %d times, %+v; want the catalogue again after the second opening", left, opened, calls)
	}
	forever := &script{always: answer(http.StatusPreconditionRequired, nil)}
	if _, _, err := deliver(t, 1, forever, nil); err != nil || forever.opens > 400 {
		t.Errorf("%d openings in an hour", forever.opens)
	}
}

func TestUnknownCatalogueGoesAlong(t *testing.T) {
	s := &script{steps: []func(http.ResponseWriter, *wire.Parts){booked, answer(http.StatusFailedDependency, []uint64{1})}}
	left, _, _ := deliver(t, 4, s, func(o *sender.Options) { o.MaxRecords = 2 })
	calls := s.seen()
	if left != 0 || len(calls) != 3 || calls[1].catalogues != 0 || calls[2].catalogues != 1 {
		t.Errorf("%d left, %+v", left, calls)
	}
}

func TestMalformedIsSplitAndKeptAside(t *testing.T) {
	const bad = 1_790_000_000_000 + 5*10_000
	c, _ := intaketest.Windows(1, 2)
	var aside [][]byte
	s := &script{}
	s.always = func(w http.ResponseWriter, p *wire.Parts) {
		b, err := p.Decode(func(uint64) *window.Catalogue { return c })
		if err != nil {
			t.Error(err)
			return
		}
		for _, x := range b.Windows {
			if x.StartMS == bad {
				status(http.StatusBadRequest, wire.ReasonMalformed)(w, p)
				return
			}
		}
		booked(w, p)
	}
	left, took, err := deliver(t, 11, s, func(o *sender.Options) {
		o.OnRefused = func(rec []byte, _ string) error { aside = append(aside, rec); return nil }
	})
	if left != 0 || err != nil || took > time.Second {
		t.Fatalf("%d left after %v, %v", left, took, err)
	}
	if len(aside) != 1 {
		t.Fatalf("%d records kept aside; want 1", len(aside))
	}
	if f, err := wire.DecodeFragment(aside[0], nil); err != nil || f.Windows[0].StartMS != bad {
		t.Errorf("kept aside: %v, %v", f, err)
	}
}

func TestSingleMalformedRecordIsHandedOver(t *testing.T) {
	tries, kept := 0, 0
	s := &script{steps: []func(http.ResponseWriter, *wire.Parts){
		status(http.StatusBadRequest, wire.ReasonMalformed), status(http.StatusBadRequest, wire.ReasonMalformed), status(http.StatusBadRequest, wire.ReasonMalformed),
	}}
	left, _, _ := deliver(t, 2, s, func(o *sender.Options) {
		o.OnRefused = func([]byte, string) error {
			if tries++; tries == 1 {
				return errors.New("disk full")
			}
			kept++
			return nil
		}
	})
	if left != 0 || kept != 1 || tries != 2 {
		t.Errorf("%d left, kept %d in %d tries; want 1 in 2", left, kept, tries)
	}
}

// TestForeignRefusalsCostNoRecord: a proxy that answers nonsense for an hour.
func TestForeignRefusalsCostNoRecord(t *testing.T) {
	for _, code := range []int{301, 400, 401, 403, 404, 405, 413, 415, 429, 500, 502, 200} {
		s := &script{always: status(code, "")}
		left, _, err := deliver(t, 3, s, func(o *sender.Options) {
			o.OnRefused = func([]byte, string) error { t.Errorf("%d: a record was kept aside", code); return nil }
		})
		if left != 3 || err != nil {
			t.Errorf("%d: %d left, %v; want all 3", code, left, err)
		}
		if n := len(s.seen()); n < 100 || n > 400 {
			t.Errorf("%d: %d requests in an hour", code, n)
		}
	}
	s := &script{always: status(http.StatusBadRequest, wire.ReasonVersion)}
	if left, _, _ := deliver(t, 3, s, nil); left != 3 {
		t.Errorf("an aggregator of another version: %d left; want all 3", left)
	}
}

func TestRetryAfterAndBackOff(t *testing.T) {
	s := &script{noOpen: 2, steps: []func(http.ResponseWriter, *wire.Parts){
		status(http.StatusServiceUnavailable, wire.ReasonBusy, "Retry-After", "7"), status(http.StatusBadGateway, ""),
	}}
	left, _, _ := deliver(t, 1, s, nil)
	calls := s.seen()
	if left != 0 || s.opens != 3 || len(calls) != 3 {
		t.Fatalf("%d left, %d opens, %d calls", left, s.opens, len(calls))
	}
	if d := calls[1].at.Sub(calls[0].at); d < 7*time.Second || d > 9*time.Second {
		t.Errorf("came again after %v; asked for 7 s", d)
	}
	if d := calls[2].at.Sub(calls[1].at); d < 50*time.Millisecond || d > time.Second {
		t.Errorf("came again after %v", d)
	}
}

func TestPlainAfter415(t *testing.T) {
	s := &script{}
	s.always = func(w http.ResponseWriter, p *wire.Parts) {
		if s.calls[len(s.calls)-1].packed {
			status(http.StatusUnsupportedMediaType, wire.ReasonEncoding)(w, p)
			return
		}
		booked(w, p)
	}
	left, took, _ := deliver(t, 100, s, nil)
	if calls := s.seen(); left != 0 || !calls[0].packed || took > time.Second {
		t.Errorf("%d left after %v", left, took)
	}
}

func TestOffsetAndFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{t: t, always: status(http.StatusBadGateway, "")}
		sp := fill(t, 2)
		x, err := sender.New(options(sp, s))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := x.Offset(); ok {
			t.Error("an offset before the first answer")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- x.Run(ctx) }()
		time.Sleep(10 * time.Minute) // the pause has grown to half a minute
		if d, ok := x.Offset(); !ok || d < 1900*time.Millisecond || d > 2100*time.Millisecond {
			t.Errorf("offset %v, %v; want 2 s", d, ok)
		}
		short, stop := context.WithTimeout(t.Context(), time.Second)
		if err := x.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("flush of what cannot be delivered: %v", err)
		}
		stop()
		s.mu.Lock()
		s.always = nil
		s.mu.Unlock()
		begin := time.Now()
		if err := x.Flush(t.Context()); err != nil || time.Since(begin) > time.Second {
			t.Errorf("flush: %v after %v; want it to end the pause", err, time.Since(begin))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
