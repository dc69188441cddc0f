package sample

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/wattledger/wattledger/collector"
)

// Result is what one read of a source gave.
type Result struct {
	Source   string
	Started  time.Time
	Took     time.Duration
	Readings []collector.Reading
	Err      error
}

// Loop reads one source when it is triggered, never twice at once. A source
// that ignores its deadline is seen by Busy and costs only itself.
type Loop struct {
	Source   collector.Source
	Deadline time.Duration
	Now      func() time.Time
	Out      chan<- Result

	trigger chan struct{}
	since   atomic.Int64 // Unix ns of the read in progress, 0 for none
}

// NewLoop makes a loop that sends its results to out.
func NewLoop(s collector.Source, deadline time.Duration, now func() time.Time, out chan<- Result) *Loop {
	return &Loop{Source: s, Deadline: deadline, Now: now, Out: out, trigger: make(chan struct{}, 1)}
}

// Trigger asks for a read. It is false where one is in progress: no second one
// is started.
func (l *Loop) Trigger() bool {
	if l.since.Load() != 0 {
		return false
	}
	l.since.Store(l.Now().UnixNano())
	l.trigger <- struct{}{}
	return true
}

// Busy is for how long the read in progress has lasted, 0 if there is none.
func (l *Loop) Busy() time.Duration {
	since := l.since.Load()
	if since == 0 {
		return 0
	}
	return l.Now().Sub(time.Unix(0, since))
}

// Run reads until ctx ends.
func (l *Loop) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.trigger:
		}
		start := l.Now()
		rctx, cancel := context.WithTimeout(ctx, l.Deadline)
		readings, err := l.Source.Read(rctx)
		cancel()
		r := Result{Source: l.Source.Name(), Started: start, Took: l.Now().Sub(start), Readings: readings, Err: err}
		l.since.Store(0)
		select {
		case l.Out <- r:
		case <-ctx.Done():
			return
		}
	}
}
