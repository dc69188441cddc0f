package nvml

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wattledger/wattledger/collector"
)

// ErrRestart says that the mapped library no longer fits the driver: only a new
// process can read on. The agent exits with a code of its own.
var ErrRestart = errors.New("libnvidia-ml no longer fits the driver: the process must be started anew")

const (
	defaultPatience = 75 * time.Millisecond
	defaultSlow     = 10 * time.Second
	firstPatience   = 2 * time.Second // for the driver and the GPUs to be opened
	hungAfter       = 2 * time.Second // a late GPU is told as hung
	hiccups         = 5               // failures in a row, and a GPU is taken for lost
	maxEvents       = 256
)

// Options says where the library is and how patient to be with it.
type Options struct {
	// Library is the path of libnvidia-ml.so.1, empty for the usual places.
	Library string
	// Now is the clock.
	Now func() time.Time
	// Procfs is where the boot id is; empty for /proc.
	Procfs string
	// State is a file that keeps, over restarts, what cannot be asked: counter
	// generations and the scopes that were found out. Empty for none.
	State string
	// Patience is how long Read waits for the GPUs; 0 for 75 ms.
	Patience time.Duration
	// Slow is how often temperatures, memory, clocks, throttle times, memory
	// health and, where nothing better is to be had, processes are read; 0 for
	// 10 s. MIG slices are looked for every six times that.
	Slow time.Duration
	// Processes asks for the processes on each GPU and their use of it, every 10 s
	// at most (Source.Processes).
	Processes bool

	load func(path string) (library, error) // tests have a fake
}

// phase is where the source stands with the driver.
type phase uint8

const (
	unopened phase = iota
	opening        // in progress, by a goroutine of its own
	ready
	failed   // tried again later
	finished // ErrRestart, or closed
)

// Source reads the GPUs of the node. Read it from one goroutine at a time; the
// other methods may be called from any.
type Source struct {
	o       Options
	reading sync.Mutex
	tick    atomic.Uint64
	wake    chan struct{}  // something that Read waits for has changed
	threads sync.WaitGroup // goroutines that are or may be in a call
	count   counters
	boot    string

	mu       sync.Mutex
	phase    phase
	err      error // why it is not ready
	advice   string
	backoff  time.Duration
	retryAt  time.Time
	lib      library
	driver   string
	boards   []*board // by number
	absent   []absent
	counted  int           // devices that the driver counts
	toOpen   []int         // indices of devices that are to be opened
	scouting int           // devices being opened, or to be
	walkers  []*walker     // that are at something
	idle     *walker       // that waits
	width    int           // how many walk at once where none is held up
	spent    time.Duration // in the calls of a tick
	gone     bool          // the library has lost the driver
	reopenAt time.Time
	pause    time.Duration // between attempts to open the driver anew
	watcher  *watcher
	memory   memory
	events   []collector.Event
}

// absent is a device that the driver counts and does not open.
type absent struct {
	index int
	code  code
}

// New makes the source. Nothing is opened before the first Read.
func New(o Options) (*Source, error) {
	if o.Now == nil {
		return nil, errors.New("cannot read GPUs without a clock")
	}
	if o.Procfs == "" {
		o.Procfs = "/proc"
	}
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	if o.Slow == 0 {
		o.Slow = defaultSlow
	}
	if o.load == nil {
		o.load = load
	}
	return &Source{o: o, wake: make(chan struct{}, 1), width: 1, memory: recall(o.State)}, nil
}

// Name is "nvml".
func (s *Source) Name() string { return "nvml" }

// Read gives what the GPUs answer within Options.Patience; a GPU that does not
// is a DeviceError. The first read waits longer, for the driver to be opened.
func (s *Source) Read(ctx context.Context) ([]collector.Reading, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	asked, fresh := s.ask()
	limit := s.o.Patience
	if fresh {
		limit = firstPatience
	}
	s.wait(ctx, limit, func() bool {
		return !slices.ContainsFunc(asked, func(b *board) bool { return b.answered != s.tick.Load() && b.dev != nil })
	})
	readings, err := s.collect(asked)
	s.tend()
	return readings, err
}

// ask begins a tick: every GPU that is not lost is asked, and those whose pause
// is over are tried anew. It gives those to wait for; fresh, if one of them has
// not answered yet since it was opened.
func (s *Source) ask() (asked []*board, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick.Add(1)
	now := s.o.Now()
	asked = make([]*board, 0, len(s.boards))
	for _, b := range s.boards {
		if b.isDown() && now.Before(b.retryAt) {
			continue
		}
		b.asked = true
		if b.dev != nil && (!b.late || !b.busy) {
			asked = append(asked, b)
			fresh = fresh || b.answered == 0
		}
	}
	s.widen()
	s.relieve(now)
	s.watcher.poke()
	return asked, fresh
}

// wait returns when done says so (it is called under the lock), when the limit
// has passed, or when ctx ends. Meanwhile it sees to it that no call keeps the
// other GPUs waiting.
func (s *Source) wait(ctx context.Context, limit time.Duration, done func() bool) {
	runtime.Gosched() // a driver that is quick has answered before a timer is needed
	if s.is(done) {
		return
	}
	timer := time.NewTimer(min(limit, stall))
	defer timer.Stop()
	for {
		s.mu.Lock()
		ok := done()
		if !ok {
			s.relieve(s.o.Now())
		}
		s.mu.Unlock()
		if ok || limit <= 0 {
			return
		}
		select {
		case <-s.wake:
		case <-timer.C:
			limit -= stall
			timer.Reset(max(min(limit, stall), 0))
		case <-ctx.Done():
			return
		}
	}
}

func (s *Source) is(done func() bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return done()
}

func (s *Source) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// collect gathers the answers to this tick, and says who gave none.
func (s *Source) collect(asked []*board) ([]collector.Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, tick := s.o.Now(), s.tick.Load()
	readings := make([]collector.Reading, 0, len(s.boards)+1)
	var errs []error
	for _, b := range s.boards {
		switch {
		case b.answered == tick:
			readings = append(readings, b.out...)
			errs = append(errs, b.err)
		case b.isDown():
			errs = append(errs, b.down)
		case b.late || slices.Contains(asked, b):
			errs = append(errs, s.tardy(b, now))
		}
	}
	for _, a := range s.strangers() {
		errs = append(errs, &collector.DeviceError{Device: fmt.Sprintf("index %d", a.index), Err: fmt.Errorf("the driver does not open it: %w", a.code)})
	}
	if s.scouting > 0 {
		errs = append(errs, fmt.Errorf("%d GPUs are still being opened", s.scouting))
	}
	return readings, errors.Join(errs...)
}

// strangers are the devices that do not open and are no GPU of before; s.mu is
// held.
func (s *Source) strangers() []absent {
	if len(s.boards) >= s.counted {
		return nil
	}
	return s.absent
}

// punctual notes that a GPU has answered; s.mu is held.
func (s *Source) punctual(b *board, now time.Time) {
	if b.hung {
		s.tell(now, "gpu_back", b.name, fmt.Sprintf("the call that did not return has returned; the GPU answered nothing for %.0f s", now.Sub(b.lateSince).Seconds()))
	}
	b.late, b.hung = false, false
}

// tardy notes that a GPU has not, and gives the error for it.
func (s *Source) tardy(b *board, now time.Time) error {
	s.count.late.Add(1)
	if !b.late {
		b.late, b.lateSince = true, now
	}
	if !b.hung && now.Sub(b.lateSince) >= hungAfter {
		b.hung = true
		s.tell(now, "gpu_hung", b.name, "a call does not return: "+function(b.call.Load()).String()+"; it is not started again, and the other GPUs are read on")
	}
	if b.hung {
		return &collector.DeviceError{Device: b.name, Err: errHung}
	}
	return &collector.DeviceError{Device: b.name, Err: errLate}
}

var (
	errHung = errors.New("a call of the driver does not return")
	errLate = errors.New("no answer in time")
)

// tell adds an event; s.mu is held.
func (s *Source) tell(at time.Time, kind, meter, detail string) {
	if len(s.events) >= maxEvents {
		s.events = s.events[1:]
		s.count.dropped.Add(1)
	}
	s.events = append(s.events, collector.Event{At: at, Kind: kind, Meter: meter, Detail: detail})
}

// Events gives what was seen since the last call.
func (s *Source) Events() []collector.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.events
	s.events = nil
	return out
}

// Slices gives the MIG slices as they were last seen, by GPU and slot.
func (s *Source) Slices() []Slice {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Slice
	for _, b := range s.boards {
		out = append(out, b.slices...)
	}
	return out
}

// Stats says what reading has cost.
func (s *Source) Stats() Stats {
	out := s.count.stats()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.boards {
		if b.isDown() {
			out.Lost++
		}
		if b.hung {
			out.Hung++
		}
	}
	return out
}

// Close ends the source. It waits for calls in flight until ctx ends: a client
// that dies inside the driver can freeze a GPU. Where one does not return, the
// library is left as it is and the error says so.
func (s *Source) Close(ctx context.Context) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.mu.Lock()
	if s.phase == finished && s.err != nil && errors.Is(s.err, errClosed) {
		s.mu.Unlock()
		return nil
	}
	s.phase, s.err = finished, errClosed
	if s.idle != nil {
		close(s.idle.more)
		s.idle = nil
	}
	if s.watcher != nil {
		s.watcher.end()
	}
	lib := s.lib
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() { s.threads.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("cannot close the driver: a call has not returned: %w", ctx.Err())
	}
	if lib != nil && s.count.opened.Load() > 0 {
		began := s.o.Now()
		c := lib.Shutdown()
		s.count.add(fnShutdown, s.o.Now().Sub(began), c)
	}
	return nil
}

var errClosed = errors.New("the source is closed")
