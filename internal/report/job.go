package report

import (
	"cmp"
	"slices"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
)

// Schemas of the documents about jobs.
const (
	JobSchema  = "wattledger.job/v1"
	JobsSchema = "wattledger.jobs/v1"
)

// JobUses are the uses a job can have.
type JobUses struct {
	Busy energy.Millijoules `json:"busy_mj,string"`
	Held energy.Millijoules `json:"held_mj,string"`
}

// Job is what one run of a job burnt.
type Job struct {
	Schema  string `json:"schema,omitempty"` // on the document, not on lines of a list
	Cluster string `json:"cluster"`
	ID      string `json:"job_id"`
	Restart uint32 `json:"restart"`
	Project string `json:"project"`
	User    string `json:"user"`
	// Submit and End are null where the scheduler's submit time is not known, and
	// while the job runs anywhere.
	Submit   *string            `json:"submit"`
	Start    string             `json:"start"`
	End      *string            `json:"end"`
	Energy   energy.Millijoules `json:"energy_mj,string"`
	KWh      string             `json:"kwh"`
	Held     energy.Millijoules `json:"held_mj,string"`
	GPUHours string             `json:"gpu_hours"`
	Classes  Classes            `json:"classes"`
	Uses     JobUses            `json:"uses"`
	Grades   PartGrades         `json:"grades"`
	Nodes    []JobNode          `json:"nodes,omitempty"`
	// Runs are other runs under the same id (requeued, or the id used again),
	// newest first. Their energy is not in the numbers above.
	Runs []Job `json:"runs,omitempty"`
}

// JobNode is one node's part of a job.
type JobNode struct {
	Node     string             `json:"node"`
	Energy   energy.Millijoules `json:"energy_mj,string"`
	KWh      string             `json:"kwh"`
	Held     energy.Millijoules `json:"held_mj,string"`
	GPUHours string             `json:"gpu_hours"`
	Classes  Classes            `json:"classes"`
	Grades   PartGrades         `json:"grades"`
}

// Jobs is a list of jobs, newest first.
type Jobs struct {
	Schema string `json:"schema"`
	Jobs   []Job  `json:"jobs"`
	// Truncated: there are more than were asked for.
	Truncated bool `json:"truncated"`
}

// JobOf makes the document of a job from all runs the ledger has under its id:
// the newest on top, the others under Runs. ok is false if there is none.
func JobOf(runs []ledger.JobBooks) (j Job, ok bool) {
	if len(runs) == 0 {
		return Job{}, false
	}
	all := newestFirst(runs)
	j = all[0]
	j.Schema = JobSchema
	if len(all) > 1 {
		j.Runs = all[1:]
	}
	return j, true
}

// JobsOf makes the list; with more jobs than limit (if any) the rest is cut off.
func JobsOf(jobs []ledger.JobBooks, limit int) Jobs {
	all := newestFirst(jobs)
	out := Jobs{Schema: JobsSchema, Jobs: all}
	if limit > 0 && len(all) > limit {
		out.Jobs, out.Truncated = all[:limit], true
	}
	return out
}

func newestFirst(books []ledger.JobBooks) []Job {
	sorted := slices.Clone(books)
	slices.SortStableFunc(sorted, func(a, b ledger.JobBooks) int {
		return cmp.Or(
			cmp.Compare(b.Job.StartMS, a.Job.StartMS), cmp.Compare(b.Job.Restart, a.Job.Restart),
			cmp.Compare(b.Job.SubmitMS, a.Job.SubmitMS), cmp.Compare(a.Cluster, b.Cluster),
			cmp.Compare(a.Job.ID, b.Job.ID),
		)
	})
	out := make([]Job, 0, len(sorted))
	for i := range sorted {
		out = append(out, jobLine(&sorted[i]))
	}
	return out
}

func jobLine(b *ledger.JobBooks) Job {
	a := &b.Amounts
	project := b.Job.Project
	if project == "" {
		project = ledger.Unassigned
	}
	j := Job{
		Cluster: b.Cluster, ID: b.Job.ID, Restart: b.Job.Restart, Project: project, User: b.Job.User,
		Submit: maybeStamp(b.Job.SubmitMS), Start: stamp(b.Job.StartMS), End: maybeStamp(b.Job.EndMS),
		Energy: a.Total(), KWh: a.Total().KWh(), Held: a.Use(energy.Held), GPUHours: gpuHours(a),
		Classes: classesOf(a), Uses: JobUses{Busy: a.Use(energy.Busy), Held: a.Use(energy.Held)}, Grades: gradesOf(a),
	}
	for i := range b.Nodes {
		n := &b.Nodes[i]
		j.Nodes = append(j.Nodes, JobNode{
			Node: n.Node, Energy: n.Amounts.Total(), KWh: n.Amounts.Total().KWh(), Held: n.Amounts.Use(energy.Held),
			GPUHours: gpuHours(&n.Amounts), Classes: classesOf(&n.Amounts), Grades: gradesOf(&n.Amounts),
		})
	}
	slices.SortFunc(j.Nodes, func(a, b JobNode) int { return cmp.Compare(a.Node, b.Node) })
	return j
}

func maybeStamp(ms int64) *string {
	if ms == 0 {
		return nil
	}
	s := stamp(ms)
	return &s
}
