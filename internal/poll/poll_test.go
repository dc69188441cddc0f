package poll_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/poll"
)

// bench ticks once a second, each tick with a deadline of 900 ms.
type bench struct {
	t     *testing.T
	p     *poll.Poller
	start time.Time
	asked []int // seconds at which a poll began
	takes time.Duration
	fails error
}

func newBench(t *testing.T, every time.Duration) *bench {
	b := &bench{t: t, start: time.Now()}
	b.p = &poll.Poller{Now: time.Now, Every: every, Most: 3 * time.Second, Read: func(ctx context.Context) ([]collector.Reading, error) {
		b.asked = append(b.asked, int(time.Since(b.start)/time.Second))
		select {
		case <-time.After(b.takes):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if b.fails != nil {
			return nil, b.fails
		}
		return make([]collector.Reading, 1), nil
	}}
	return b
}

// ticks gives the seconds of ticks that had readings.
func (b *bench) ticks(n int) (had []int, errs []error) {
	b.t.Helper()
	for range n {
		began := time.Now()
		ctx, cancel := context.WithTimeout(b.t.Context(), 900*time.Millisecond)
		r, err := b.p.Poll(ctx)
		cancel()
		if d := time.Since(began); d > 900*time.Millisecond {
			b.t.Errorf("a tick was held for %s", d)
		}
		if len(r) > 0 {
			had = append(had, int(began.Sub(b.start)/time.Second))
		}
		if err != nil {
			errs = append(errs, err)
		}
		time.Sleep(time.Second - time.Since(began))
		synctest.Wait() // what a poll noted may be looked at
	}
	return had, errs
}

func TestPolls(t *testing.T) {
	f := func(name string, takes time.Duration, fails error, ticks int, asked, had []int) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, 5*time.Second)
				b.takes, b.fails = takes, fails
				got, errs := b.ticks(ticks)
				if !slices.Equal(b.asked, asked) || !slices.Equal(got, had) {
					t.Errorf("asked at %v, readings at %v; want %v and %v", b.asked, got, asked, had)
				}
				if fails != nil && len(errs) != len(asked) {
					t.Errorf("%d errors of %d polls", len(errs), len(asked))
				}
				b.p.Close(time.Second)
			})
		})
	}
	bad := errors.New("no")
	f("quick", 100*time.Millisecond, nil, 12, []int{0, 5, 10}, []int{0, 5, 10})
	f("slower than a tick", 2500*time.Millisecond, nil, 12, []int{0, 5, 10}, []int{2, 7})
	f("the wait doubles", 0, bad, 80, []int{0, 5, 15, 35, 75}, nil)
}

// TestHeld: a poll that ignores its deadline is told of once, and no other is
// begun before it ends; what it gives then is used.
func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		polls := 0
		p := &poll.Poller{Now: time.Now, Every: 5 * time.Second, Most: 3 * time.Second, Read: func(context.Context) ([]collector.Reading, error) {
			polls++
			<-release
			return make([]collector.Reading, 1), nil
		}}
		b := &bench{t: t, p: p, start: time.Now()}
		had, errs := b.ticks(60)
		if polls != 1 || len(had) != 0 || len(errs) != 1 || !errors.Is(errs[0], poll.ErrHeld) {
			t.Errorf("%d polls, readings at %v, errors %v; want one poll, no reading and ErrHeld once", polls, had, errs)
		}
		close(release)
		if had, errs := b.ticks(1); len(had) != 1 || len(errs) != 0 {
			t.Errorf("after it ended: readings at %v, errors %v", had, errs)
		}
		p.Close(time.Second)
	})
}

// TestClose ends a poll that obeys, leaves one that does not after its grace, and
// lets no other begin.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 5*time.Second)
		b.takes = time.Hour
		b.ticks(1)
		began := time.Now()
		b.p.Close(time.Second)
		if d := time.Since(began); d != 0 {
			t.Errorf("a poll that obeys was waited for %s", d)
		}
		b.ticks(20)
		if len(b.asked) != 1 {
			t.Errorf("asked at %v after it was closed", b.asked)
		}
		release := make(chan struct{})
		p := &poll.Poller{Now: time.Now, Every: 5 * time.Second, Most: 3 * time.Second, Read: func(context.Context) ([]collector.Reading, error) {
			<-release
			return nil, nil
		}}
		(&bench{t: t, p: p, start: time.Now()}).ticks(1)
		began = time.Now()
		p.Close(time.Second)
		if d := time.Since(began); d != time.Second {
			t.Errorf("a poll that does not end was waited for %s; want 1s", d)
		}
		close(release)
	})
}

// TestClockSetBack: the next poll is not later than it ever is.
func TestClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 5*time.Second)
		off := time.Duration(0)
		b.p.Now = func() time.Time { return time.Now().Add(off) }
		b.ticks(1)
		off = -time.Hour
		b.ticks(1)
		if !slices.Equal(b.asked, []int{0, 1}) {
			t.Errorf("asked at %v; want at once after the clock was set back", b.asked)
		}
		b.p.Close(time.Second)
	})
}
