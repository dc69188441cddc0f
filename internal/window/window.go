// Package window holds what an agent books at a time: the ranges its odometers
// went through and the postings they were split into, with the one check that
// agent, intake and audit apply to it.
//
// A window lies within one slot. Its ranges are evidence; its postings are the
// books; that both sides agree is checked by Check, and that ranges adjoin
// those booked before is checked against the ledger's ends.
package window

import (
	"github.com/wattledger/wattledger/internal/energy"
)

// SlotMS is the ledger's grain: 15 minutes of UTC, in milliseconds.
const SlotMS = 15 * 60 * 1000

// Slot is the number of the slot that holds the time: floor(ms / SlotMS).
func Slot(ms int64) int64 {
	s := ms / SlotMS
	if ms < 0 && s*SlotMS != ms {
		s--
	}
	return s
}

// Meter describes one meter of a catalogue.
type Meter struct {
	Name   string
	Epoch  string       // hardware epoch and the start of our odometer in it
	Parent string       // "" for none
	Class  energy.Class // of its own energy, or of the rest where it has children
	// Root meters are booked and have no booked parent: their ranges are the
	// metered side of the books. Others lie inside a root; a witness is neither.
	Root bool
	// Leaf meters are devices: device time is counted for them.
	Leaf bool
	// Integrated: the odometer is an integral of power, it has no raw reading.
	Integrated bool
	// Modulus of the raw counter, 0 for none.
	Modulus energy.Microjoules
}

// Catalogue names the booked meters of a node and how they nest, the version of
// the scope tree. Windows refer to it by its ID; a change of any field is a new
// catalogue, in use from the next window on.
type Catalogue struct {
	ID     uint64 // hash of the rest
	Meters []Meter
	Policy string // how shared energy is split, e.g. "allocation/v1"
}

// Range is what one odometer went through in a window.
type Range struct {
	Meter    int // index into the catalogue
	From, To energy.Microjoules
	// FromMS and ToMS are the stamps of the readings at both ends, Unix ms.
	FromMS, ToMS int64
	// Raw is the raw counter (normalised to microjoules) at To; not set for
	// integrated meters.
	Raw energy.Microjoules
	// Estimated: To and Raw lie between two readings (a slot edge inside a
	// bridge); differences still start from them, since counters only go up.
	Estimated bool
}

// Energy of the range as it is booked.
func (r Range) Energy() energy.Millijoules { return energy.Span(r.From, r.To) }

// Job is whom energy is posted to. ID, Restart and Submit are its key within
// the cluster; the rest describes it.
type Job struct {
	ID       string
	Restart  uint32
	SubmitMS int64 // 0 where the hook does not know it
	Project  string
	User     string
	StartMS  int64 // on this node
	EndMS    int64 // 0 while it runs
}

// Posting is one line of the books: energy of a class, for a use, by a grade.
type Posting struct {
	Job      int // index into the window's jobs, or -1 for nobody
	Class    energy.Class
	Use      energy.Use
	Grade    energy.Grade
	Energy   energy.Millijoules // may be negative: a remainder
	DeviceMS int64              // device time
}

// Absence is device time without energy: nobody knows what was burnt.
type Absence struct {
	Class    energy.Class
	DeviceMS int64
}

// Holding says what a job held at the end of a window; it lets an agent that
// lost its state bridge to the jobs that are there at both ends.
type Holding struct {
	Job int // index into the window's jobs
	// Devices by meter name with weights in millionths of the device; the
	// pseudo-names "cpu", "memory" and "other" hold the share of shared classes.
	Devices []Share
}

// Share is a part of a device.
type Share struct {
	Device string
	Weight uint32 // millionths
}

// Series is the power of one meter at 1 s, or a gauge of it.
type Series struct {
	Meter int    // index into the catalogue; -1 for the node as a whole
	Name  string // "power_watts", or a gauge name
	// Points from StartMS on, StepMS apart. For gauges one point: mean, with
	// Max and Last.
	StartMS, StepMS int64
	Milli           []int64 // values x 1000
	Max, Last       int64   // x 1000, gauges only
}

// Window is what is booked at a time.
type Window struct {
	Catalogue *Catalogue
	StartMS   int64 // first instant that is covered
	EndMS     int64 // first instant that is not
	Ranges    []Range
	Jobs      []Job
	Postings  []Posting
	Absences  []Absence
	Holdings  []Holding
	// Bridge: made from the ledger's ends, not from readings of its own time.
	Bridge bool
	// Final: the node is leaving the books; it is not expected after EndMS.
	Final     bool
	Telemetry []Series
	// Packed is telemetry as it travelled and was not unpacked yet; wire.Unpacker
	// does.
	Packed []byte
	Events []Event
}

// Event is something a person should know: a reset, a gap, a late edge.
type Event struct {
	AtMS   int64
	Kind   string // reset, gap, backwards, implausible, ambiguous, clock_step, late_edge, bridge, demoted, ...
	Meter  string
	Detail string
}

// Metered is the energy of the root ranges: the left side of the books.
func (w *Window) Metered() energy.Millijoules {
	var sum energy.Millijoules
	for _, r := range w.Ranges {
		if w.Catalogue.Meters[r.Meter].Root {
			sum += r.Energy()
		}
	}
	return sum
}

// Booked is the energy of the postings: the right side of the books.
func (w *Window) Booked() energy.Millijoules {
	var sum energy.Millijoules
	for _, p := range w.Postings {
		sum += p.Energy
	}
	return sum
}
