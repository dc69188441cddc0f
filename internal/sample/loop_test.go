package sample_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/sample"
)

// source answers after a time, or when its deadline ends if it minds it.
type source struct {
	name  string
	sleep time.Duration
	minds bool
	calls atomic.Int64
	open  atomic.Int64
	twice atomic.Bool
}

func (s *source) Name() string { return s.name }

func (s *source) Read(ctx context.Context) ([]collector.Reading, error) {
	s.calls.Add(1)
	if s.open.Add(1) > 1 {
		s.twice.Store(true)
	}
	defer s.open.Add(-1)
	if s.minds {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(s.sleep):
		}
	} else {
		time.Sleep(s.sleep)
	}
	return []collector.Reading{{Scope: collector.Scope{Name: s.name}}}, nil
}

// A source that ignores its deadline costs only itself.
func TestLoopOfASourceThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		out := make(chan sample.Result, 100)
		hangs, well := &source{name: "hangs", sleep: time.Hour}, &source{name: "well", sleep: 5 * time.Millisecond}
		a := sample.NewLoop(hangs, time.Second, time.Now, out)
		b := sample.NewLoop(well, time.Second, time.Now, out)
		go a.Run(ctx)
		go b.Run(ctx)
		refused := 0
		for range 10 {
			if !a.Trigger() {
				refused++
			}
			if !b.Trigger() {
				t.Error("a source that answers was not asked")
			}
			time.Sleep(time.Second)
		}
		if refused != 9 || a.Busy() != 10*time.Second || b.Busy() != 0 {
			t.Errorf("refused %d of 10 ticks, busy for %v and %v; want 9, 10s, 0", refused, a.Busy(), b.Busy())
		}
		if well.calls.Load() != 10 || len(out) != 10 || hangs.calls.Load() != 1 {
			t.Errorf("%d results, asked %d and %d times; want 10, 10 and 1", len(out), well.calls.Load(), hangs.calls.Load())
		}
		time.Sleep(time.Hour)
		if !a.Trigger() {
			t.Error("it answered at last, and is not asked again")
		}
		time.Sleep(time.Hour)
		cancel()
		synctest.Wait()
		if hangs.twice.Load() || hangs.calls.Load() != 2 {
			t.Errorf("asked %d times, twice at once: %v", hangs.calls.Load(), hangs.twice.Load())
		}
	})
}

func TestLoopTellsTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		out := make(chan sample.Result, 1)
		l := sample.NewLoop(&source{name: "slow", sleep: time.Hour, minds: true}, 800*time.Millisecond, time.Now, out)
		go l.Run(ctx)
		l.Trigger()
		r := <-out
		if !errors.Is(r.Err, context.DeadlineExceeded) || r.Took != 800*time.Millisecond || r.Source != "slow" || l.Busy() != 0 {
			t.Errorf("the result is %+v, busy %v", r, l.Busy())
		}
		cancel()
		synctest.Wait()
	})
}
