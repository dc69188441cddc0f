// Package collector says what a source of measurements is. Each hardware
// interface is a sub-package with a type that implements Source; they are
// listed where they are wired, in cmd.
package collector

import (
	"context"
	"fmt"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

// Source reads the meters of one hardware interface.
type Source interface {
	// Name is the label value of the source in metrics and events: a constant.
	Name() string
	// Read takes one reading of every meter. Readings and an error may both be
	// non-empty: a DeviceError (joined with others) costs only its device. Read
	// returns soon after ctx ends; one that does not is reported stuck and is
	// not called again before it has returned.
	Read(ctx context.Context) ([]Reading, error)
}

// Kind says what a reading holds.
type Kind uint8

const (
	// Counter: cumulative energy, kept by the hardware.
	Counter Kind = iota
	// Power: the power at (or averaged before) the stamp; we integrate it.
	Power
	// Gauges: no energy, only values to look at.
	Gauges
)

// Scope describes a meter: what it covers and how to judge its readings. It is
// constant for the life of the meter; sources hand out the same values again.
type Scope struct {
	Name   string       // of the meter on its node: gpu0, module0, package0, dram0, node
	Parent string       // the meter that contains this one; "" for none
	Class  energy.Class // what its energy is booked as; a meter that contains others books the rest as energy.Other unless Rest says otherwise
	Rest   energy.Class // class of parent minus children; used only where it has children
	Kind   Kind
	// Modulus is where the counter wraps (RAPL: max_energy_range_uj), 0 for never.
	Modulus energy.Microjoules
	// Limit is the most power the scope can draw (its power limit with a
	// margin), 0 for not known. It is the physical gate.
	Limit energy.Microwatts
	// Resolution is the step of the counter, 0 for a microjoule.
	Resolution energy.Microjoules
	// Witness meters are compared and never booked.
	Witness bool
	// Device is the hardware's own identity (UUID, PCI address), for people.
	Device string
}

// Activity says whether a device worked.
type Activity uint8

// NotKnown: neither utilisation nor processes are to be had.
const (
	NotKnown Activity = iota
	Working
	Resting
)

// Reading is one look at one meter.
type Reading struct {
	Scope Scope
	// At is when the value was true: the hardware's own stamp where it has one.
	At time.Time
	// Epoch names the span in which differences of the counter mean anything:
	// boot id, driver load, controller start. For Power it may be empty.
	Epoch string
	// Counter is cumulative energy (Kind Counter), normalised to microjoules.
	Counter energy.Microjoules
	// Power is given with Kind Power, and with Kind Counter where it is known.
	Power    energy.Microwatts
	HasPower bool
	Activity Activity
	Gauges   []Gauge
}

// Gauge is a value to look at, never to book. Names are OpenMetrics names with
// their unit (utilization_ratio, temperature_celsius, memory_used_bytes).
type Gauge struct {
	Name  string
	Value float64
}

// DeviceError is the failure of one device; the others are not touched by it.
type DeviceError struct {
	Device string // meter name
	Err    error
}

// Error names the device and what was wrong with it.
func (e *DeviceError) Error() string { return fmt.Sprintf("device %s: %v", e.Device, e.Err) }

// Unwrap gives the cause.
func (e *DeviceError) Unwrap() error { return e.Err }

// Event is something a source saw that is no reading: an Xid, a lost device, a
// counter that was refused, a meter that cannot be read and why.
type Event struct {
	At     time.Time
	Kind   string // words joined by _, constant: xid, gpu_lost, missing_meter, scope_unknown
	Meter  string // "" for the source as a whole
	Detail string // for people
}

// EventSource is a Source that also has events. Events gives those since the
// last call, oldest first; it may be called from any goroutine and is bounded.
type EventSource interface {
	Source
	Events() []Event
}

// Missing is a meter that a source would read and cannot, with the mend.
type Missing struct {
	Meter string // or the interface, where its meters are not known
	Why   string // permission, module, driver: what was tried and what came back
	Mend  string // the exact command or setting that mends it, "" if there is none
}

// Prober is a Source that can say what it does not find; `wattledger-agent
// check` prints it.
type Prober interface {
	Source
	Probe(ctx context.Context) []Missing
}
