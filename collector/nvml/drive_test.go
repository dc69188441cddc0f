package nvml

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattledger/wattledger/collector"
)

// drive drives a source as the agent does, once a second.
type drive struct {
	t      *testing.T
	s      *Source
	lib    *fakeLibrary
	events []collector.Event
	err    error
	took   time.Duration // by the last read
}

func (l *fakeLibrary) drive(o Options) *drive {
	l.t.Helper()
	return &drive{t: l.t, s: l.source(o), lib: l}
}

// tick reads once and gives the readings by meter; a second passes.
func (d *drive) tick() map[string]collector.Reading {
	d.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Second)
	defer cancel()
	readings, err := d.s.Read(ctx)
	d.err, d.took = err, time.Since(began)
	d.events = append(d.events, d.s.Events()...)
	out := map[string]collector.Reading{}
	for _, r := range readings {
		if _, twice := out[r.Scope.Name]; twice {
			d.t.Errorf("two readings of %s", r.Scope.Name)
		}
		out[r.Scope.Name] = r
	}
	time.Sleep(time.Second - time.Since(began))
	synctest.Wait() // what the tests look at is at rest
	return out
}

func (d *drive) ticks(n int) (last map[string]collector.Reading) {
	d.t.Helper()
	for range n {
		last = d.tick()
	}
	return last
}

// end closes the source; no call was started twice, none had an old handle.
func (d *drive) end() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Hour)
	defer cancel()
	if err := d.s.Close(ctx); err != nil {
		d.t.Error(err)
	}
	for _, g := range d.lib.gpus {
		if g.stale > 0 || g.doubled > 0 {
			d.t.Errorf("%s: %d calls with an old handle, %d while another was in flight", g.uuid, g.stale, g.doubled)
		}
	}
}

func (d *drive) saw(kind, meter string) bool {
	return slices.ContainsFunc(d.events, func(e collector.Event) bool { return e.Kind == kind && e.Meter == meter })
}

func (d *drive) count(kind string) (n int) {
	for _, e := range d.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// failed are the devices that gave no reading at the last tick.
func (d *drive) failed() []string {
	var out []string
	var walk func(error)
	walk = func(err error) {
		var many interface{ Unwrap() []error }
		if errors.As(err, &many) {
			for _, e := range many.Unwrap() {
				walk(e)
			}
			return
		}
		if de, ok := errors.AsType[*collector.DeviceError](err); ok {
			out = append(out, de.Device)
		}
	}
	if d.err != nil {
		walk(d.err)
	}
	return out
}

func gauge(r collector.Reading, name string) (float64, bool) {
	for _, g := range r.Gauges {
		if g.Name == name {
			return g.Value, true
		}
	}
	return 0, false
}
