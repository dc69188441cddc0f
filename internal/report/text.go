package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

const maxName = 40 // characters of a name in a table; JSON and CSV have all

// ByEnergy gives the projects, largest first.
func (r *Report) ByEnergy() []Project {
	out := slices.Clone(r.Projects)
	slices.SortStableFunc(out, func(a, b Project) int { return cmp.Compare(b.Energy, a.Energy) })
	return out
}

// WriteText writes the report for a terminal.
func WriteText(w io.Writer, r *Report) error {
	if err := lines(w, heading(r), ""); err != nil {
		return err
	}
	booked := r.Totals.Booked
	var rows [][]string
	for _, p := range r.ByEnergy() {
		rows = append(rows, []string{
			p.Name, p.KWh, Percent(p.Energy, booked), p.Busy.KWh(), p.Held.KWh(),
			Percent(p.Held, p.Energy), strconv.Itoa(p.Jobs), p.GPUHours,
		})
	}
	if len(rows) > 0 {
		rows = append(rows, nil)
	}
	nobody := func(name string, mj energy.Millijoules, hours string) {
		rows = append(rows, []string{name, mj.KWh(), Percent(mj, booked), "", "", "", "", hours})
	}
	nobody("idle (held by nobody)", r.Uses.Idle, r.GPUHours.Idle)
	nobody("system", r.Uses.System, r.GPUHours.System)
	nobody("unknown", r.Uses.Unknown, r.GPUHours.Unknown)
	sum := func(name string, mj energy.Millijoules) { rows = append(rows, []string{name, mj.KWh()}) }
	rows = append(rows, nil)
	rows = append(rows, []string{"booked", r.Totals.KWh, Percent(booked, booked), r.Uses.Busy.KWh(), r.Uses.Held.KWh()})
	sum("unbooked", r.Totals.Unbooked)
	sum("metered", r.Totals.Metered)
	err := WriteTable(w, []Column{
		{Title: "project", Max: maxName},
		{Title: "kWh", Right: true},
		{Title: "share", Right: true},
		{Title: "busy kWh", Right: true},
		{Title: "held kWh", Right: true},
		{Title: "held", Right: true},
		{Title: "jobs", Right: true},
		{Title: "GPU hours", Right: true},
	}, rows)
	if err != nil {
		return err
	}
	out := append([]string{"", r.Verdict()}, r.Remarks()...)
	return lines(w, out...)
}

func heading(r *Report) string {
	title := r.Period.Month
	if m, err := time.Parse("2006-01", title); err == nil {
		title = m.Format("January 2006")
	}
	return fmt.Sprintf("Energy of cluster %s, %s (%s, %g hours)", Plain(r.Cluster, 0), title, r.Period.Timezone, r.Period.Hours)
}

// WriteAuditText writes an audit for a terminal.
func WriteAuditText(w io.Writer, a *Audit) error {
	verdict := "BOOKS DO NOT CLOSE"
	switch {
	case a.Closes && a.Slots == 0:
		verdict = "There is nothing to audit in this span"
	case a.Closes:
		verdict = "Books close"
	}
	err := lines(w,
		fmt.Sprintf("%s: %d node-slots recomputed, %s to %s", verdict, a.Slots, a.From, a.To),
		fmt.Sprintf("metered %s mJ = booked %s mJ + unbooked %s mJ + difference %s mJ",
			a.Metered, a.Booked, a.Unbooked, a.Metered-a.Booked-a.Unbooked))
	if err != nil || len(a.Findings) == 0 {
		return err
	}
	rows := make([][]string, 0, len(a.Findings))
	for _, f := range a.Findings {
		rows = append(rows, []string{f.Kind, f.Cluster, f.Node, f.Meter, f.Slot, f.Difference.String(), f.Detail})
	}
	if err := lines(w, ""); err != nil {
		return err
	}
	return WriteTable(w, []Column{
		{Title: "finding"},
		{Title: "cluster", Max: maxName},
		{Title: "node", Max: maxName},
		{Title: "meter", Max: maxName},
		{Title: "slot"},
		{Title: "difference mJ", Right: true},
		{Title: "detail"},
	}, rows)
}

func lines(w io.Writer, text ...string) error {
	if _, err := io.WriteString(w, strings.Join(text, "\n")+"\n"); err != nil {
		return fmt.Errorf("cannot write: %w", err)
	}
	return nil
}
