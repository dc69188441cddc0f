package report

import (
	"cmp"
	"slices"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
)

// JobSchema names the JSON of a Job that is a document of its own.
const JobSchema = "wattledger.job/v1"

// JobUses are the uses a job can have.
type JobUses struct {
	Busy energy.Millijoules `json:"busy_mj,string"`
	Held energy.Millijoules `json:"held_mj,string"`
}

// Job is what one run of a job burnt. What is not known is left out or null,
// never zero.
type Job struct {
	Schema  string `json:"schema,omitempty"` // on the document, not on lines of a list
	Cluster string `json:"cluster"`
	ID      string `json:"job_id"`
	Restart uint32 `json:"restart"`
	Project string `json:"project"`
	User    string `json:"user"`
	// State is as the workload manager spells it; where it has said nothing,
	// running or ended, as the books have it.
	State string `json:"state"`
	// Submit and End are null where the scheduler's submit time is not known, and
	// while the job runs anywhere.
	Submit *string `json:"submit"`
	Start  string  `json:"start"`
	End    *string `json:"end"`
	// BookedToEnd tells of a job that ended lately whether its nodes have sent
	// their windows up to its end; left out where that was not looked at.
	BookedToEnd *bool `json:"booked_to_end,omitempty"`
	// ElapsedMS is from start to end, in milliseconds; of a job that runs, to
	// where it is metered so far.
	ElapsedMS int64              `json:"elapsed_ms"`
	Energy    energy.Millijoules `json:"energy_mj,string"`
	KWh       string             `json:"kwh"`
	// MeanWatts is energy over elapsed time, all nodes together, one decimal.
	MeanWatts string `json:"mean_watts,omitempty"`
	// PeakWatts is there where a store of power series is asked too; GCO2e (grams
	// of CO2 equivalent) and Cost (amount and currency) once there are factors.
	PeakWatts string             `json:"peak_watts,omitempty"`
	GCO2e     string             `json:"gco2e,omitempty"`
	Cost      string             `json:"cost,omitempty"`
	Held      energy.Millijoules `json:"held_mj,string"`
	// HeldShare is the part of the energy that was burnt while the job's devices
	// did nothing, 0.0000 to 1.0000.
	HeldShare string     `json:"held_share,omitempty"`
	GPUHours  string     `json:"gpu_hours"`
	NodeCount int        `json:"node_count,omitempty"`
	Classes   Classes    `json:"classes"`
	Uses      JobUses    `json:"uses"`
	Grades    PartGrades `json:"grades"`
	ByClass   []JobClass `json:"by_class,omitempty"`
	Scheduler *Scheduler `json:"scheduler,omitempty"`
	Claim     *Claim     `json:"claim,omitempty"`
	Nodes     []JobNode  `json:"nodes,omitempty"`
	Hints     []Hint     `json:"hints,omitempty"`
	// Runs are other runs under the same id (requeued, or the id used again),
	// newest first. Their energy is not in the numbers above.
	Runs []Job `json:"runs,omitempty"`
	// Sum is over this run and the others of the same job, where it has several.
	Sum *JobSum `json:"sum,omitempty"`
}

// JobClass is one class of a job's energy, by use. Device time is in
// milliseconds, 0 for a class without devices of its own (other).
type JobClass struct {
	Class  string             `json:"class"`
	Energy energy.Millijoules `json:"energy_mj,string"`
	JobUses
	BusyMS int64 `json:"busy_device_ms"`
	HeldMS int64 `json:"held_device_ms"`
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
	ByClass  []JobClass         `json:"by_class,omitempty"`
}

// JobSum adds up several runs or jobs.
type JobSum struct {
	Count    int                `json:"count"`
	Energy   energy.Millijoules `json:"energy_mj,string"`
	KWh      string             `json:"kwh"`
	Held     energy.Millijoules `json:"held_mj,string"`
	GPUHours string             `json:"gpu_hours"`
}

// JobInput is what the document of a job is made of.
type JobInput struct {
	Runs []ledger.JobBooks // all the ledger has under one id of one cluster
	// Facts are what the workload manager says of that id; empty where it said
	// nothing (yet).
	Facts []ledger.JobFacts
	// Nodes say how far nodes are booked; wanted while the job runs and until its
	// last window has come.
	Nodes []ledger.NodeStatus
	NowMS int64
	Run   *uint32 // restart count of the run to put on top; nil for the newest
}

// JobOf makes the document of a job: the run asked for on top, the others under
// Runs. ok is false if there is no such run; one of which nothing is booked is
// not there, only a hint tells of it.
func JobOf(in JobInput) (j Job, ok bool) {
	runs := slices.DeleteFunc(slices.Clone(in.Runs), func(b ledger.JobBooks) bool { return !Metered(&b) })
	sortNewestFirst(runs)
	top := 0
	if in.Run != nil {
		top = slices.IndexFunc(runs, func(r ledger.JobBooks) bool { return r.Job.Restart == *in.Run })
	}
	if top < 0 || len(runs) == 0 {
		return Job{}, false
	}
	until := bookedUntil(in.Nodes)
	var others []Job
	for i := range runs {
		line := jobLine(&runs[i], factsOf(&runs[i], in.Facts), until.of(&runs[i], in.NowMS))
		line.BookedToEnd = until.toEnd(&runs[i])
		if i == top {
			j = line
		} else {
			others = append(others, line)
		}
	}
	j.Schema, j.Runs, j.Sum = JobSchema, others, sumOfRuns(runs, top)
	view := jobView{JobInput: in, until: until, books: &runs[top], facts: factsOf(&runs[top], in.Facts), job: &j}
	j.Hints = view.hints()
	return j, true
}

// Metered tells whether anything is booked of a run. The ledger notes runs that
// only the workload manager told of, too.
func Metered(b *ledger.JobBooks) bool { return len(b.Nodes) > 0 || b.Amounts != ledger.Amounts{} }

// sumOfRuns adds the runs of the job that the top one belongs to: restart
// counts go up from run to run of one job, so a count that does not, or another
// user, is the id used again. It is nil for a job with one run.
func sumOfRuns(newestFirst []ledger.JobBooks, top int) *JobSum {
	same := func(newer, older *ledger.JobBooks) bool {
		users := newer.Job.User == older.Job.User || newer.Job.User == "" || older.Job.User == ""
		return users && older.Job.Restart < newer.Job.Restart
	}
	from, to := top, top+1
	for from > 0 && same(&newestFirst[from-1], &newestFirst[from]) {
		from--
	}
	for to < len(newestFirst) && same(&newestFirst[to-1], &newestFirst[to]) {
		to++
	}
	if to-from < 2 {
		return nil
	}
	s := sumOf(newestFirst[from:to])
	return &s
}

func sumOf(jobs []ledger.JobBooks) JobSum {
	var all ledger.Amounts
	for i := range jobs {
		all.Add(&jobs[i].Amounts)
	}
	return JobSum{
		Count: len(jobs), Energy: all.Total(), KWh: all.Total().KWh(),
		Held: all.Use(energy.Held), GPUHours: gpuHours(&all),
	}
}

func sortNewestFirst(books []ledger.JobBooks) {
	slices.SortStableFunc(books, func(a, b ledger.JobBooks) int {
		return cmp.Or(
			cmp.Compare(b.Job.StartMS, a.Job.StartMS), cmp.Compare(b.Job.Restart, a.Job.Restart),
			cmp.Compare(b.Job.SubmitMS, a.Job.SubmitMS), cmp.Compare(a.Cluster, b.Cluster),
			cmp.Compare(a.Job.ID, b.Job.ID),
		)
	})
}

// booked tells how far nodes are booked, Unix ms.
type booked map[ledger.Node]int64

func bookedUntil(nodes []ledger.NodeStatus) booked {
	out := make(booked, len(nodes))
	for i := range nodes {
		out[nodes[i].Node] = nodes[i].LastMS
	}
	return out
}

// of is how far a job is in the books: its end, or while it runs the end of the
// newest window of its nodes; now where that is not known.
func (d booked) of(b *ledger.JobBooks, nowMS int64) int64 {
	if b.Job.EndMS != 0 {
		return b.Job.EndMS
	}
	var last int64
	for i := range b.Nodes {
		last = max(last, d[ledger.Node{Cluster: b.Cluster, Name: b.Nodes[i].Node}])
	}
	if last == 0 {
		return nowMS
	}
	return min(last, nowMS)
}

// toEnd tells whether all nodes of a job that ended are booked to its end; nil
// where it runs, or where that is not known.
func (d booked) toEnd(b *ledger.JobBooks) *bool {
	if b.Job.EndMS == 0 || len(d) == 0 {
		return nil
	}
	all := true
	for i := range b.Nodes {
		all = all && d[ledger.Node{Cluster: b.Cluster, Name: b.Nodes[i].Node}] >= b.Job.EndMS
	}
	return &all
}

// soFar: more energy of it may come.
func (j *Job) soFar() bool { return j.End == nil || j.BookedToEnd != nil && !*j.BookedToEnd }

func jobLine(b *ledger.JobBooks, f *ledger.JobFacts, untilMS int64) Job {
	a := &b.Amounts
	j := Job{
		Cluster: b.Cluster, ID: b.Job.ID, Restart: b.Job.Restart, Project: cmp.Or(b.Job.Project, ledger.Unassigned), User: b.Job.User,
		State: "running", Submit: maybeStamp(b.Job.SubmitMS), Start: stamp(b.Job.StartMS), End: maybeStamp(b.Job.EndMS),
		ElapsedMS: max(0, untilMS-b.Job.StartMS),
		Energy:    a.Total(), KWh: a.Total().KWh(), Held: a.Use(energy.Held), HeldShare: ratio(a.Use(energy.Held), a.Total()),
		GPUHours: gpuHours(a), NodeCount: len(b.Nodes),
		Classes: classesOf(a), Uses: JobUses{Busy: a.Use(energy.Busy), Held: a.Use(energy.Held)}, Grades: gradesOf(a),
		ByClass: byClass(a),
	}
	if j.End != nil {
		j.State = "ended"
	}
	j.MeanWatts = meanWatts(j.Energy, j.ElapsedMS)
	if f != nil {
		j.describe(b, f)
	}
	for i := range b.Nodes {
		n := &b.Nodes[i]
		j.Nodes = append(j.Nodes, JobNode{
			Node: n.Node, Energy: n.Amounts.Total(), KWh: n.Amounts.Total().KWh(), Held: n.Amounts.Use(energy.Held),
			GPUHours: gpuHours(&n.Amounts), Classes: classesOf(&n.Amounts), Grades: gradesOf(&n.Amounts), ByClass: byClass(&n.Amounts),
		})
	}
	slices.SortFunc(j.Nodes, func(a, b JobNode) int { return cmp.Compare(a.Node, b.Node) })
	return j
}

// byClass lists the classes that the job has energy or device time of.
func byClass(a *ledger.Amounts) []JobClass {
	var out []JobClass
	for c := range energy.Class(energy.NumClasses) {
		line := JobClass{
			Class: c.String(), Energy: a.Class(c),
			JobUses: JobUses{Busy: a.Energy[c][energy.Busy], Held: a.Energy[c][energy.Held]},
			BusyMS:  a.DeviceMS[c][energy.Busy], HeldMS: a.DeviceMS[c][energy.Held],
		}
		if line.Busy != 0 || line.Held != 0 || line.BusyMS != 0 || line.HeldMS != 0 {
			out = append(out, line)
		}
	}
	return out
}

func maybeStamp(ms int64) *string {
	if ms == 0 {
		return nil
	}
	s := stamp(ms)
	return &s
}
