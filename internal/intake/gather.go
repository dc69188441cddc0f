package intake

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// liveWindows of a request are live: a minute of an agent that was held up.
	liveWindows = 6
	// heldAtMost is how long backlogs wait where others do not keep up, before a
	// share of them goes on. An agent that has lost patience sends again.
	heldAtMost = 10 * time.Second
	// lookAgain is how often it is looked whether they do.
	lookAgain = 100 * time.Millisecond
)

// lane is a queue of requests.
type lane struct {
	queue   chan *request
	most    int64        // windows that may wait
	waiting atomic.Int64 // windows that do
}

// put queues a request; false where there is no room. One alone always has room.
func (l *lane) put(r *request) bool {
	n := int64(len(r.windows))
	if waiting := l.waiting.Add(n); waiting > l.most && waiting > n {
		l.waiting.Add(-n)
		return false
	}
	select {
	case l.queue <- r:
		return true
	default:
		l.waiting.Add(-n)
		return false
	}
}

// leave gives up the place of a request that nobody waits for any more, unless it
// is in a commit.
func (in *Intake) leave(r *request) bool {
	if !r.state.CompareAndSwap(waiting, gone) {
		return false
	}
	in.laneOf(r).waiting.Add(-int64(len(r.windows)))
	in.metrics.queue.Set(float64(in.waiting()))
	return true
}

func (in *Intake) laneOf(r *request) *lane {
	if len(r.windows) > liveWindows {
		return &in.bulk
	}
	return &in.live
}

// waiting is how many windows wait for a commit.
func (in *Intake) waiting() int64 { return in.live.waiting.Load() + in.bulk.waiting.Load() }

// group gathers the requests of a commit.
type group struct {
	in       *Intake
	requests []*request
	windows  int
	bulk     int // windows of backlogs
}

// take adds a request; false for one that nobody waits for any more.
func (g *group) take(r *request) bool {
	if !r.state.CompareAndSwap(waiting, taken) {
		return false
	}
	if g.in.laneOf(r) == &g.in.bulk {
		g.bulk += len(r.windows)
	}
	g.requests = append(g.requests, r)
	g.windows += len(r.windows)
	return true
}

// backlogs is where the group takes backlogs from; nil, from which nothing
// comes, where it has its share: a commit stays short, so that nobody waits long
// for the next.
func (g *group) backlogs(held bool) <-chan *request {
	if held || g.bulk >= g.in.opts.CommitWindows/2 {
		return nil
	}
	return g.in.bulk.queue
}

// gather waits for a request and then for others, until CommitEvery has passed
// since the first or CommitWindows are there. What is live goes first. After ctx
// it takes what waits; none means the end.
func (in *Intake) gather(ctx context.Context) []*request {
	g := &group{in: in}
	held := in.first(ctx, g)
	if len(g.requests) > 0 {
		timer := time.NewTimer(in.opts.CommitEvery - in.opts.Now().Sub(g.requests[0].at))
		defer timer.Stop()
		for due := false; !due && g.windows < in.opts.CommitWindows; {
			select {
			case r := <-in.live.queue:
				g.take(r)
			case r := <-g.backlogs(held):
				g.take(r)
			case <-timer.C:
				due = true
			case <-ctx.Done():
				due = true
			}
		}
	}
	for g.windows < 4*in.opts.CommitWindows { // what came in meanwhile
		select {
		case r := <-in.live.queue:
			g.take(r)
			continue
		default:
		}
		select {
		case r := <-g.backlogs(held):
			g.take(r)
			continue
		default:
		}
		break
	}
	in.live.waiting.Add(int64(g.bulk - g.windows))
	in.bulk.waiting.Add(-int64(g.bulk))
	in.metrics.queue.Set(float64(in.waiting()))
	return g.requests
}

// first waits for the first request. held tells that backlogs are to wait.
func (in *Intake) first(ctx context.Context, g *group) (held bool) {
	for {
		held = ctx.Err() == nil && in.hold()
		var again <-chan time.Time
		if held {
			again = time.After(lookAgain)
		}
		select {
		case r := <-in.live.queue:
			if g.take(r) {
				return held
			}
		case r := <-g.backlogs(held):
			if g.take(r) {
				return held
			}
		case <-ctx.Done():
			return false
		case <-again:
		}
	}
}

// hold tells whether backlogs are to wait: while others do not keep up, but not
// for ever.
func (in *Intake) hold() bool {
	now := in.opts.Now()
	if in.opts.Crowded == nil || !in.opts.Crowded() {
		in.heldSince = time.Time{}
		return false
	}
	if in.heldSince.IsZero() {
		in.heldSince = now
	}
	if now.Sub(in.heldSince) < heldAtMost {
		return true
	}
	in.heldSince = time.Time{} // one commit's share goes on
	return false
}
