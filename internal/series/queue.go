package series

import (
	"slices"
	"sync"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// entry is a window on its way into the store.
type entry struct {
	node ledger.Node
	w    *window.Window
	cost int64
	sum  bool // it is in the sums
}

// cost is about what a window holds in memory.
func cost(w *window.Window) int64 {
	n := 512 + 48*len(w.Postings) + 64*len(w.Ranges) + 160*len(w.Jobs) + 88*len(w.Telemetry) + len(w.Packed)
	for i := range w.Telemetry {
		n += 8 * len(w.Telemetry[i].Milli)
	}
	return int64(n)
}

// queue holds windows: fresh ones, and those that are in the sums and wait for
// the store.
type queue struct {
	most int64
	wake chan struct{}

	mu             sync.Mutex
	fresh, waiting []entry
	bytes          int64
}

func newQueue(most int64) *queue { return &queue{most: most, wake: make(chan struct{}, 1)} }

// put adds a window. What does not fit any more is taken out, oldest first:
// dropped windows were in the sums, fresh ones were not.
func (q *queue) put(e entry) (dropped int, fresh []entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fresh = append(q.fresh, e)
	q.bytes += e.cost
	for q.bytes > q.most && len(q.waiting) > 0 {
		q.bytes -= q.waiting[0].cost
		q.waiting[0].w = nil
		q.waiting = q.waiting[1:]
		dropped++
	}
	for q.bytes > q.most && len(q.fresh) > 1 {
		q.bytes -= q.fresh[0].cost
		fresh = append(fresh, q.fresh[0])
		q.fresh[0].w = nil
		q.fresh = q.fresh[1:]
	}
	if len(q.fresh) >= batchWindows {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return dropped, fresh
}

// takeFresh gives the windows that are not in the sums yet.
func (q *queue) takeFresh() []entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.fresh
	q.fresh = nil
	for i := range out {
		q.bytes -= out[i].cost
	}
	return out
}

// giveBack puts windows that are in the sums before those that wait, or behind
// them.
func (q *queue) giveBack(e []entry, before bool) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range e {
		q.bytes += e[i].cost
	}
	if before {
		q.waiting = append(slices.Clip(e), q.waiting...)
	} else {
		q.waiting = append(q.waiting, e...)
	}
	for q.bytes > q.most && len(q.waiting) > 0 {
		q.bytes -= q.waiting[0].cost
		q.waiting[0].w = nil
		q.waiting = q.waiting[1:]
		dropped++
	}
	return dropped
}

// take gives up to n windows for the store: those that wait, then fresh ones.
func (q *queue) take(n int) []entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	from := &q.waiting
	if len(*from) == 0 {
		from = &q.fresh
	}
	n = min(n, len(*from))
	out := (*from)[:n:n]
	if *from = (*from)[n:]; len(*from) == 0 {
		*from = nil // what was taken is not held
	}
	for i := range out {
		q.bytes -= out[i].cost
	}
	return out
}

// crowded tells that a quarter of what may wait does.
func (q *queue) crowded() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes > q.most/4
}

func (q *queue) size() (windows int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.fresh) + len(q.waiting), q.bytes
}
