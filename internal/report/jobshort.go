package report

import (
	"fmt"
	"io"
	"strings"
)

// WriteJobShort writes a job in three to six lines of plain ASCII, none longer
// than 80 characters: what an epilog appends to the output of the job.
func WriteJobShort(w io.Writer, j *Job) error {
	name := "job " + j.ID
	if j.Restart > 0 {
		name += fmt.Sprintf(" (restart %d)", j.Restart)
	}
	rows := []string{
		fmt.Sprintf("wattledger: %s, %s, %s%s", name, j.State, span(j.ElapsedMS), onNodes(j)),
		"  energy  " + j.KWh + " kWh" + powers(j) + carbonAndCost(j),
	}
	if j.Held > 0 {
		rows = append(rows, fmt.Sprintf("  held    %s kWh (%s) while its devices did nothing", j.Held.KWh(), Percent(j.Held, j.Energy)))
	}
	if known := gradeShares(j.Grades, j.Energy); known != "" {
		rows = append(rows, "  known   "+known)
	}
	for _, h := range j.Hints[:min(1, len(j.Hints))] {
		text, _, _ := strings.Cut(h.Text, " (") // the figures behind it are in the long form
		rows = append(rows, "  hint    "+text)
	}
	rows = append(rows, "  more    wattledger job "+j.ID+" --cluster "+j.Cluster)
	for i := range rows {
		rows[i] = ascii(rows[i], shortWidth)
	}
	return lines(w, rows...)
}

const shortWidth = 80

func carbonAndCost(j *Job) string {
	out := ""
	if j.GCO2e != "" {
		out += ", " + j.GCO2e + " gCO2e"
	}
	if j.Cost != "" {
		out += ", " + j.Cost
	}
	return out
}

// ascii is Plain with everything else escaped too, cut with dots.
func ascii(text string, most int) string {
	var b strings.Builder
	for _, r := range Plain(text, 0) {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	out := b.String()
	if len(out) > most {
		out = out[:most-3] + "..."
	}
	return out
}
