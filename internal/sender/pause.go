package sender

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	shortest = 100 * time.Millisecond
	longest  = 30 * time.Second
)

// pause is a wait that doubles each time, with jitter so that a fleet does not
// come back at once.
type pause struct{ times int }

func (p *pause) reset() { p.times = 0 }

// next is how long to wait now; atLeast is what the aggregator asked for.
func (p *pause) next(atLeast time.Duration) time.Duration {
	d := longest
	if p.times < 9 {
		d = min(longest, shortest<<p.times)
	}
	p.times++
	d = d/2 + rand.N(d/2+1)
	return max(d, min(atLeast, longest)+rand.N(min(atLeast, longest)/4+1))
}

// wait waits, unless Flush or the end of ctx come first.
func (s *Sender) wait(ctx context.Context, p *pause, atLeast time.Duration) error {
	t := time.NewTimer(p.next(atLeast))
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.kick:
	case <-ctx.Done():
	}
	return ctx.Err()
}
