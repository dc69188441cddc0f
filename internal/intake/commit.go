package intake

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/ledger"
)

// What a handler may be told instead of results.
var (
	errBusy   = errors.New("too many windows wait; come again")
	errLedger = errors.New("the ledger cannot book now; nothing was booked")
	errClosed = errors.New("the aggregator is stopping")
	errLate   = errors.New("the ledger did not answer in time")
)

// request is one body on its way through a commit.
type request struct {
	windows []ledger.Submission
	at      time.Time
	results []ledger.Result
	err     error
	done    chan struct{} // closed when results or err are there
	state   atomic.Int32  // waiting, taken or gone
	over    atomic.Bool   // the first to say so writes results and err
}

// What becomes of a request in a lane.
const (
	waiting = iota
	taken   // into a commit
	gone    // nobody waits for it any more: its agent sends it again
)

// submit queues windows and waits for their results.
func (in *Intake) submit(ctx context.Context, windows []ledger.Submission) ([]ledger.Result, error) {
	if len(windows) == 0 {
		return nil, nil
	}
	r := &request{windows: windows, at: in.opts.Now(), done: make(chan struct{})}
	if !in.laneOf(r).put(r) {
		return nil, errBusy
	}
	if in.closed.Load() && in.leave(r) { // Run has answered all that waited, before this one came
		return nil, errClosed
	}
	in.metrics.queue.Set(float64(in.waiting()))
	patience := time.AfterFunc(in.opts.Patience, func() { in.late(r, nil) })
	defer patience.Stop()
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, func() { in.late(r, ctx.Err()) })()
	}
	<-r.done
	return r.results, r.err
}

// late tells one who has waited long enough. It may be booked yet: the agent
// sends it again and it is a duplicate.
func (in *Intake) late(r *request, why error) {
	in.leave(r)
	r.finish(nil, errors.Join(errLate, why))
}

// commit books a group and answers it. If the ledger refuses the group, each
// request is tried alone, so that one that it cannot digest does not stop the
// others; where that fails too, the ledger is ill and the rest is refused.
func (in *Intake) commit(group []*request) {
	err := in.book(group)
	if err == nil {
		return
	}
	in.opts.Log.Error("the ledger did not book", zap.Int("requests", len(group)), zap.Error(err))
	if len(group) == 1 {
		group[0].finish(nil, fmt.Errorf("%w: %w", errLedger, err))
		return
	}
	const enough = 3
	failed, booked := 0, false
	for _, r := range group {
		if failed >= enough && !booked {
			r.finish(nil, fmt.Errorf("%w: %w", errLedger, err))
			continue
		}
		if err = in.book([]*request{r}); err != nil {
			failed++
			r.finish(nil, fmt.Errorf("%w: %w", errLedger, err))
			continue
		}
		booked = true
	}
}

// book makes one call of the ledger for all requests and answers them, or
// answers none and returns an error.
func (in *Intake) book(group []*request) error {
	all := group[0].windows
	if len(group) > 1 {
		n := 0
		for _, r := range group {
			n += len(r.windows)
		}
		all = make([]ledger.Submission, 0, n)
		for _, r := range group {
			all = append(all, r.windows...)
		}
	}
	begin := in.opts.Now()
	// The requests may be gone when it is done; the books do not mind.
	results, err := in.opts.Ledger.Book(context.Background(), all)
	if err == nil && len(results) != len(all) {
		err = fmt.Errorf("BUG: %d results for %d windows", len(results), len(all))
	}
	if err != nil {
		in.metrics.commitErrors.Inc()
		return err
	}
	now := in.opts.Now()
	in.metrics.commit.Observe(now.Sub(begin).Seconds())
	in.metrics.commitSize.Observe(float64(len(all)))
	in.metrics.lastCommit.Set(float64(now.UnixMilli()) / 1e3)
	rest := results
	for _, r := range group {
		r.finish(rest[:len(r.windows):len(r.windows)], nil)
		rest = rest[len(r.windows):]
	}
	in.tell(all, results)
	return nil
}

// tell hands on what was booked now, with the projects it was posted to, and
// says what a person must know of the rest.
func (in *Intake) tell(all []ledger.Submission, results []ledger.Result) {
	for i := range results {
		n, w := all[i].Node, all[i].Window
		switch results[i].Status {
		case ledger.Booked:
			if in.opts.Booked == nil {
				continue
			}
			for k, project := range results[i].Projects {
				w.Jobs[k].Project = project
			}
			in.opts.Booked(n, w)
		case ledger.Quarantined, ledger.Conflict, ledger.Fenced:
			kind := results[i].Status.String()
			in.opts.Log.Warn("event "+kind, zap.String("cluster", n.Cluster), zap.String("node", n.Name), zap.String("kind", kind),
				zap.Time("at", time.UnixMilli(w.StartMS).UTC()), zap.String("detail", results[i].Reason))
		default: // agents see to these themselves
		}
	}
}

// finish tells whoever waits what became of it; only the first time counts.
func (r *request) finish(results []ledger.Result, err error) {
	if r.over.CompareAndSwap(false, true) {
		r.results, r.err = results, err
		close(r.done)
	}
}
