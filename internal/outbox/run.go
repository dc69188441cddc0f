package outbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Run delivers until ctx ends. What is not delivered by then stays on disk.
func (b *Box) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { b.keepDurable(ctx) })
	defer wg.Wait()
	b.mu.Lock()
	b.seek(min(b.taken, b.settled))
	b.mu.Unlock()
	for b.wait(ctx) == nil {
		if f := b.take(); len(f.records) > 0 {
			b.deliver(ctx, f)
		}
	}
}

// keepDurable syncs from time to time.
func (b *Box) keepDurable(ctx context.Context) {
	tick := time.NewTicker(b.opts.SyncEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := b.Sync(); err != nil {
			b.remarks.disk(err)
		}
	}
}

// wait returns when a request is full, or when what there is has waited for the
// time of Linger.
func (b *Box) wait(ctx context.Context) error {
	var timer *time.Timer
	var late <-chan time.Time
	for {
		n := b.untaken()
		if ctx.Err() != nil || n >= uint64(b.most) {
			return ctx.Err()
		}
		if n > 0 && timer == nil {
			timer = time.NewTimer(b.opts.Linger)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return nil
		case <-b.wake:
		}
	}
}

func (b *Box) untaken() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.appended - min(b.taken, b.appended)
}

// deliver sends a flight until the receiver takes or refuses it, or ctx ends. A
// refused flight is sent in halves: one bad record costs itself, and a receiver
// that refuses what it has already takes the rest.
func (b *Box) deliver(ctx context.Context, f flight) {
	for pause := (pause{o: &b.opts}); ctx.Err() == nil; {
		reconnected, err := b.attempt(ctx, f)
		if reconnected && !b.down {
			b.breaks()
		}
		v, after := judge(err)
		if ctx.Err() != nil && v != taken {
			return
		}
		b.count(v, err)
		switch v {
		case taken:
			b.down = false
			b.most = min(b.opts.MaxValues, b.most+b.most/8+1)
			b.settle(f, delivered)
			return
		case blamed, tooMuch:
			if v == tooMuch {
				b.most = max(1, min(b.most, f.values()/2))
			}
			if n := len(f.records); n > 1 {
				b.deliver(ctx, flight{f.records[:n/2]})
				b.deliver(ctx, flight{f.records[n/2:]})
				return
			}
			b.remarks.refused(err, f.values())
			b.settle(f, refused)
			return
		case broken, later:
			if v == broken && !b.down {
				b.breaks()
			}
			b.down = v == broken || b.down
			pause.wait(ctx, after)
		}
	}
}

// attempt is one request. A receiver that takes too long is told from one that
// is gone. It also tells whether the connection of the last one was.
func (b *Box) attempt(ctx context.Context, f flight) (reconnected bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.opts.Timeout)
	defer cancel()
	var anew atomic.Bool
	ctx = WithReconnected(ctx, func() { anew.Store(true) })
	payloads := make([][]byte, len(f.records))
	for i, r := range f.records {
		payloads[i] = r.payload
	}
	err = b.opts.Send(ctx, payloads)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v: %w", b.opts.Timeout, os.ErrDeadlineExceeded)
	}
	return anew.Load(), err
}

type reconnectedKey struct{}

// WithReconnected makes a context that calls f when [Reconnected] is. The box
// gives such a context to Options.Send.
func WithReconnected(ctx context.Context, f func()) context.Context {
	return context.WithValue(ctx, reconnectedKey{}, f)
}

// Reconnected tells whoever made the context that a connection which both sides
// meant to keep was gone before this request: the receiver may have been started
// anew between two requests, and has forgotten what a break would have told of.
func Reconnected(ctx context.Context) {
	if f, ok := ctx.Value(reconnectedKey{}).(func()); ok {
		f()
	}
}

// count shows what an attempt came to.
func (b *Box) count(v verdict, err error) {
	switch v {
	case taken:
		b.metrics.ok.Inc()
		b.metrics.lastSuccess.Set(seconds(b.opts.Now()))
	case blamed, tooMuch:
		b.metrics.declined.Inc()
	case later, broken:
		b.metrics.failed.Inc()
	}
	if v == later || v == broken {
		b.remarks.failing(err, b.Values())
		b.metrics.failingSince.Set(seconds(b.remarks.since))
		return
	}
	b.remarks.working(b.Values())
	b.metrics.failingSince.Set(0)
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

// pause is a wait that doubles each time, with jitter.
type pause struct {
	o     *Options
	times int
}

func (p *pause) wait(ctx context.Context, atLeast time.Duration) {
	d := p.o.Longest
	if p.times < 16 {
		d = min(d, p.o.Shortest<<p.times)
	}
	p.times++
	d = max(d/2+rand.N(d/2+1), atLeast+rand.N(atLeast/4+1))
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
