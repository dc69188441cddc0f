package redfish

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wattledger/wattledger/collector"
)

// Between polls that fail the wait doubles, up to slowest.
const slowest = 5 * time.Minute

var errHeld = errors.New("ignores its deadline")

// poller reads a slow device beside the loop that asks for readings: at most
// once in every, never twice at once, at a distance that grows while it fails.
// The loop is never held longer than its own deadline; an answer that comes
// later is given to its next call.
type poller struct {
	now   func() time.Time
	every time.Duration
	most  time.Duration // a poll takes no longer, if the device's driver obeys
	read  func(context.Context) ([]collector.Reading, error)

	mu       sync.Mutex
	next     time.Time // no poll before
	failures int       // in a row
	begun    time.Time
	running  chan answer // of the poll in progress; nil for none
	cancel   context.CancelFunc
	overdue  bool // said of the poll in progress
	closed   bool
}

type answer struct {
	readings []collector.Reading
	err      error
}

// poll begins a poll where one is due and waits for the one in progress until
// ctx ends. Without an answer it gives nothing, which is no error.
func (p *poller) poll(ctx context.Context) ([]collector.Reading, error) {
	p.mu.Lock()
	now := p.now()
	if p.running == nil {
		if p.closed || ctx.Err() != nil || p.waits(now) {
			p.mu.Unlock()
			return nil, nil
		}
		p.start(ctx, now)
	}
	running := p.running
	p.mu.Unlock()

	select {
	case a := <-running:
		p.ended(a)
		return a.readings, a.err
	case <-ctx.Done():
		return nil, p.late()
	}
}

// waits tells whether the next poll is still to come. A clock that was set back
// does not make it wait longer than it ever waits.
func (p *poller) waits(now time.Time) bool {
	wait := p.next.Sub(now)
	return wait > 0 && wait <= max(slowest, p.every)
}

// start begins a poll; the caller holds mu. The poll outlives ctx.
func (p *poller) start(ctx context.Context, now time.Time) {
	pctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.most)
	running := make(chan answer, 1)
	p.begun, p.running, p.cancel, p.overdue = now, running, cancel, false
	go func() {
		defer cancel()
		readings, err := p.read(pctx)
		running <- answer{readings, err}
	}()
}

// ended sets when the next poll may begin: at its time, and not before the
// device has rested for half of it.
func (p *poller) ended(a answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = nil
	wait := p.every
	if len(a.readings) > 0 {
		p.failures = 0
	} else if p.failures++; p.failures > 1 {
		wait = min(p.every<<min(p.failures-1, 10), max(slowest, p.every))
	}
	p.next = p.begun.Add(wait)
	if rest := p.now().Add(p.every / 2); p.next.Before(rest) {
		p.next = rest
	}
}

// late is an error, once for each poll, if a poll is held by something that
// ignores its deadline. It is never begun again before it ends.
func (p *poller) late() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := p.now().Sub(p.begun)
	if p.overdue || held < p.most+p.every {
		return nil
	}
	p.overdue = true
	return fmt.Errorf("a read begun %s ago %w of %s", held.Round(time.Second), errHeld, p.most)
}

// close ends the poll in progress and lets no other begin. It waits for it at
// most for grace.
func (p *poller) close(grace time.Duration) {
	p.mu.Lock()
	p.closed = true
	running, cancel := p.running, p.cancel
	p.mu.Unlock()
	if running == nil {
		return
	}
	cancel()
	select {
	case a := <-running:
		running <- a // a Read may still wait for it
	case <-time.After(grace):
	}
}
