package report

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
)

// Schemas of lists of jobs.
const (
	JobsSchema      = "wattledger.jobs/v1"
	UnmeteredSchema = "wattledger.unmetered-jobs/v1"
)

// Jobs is a list of jobs.
type Jobs struct {
	Schema string `json:"schema"`
	Jobs   []Job  `json:"jobs"`
	Sum    JobSum `json:"sum"` // of those that are listed
	// Truncated: there are more than were asked for.
	Truncated bool `json:"truncated"`
	// Searched is there where not all jobs could be looked at to find the largest:
	// how many, the newest, were.
	Searched int `json:"searched,omitempty"`
}

// JobsInput is what a list of jobs is made of.
type JobsInput struct {
	Jobs  []ledger.JobBooks
	Facts func(*ledger.JobBooks) ([]ledger.JobFacts, error) // of a job that is listed; nil for none
	// Nodes gives the nodes of a job that is listed and runs, or that no facts
	// tell of; nil for none.
	Nodes    func(*ledger.JobBooks) ([]ledger.NodeAmounts, error)
	Fleet    []ledger.NodeStatus // how far nodes are booked; wanted while a job runs
	NowMS    int64
	Limit    int // 0 for all
	ByEnergy bool
}

// JobsOf makes the list, newest or (ByEnergy) largest first, of those that
// anything is booked of; with more than the limit the rest is cut off.
func JobsOf(in JobsInput) (Jobs, error) {
	books := slices.DeleteFunc(slices.Clone(in.Jobs), func(b ledger.JobBooks) bool { return !Metered(&b) })
	sortNewestFirst(books)
	if in.ByEnergy {
		slices.SortStableFunc(books, func(a, b ledger.JobBooks) int { return cmp.Compare(b.Amounts.Total(), a.Amounts.Total()) })
	}
	out := Jobs{Schema: JobsSchema, Jobs: []Job{}}
	if in.Limit > 0 && len(books) > in.Limit {
		books, out.Truncated = books[:in.Limit], true
	}
	out.Sum = sumOf(books)
	until := bookedUntil(in.Fleet)
	for i := range books {
		line, err := in.line(&books[i], until)
		if err != nil {
			return Jobs{}, err
		}
		out.Jobs = append(out.Jobs, line)
	}
	return out, nil
}

func (in *JobsInput) line(b *ledger.JobBooks, until booked) (Job, error) {
	var facts []ledger.JobFacts
	var err error
	if in.Facts != nil {
		if facts, err = in.Facts(b); err != nil {
			return Job{}, err
		}
	}
	f := factsOf(b, facts)
	if in.Nodes != nil && len(b.Nodes) == 0 && (f == nil || b.Job.EndMS == 0) {
		if b.Nodes, err = in.Nodes(b); err != nil {
			return Job{}, err
		}
	}
	line := jobLine(b, f, until.of(b, in.NowMS))
	line.ByClass, line.Nodes = nil, nil // on the document of one job
	return line, nil
}

// WriteJobsText writes a list of jobs for a terminal.
func WriteJobsText(w io.Writer, j *Jobs) error {
	if len(j.Jobs) == 0 {
		return lines(w, "No job fits.")
	}
	if err := writeJobRows(w, j.Jobs, &j.Sum); err != nil {
		return err
	}
	var notes []string
	if j.Truncated {
		notes = append(notes, fmt.Sprintf("Cut at the limit of %d: there are more, and they are not in the sum. Narrow the search or raise --limit.", len(j.Jobs)))
	}
	if j.Searched > 0 {
		notes = append(notes, fmt.Sprintf("Only the newest %d jobs were looked at to find the largest; narrow the search with --since.", j.Searched))
	}
	if len(notes) == 0 {
		return nil
	}
	return lines(w, notes...)
}

func writeJobRows(w io.Writer, jobs []Job, sum *JobSum) error {
	rows := make([][]string, 0, len(jobs)+2)
	for i := range jobs {
		j := &jobs[i]
		id := j.ID
		if j.Restart > 0 {
			id += " r" + strconv.FormatUint(uint64(j.Restart), 10)
		}
		nodes := "-"
		if j.NodeCount > 0 {
			nodes = strconv.Itoa(j.NodeCount)
		}
		rows = append(rows, []string{
			id, j.Cluster, j.Project, j.User, j.name(), j.Start, span(j.ElapsedMS), nodes,
			j.KWh, heldShare(j.Held, j.Energy), gpuHoursOrNone(j.GPUHours), j.State,
		})
	}
	if sum != nil {
		rows = append(rows, nil, []string{
			"sum of " + strconv.Itoa(sum.Count), "", "", "", "", "", "", "", sum.KWh, heldShare(sum.Held, sum.Energy), gpuHoursOrNone(sum.GPUHours),
		})
	}
	const most = 24 // of names; JSON and CSV have all
	return WriteTable(w, []Column{
		{Title: "job", Max: maxName},
		{Title: "cluster", Max: most},
		{Title: "project", Max: most},
		{Title: "user", Max: most},
		{Title: "name", Max: most},
		{Title: "start"},
		{Title: "elapsed", Right: true},
		{Title: "nodes", Right: true},
		{Title: "kWh", Right: true},
		{Title: "held", Right: true},
		{Title: "GPU hours", Right: true},
		{Title: "state", Max: most},
	}, rows)
}

// heldShare of nothing is not 0 %.
func heldShare(held, all energy.Millijoules) string {
	if all <= 0 {
		return "-"
	}
	return Percent(held, all)
}

// gpuHoursOrNone: no GPU time in the books is none that is known, not none used.
func gpuHoursOrNone(hours string) string {
	if hours == Hours(0) {
		return "-"
	}
	return hours
}

// WriteJobsCSV writes a list of jobs as RFC 4180 (comma, CRLF, UTF-8), one line
// for each run in the order of the list. Times are UTC; elapsed_seconds has
// three decimals. An empty field is not known or does not apply, never zero; a
// name that a spreadsheet would run as a formula has an apostrophe before it.
func WriteJobsCSV(w io.Writer, j *Jobs) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	_ = c.Write([]string{ // kept by c.Error
		"cluster", "job_id", "restart", "project", "user", "name", "partition", "qos", "state", "submit", "start", "end",
		"elapsed_seconds", "nodes", "energy_mj", "kwh", "mean_watts", "busy_mj", "held_mj", "gpu_hours",
		"gpu_mj", "cpu_mj", "memory_mj", "other_mj", "node_mj", "counter_mj", "sampled_mj", "bridged_mj", "modelled_mj", "claimed_j",
	})
	for i := range j.Jobs {
		_ = c.Write(jobCSV(&j.Jobs[i]))
	}
	c.Flush()
	if err := c.Error(); err != nil {
		return fmt.Errorf("cannot write CSV: %w", err)
	}
	return nil
}

func jobCSV(j *Job) []string {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	s, nodes, claim := j.Scheduler, "", ""
	if s == nil {
		s = &Scheduler{}
	}
	if j.NodeCount > 0 {
		nodes = strconv.Itoa(j.NodeCount)
	}
	if j.Claim != nil {
		claim = strconv.FormatInt(j.Claim.Joules, 10)
	}
	row := []string{
		inert(j.Cluster), inert(j.ID), strconv.FormatUint(uint64(j.Restart), 10), inert(j.Project), inert(j.User), inert(s.Name),
		inert(s.Partition), inert(s.QOS), inert(j.State), text(j.Submit), j.Start, text(j.End), decimal(j.ElapsedMS, 1000, 3), nodes,
		j.Energy.String(), j.KWh, j.MeanWatts,
	}
	parts := csvParts(j.Uses.Busy, j.Uses.Held, j.GPUHours, j.Classes, j.Grades)
	return append(append(row, parts...), claim)
}

// Unmetered lists runs that the workload manager tells of and that the books of
// some of their nodes hold nothing of.
type Unmetered struct {
	Schema    string         `json:"schema"`
	Jobs      []UnmeteredJob `json:"jobs"`
	Truncated bool           `json:"truncated"`
}

// UnmeteredJob is one such run. No energy is claimed for it.
type UnmeteredJob struct {
	Cluster string `json:"cluster"`
	ID      string `json:"job_id"`
	Restart uint32 `json:"restart"`
	Project string `json:"project"`
	User    string `json:"user"`
	Name    string `json:"name"`
	State   string `json:"state"`
	Start   string `json:"start"`
	// End is null while it runs.
	End   *string  `json:"end"`
	Nodes []string `json:"nodes"` // whose books hold nothing of it
	// NodeHours are the time on those nodes within the span asked for.
	NodeHours string `json:"node_hours"`
}

// UnmeteredOf makes the list, newest first, of a span.
func UnmeteredOf(facts []ledger.JobFacts, fromMS, toMS int64, limit int) Unmetered {
	facts = slices.Clone(facts)
	slices.SortStableFunc(facts, func(a, b ledger.JobFacts) int { return cmp.Compare(b.Job.StartMS, a.Job.StartMS) })
	out := Unmetered{Schema: UnmeteredSchema, Jobs: []UnmeteredJob{}}
	for i := range facts {
		f := &facts[i]
		if len(out.Jobs) == limit && limit > 0 {
			out.Truncated = true
			break
		}
		out.Jobs = append(out.Jobs, UnmeteredJob{
			Cluster: f.Cluster, ID: f.Job.ID, Restart: f.Job.Restart, Project: cmp.Or(f.Job.Project, ledger.Unassigned), User: f.Job.User,
			Name: f.Name, State: f.State, Start: stamp(f.Job.StartMS), End: maybeStamp(f.Job.EndMS),
			Nodes: append([]string{}, f.Nodes...), NodeHours: Hours(f.NodeMS(fromMS, toMS)),
		})
	}
	return out
}

// WriteUnmeteredText writes the list for a terminal.
func WriteUnmeteredText(w io.Writer, u *Unmetered) error {
	if len(u.Jobs) == 0 {
		return lines(w, "None, as far as a workload manager has told.")
	}
	rows := make([][]string, 0, len(u.Jobs))
	for _, j := range u.Jobs {
		end := "running"
		if j.End != nil {
			end = *j.End
		}
		nodes := fmt.Sprint(len(j.Nodes))
		if len(j.Nodes) > 0 {
			nodes += ": " + j.Nodes[0]
		}
		if len(j.Nodes) > 1 {
			nodes += ", ..."
		}
		rows = append(rows, []string{j.ID, j.Cluster, j.Project, j.User, j.Name, j.Start, end, j.NodeHours, j.State, nodes})
	}
	const most = 24
	err := WriteTable(w, []Column{
		{Title: "job", Max: maxName},
		{Title: "cluster", Max: most},
		{Title: "project", Max: most},
		{Title: "user", Max: most},
		{Title: "name", Max: most},
		{Title: "start"},
		{Title: "end"},
		{Title: "node hours", Right: true},
		{Title: "state", Max: most},
		{Title: "nodes without books", Max: maxName},
	}, rows)
	if err != nil || !u.Truncated {
		return err
	}
	return lines(w, fmt.Sprintf("Cut at the limit of %d: there are more. Narrow the search or raise --limit.", len(u.Jobs)))
}
