// Package redfish reads power from a management controller that speaks Redfish
// (DMTF DSP0266; schemas EnvironmentMetrics, Power, PowerSubsystem): the node as
// a whole, and where the controller has NVIDIA's HGX layout each GPU and each
// processor module. It stands on gofish for sessions, requests and errors.
//
// Controllers are slow and shared: one is asked at most every five seconds,
// whatever the tick, on a goroutine of its own, one request at a time over one
// kept connection. A Read between polls gives nothing. What there is to read is
// found once and kept; it is looked for again after errors and once an hour. Each
// value is true when it arrived. A value that is absent, null or not above zero is
// a DeviceError of its meter and never a number; the same failure is said once
// and again when it changes.
//
// All meters are witnesses, except the node's where Options.Booked says so. The
// cumulative energy that some controllers give is coarse and without an epoch:
// it is a gauge. GPU numbers are the controller's (GPU_SXM_3 is gpu3-redfish) and
// need not be the driver's; Scope.Device has the UUID where the controller has it.
package redfish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/poll"
)

// Bounds and defaults of Options.
const (
	MinEvery       = 5 * time.Second
	DefaultEvery   = 10 * time.Second
	DefaultTimeout = 20 * time.Second
	DefaultMeter   = "node-redfish"
	bookedMeter    = "node"
	farewell       = 2 * time.Second
	exploreFor     = 2 * time.Minute // finding resources may take that long
	exploreEvery   = time.Hour
	loseAfter      = 3 // polls in a row without a value are an event
	maxEvents      = 64
)

// Auth is how the source says who it is.
type Auth string

// A session is opened once and closed by Close; Basic sends the password with
// each request.
const (
	Session Auth = "session"
	Basic   Auth = "basic"
)

// Options says which controller to read and how. There are no default
// credentials.
type Options struct {
	URL          string // https://169.254.0.17, https://[fe80::1%25usb0]; http for loopback alone
	User         string // empty: no credentials are sent
	PasswordFile string
	Auth         Auth // empty for Session

	// CAFile has the authorities that may sign the controller's certificate,
	// ServerName the name in it where that is not the URL's. Fingerprint is the
	// SHA-256 of the certificate itself, in hex, instead of both.
	CAFile      string
	ServerName  string
	Fingerprint string

	System  string            // id of the node's ComputerSystem; empty where there is one
	Chassis string            // id of the chassis whose power is the node's; empty to find it
	Every   time.Duration     // 0 for DefaultEvery; at least MinEvery
	Timeout time.Duration     // of a poll; 0 for DefaultTimeout
	Meter   string            // the node meter's name as a witness; empty for DefaultMeter
	Booked  bool              // the node meter is the node's, not a witness
	Limit   energy.Microwatts // the most that the node can draw, 0 for not known
	Now     func() time.Time  // the clock
}

// Source reads one controller.
type Source struct {
	o    Options
	poll poll.Poller

	busy     chan struct{} // holds one while the controller is talked to
	link     *link         // nil: to be opened
	meters   []meter       // nil: to be found
	explored time.Time     // when they were looked for
	again    time.Duration // after that they are looked for again
	bad      int           // polls in a row without any value

	mu     sync.Mutex
	state  map[string]*health // by meter
	events []collector.Event
}

// health is what is known of one meter's failures.
type health struct {
	said   string
	failed int
	lost   bool
}

// New checks the options. The controller is asked by the first poll.
func New(o Options) (*Source, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	s := &Source{o: o, busy: make(chan struct{}, 1), state: map[string]*health{}}
	s.poll = poll.Poller{Now: o.Now, Every: o.Every, Most: exploreFor + o.Timeout, Read: s.ask}
	return s, nil
}

// Name is "redfish".
func (s *Source) Name() string { return "redfish" }

// Read gives the readings of the poll that has ended since the last call, and
// nothing between polls. It returns when ctx ends, whatever the controller does.
func (s *Source) Read(ctx context.Context) ([]collector.Reading, error) {
	readings, err := s.poll.Poll(ctx)
	if errors.Is(err, poll.ErrHeld) {
		err = &collector.DeviceError{Device: s.Name(), Err: err}
	}
	return readings, err
}

// Close logs out. The source gives nothing after.
func (s *Source) Close() error {
	s.poll.Close(farewell)
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if err := s.lock(ctx); err != nil {
		return fmt.Errorf("cannot close the session with the controller: %w", err)
	}
	defer s.unlock()
	s.hangUp(true)
	return nil
}

// lock makes the caller the one client of the controller.
func (s *Source) lock(ctx context.Context) error {
	select {
	case s.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Source) unlock() { <-s.busy }

// ask is one poll.
func (s *Source) ask(ctx context.Context) ([]collector.Reading, error) {
	if err := s.lock(ctx); err != nil {
		return nil, nil // a probe has it
	}
	defer s.unlock()
	problems, err := s.ready(ctx)
	if err != nil {
		s.hangUp(answers(err))
		return nil, s.failure(s.Name(), err)
	}
	s.success(s.Name())
	var errs []error
	for _, p := range problems {
		errs = append(errs, s.problem(p))
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	readings, err := s.readAll(ctx)
	if s.bad++; len(readings) > 0 {
		s.bad = 0
	}
	if s.bad >= loseAfter {
		s.hangUp(true) // begin anew
	}
	return readings, errors.Join(append(errs, err)...)
}

// ready opens the controller and finds its meters, where that is to be done.
func (s *Source) ready(ctx context.Context) ([]problem, error) {
	ctx, cancel := context.WithTimeout(ctx, exploreFor)
	defer cancel()
	if s.link == nil {
		l, err := s.o.connect(ctx)
		if err != nil {
			return nil, err
		}
		s.link = l
	}
	now := s.o.Now()
	if since := now.Sub(s.explored); s.meters != nil && since >= 0 && since < s.again {
		return nil, nil
	}
	e := explorer{o: &s.o, link: s.link}
	meters, err := e.explore(ctx)
	if err != nil {
		return nil, err
	}
	if len(meters) == 0 {
		e.add(s.Name(), errNoMeters)
	}
	s.meters, s.explored, s.again = append([]meter{}, meters...), now, exploreEvery
	s.forget(e.problems)
	if len(e.problems) > 0 {
		s.again = poll.Slowest
	}
	return e.problems, nil
}

// readAll reads every meter. What concerns the connection ends it; anything
// else costs its meter.
func (s *Source) readAll(ctx context.Context) ([]collector.Reading, error) {
	var readings []collector.Reading
	var errs []error
	lookAgain := false
	for i := range s.meters {
		m := &s.meters[i]
		r, err := m.read(ctx, s.link, s.o.Now)
		if err == nil {
			s.success(m.scope.Name)
			readings = append(readings, r)
			continue
		}
		kind := kindOf(err)
		if kind == unreachable || kind == denied || kind == distrusted {
			s.hangUp(false)
			errs = append(errs, s.failure(s.Name(), err))
			break
		}
		errs = append(errs, s.failure(m.scope.Name, err))
		lookAgain = lookAgain || kind == gone
		if ctx.Err() != nil {
			break
		}
	}
	if lookAgain { // not more often: it takes many requests
		s.again = poll.Slowest
	}
	return readings, errors.Join(errs...)
}

// hangUp forgets the connection and what was found. It logs out where the
// controller answers. The caller has the lock.
func (s *Source) hangUp(answers bool) {
	if s.link != nil {
		s.link.close(answers)
	}
	s.link, s.meters, s.bad = nil, nil, 0
}

// failure gives err if it was not said before of that meter. Three in a row are
// an event.
func (s *Source) failure(name string, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.state[name]
	if h == nil {
		h = &health{}
		s.state[name] = h
	}
	if h.failed++; h.failed == loseAfter {
		h.lost = true
		s.note("missing_meter", name, err.Error())
	}
	if err.Error() == h.said {
		return nil
	}
	h.said = err.Error()
	return &collector.DeviceError{Device: name, Err: err}
}

// problem is like failure for what was met while looking for meters; a scope
// that cannot be told is an event at once.
func (s *Source) problem(p problem) error {
	err := s.failure(p.name, p.err)
	if err != nil && errors.Is(p.err, errScope) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.note("scope_unknown", p.name, p.err.Error())
	}
	return err
}

func (s *Source) success(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.state[name]
	if h == nil {
		return
	}
	if h.lost {
		s.note("meter_back", name, fmt.Sprintf("after %d polls without a reading", h.failed))
	}
	delete(s.state, name)
}

// forget ends the failures of what is neither a meter nor met again.
func (s *Source) forget(problems []problem) {
	known := map[string]bool{s.Name(): true}
	for _, m := range s.meters {
		known[m.scope.Name] = true
	}
	for _, p := range problems {
		known[p.name] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.state, func(name string, _ *health) bool { return !known[name] })
}

func (s *Source) note(kind, name, detail string) {
	if len(s.events) < maxEvents {
		s.events = append(s.events, collector.Event{At: s.o.Now(), Kind: kind, Meter: name, Detail: detail})
	}
}

// Events gives which meters were lost and came back, and whose scope is unknown.
func (s *Source) Events() []collector.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.events
	s.events = nil
	return out
}
