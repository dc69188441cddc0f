package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/wattledger/wattledger/internal/energy"
)

// WriteCSV writes the report as RFC 4180 (comma, CRLF, UTF-8, "." as decimal
// sign), one line for each project by name, then idle, system, unknown, total
// (all that is booked), unbooked, metered and difference. The columns:
//
//	cluster, period_start, period_end (UTC, end exclusive), timezone
//	kind      project, idle, system, unknown, total, unbooked, metered, difference
//	project   its name; empty for other kinds. A name that a spreadsheet would
//	          run as a formula (it begins with = + - @) has an apostrophe before it.
//	energy_mj whole millijoules       kwh  the same, rounded to three decimals
//	busy_mj, held_mj, jobs            projects only; busy_mj and held_mj on total too
//	gpu_hours                         not on total, unbooked, metered, difference
//	gpu_mj .. node_mj, counter_mj .. modelled_mj   projects and total
//
// An empty field is "does not apply", never zero.
func WriteCSV(w io.Writer, r *Report) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	write := func(kind, project string, mj energy.Millijoules, hours string, rest ...string) {
		row := make([]string, len(csvHeader()))
		copy(row, []string{
			inert(r.Cluster), r.Period.Start, r.Period.End, r.Period.Timezone,
			kind, inert(project), mj.String(), mj.KWh(), "", "", "", hours,
		})
		copy(row[8:], rest[:min(3, len(rest))])
		if len(rest) > 3 {
			copy(row[12:], rest[3:])
		}
		_ = c.Write(row) // kept by c.Error
	}
	_ = c.Write(csvHeader())
	for i := range r.Projects {
		p := &r.Projects[i]
		write("project", p.Name, p.Energy, p.GPUHours, csvParts(p.Busy, p.Held, strconv.Itoa(p.Jobs), p.Classes, p.Grades)...)
	}
	write("idle", "", r.Uses.Idle, r.GPUHours.Idle)
	write("system", "", r.Uses.System, r.GPUHours.System)
	write("unknown", "", r.Uses.Unknown, r.GPUHours.Unknown)
	write("total", "", r.Totals.Booked, "", csvParts(r.Uses.Busy, r.Uses.Held, "", r.Classes, r.Grades.PartGrades)...)
	write("unbooked", "", r.Totals.Unbooked, "")
	write("metered", "", r.Totals.Metered, "")
	write("difference", "", r.Totals.Difference, "")
	c.Flush()
	if err := c.Error(); err != nil {
		return fmt.Errorf("cannot write CSV: %w", err)
	}
	return nil
}

func csvHeader() []string {
	return []string{
		"cluster", "period_start", "period_end", "timezone", "kind", "project", "energy_mj", "kwh",
		"busy_mj", "held_mj", "jobs", "gpu_hours", "gpu_mj", "cpu_mj", "memory_mj", "other_mj", "node_mj",
		"counter_mj", "sampled_mj", "bridged_mj", "modelled_mj",
	}
}

func csvParts(busy, held energy.Millijoules, jobs string, c Classes, g PartGrades) []string {
	out := []string{busy.String(), held.String(), jobs}
	for _, mj := range []energy.Millijoules{
		c.GPU, c.CPU, c.Memory, c.Other, c.Node, g.Counter, g.Sampled, g.Bridged, g.Modelled,
	} {
		out = append(out, mj.String())
	}
	return out
}

// inert keeps a spreadsheet from running a name that users chose.
func inert(name string) string {
	if name != "" && strings.ContainsAny(name[:1], "=+-@\t\r") {
		return "'" + name
	}
	return name
}
