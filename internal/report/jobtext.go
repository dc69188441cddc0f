package report

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/wattledger/wattledger/internal/energy"
)

// WriteJobText writes a job for a terminal: what it burnt, where, how well that
// is known, and hints.
func WriteJobText(w io.Writer, j *Job) error {
	if err := lines(w, append(jobHead(j), jobFigures(j)...)...); err != nil {
		return err
	}
	if err := writeClassTable(w, j); err != nil {
		return err
	}
	if err := lines(w, ""); err != nil {
		return err
	}
	if err := writeNodeTable(w, j); err != nil {
		return err
	}
	if len(j.Runs) > 0 {
		if err := lines(w, "", "Other runs under this id, not in the numbers above:"); err != nil {
			return err
		}
		if err := writeJobRows(w, j.Runs, nil); err != nil {
			return err
		}
		if s := j.Sum; s != nil {
			if err := lines(w, fmt.Sprintf("All %d runs of this job: %s kWh, %s GPU hours.", s.Count, s.KWh, s.GPUHours)); err != nil {
				return err
			}
		}
	}
	return writeHints(w, j.Hints)
}

func jobHead(j *Job) []string {
	name := "Job " + Plain(j.ID, 0)
	if j.Restart > 0 {
		name += fmt.Sprintf(" (restart %d)", j.Restart)
	}
	out := []string{fmt.Sprintf("%s on cluster %s: %s", name, Plain(j.Cluster, 0), Plain(j.State, 0))}
	who := []string{"project " + Plain(j.Project, 0), "user " + Plain(cmp.Or(j.User, "unknown"), 0)}
	if s := j.Scheduler; s != nil {
		if s.Name != "" {
			who = append([]string{Plain(s.Name, maxName)}, who...)
		}
		for _, p := range [][2]string{{"partition ", s.Partition}, {"QOS ", s.QOS}, {"part of het job ", s.HetJob}} {
			if p[1] != "" {
				who = append(who, p[0]+Plain(p[1], 0))
			}
		}
		if s.ArrayJob != "" {
			who = append(who, "task "+Plain(s.ArrayJob+"_"+s.ArrayTask, 0))
		}
	}
	when := fmt.Sprintf("since %s, metered for %s%s", j.Start, span(j.ElapsedMS), onNodes(j))
	if j.End != nil {
		when = fmt.Sprintf("%s to %s, %s%s", j.Start, *j.End, span(j.ElapsedMS), onNodes(j))
	}
	return append(out, strings.Join(who, ", "), when)
}

func onNodes(j *Job) string {
	switch j.NodeCount {
	case 0:
		return ""
	case 1:
		return " on 1 node"
	}
	return fmt.Sprintf(" on %d nodes", j.NodeCount)
}

// jobFigures are lines of a word and what it means; what is not known has none.
func jobFigures(j *Job) []string {
	out := []string{""}
	add := func(word, text string) {
		if text != "" {
			out = append(out, fmt.Sprintf("%-10s%s", word, text))
		}
	}
	add("energy", j.KWh+" kWh"+powers(j))
	if j.Held != 0 || j.hasGPUs() {
		add("held", fmt.Sprintf("%s kWh (%s) burnt while its devices did nothing", j.Held.KWh(), Percent(j.Held, j.Energy)))
	}
	if j.hasGPUs() {
		add("GPU time", j.GPUHours+" GPU hours")
	}
	if j.GCO2e != "" {
		add("CO2e", Plain(j.GCO2e, 0)+" g")
	}
	add("cost", Plain(j.Cost, 0))
	add("known", gradeShares(j.Grades, j.Energy))
	if j.Claim != nil {
		add("claim", "the scheduler's own figure is "+claimWords(j.Claim, j.Energy))
	}
	return append(out, "")
}

// powers begins with the amount's reservation, if any.
func powers(j *Job) string {
	out := ""
	if j.soFar() {
		out = " so far"
	}
	if j.MeanWatts != "" {
		out += ", mean " + watts(j.MeanWatts)
	}
	if j.PeakWatts != "" {
		out += ", peak " + watts(j.PeakWatts)
	}
	return out
}

// watts shows a decimal number of watts in three figures or more.
func watts(text string) string {
	v, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return Plain(text, 0) + " W"
	case math.Abs(v) < 1e3:
		return fmt.Sprintf("%.1f W", v)
	case math.Abs(v) < 1e6:
		return fmt.Sprintf("%.2f kW", v/1e3)
	}
	return fmt.Sprintf("%.2f MW", v/1e6)
}

// claimWords say the scheduler's figure and how far it is from ours.
func claimWords(c *Claim, ours energy.Millijoules) string {
	kwh := energy.Millijoules(c.Joules*1000).KWh() + " kWh"
	switch {
	case c.Joules == 0:
		return kwh + " (it may have no energy plugin)"
	case ours <= 0 || c.Difference == 0:
		return kwh
	case c.Difference > 0:
		return kwh + ", " + over(c.Difference, ours) + " more than ours"
	}
	return kwh + ", " + over(-c.Difference, ours) + " less than ours"
}

// over is a percentage that may pass 100.
func over(part, whole energy.Millijoules) string {
	if part > whole {
		return decimal(int64(part), max(1, int64(whole)/100), 0) + " %"
	}
	return Percent(part, whole)
}

func writeClassTable(w io.Writer, j *Job) error {
	var rows [][]string
	row := func(name string, all energy.Millijoules, u JobUses, busy, held int64) {
		rows = append(rows, []string{
			name, all.KWh(), Percent(all, j.Energy), u.Busy.KWh(), u.Held.KWh(), hoursOrNone(busy, held, busy), hoursOrNone(busy, held, held),
		})
	}
	for _, c := range j.ByClass {
		row(c.Class, c.Energy, c.JobUses, c.BusyMS, c.HeldMS)
	}
	rows = append(rows, nil)
	row("all", j.Energy, j.Uses, 0, 0)
	return WriteTable(w, []Column{
		{Title: "class"},
		{Title: "kWh", Right: true},
		{Title: "share", Right: true},
		{Title: "busy kWh", Right: true},
		{Title: "held kWh", Right: true},
		{Title: "busy hours", Right: true},
		{Title: "held hours", Right: true},
	}, rows)
}

// hoursOrNone is empty for a class without devices of its own.
func hoursOrNone(busy, held, ms int64) string {
	if busy == 0 && held == 0 {
		return ""
	}
	return Hours(ms)
}

// writeNodeTable leaves the columns of GPUs out where none are metered.
func writeNodeTable(w io.Writer, j *Job) error {
	columns := []Column{
		{Title: "node", Max: maxName},
		{Title: "kWh", Right: true},
		{Title: "share", Right: true},
		{Title: "held kWh", Right: true},
	}
	if j.hasGPUs() {
		columns = append(columns, Column{Title: "GPU kWh", Right: true}, Column{Title: "GPU hours", Right: true})
	}
	rows := make([][]string, 0, len(j.Nodes))
	for _, n := range j.Nodes {
		row := []string{n.Node, n.KWh, Percent(n.Energy, j.Energy), n.Held.KWh()}
		if j.hasGPUs() {
			row = append(row, n.Classes.GPU.KWh(), n.GPUHours)
		}
		rows = append(rows, append(row, gradeShares(n.Grades, n.Energy)))
	}
	return WriteTable(w, append(columns, Column{Title: "known"}), rows)
}

// hasGPUs tells whether GPUs of the job are metered.
func (j *Job) hasGPUs() bool { return j.Classes.GPU != 0 || j.GPUHours != Hours(0) }

func writeHints(w io.Writer, hints []Hint) error {
	if len(hints) == 0 {
		return nil
	}
	out := []string{"", "Hints:"}
	for _, h := range hints {
		out = append(out, "- "+Plain(h.Text, 0))
	}
	return lines(w, out...)
}
