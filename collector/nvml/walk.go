package nvml

import (
	"time"

	"github.com/wattledger/wattledger/collector"
)

// stall is how long one GPU may keep the others waiting: then somebody else
// takes them on.
const stall = 20 * time.Millisecond

// walker calls the GPUs of the set in turn. There is one of them as long as every
// call returns. One that is held up in a call is left to it: what it was called
// for is not called again, another walker takes on the rest, and when the call
// returns it goes on where there is something to do, or ends. Between ticks one
// waits; the others have ended.
type walker struct {
	more  chan struct{} // the one that waits is wanted; closed with the source
	since time.Time     // of the errand it is on; s.mu
	on    *board        // nil for one that is opened
}

// errand is what a walker does without looking up.
type errand struct {
	kind  errandKind
	b     *board
	index int // of a device to open
}

// errandKind orders errands: the ones that a tick waits for come first.
type errandKind uint8

const (
	readFast errandKind = iota
	openNew
	revive
	readSlow
)

// walk does errands until there are none.
func (s *Source) walk(w *walker) {
	for {
		e, ok := s.next(w)
		if !ok {
			if !s.rest(w) {
				return
			}
			continue
		}
		switch e.kind {
		case readFast, revive:
			e.b.round(e.kind == revive)
		case openNew:
			s.scout(e.index)
		case readSlow:
			e.b.slowly()
		}
	}
}

// rest waits until there is something to do; false where another one waits
// already, or the source is closed.
func (s *Source) rest(w *walker) bool {
	s.mu.Lock()
	if s.idle != nil || s.phase == finished {
		s.mu.Unlock()
		return false
	}
	s.idle = w
	s.mu.Unlock()
	_, ok := <-w.more
	return ok
}

// next ends the walker's errand and gives it another; false for none: it is on no
// list any more.
func (s *Source) next(w *walker) (errand, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.on != nil {
		w.on.busy = false
		w.on = nil
	}
	e, ok := s.pick(readSlow)
	if !ok || e.kind != readFast {
		s.wakeUp() // nothing that a tick waits for is left
	}
	if !ok {
		for i, other := range s.walkers {
			if other == w {
				s.walkers = append(s.walkers[:i], s.walkers[i+1:]...)
				break
			}
		}
		return e, false
	}
	w.since = s.o.Now()
	switch e.kind {
	case readFast, revive:
		e.b.asked, e.b.busy, w.on = false, true, e.b
	case readSlow:
		e.b.slowDue, e.b.busy, w.on = false, true, e.b
	case openNew:
		s.toOpen = s.toOpen[1:]
	}
	return e, true
}

// pick finds the first errand of a kind up to most; s.mu is held. A GPU that
// somebody calls has none.
func (s *Source) pick(most errandKind) (errand, bool) {
	if s.phase != ready {
		return errand{}, false
	}
	best := errand{kind: readSlow + 1}
	if len(s.toOpen) > 0 {
		best = errand{kind: openNew, index: s.toOpen[0]}
	}
	for _, b := range s.boards {
		if k, ok := b.wants(); ok && k < best.kind {
			best = errand{kind: k, b: b}
		}
	}
	return best, best.kind <= most
}

// wants is what the board waits for; s.mu is held.
func (b *board) wants() (errandKind, bool) {
	switch {
	case b.busy:
		return 0, false
	case b.asked && b.dev != nil:
		return readFast, true
	case b.asked:
		return revive, true
	default:
		return readSlow, b.slowDue && b.dev != nil && !b.isDown()
	}
}

// relieve is the watchdog: where GPUs wait and everybody who walks has been in
// one call for longer than a moment, somebody else sets out. It starts as many as
// the last tick needed, which is one unless the driver is slow. s.mu is held.
func (s *Source) relieve(now time.Time) {
	if _, urgent := s.pick(revive); !urgent {
		return
	}
	free := 0
	for _, w := range s.walkers {
		if now.Sub(w.since) < stall {
			free++
		}
	}
	waiting := len(s.toOpen)
	for _, b := range s.boards {
		if k, ok := b.wants(); ok && k < readSlow {
			waiting++
		}
	}
	for ; free < min(s.width, waiting); free++ {
		w := s.idle
		if s.idle = nil; w != nil {
			w.more <- struct{}{}
		} else {
			w = &walker{more: make(chan struct{}, 1)}
			s.threads.Go(func() { s.walk(w) })
		}
		w.since = now
		s.walkers = append(s.walkers, w)
	}
}

// widen sets how many walk at once by what the GPUs' calls took in the tick
// before: one, unless it could not be done in half of the time that Read has.
// s.mu is held.
func (s *Source) widen() {
	s.width = 1 + int(s.spent/(s.o.Patience/2))
	s.spent = 0
}

// round reads what every tick needs; reviving opens the board anew before.
func (b *board) round(reviving bool) {
	tick := b.s.tick.Load()
	if reviving && !b.revive() {
		return
	}
	began := b.s.o.Now()
	readings, c, err := b.fast()
	b.answer(tick, readings, c, err, b.s.o.Now().Sub(began))
}

// answer publishes what a round gave.
func (b *board) answer(tick uint64, readings []collector.Reading, c code, err error, took time.Duration) {
	s := b.s
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Now()
	if took > 0 && took <= maxCall {
		s.spent += took
	}
	if err != nil {
		err = &collector.DeviceError{Device: b.name, Err: err}
	}
	if !b.judge(c) {
		readings, err = nil, b.down
	} else {
		if c == success && b.down != nil {
			b.back()
		}
		b.slowDue = b.slowDue || !now.Before(b.slowAt)
	}
	b.answered, b.out, b.err = tick, readings, err
	s.punctual(b, now)
}
