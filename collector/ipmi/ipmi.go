// Package ipmi reads the power of the whole node from its management controller
// with one IPMI command, DCMI Get Power Reading (DCMI specification 1.5, 6.6.1:
// netfn 2Ch, command 02h, group DCh; whole watts). It talks to the kernel's
// /dev/ipmiN, or over the network (RMCP+, cipher suite 3 or 17), and starts no
// program.
//
// Controllers are slow and shared: one is asked at most every five seconds,
// whatever the tick, on a goroutine of its own and by one client. A Read between
// polls gives nothing. The controller's time stamps are not to be relied upon, so
// a reading is true when it arrived. What is not a measurement (0 W, a refused
// command, measurement switched off) is a DeviceError and never a number; the
// same failure is said once and again when it changes.
//
// The meter is a witness unless Options.Booked says that it is the node's. It
// cannot tell what is inside the node; other meters do.
package ipmi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/poll"
)

// Bounds and defaults of Options.
const (
	MinEvery       = 5 * time.Second
	DefaultTimeout = 4 * time.Second
	DefaultMeter   = "node-bmc"
	bookedMeter    = "node"
	farewell       = time.Second // for closing a session that was in order
	loseAfter      = 3           // failures in a row are an event
	maxEvents      = 64
)

// Options says which controller to read and how.
type Options struct {
	Device int    // N of /dev/ipmiN
	DevDir string // where device files are; empty for /dev

	// Host makes it a controller on the network instead. User and PasswordFile
	// are needed then: there is no default.
	Host         string
	Port         int // 0 for 623
	User         string
	PasswordFile string
	CipherSuite  int    // 3 or 17; 0 for 3
	Privilege    string // user, operator or administrator; empty for user

	Every   time.Duration // 0 for MinEvery, which is the least
	Timeout time.Duration // of a poll; 0 for DefaultTimeout
	Meter   string        // its name as a witness; empty for DefaultMeter
	Booked  bool          // it is the node's meter, not a witness
	Limit   energy.Microwatts

	// Now is the clock.
	Now func() time.Time
	// Dial replaces the way to the controller, for tests; nil for the real one.
	Dial func(context.Context) (Controller, error)
}

// Controller is a connection to a management controller.
type Controller interface {
	// Power asks once. A code other than 0 is a *CodeError.
	Power(ctx context.Context) (Power, error)
	// Close says goodbye within ctx and frees everything in any case.
	Close(ctx context.Context) error
}

// Power is the answer to Get Power Reading, in watts.
type Power struct {
	Current, Minimum, Maximum, Average uint16
	// Active tells whether the controller measures at all.
	Active bool
}

var (
	errInactive = errors.New("the controller says that it does not measure power")
	errZero     = errors.New("the controller reads 0 W, which is no measurement; it is opened again")
)

// Source reads one controller.
type Source struct {
	o     Options
	scope collector.Scope
	dial  func(context.Context) (Controller, error)
	poll  poll.Poller

	busy chan struct{} // holds one while the controller is talked to: one client
	conn Controller    // nil: to be opened

	mu     sync.Mutex
	said   string // the failure that was last reported
	failed int    // polls in a row
	lost   bool
	events []collector.Event
}

// New checks the options. The controller is opened by the first poll.
func New(o Options) (*Source, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	s := &Source{o: o, dial: o.Dial, busy: make(chan struct{}, 1)}
	if s.dial == nil {
		s.dial = o.connect
	}
	s.scope = collector.Scope{
		Name: o.Meter, Class: energy.Node, Kind: collector.Power, Limit: o.Limit, Witness: !o.Booked, Device: o.where(),
	}
	if o.Booked {
		s.scope.Name, s.scope.Rest = bookedMeter, energy.Other
	}
	s.poll = poll.Poller{Now: o.Now, Every: o.Every, Most: o.Timeout + farewell, Read: s.ask}
	return s, nil
}

func (o *Options) fill() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	if o.Every == 0 {
		o.Every = MinEvery
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Meter == "" {
		o.Meter = DefaultMeter
	}
	if o.DevDir == "" {
		o.DevDir = "/dev"
	}
	check(o.Now != nil, "a controller cannot be read without a clock")
	check(o.Every >= MinEvery, "every: %s is not %s or more", o.Every, MinEvery)
	check(o.Timeout > 0 && o.Timeout <= time.Minute, "timeout: %s is not above 0 and at most 1m", o.Timeout)
	check(o.Device >= 0, "device: %d is not the number of a device", o.Device)
	if o.Host != "" {
		errs = append(errs, o.fillRemote())
	}
	return errors.Join(errs...)
}

// Name is "ipmi".
func (s *Source) Name() string { return "ipmi" }

// Read gives the power if a poll has ended since the last call, and nothing
// between polls. It returns when ctx ends, whatever the controller does.
func (s *Source) Read(ctx context.Context) ([]collector.Reading, error) {
	readings, err := s.poll.Poll(ctx)
	if err != nil {
		err = &collector.DeviceError{Device: s.scope.Name, Err: err}
	}
	return readings, err
}

// Close ends the session with the controller. The source gives nothing after.
func (s *Source) Close() error {
	s.poll.Close(farewell)
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if err := s.lock(ctx); err != nil {
		return fmt.Errorf("cannot close the session with the controller: %w", err)
	}
	defer s.unlock()
	return s.hangUp(true)
}

// ask is one poll.
func (s *Source) ask(ctx context.Context) ([]collector.Reading, error) {
	if err := s.lock(ctx); err != nil {
		return nil, nil // a probe has it
	}
	defer s.unlock()
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	began := s.o.Now()
	p, err := s.power(ctx)
	if err != nil {
		return nil, s.failure(err)
	}
	now := s.o.Now()
	s.success(now)
	return []collector.Reading{{
		Scope: s.scope, At: now, Power: energy.Microwatts(p.Current) * energy.Watt, HasPower: true,
		Gauges: []collector.Gauge{{Name: "bmc_response_seconds", Value: now.Sub(began).Seconds()}},
	}}, nil
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

// power opens the controller where it is not open and asks it. After anything
// but a controller that is merely busy it is closed again.
func (s *Source) power(ctx context.Context) (Power, error) {
	if s.conn == nil {
		conn, err := s.dial(ctx)
		if err != nil {
			return Power{}, err
		}
		s.conn = conn
	}
	p, err := s.conn.Power(ctx)
	var code *CodeError
	refused := errors.As(err, &code)
	answered := err == nil || refused
	switch {
	case err != nil:
		err = fmt.Errorf("cannot read the power from %s: %w", s.o.where(), err)
	case !p.Active:
		err = errInactive
	case p.Current == 0:
		err = errZero
	}
	if err == nil || refused && code.Passing() {
		return p, err
	}
	_ = s.hangUp(answered)
	return p, err
}

// hangUp closes the connection; with a farewell where the controller answers.
// The caller has the lock.
func (s *Source) hangUp(answers bool) error {
	if s.conn == nil {
		return nil
	}
	conn := s.conn
	s.conn = nil
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if !answers {
		cancel()
	}
	return conn.Close(ctx)
}

// failure gives err if it was not said before. Three in a row are an event.
func (s *Source) failure(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed++; s.failed == loseAfter {
		s.lost = true
		s.note(s.o.Now(), "missing_meter", err.Error())
	}
	if err.Error() == s.said {
		return nil
	}
	s.said = err.Error()
	return err
}

func (s *Source) success(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost {
		s.note(now, "meter_back", fmt.Sprintf("after %d polls without a reading", s.failed))
	}
	s.said, s.failed, s.lost = "", 0, false
}

func (s *Source) note(at time.Time, kind, detail string) {
	if len(s.events) < maxEvents {
		s.events = append(s.events, collector.Event{At: at, Kind: kind, Meter: s.scope.Name, Detail: detail})
	}
}

// Events gives when the meter was lost and came back.
func (s *Source) Events() []collector.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.events
	s.events = nil
	return out
}
