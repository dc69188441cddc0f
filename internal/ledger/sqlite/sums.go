package sqlite

import (
	"strings"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// Cells of a row of sums: per class main and held energy, per grade energy, per
// class main and held device time. For a job main is busy; for one of nobody's
// jobs main is its use and held is zero.
const (
	cellHeld   = energy.NumClasses
	cellGrade  = cellHeld + energy.NumClasses
	cellTime   = cellGrade + energy.NumGrades
	cellHeldMS = cellTime + energy.NumClasses
	numCells   = cellHeldMS + energy.NumClasses
)

// sums are the amounts of one row as the tables hold them.
type sums [numCells]int64

func (s *sums) add(o *sums) {
	for i, v := range o {
		s[i] += v
	}
}

func (s *sums) sub(o *sums) {
	for i, v := range o {
		s[i] -= v
	}
}

// post adds one posting.
func (s *sums) post(p *window.Posting) {
	e, d := int(p.Class), cellTime+int(p.Class)
	if p.Use == energy.Held {
		e, d = cellHeld+int(p.Class), cellHeldMS+int(p.Class)
	}
	s[e] += int64(p.Energy)
	s[d] += p.DeviceMS
	s[cellGrade+int(p.Grade)] += int64(p.Energy)
}

// energy is the total over classes and uses.
func (s *sums) energy() int64 {
	var sum int64
	for _, v := range s[:cellGrade] {
		sum += v
	}
	return sum
}

// grades is the total over grades; it equals energy in a sound row.
func (s *sums) grades() int64 {
	var sum int64
	for _, v := range s[cellGrade:cellTime] {
		sum += v
	}
	return sum
}

// time is the device time of one class.
func (s *sums) time(class int) int64 { return s[cellTime+class] + s[cellHeldMS+class] }

// times is the device time over all classes.
func (s *sums) times() int64 {
	var sum int64
	for _, v := range s[cellTime:] {
		sum += v
	}
	return sum
}

// into adds the row to a. use is energy.Busy for jobs.
func (s *sums) into(a *ledger.Amounts, use energy.Use) {
	for c := range energy.NumClasses {
		a.Energy[c][use] += energy.Millijoules(s[c])
		a.Energy[c][energy.Held] += energy.Millijoules(s[cellHeld+c])
		a.DeviceMS[c][use] += s[cellTime+c]
		a.DeviceMS[c][energy.Held] += s[cellHeldMS+c]
	}
	for g := range energy.NumGrades {
		a.Grades[g] += energy.Millijoules(s[cellGrade+g])
	}
}

// cellColumns names the cells in their order.
func cellColumns() []string {
	var cols []string
	for _, suffix := range []string{"_mj", "_held_mj"} {
		for c := range energy.NumClasses {
			cols = append(cols, energy.Class(c).String()+suffix)
		}
	}
	for g := range energy.NumGrades {
		cols = append(cols, energy.Grade(g).String()+"_mj")
	}
	for _, suffix := range []string{"_ms", "_held_ms"} {
		for c := range energy.NumClasses {
			cols = append(cols, energy.Class(c).String()+suffix)
		}
	}
	return cols
}

// cells lists the columns for a SELECT, each wrapped in format ("SUM(d.%)").
func cells(format string) string {
	cols := cellColumns()
	for i, c := range cols {
		cols[i] = strings.ReplaceAll(format, "%", c)
	}
	return strings.Join(cols, ", ")
}

// scan gives the pointers a row of cells is scanned into.
func (s *sums) scan(before ...any) []any {
	for i := range s {
		before = append(before, &s[i])
	}
	return before
}
