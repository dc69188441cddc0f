package site

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// round is a piece of time that all nodes go through.
type round struct {
	from, to  int64
	step      int64 // length of its windows
	telemetry bool
	last      bool // of the simulation
	due       time.Time
	edges     [][]edge
	left      atomic.Int64 // workers that are not done with it
}

// of gives what happens to a node.
func (r *round) of(n int32) []edge {
	if r.edges == nil {
		return nil
	}
	return r.edges[n]
}

// quantum is how long power is constant: a second, ten where nobody looks at it.
func (r *round) quantum() int64 {
	if r.telemetry {
		return 1000
	}
	return 10_000
}

const (
	stepMS = 10_000
	slotMS = 900_000
	// historyRound and backlogRound are what one request carries of a node: a day
	// in slots, a quarter of an hour in windows.
	historyRound = dayMS
	backlogRound = slotMS
	// catchUp is how much live time a request carries at most, once windows were
	// kept because nothing took them.
	catchUp = 30 * stepMS
)

// next makes the round that follows an instant; nil at the end.
func (s *Site) next(at int64, now time.Time) *round {
	if s.end > 0 && at >= s.end {
		return nil
	}
	r := &round{from: at, step: stepMS, telemetry: true}
	switch {
	case at < s.detail:
		r.step, r.telemetry = slotMS, false
		r.to = min(at-at%historyRound+historyRound, s.detail)
	case at < s.start:
		r.to = min(at-at%backlogRound+backlogRound, s.start)
	default:
		r.to = at + stepMS
		if behind := now.Sub(s.dueAt(r.to)); s.o.Speed > 0 && behind > 0 {
			r.to += min(catchUp, int64(float64(behind.Milliseconds())*s.o.Speed)/stepMS*stepMS)
		} else if s.o.Speed == 0 {
			r.to += int64(s.o.Batch-1) * stepMS
		}
		r.due = s.dueAt(r.to)
	}
	if s.end > 0 {
		r.to = min(r.to, s.end)
	}
	r.last = r.to == s.end
	r.edges = s.sched.round(r.to)
	return r
}

// dueAt is when a simulated instant comes to pass; zero for at once.
func (s *Site) dueAt(ms int64) time.Time {
	if s.o.Speed == 0 {
		return time.Time{}
	}
	return s.began.Add(time.Duration(float64(ms-s.start) / s.o.Speed * 1e6))
}

// ahead is how many rounds the schedule may be ahead of the slowest worker.
const ahead = 3

// Run simulates until the end, or until ctx ends: what was begun is then sent,
// within a few seconds. The first error that no patience mends ends it.
func (s *Site) Run(ctx context.Context) error {
	run, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	queues := make([]chan *round, s.o.Connections)
	var workers sync.WaitGroup
	for i := range queues {
		queues[i] = make(chan *round, ahead)
		workers.Go(func() {
			w := newWorker(run, s, i)
			defer w.close()
			if err := w.run(queues[i]); err != nil {
				s.fail(err)
				stop(err)
			}
		})
	}
	s.drive(run, queues)
	for _, q := range queues {
		close(q)
	}
	workers.Wait()
	return s.failure()
}

// drive makes rounds as they come due.
func (s *Site) drive(ctx context.Context, queues []chan *round) {
	for at := s.first; ; {
		r := s.next(at, s.o.Now())
		if r == nil {
			return
		}
		at = r.to
		if !r.due.IsZero() && sleep(ctx, r.due.Sub(s.o.Now())) != nil {
			return
		}
		r.left.Store(int64(len(queues)))
		for _, q := range queues {
			select {
			case q <- r:
			case <-ctx.Done():
				return
			}
		}
	}
}

// done notes that a worker has delivered a round.
func (s *Site) done(r *round) {
	if r.left.Add(-1) > 0 {
		return
	}
	for have := s.delivered.Load(); have < r.to && !s.delivered.CompareAndSwap(have, r.to); have = s.delivered.Load() {
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
