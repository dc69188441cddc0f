// Package cray reads the pm_counters of an HPE Cray EX node
// (/sys/cray/pm_counters): cumulative energy in whole joules, and power, of the
// node, its processors, its memory and its accelerators, measured by the node
// controller ten times a second. Each file carries its own stamp, which is the
// time of its reading: the stamps of one scan are up to 0.2 s apart.
//
// accelN is an accelerator module (on MI250X an OAM with two dies). The node
// contains all others and what they do not see.
//
// The controller counts its scans in freshness, its starts in startup, changes
// of the power cap in generation. A counter means nothing across a start.
package cray

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/sysfs"
	"github.com/wattledger/wattledger/internal/sysfs/journal"
)

const (
	folder = "cray/pm_counters"
	// tries to read all files within one scan of the controller.
	tries = 4
	// staleAfter: the controller scans at 10 Hz.
	staleAfter = 5 * time.Second
	// clockSlack is how far the controller's clock may be off ours.
	clockSlack = 5 * time.Second
)

// Source reads the counters of a node.
type Source struct {
	sys, proc *sysfs.Root
	now       func() time.Time
	journal   journal.Journal
	rescan    sysfs.Rescan
	broken    bool

	boot, epoch, started string // epoch is boot and started
	meters               []*gauge
	freshness            *sysfs.File // nil where there is none
	startup              *sysfs.File
	generation           *sysfs.File
	cap                  *sysfs.File

	generated uint64
	capped    uint64 // W, 0 for no cap
	scan      uint64
	scanSince time.Time     // when freshness was first seen as it is
	newest    time.Time     // stamp, on the controller's clock
	movedAt   time.Time     // when it was seen to move, on ours
	behind    time.Duration // our clock less the controller's, where they differ
}

// New makes the source. sys and proc are the roots of sysfs and procfs.
func New(sys, proc *sysfs.Root, now func() time.Time) *Source {
	return &Source{sys: sys, proc: proc, now: now}
}

// Name is "cray".
func (s *Source) Name() string { return "cray" }

// Events are restarts of the controller, changed caps, and what is missing.
func (s *Source) Events() []collector.Event { return s.journal.Events() }

// Read gives a reading of each counter, all of one scan of the controller where
// that can be had: freshness is read before and after.
func (s *Source) Read(ctx context.Context) ([]collector.Reading, error) {
	if err := s.prepare(); err != nil {
		s.broken = true
		return nil, err
	}
	var out []collector.Reading
	var errs []error
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		before, err := s.fresh()
		if err != nil {
			return nil, err
		}
		if err := s.start(); err != nil {
			return nil, err
		}
		out, errs = s.readAll(out[:0])
		after, err := s.fresh()
		if err != nil {
			return nil, err
		}
		if before == after {
			break
		}
		if try == tries { // each counter is still right at its own stamp, if it is of this start
			same, err := s.sameStart()
			if err != nil || !same {
				return nil, errors.Join(errors.New("the controller was started anew while it was read"), err)
			}
			s.journal.State(s.now(), "unsteady", "", fmt.Sprintf("freshness moved in %d reads in a row", tries))
			break
		}
	}
	out, errs = s.align(out, errs)
	s.broken = len(errs) > 0
	s.watchFreshness()
	s.watchCap()
	return out, errors.Join(errs...)
}

// prepare finds the boot and, now and then, the files.
func (s *Source) prepare() error {
	if s.boot == "" {
		boot, err := s.proc.BootID()
		if err != nil {
			return fmt.Errorf("cannot tell this boot from the next: %w", err)
		}
		s.boot = boot
	}
	if s.rescan.Due(s.now(), s.broken) {
		if err := s.find(); err != nil {
			return err
		}
	}
	if len(s.meters) == 0 {
		return fmt.Errorf("there is no energy file under %s", s.sys.Full(folder))
	}
	return nil
}

// fresh is the number of the controller's scan.
func (s *Source) fresh() (uint64, error) {
	if s.freshness == nil {
		return 0, nil
	}
	n, err := s.freshness.Uint()
	if err != nil {
		return 0, err
	}
	if n != s.scan || s.scanSince.IsZero() {
		s.scan, s.scanSince = n, s.now()
	}
	return n, nil
}

// watchFreshness says when the controller counts no scans any more.
func (s *Source) watchFreshness() {
	if s.freshness == nil || s.now().Sub(s.scanSince) < staleAfter {
		s.journal.Over("freshness_stands", "")
		return
	}
	s.journal.State(s.now(), "freshness_stands", "", fmt.Sprintf("freshness stands at %d: the node controller scans no more", s.scan))
}

// align puts the stamps on our clock, and drops readings whose stamps stand:
// what is as old as that is not given as new. The controller's newest stamp
// tells: where that stands, the controller does; where it moves and is far from
// our time, its clock is off, which is taken once and kept, so that the times
// between readings stay the controller's own.
func (s *Source) align(rs []collector.Reading, errs []error) ([]collector.Reading, []error) {
	now := s.now()
	newest := time.Time{}
	for _, r := range rs {
		if r.At.After(newest) {
			newest = r.At
		}
	}
	if !newest.Equal(s.newest) {
		s.newest, s.movedAt = newest, now
	}
	if age := now.Sub(s.movedAt); len(rs) > 0 && age >= staleAfter {
		err := fmt.Errorf("all of %s stands as it was %d s ago: the node controller measures no more", s.sys.Full(folder), int(age.Seconds()))
		return nil, append(errs, err)
	}
	s.setClock(now, newest)
	out := rs[:0]
	for _, r := range rs {
		if age := newest.Sub(r.At); age >= staleAfter {
			err := fmt.Errorf("its stamp is %d s older than that of others: it is measured no more", int(age.Seconds()))
			errs = append(errs, &collector.DeviceError{Device: r.Scope.Name, Err: err})
			continue
		}
		r.At = r.At.Add(s.behind)
		out = append(out, r)
	}
	return out, errs
}

func (s *Source) setClock(now, newest time.Time) {
	far := func(d time.Duration) bool { return d > clockSlack || d < -clockSlack }
	if newest.IsZero() || !far(now.Sub(newest.Add(s.behind))) {
		return
	}
	off := now.Sub(newest)
	if !far(off) { // it was set right
		s.behind = 0
		s.journal.Over("clock_differs", "")
		return
	}
	s.behind = off
	s.journal.State(now, "clock_differs", "", fmt.Sprintf("the node controller's clock is %d s behind ours: its stamps are shifted", int(off.Seconds())))
}

// start names the epoch: the boot and the controller's start. Older firmware
// has no startup; then it is the boot alone.
func (s *Source) start() error {
	if s.startup == nil {
		if s.epoch == "" {
			s.epoch = s.boot
		}
		return nil
	}
	same, err := s.startup.Is(s.started)
	if err == nil && same && s.epoch != "" {
		return nil
	}
	id := ""
	if err == nil {
		id, err = s.startup.Text()
	}
	switch {
	case s.started == "" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)):
		s.journal.State(s.now(), "no_startup", "", err.Error()+": a start of the controller is seen by its counters alone")
		s.startup, s.epoch = nil, s.boot
		return nil
	case err != nil:
		return err
	case id == "":
		return s.startup.Fault(nil, "start")
	}
	if s.started != "" {
		s.journal.Add(s.now(), "controller_started", "", fmt.Sprintf("startup went from %.32s to %.32s: the counters begin anew", s.started, id))
	}
	s.started, s.epoch = id, s.boot+"/"+id
	return nil
}

func (s *Source) sameStart() (bool, error) {
	if s.startup == nil {
		return true, nil
	}
	return s.startup.Is(s.started)
}

// watchCap reports changes of the power cap; 0 is no cap.
func (s *Source) watchCap() {
	if s.generation == nil || s.cap == nil {
		return
	}
	generation, err := s.generation.Uint()
	if err != nil || generation == s.generated {
		return
	}
	b, err := s.cap.Bytes()
	if err != nil {
		return
	}
	watts, ok := leading(b)
	if !ok {
		s.journal.State(s.now(), "bad_value", "node", s.cap.Fault(b, "power cap").Error())
		return
	}
	first := s.generated == 0
	s.generated, s.capped = generation, watts
	if first {
		return
	}
	detail := "the node has no power cap"
	if watts > 0 {
		detail = fmt.Sprintf("the node's power cap is %d W", watts)
	}
	s.journal.Add(s.now(), "power_cap", "node", fmt.Sprintf("%s (generation %d)", detail, generation))
}

// readAll reads every meter.
func (s *Source) readAll(out []collector.Reading) ([]collector.Reading, []error) {
	if out == nil {
		out = make([]collector.Reading, 0, len(s.meters))
	}
	var errs []error
	for _, m := range s.meters {
		r, err := s.read(m)
		if err != nil {
			errs = append(errs, &collector.DeviceError{Device: m.scope.Name, Err: err})
			continue
		}
		out = append(out, r)
	}
	return out, errs
}

func (s *Source) read(m *gauge) (collector.Reading, error) {
	l, err := lineOf(m.energy, 'J')
	if err != nil {
		return collector.Reading{}, err
	}
	if l.value > uint64(energy.MaxOdometer/energy.Joule) {
		return collector.Reading{}, fmt.Errorf("%s: %d J is no value of a counter", m.energy.Full(), l.value)
	}
	r := collector.Reading{Scope: m.scope, At: time.UnixMicro(int64(l.at)), Epoch: s.epoch, Counter: energy.Microjoules(l.value) * energy.Joule}
	if m.power == nil {
		return r, nil
	}
	p, err := lineOf(m.power, 'W')
	switch {
	case err != nil: // the counter stands without it
		s.journal.State(s.now(), "no_power", m.scope.Name, err.Error())
	case p.value < 1<<32:
		s.journal.Over("no_power", m.scope.Name)
		r.Power, r.HasPower = energy.Microwatts(p.value)*energy.Watt, true
	}
	if m.whole && s.capped > 0 {
		r.Gauges = []collector.Gauge{{Name: "power_limit_watts", Value: float64(s.capped)}}
	}
	return r, nil
}

// Probe says what a Cray EX node would have and this one has not.
func (s *Source) Probe(context.Context) []collector.Missing {
	err := s.find()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []collector.Missing{{Meter: s.Name(), Why: "there is no " + s.sys.Full(folder) + ": not an HPE Cray EX node, or its kernel module is not loaded"}}
	case err != nil:
		return []collector.Missing{{Meter: s.Name(), Why: err.Error()}}
	}
	out := s.gaps()
	for _, m := range s.meters {
		if _, err := lineOf(m.energy, 'J'); err != nil {
			out = append(out, collector.Missing{Meter: m.scope.Name, Why: err.Error()})
		}
	}
	return out
}
