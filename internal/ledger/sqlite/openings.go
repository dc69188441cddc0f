package sqlite

import (
	"context"
	"fmt"
	"sync"

	"github.com/wattledger/wattledger/internal/ledger"
)

// openings gathers agents that open while a transaction is under way: they share
// the next one. A fleet that starts at once would else wait for a write to the
// disk each.
type openings struct {
	mu      sync.Mutex
	waiting []*opening
}

// opening is one agent's request and what became of it.
type opening struct {
	request ledger.OpenRequest
	result  ledger.Opening
	ok      bool
	err     error
	done    chan struct{} // closed when the rest is there
}

// add puts a request behind those that wait; first tells the caller to look
// after all of them.
func (q *openings) add(o *opening) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, o)
	return len(q.waiting) == 1
}

func (q *openings) take() []*opening {
	q.mu.Lock()
	defer q.mu.Unlock()
	group := q.waiting
	q.waiting = nil
	return group
}

// Open implements ledger.Ledger.
func (l *Ledger) Open(ctx context.Context, r ledger.OpenRequest) (ledger.Opening, bool, error) {
	if err := checkOpen(r); err != nil {
		return ledger.Opening{}, false, fmt.Errorf("cannot open node %q: %w", r.Node.Name, err)
	}
	if err := ctx.Err(); err != nil {
		return ledger.Opening{}, false, fmt.Errorf("cannot open node %q: %w", r.Node.Name, err)
	}
	o := &opening{request: r, done: make(chan struct{})}
	if l.openings.add(o) {
		l.openWaiting()
	}
	<-o.done
	if o.err != nil {
		return ledger.Opening{}, false, fmt.Errorf("cannot open node %q: %w", r.Node.Name, o.err)
	}
	return o.result, o.ok, nil
}

// openWaiting opens for all that wait by the time it is their turn. If that
// fails, each is tried alone, so that one that cannot be opened stops no other.
func (l *Ledger) openWaiting() {
	var group []*opening
	err := l.update(context.Background(), func(t *tx) error {
		group = l.openings.take()
		return t.openAll(group)
	})
	if group == nil { // it came to nothing before their turn
		group = l.openings.take()
	}
	const enough = 3 // failures that say that it is the ledger, not the agents
	failed := 0
	for _, o := range group {
		if o.err = err; err != nil && len(group) > 1 && failed < enough {
			if o.err = l.update(context.Background(), func(t *tx) error { return t.openAll([]*opening{o}) }); o.err != nil {
				failed++
			} else {
				failed = 0
			}
		}
		close(o.done)
	}
}

func (t *tx) openAll(group []*opening) error {
	for _, o := range group {
		var err error
		if o.result, o.ok, err = t.open(o.request); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) open(r ledger.OpenRequest) (o ledger.Opening, ok bool, err error) {
	t.c.now = max(t.c.now, r.NowMS)
	n, err := t.c.node(r.Node)
	if err != nil {
		return o, false, err
	}
	if n == nil {
		n, err = t.newNode(r)
	} else if ok, err = t.enter(n, r); err == nil && !ok {
		return o, false, nil
	}
	if err != nil {
		return o, false, err
	}
	o, err = n.opening()
	return o, true, err
}
