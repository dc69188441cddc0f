package window

import (
	"errors"
	"fmt"

	"github.com/wattledger/wattledger/internal/energy"
)

// Limits of what a window may hold; they bound what one message can cost.
const (
	MaxMeters   = 1024
	MaxPostings = 65_536
	MaxName     = 256
	// MaxSpanMJ is the most energy of one window: 100 MW for a slot.
	MaxSpanMJ = energy.Millijoules(100e6) * 900 * 1000
	// maxDeviceMS is the most device time of one line: sums stay within int64.
	maxDeviceMS = MaxMeters * SlotMS
)

// ErrUnbalanced is wrapped by Check where the two sides of a window differ.
var ErrUnbalanced = errors.New("postings do not add up to the ranges")

// Check tells whether a window may be booked, given only itself: it lies in one
// slot, its ranges go forward, raw readings agree with odometers, postings add
// up to the root ranges, device time adds up to devices times time. Agent,
// intake and audit all use it. It reports the first thing that is wrong.
func Check(w *Window) error {
	if w.Catalogue == nil {
		return errors.New("window has no catalogue")
	}
	if w.EndMS <= w.StartMS {
		return fmt.Errorf("window ends at %d ms, not after its start %d ms", w.EndMS, w.StartMS)
	}
	if Slot(w.StartMS) != Slot(w.EndMS-1) {
		return fmt.Errorf("window [%d, %d) ms crosses a slot edge", w.StartMS, w.EndMS)
	}
	if err := checkCatalogue(w.Catalogue); err != nil {
		return err
	}
	if err := checkRanges(w); err != nil {
		return err
	}
	if err := checkPostings(w); err != nil {
		return err
	}
	if m, b := w.Metered(), w.Booked(); m != b {
		return fmt.Errorf("%w: metered %s mJ, booked %s mJ", ErrUnbalanced, m, b)
	}
	return checkDeviceTime(w)
}

func checkCatalogue(c *Catalogue) error {
	if len(c.Meters) > MaxMeters {
		return fmt.Errorf("catalogue of %d meters, at most %d", len(c.Meters), MaxMeters)
	}
	for i, m := range c.Meters {
		if m.Class >= energy.NumClasses {
			return fmt.Errorf("meter %.40q has the unknown class %d", m.Name, m.Class)
		}
		if m.Name == "" || len(m.Name) > MaxName || len(m.Epoch) > MaxName || len(m.Parent) > MaxName {
			return fmt.Errorf("meter %d (%.40q, epoch %.40q): a name is needed, and none may be longer than %d bytes", i, m.Name, m.Epoch, MaxName)
		}
	}
	return nil
}

func checkRanges(w *Window) error {
	meters := w.Catalogue.Meters
	seen := make([]bool, len(meters))
	for _, r := range w.Ranges {
		if r.Meter < 0 || r.Meter >= len(meters) {
			return fmt.Errorf("range of meter %d: the catalogue has %d", r.Meter, len(meters))
		}
		m := meters[r.Meter]
		switch {
		case seen[r.Meter]:
			return fmt.Errorf("two ranges of meter %s", m.Name)
		case r.To < r.From:
			return fmt.Errorf("odometer of %s goes back from %d to %d uJ", m.Name, r.From, r.To)
		case r.To > energy.MaxOdometer:
			return fmt.Errorf("odometer of %s is out of range: %d uJ", m.Name, r.To)
		case r.Energy() > MaxSpanMJ:
			return fmt.Errorf("range of %s is out of range: %s mJ in one window", m.Name, r.Energy())
		case r.ToMS < r.FromMS:
			return fmt.Errorf("stamps of %s go back from %d to %d ms", m.Name, r.FromMS, r.ToMS)
		case !rawAgrees(m, r):
			return fmt.Errorf("odometer of %s ends at %d uJ, which its raw reading %d uJ does not give", m.Name, r.To, r.Raw)
		}
		seen[r.Meter] = true
	}
	return nil
}

// rawAgrees: an odometer is the raw counter plus whole wraps. An estimated end
// carries the raw value the counter had by that estimate.
func rawAgrees(m Meter, r Range) bool {
	if m.Integrated {
		return true
	}
	if m.Modulus == 0 {
		return r.To == r.Raw
	}
	return r.To >= r.Raw && (r.To-r.Raw)%m.Modulus == 0
}

func checkPostings(w *Window) error {
	if len(w.Postings) > MaxPostings {
		return fmt.Errorf("%d postings, at most %d", len(w.Postings), MaxPostings)
	}
	for _, p := range w.Postings {
		if p.Job < -1 || p.Job >= len(w.Jobs) {
			return fmt.Errorf("posting to job %d: the window has %d", p.Job, len(w.Jobs))
		}
		if p.Class >= energy.NumClasses || p.Use >= energy.NumUses || p.Grade >= energy.NumGrades {
			return fmt.Errorf("posting of unknown class, use or grade (%d, %d, %d)", p.Class, p.Use, p.Grade)
		}
		if hasJob, jobUse := p.Job >= 0, p.Use == energy.Busy || p.Use == energy.Held; hasJob != jobUse {
			return fmt.Errorf("posting of use %s with job %d", p.Use, p.Job)
		}
		if p.DeviceMS < 0 || p.DeviceMS > maxDeviceMS {
			return fmt.Errorf("posting with device time %d ms", p.DeviceMS)
		}
		if p.Energy > MaxSpanMJ || p.Energy < -MaxSpanMJ {
			return fmt.Errorf("posting is out of range: %s mJ in one window", p.Energy)
		}
	}
	for _, h := range w.Holdings {
		if h.Job < 0 || h.Job >= len(w.Jobs) {
			return fmt.Errorf("holding of job %d: the window has %d", h.Job, len(w.Jobs))
		}
	}
	for _, j := range w.Jobs {
		if j.ID == "" || len(j.ID) > MaxName || len(j.Project) > MaxName || len(j.User) > MaxName {
			return fmt.Errorf("job %.40q of project %.40q: an id is needed, and no name may be longer than %d bytes", j.ID, j.Project, MaxName)
		}
	}
	return nil
}

// checkDeviceTime is the second law: for each class, uses + missing = devices x
// time.
func checkDeviceTime(w *Window) error {
	var have, want [energy.NumClasses]int64
	for _, m := range w.Catalogue.Meters {
		if m.Leaf {
			want[m.Class] += w.EndMS - w.StartMS
		}
	}
	for _, p := range w.Postings {
		have[p.Class] += p.DeviceMS
	}
	for _, a := range w.Absences {
		if a.Class >= energy.NumClasses || a.DeviceMS < 0 || a.DeviceMS > maxDeviceMS {
			return fmt.Errorf("absence of class %d, %d ms", a.Class, a.DeviceMS)
		}
		have[a.Class] += a.DeviceMS
	}
	for c := range want {
		if have[c] != want[c] {
			return fmt.Errorf("device time of class %s does not close: uses and missing %d ms, devices x time %d ms",
				energy.Class(c), have[c], want[c])
		}
	}
	return nil
}
