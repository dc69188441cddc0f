package nvml

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

const (
	firstRevival = 5 * time.Second
	lastRevival  = 5 * time.Minute
	// maxCall: a value that took longer to come has no stamp to speak of.
	maxCall = 250 * time.Millisecond
	// anyLimit is the gate of a board that names no limit.
	anyLimit = 5000 * energy.Watt
	// graceLimit is what a module may draw beyond its GPU's limit, where it does
	// not name its own.
	graceLimit = 1000 * energy.Watt
)

// board is one physical GPU.
type board struct {
	s      *Source
	number int
	name   string // gpu and the number: what errors and events call it

	// What is being called, for the watchdog.
	call atomic.Int32

	// Guarded by s.mu.
	id        identity
	answered  uint64 // the tick of the last answer
	out       []collector.Reading
	err       error
	asked     bool // to be read
	slowDue   bool // to be read for what is not needed every tick
	busy      bool // a walker is at it
	late      bool // did not answer the last time it was asked
	lateSince time.Time
	hung      bool
	down      error // why it is not called; nil if it is
	told      bool  // that it is lost
	closed    bool  // that something is closed to this user
	tries     int
	retryAt   time.Time
	slices    []Slice
	users     collector.DeviceProcesses // without a meter: not known

	// The walker's that made it busy; others may touch them only while it is not,
	// under s.mu.
	dev   device
	was   any  // key of the handle it had when it was lost: the Xid that tells why comes after
	fresh bool // nothing has been asked of this handle yet
	ability
	meter
	health   map[uint32]uint64
	pending  []collector.Gauge // slow values for the next reading
	slowAt   time.Time
	slowRuns int
	failures int // in a row
	usersAt  time.Time
	seenUS   uint64 // stamp of the last use of a process
}

// ability is what a board can do, found out once per handle.
type ability struct {
	batch     []field
	slots     []slot
	dead      [numSlots]bool
	slow      []field
	shows     []show
	cannot    [numFunctions]bool
	noFields  bool
	denied    bool // something is closed to this user
	mig       bool
	migSeen   bool
	processes collector.Activity
}

func newBoard(s *Source, dev device, id identity, number int) *board {
	b := &board{s: s, number: number, name: fmt.Sprintf("gpu%d", number), health: map[uint32]uint64{}}
	b.renew(dev, id)
	return b
}

// renew gives the board a handle; s.mu is held, or nobody else knows the board.
func (b *board) renew(dev device, id identity) {
	b.id = id // the number stays: the name of a meter does not change
	b.dev, b.fresh = dev, true
	b.ability = ability{}
	b.failures = 0
	b.retryAt = time.Time{}
}

func (b *board) isDown() bool { return b.down != nil }

// fallen marks the board as not to be called; s.mu is held.
func (b *board) fallen(now time.Time, c code, tell bool) {
	pause := firstRevival
	for range b.tries {
		pause = min(2*pause, lastRevival)
	}
	b.tries++
	b.failures = 0
	b.retryAt = now.Add(pause)
	if b.dev != nil {
		b.was = b.dev.Key()
	}
	b.dev = nil // whatever it was, the next attempt has a new one
	b.users = collector.DeviceProcesses{}
	b.down = &collector.DeviceError{Device: b.name, Err: fmt.Errorf("lost: %w", c)}
	if tell && !b.told {
		b.told = true
		b.s.tell(now, "gpu_lost", b.name, fmt.Sprintf("%v (%s): it is not called again but tried anew with growing pauses", c, b.id.uuid))
	}
}

// judge acts on the worst code of a round; s.mu is held.
func (b *board) judge(c code) bool {
	now := b.s.o.Now()
	switch c.fate() {
	case fine, nothing, unsupported, denied:
		b.failures = 0
		return true
	case hiccup:
		b.failures++
		b.s.count.unknown.Add(1)
		if b.failures < hiccups && !b.isDown() {
			return true
		}
	case gone, restart:
		b.s.gone = true
	case lost:
	}
	b.fallen(now, c, true)
	return false
}

// back ends a loss; s.mu is held.
func (b *board) back() {
	if b.told {
		b.s.tell(b.s.o.Now(), "gpu_back", b.name, b.epochNote())
	}
	b.down, b.tries, b.told = nil, 0, false
	if b.s.watcher != nil {
		b.s.watcher.rebuild.Store(true)
	}
}

// revive opens a lost board anew by its address. Whether it lives is seen when
// it is read.
func (b *board) revive() bool {
	s := b.s
	s.mu.Lock()
	id := b.id
	s.mu.Unlock()
	dev, now, c := s.identify(func() (device, code) {
		b.call.Store(int32(fnOpen))
		return s.lib.DeviceAt(id.pci)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if c == success && now.uuid != id.uuid && now.uuid != "" {
		c = gpuNotFound // another card in its place: opening the driver anew finds it
	}
	if c != success {
		if c.fate() == gone || c.fate() == restart {
			s.gone = true
		}
		b.fallen(s.o.Now(), c, true)
		return false
	}
	now.minor, now.index = id.minor, id.index
	b.renew(dev, now)
	return true
}

// begin and end enclose a call: its cost, and what the watchdog may say of it.
func (b *board) begin(f function) time.Time {
	b.call.Store(int32(f))
	return b.s.o.Now()
}

func (b *board) end(f function, began time.Time, c code) code {
	b.s.count.add(f, b.s.o.Now().Sub(began), c)
	return c
}

// try makes a call that the board may not support, unless that is known. ok is
// true where there is a value; dire codes end the round.
func (b *board) try(f function, do func() code) (ok bool, dire code) {
	if b.cannot[f] {
		return false, success
	}
	began := b.begin(f)
	c := b.end(f, began, do())
	switch c.fate() {
	case fine:
		return true, success
	case denied:
		b.denied = true
		b.cannot[f] = true
	case unsupported:
		b.cannot[f] = true
	case hiccup:
		b.s.count.unknown.Add(1)
	case nothing:
	default:
		return false, c
	}
	return false, success
}

// refuse counts a value that is no value.
func (b *board) refuse() { b.s.count.refused.Add(1) }
