// Package poll reads slow, shared devices beside the loop that asks for
// readings: a management controller takes seconds for an answer, the loop ticks
// every second and waits for nobody.
package poll

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wattledger/wattledger/collector"
)

// Slowest is the longest wait between polls: it doubles while they fail, up to
// this or to Every, whichever is longer.
const Slowest = 5 * time.Minute

// ErrHeld is of a poll that is held by something that ignores its deadline.
var ErrHeld = errors.New("ignores its deadline")

// Poller polls one device: at most once in Every, never twice at once, at a
// distance that grows while it fails. Whoever calls Poll is never held longer
// than its own deadline; an answer that comes later is given to its next call.
// The fields are set before the first Poll and not changed after.
type Poller struct {
	Now   func() time.Time
	Every time.Duration
	Most  time.Duration // a poll takes no longer, if the device's driver obeys
	// Read is one poll, on a goroutine of its own. A poll without readings has
	// failed, whatever its error.
	Read func(context.Context) ([]collector.Reading, error)

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

// Poll begins a poll where one is due and waits for the one in progress until
// ctx ends. Without an answer it gives nothing, which is no error; once for each
// poll that does not end, it is ErrHeld.
func (p *Poller) Poll(ctx context.Context) ([]collector.Reading, error) {
	p.mu.Lock()
	now := p.Now()
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
func (p *Poller) waits(now time.Time) bool {
	wait := p.next.Sub(now)
	return wait > 0 && wait <= max(Slowest, p.Every)
}

// start begins a poll; the caller holds mu. The poll outlives ctx.
func (p *Poller) start(ctx context.Context, now time.Time) {
	pctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.Most)
	running := make(chan answer, 1)
	p.begun, p.running, p.cancel, p.overdue = now, running, cancel, false
	go func() {
		defer cancel()
		readings, err := p.Read(pctx)
		running <- answer{readings, err}
	}()
}

// ended sets when the next poll may begin: at its time, and not before the
// device has rested for half of it.
func (p *Poller) ended(a answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = nil
	wait := p.Every
	if len(a.readings) > 0 {
		p.failures = 0
	} else if p.failures++; p.failures > 1 {
		wait = min(p.Every<<min(p.failures-1, 10), max(Slowest, p.Every))
	}
	p.next = p.begun.Add(wait)
	if rest := p.Now().Add(p.Every / 2); p.next.Before(rest) {
		p.next = rest
	}
}

// late is an error, once for each poll, if a poll is held by something that
// ignores its deadline. It is never begun again before it ends.
func (p *Poller) late() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := p.Now().Sub(p.begun)
	if p.overdue || held < p.Most+p.Every {
		return nil
	}
	p.overdue = true
	return fmt.Errorf("a read begun %s ago %w of %s", held.Round(time.Second), ErrHeld, p.Most)
}

// Close ends the poll in progress and lets no other begin. It waits for it at
// most for grace.
func (p *Poller) Close(grace time.Duration) {
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
