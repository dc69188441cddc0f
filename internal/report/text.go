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

// WriteJobText writes a job for a terminal.
func WriteJobText(w io.Writer, j *Job) error {
	end := "still running"
	if j.End != nil {
		end = *j.End
	}
	name := "Job " + Plain(j.ID, 0)
	if j.Restart > 0 {
		name += fmt.Sprintf(" (restart %d)", j.Restart)
	}
	err := lines(w,
		fmt.Sprintf("%s on cluster %s, project %s, user %s", name, Plain(j.Cluster, 0), Plain(j.Project, 0), Plain(j.User, 0)),
		fmt.Sprintf("%s to %s", j.Start, end),
		fmt.Sprintf("%s kWh, %s GPU hours; %s kWh (%s) burnt while held and doing nothing",
			j.KWh, j.GPUHours, j.Held.KWh(), Percent(j.Held, j.Energy)),
		"by class: "+classWords(j.Classes, j.Energy), "")
	if err != nil {
		return err
	}
	rows := make([][]string, 0, len(j.Nodes))
	for _, n := range j.Nodes {
		rows = append(rows, []string{n.Node, n.KWh, Percent(n.Energy, j.Energy), n.Held.KWh(), n.GPUHours})
	}
	err = WriteTable(w, []Column{
		{Title: "node", Max: maxName},
		{Title: "kWh", Right: true},
		{Title: "share", Right: true},
		{Title: "held kWh", Right: true},
		{Title: "GPU hours", Right: true},
	}, rows)
	if err != nil || len(j.Runs) == 0 {
		return err
	}
	if err := lines(w, "", "Other runs under this id, not in the numbers above:"); err != nil {
		return err
	}
	return writeJobRows(w, j.Runs)
}

func classWords(c Classes, whole energy.Millijoules) string {
	var parts []string
	for _, p := range []struct {
		name string
		mj   energy.Millijoules
	}{{"gpu", c.GPU}, {"cpu", c.CPU}, {"memory", c.Memory}, {"other", c.Other}, {"node", c.Node}} {
		if p.mj != 0 {
			parts = append(parts, fmt.Sprintf("%s %s kWh (%s)", p.name, p.mj.KWh(), Percent(p.mj, whole)))
		}
	}
	if len(parts) == 0 {
		return "nothing booked"
	}
	return strings.Join(parts, ", ")
}

// WriteJobsText writes a list of jobs for a terminal.
func WriteJobsText(w io.Writer, j *Jobs) error {
	if len(j.Jobs) == 0 {
		return lines(w, "No job fits.")
	}
	if err := writeJobRows(w, j.Jobs); err != nil || !j.Truncated {
		return err
	}
	return lines(w, fmt.Sprintf("There are more than these %d; narrow the search or raise --limit.", len(j.Jobs)))
}

func writeJobRows(w io.Writer, jobs []Job) error {
	rows := make([][]string, 0, len(jobs))
	for i := range jobs {
		j := &jobs[i]
		end := "running"
		if j.End != nil {
			end = *j.End
		}
		rows = append(rows, []string{
			j.ID, strconv.FormatUint(uint64(j.Restart), 10), j.Project, j.User, j.Start, end,
			j.KWh, Percent(j.Held, j.Energy), j.GPUHours,
		})
	}
	return WriteTable(w, []Column{
		{Title: "job", Max: maxName},
		{Title: "restart", Right: true},
		{Title: "project", Max: maxName},
		{Title: "user", Max: maxName},
		{Title: "start"},
		{Title: "end"},
		{Title: "kWh", Right: true},
		{Title: "held", Right: true},
		{Title: "GPU hours", Right: true},
	}, rows)
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
