package report

import (
	"fmt"
	"strings"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
)

// State is the one thing a reader must know first.
type State uint8

// States of the books of a report.
const (
	// Closes: every metered millijoule is booked.
	Closes State = iota
	// Open: both sides agree, but some metered energy waits to be booked.
	Open
	// Broken: the sides differ; the books are wrong.
	Broken
)

// State tells whether the books of the report close.
func (r *Report) State() State {
	switch {
	case r.Totals.Difference != 0:
		return Broken
	case r.Totals.Unbooked != 0:
		return Open
	}
	return Closes
}

// Verdict is the state in one sentence.
func (r *Report) Verdict() string {
	t := r.Totals
	switch r.State() {
	case Broken:
		return fmt.Sprintf("BOOKS DO NOT CLOSE by %s mJ: metered and booked energy differ; run wattledger audit to see where.", t.Difference)
	case Open:
		return fmt.Sprintf("Books are open: %s kWh were metered and are not booked yet (a hole or quarantine); run wattledger audit to see where.", t.Unbooked.KWh())
	case Closes:
	}
	if t.Metered == 0 {
		return "Nothing was metered in this period."
	}
	return "Books close: every metered millijoule is booked."
}

// Remarks say in words how well the numbers are known and what is not in them.
func (r *Report) Remarks() []string {
	var out []string
	say := func(when bool, format string, args ...any) {
		if when {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	g, booked := r.Grades, r.Totals.Booked
	say(booked != 0, "How it was metered: %s.", gradeShares(g.PartGrades, booked))
	say(g.Bridged != 0, "%s kWh (%s) are bridged: the energy is exact, how it spreads over time or owners is assumed.", g.Bridged.KWh(), Percent(g.Bridged, booked))
	say(g.Modelled != 0, "%s kWh (%s) are modelled, not metered.", g.Modelled.KWh(), Percent(g.Modelled, booked))
	say(g.MissingDeviceSeconds != 0, "%s device hours were not metered; no energy is claimed for them.", Hours(g.MissingDeviceSeconds*1000))
	say(g.MissingDeviceSeconds == 0 && booked != 0, "No device time is missing.")
	say(r.Uses.Unknown != 0, "%s kWh (%s) are unknown: metered, but nobody can tell for whom.", r.Uses.Unknown.KWh(), Percent(r.Uses.Unknown, booked))
	for i := range r.Projects {
		p := &r.Projects[i]
		say(p.Name == ledger.Unassigned, "%s kWh belong to jobs whose project is not known yet: %s.", p.KWh, ledger.Unassigned)
	}
	say(len(r.Policies) > 0, "Shared energy was split by %s.", strings.Join(r.Policies, ", "))
	say(r.ProjectFilter != "", "Only one project is listed; all other numbers are the whole cluster's.")
	return out
}

// gradeShares says in words how an amount was metered.
func gradeShares(g PartGrades, whole energy.Millijoules) string {
	var parts []string
	for _, g := range []struct {
		mj    energy.Millijoules
		words string
	}{
		{g.Counter, "by energy counters"},
		{g.Sampled, "from power readings"},
		{g.Bridged, "bridged"},
		{g.Modelled, "modelled"},
	} {
		if g.mj != 0 {
			parts = append(parts, Percent(g.mj, whole)+" "+g.words)
		}
	}
	return strings.Join(parts, ", ")
}

// Share is part over whole, 0 to 1, for showing. A negative remainder counts 0.
func Share(part, whole energy.Millijoules) float64 {
	if whole <= 0 || part <= 0 {
		return 0
	}
	return min(1, float64(part)/float64(whole))
}

// Percent shows a share with one decimal; what is there never reads as 0 % and
// what is not all never as 100 %.
func Percent(part, whole energy.Millijoules) string {
	switch s := Share(part, whole); {
	case s > 0 && s < 0.0005:
		return "<0.1 %"
	case s < 1 && s >= 0.9995:
		return ">99.9 %"
	default:
		return fmt.Sprintf("%.1f %%", s*100)
	}
}
