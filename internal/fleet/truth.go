package fleet

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/wattledger/wattledger/internal/energy"
)

// Kinds of truth rows.
const (
	KindMeter   = "meter"   // id node/meter: what the readings of the meter tell, while it is booked
	KindJob     = "job"     // id: the job's, over all nodes and restarts
	KindProject = "project" // id: the project's
	KindIdle    = "idle"    // no id: what no job held
	KindTotal   = "total"   // no id: all roots = all jobs + idle
	// KindMissing, id node/meter/device, is what the meter's scope drew in
	// truth and no reading tells: across a reset or too long a gap, and where
	// power was sampled the error of sampling, which may be negative.
	KindMissing = "missing"
	// KindWitness, id node/meter, is what a meter read after it had become a
	// witness. It is compared, never booked.
	KindWitness = "witness"
)

// TruthRow is what a correct pipeline books under a name.
type TruthRow struct {
	Kind, ID string
	Energy   energy.Millijoules
	// Tolerance is how far a correct pipeline may be off: one renewal of the
	// counter and one step of it per job edge and meter, weighted with the share
	// that changes there; two steps per epoch of a counter; one millijoule per
	// window and posting; where a parent becomes a witness, one window of its
	// remainder.
	Tolerance energy.Millijoules
	// Doubt is the part of Energy that was drawn between the good readings on
	// either side of one whose value cannot be. The readings tell it, but a
	// careful pipeline may have begun anew and booked it as missing.
	Doubt energy.Millijoules
}

func (r TruthRow) key() string { return r.Kind + "," + r.ID }

// Tolerance is how far a correct pipeline may be off the row.
func Tolerance(r TruthRow) energy.Millijoules { return r.Tolerance }

// WriteTruth writes rows as CSV: kind,id,joules.
func WriteTruth(w io.Writer, rows []TruthRow) error {
	c := csv.NewWriter(w)
	if err := c.Write([]string{"kind", "id", "joules"}); err != nil {
		return fmt.Errorf("cannot write the truth: %w", err)
	}
	for _, r := range rows {
		if err := c.Write([]string{r.Kind, r.ID, joules(r.Energy)}); err != nil {
			return fmt.Errorf("cannot write the truth: %w", err)
		}
	}
	c.Flush()
	if err := c.Error(); err != nil {
		return fmt.Errorf("cannot write the truth: %w", err)
	}
	return nil
}

// WriteTruth writes the simulation's truth as CSV: kind,id,joules.
func (s *Simulation) WriteTruth(w io.Writer) error { return WriteTruth(w, s.Truth()) }

// joules writes millijoules as joules with three decimals.
func joules(m energy.Millijoules) string {
	sign, u := "", uint64(m)
	if m < 0 {
		sign, u = "-", uint64(-m)
	}
	return fmt.Sprintf("%s%d.%03d", sign, u/1000, u%1000)
}

// Booked is what a pipeline booked, by TruthKey.
type Booked map[string]energy.Millijoules

// TruthKey is the key of Booked for a kind and an id.
func TruthKey(kind, id string) string { return TruthRow{Kind: kind, ID: id}.key() }

// Difference is a row of which the books are off by more than its tolerance.
type Difference struct {
	Row    TruthRow
	Booked energy.Millijoules
	Absent bool // nothing was booked under that name
	Extra  bool // there is no such row: Row has only kind and id
}

// String says what is off, and by how much.
func (d Difference) String() string {
	name := d.Row.Kind
	if d.Row.ID != "" {
		name += " " + d.Row.ID
	}
	switch {
	case d.Extra:
		return fmt.Sprintf("%s: %s J booked, and the truth knows no such row", name, joules(d.Booked))
	case d.Absent:
		return fmt.Sprintf("%s: not booked; the truth is %s J", name, joules(d.Row.Energy))
	}
	return fmt.Sprintf("%s: %s J booked, the truth is %s J: off by %s J, tolerance %s J",
		name, joules(d.Booked), joules(d.Row.Energy), joules(d.Booked-d.Row.Energy), joules(d.Row.Tolerance))
}

// CompareTruth lists where the books are off by more than the tolerance. Kinds
// of which nothing at all was booked are not compared, nor are missing and witness
// rows: a pipeline knows the time it missed, not the energy. With doubt, energy may also
// be short by the row's Doubt.
func CompareTruth(rows []TruthRow, booked Booked, doubt bool) []Difference {
	kinds := map[string]bool{}
	known := map[string]bool{}
	for key := range booked {
		kinds[kindOf(key)] = true
	}
	var out []Difference
	for _, r := range rows {
		known[r.key()] = true
		if r.Kind == KindMissing || r.Kind == KindWitness || !kinds[r.Kind] {
			continue
		}
		got, ok := booked[r.key()]
		short := r.Tolerance
		if doubt {
			short += r.Doubt
		}
		if off := got - r.Energy; off > r.Tolerance || off < -short {
			out = append(out, Difference{Row: r, Booked: got, Absent: !ok})
		}
	}
	extra := len(out)
	for key, got := range booked {
		if kind := kindOf(key); !known[key] && got != 0 {
			out = append(out, Difference{Row: TruthRow{Kind: kind, ID: strings.TrimPrefix(key[len(kind):], ",")}, Booked: got, Extra: true})
		}
	}
	slices.SortFunc(out[extra:], func(a, b Difference) int { return cmp.Compare(a.Row.key(), b.Row.key()) })
	return out
}

func kindOf(key string) string {
	kind, _, _ := strings.Cut(key, ",")
	return kind
}
