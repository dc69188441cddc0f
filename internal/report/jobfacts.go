package report

import (
	"math/big"
	"slices"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
)

// Scheduler is what the workload manager's own accounting says of a run. It
// describes; no energy comes from it.
type Scheduler struct {
	Name      string   `json:"name,omitempty"`
	Partition string   `json:"partition,omitempty"`
	QOS       string   `json:"qos,omitempty"`
	State     string   `json:"state,omitempty"`
	Start     *string  `json:"start"`
	End       *string  `json:"end"`
	ArrayJob  string   `json:"array_job_id,omitempty"`
	ArrayTask string   `json:"array_task_id,omitempty"`
	HetJob    string   `json:"het_job_id,omitempty"`
	Requested string   `json:"requested,omitempty"`
	Allocated string   `json:"allocated,omitempty"`
	CPUs      int      `json:"cpus,omitempty"`
	GPUs      int      `json:"gpus,omitempty"`
	Nodes     []string `json:"nodes,omitempty"`
	// SuspendedMS is how long it was stopped while it kept what it held.
	SuspendedMS int64 `json:"suspended_ms,omitempty"`
}

// Claim is the workload manager's own figure of the energy beside ours. It is
// compared and never booked.
type Claim struct {
	Joules     int64              `json:"energy_j,string"`
	Difference energy.Millijoules `json:"difference_mj,string"` // claim - ours
}

// factsOf finds what the workload manager says of one run: the same submit
// time, or where one side does not know it, the same restart count and a time
// that overlaps (ids are used again). nil if it said nothing of it.
func factsOf(b *ledger.JobBooks, all []ledger.JobFacts) *ledger.JobFacts {
	var best *ledger.JobFacts
	for i := range all {
		f := &all[i]
		if f.Cluster != b.Cluster || f.Job.ID != b.Job.ID || !f.AnyRestart && f.Job.Restart != b.Job.Restart {
			continue
		}
		known := f.Job.SubmitMS != 0 && b.Job.SubmitMS != 0
		same := known && f.Job.SubmitMS/1000 == b.Job.SubmitMS/1000 // schedulers count in seconds
		if known && !same || !overlap(b, f) {
			continue
		}
		if best == nil || f.SeenMS > best.SeenMS {
			best = f
		}
	}
	return best
}

// overlap allows for a minute between a scheduler's clock and the node's.
func overlap(b *ledger.JobBooks, f *ledger.JobFacts) bool {
	const slack = 60_000
	before := func(end, start int64) bool { return end != 0 && end+slack < start }
	return f.Job.StartMS != 0 && !before(b.Job.EndMS, f.Job.StartMS) && !before(f.Job.EndMS, b.Job.StartMS)
}

func schedulerOf(f *ledger.JobFacts) *Scheduler {
	return &Scheduler{
		Name: f.Name, Partition: f.Partition, QOS: f.QOS, State: f.State,
		Start: maybeStamp(f.Job.StartMS), End: maybeStamp(f.Job.EndMS),
		ArrayJob: f.ArrayJob, ArrayTask: f.ArrayTask, HetJob: f.HetJob,
		Requested: f.Requested, Allocated: f.Allocated, CPUs: f.CPUs, GPUs: f.GPUs,
		Nodes: slices.Clone(f.Nodes), SuspendedMS: f.SuspendedMS,
	}
}

// describe adds what the workload manager says.
func (j *Job) describe(b *ledger.JobBooks, f *ledger.JobFacts) {
	j.Scheduler = schedulerOf(f)
	if f.State != "" {
		j.State = f.State
	}
	if j.User == "" {
		j.User = f.Job.User
	}
	if j.Submit == nil {
		j.Submit = maybeStamp(f.Job.SubmitMS)
	}
	j.NodeCount = max(j.NodeCount, len(f.Nodes))
	const most = int64(1) << 50 // J: no job burns more, and millijoules still fit
	if f.ClaimedJoules >= 0 && f.ClaimedJoules < most {
		j.Claim = &Claim{Joules: f.ClaimedJoules, Difference: energy.Millijoules(f.ClaimedJoules*1000) - b.Amounts.Total()}
	}
}

// name of the job where the workload manager told it.
func (j *Job) name() string {
	if j.Scheduler == nil {
		return ""
	}
	return j.Scheduler.Name
}

// meanWatts is energy over time with one decimal, rounded half away from zero,
// in integers only; "" where no time has passed.
func meanWatts(mj energy.Millijoules, ms int64) string {
	if ms <= 0 {
		return ""
	}
	return decimal(int64(mj), ms, 1)
}

// ratio is part over whole with four decimals; "" where there is no whole.
func ratio(part, whole energy.Millijoules) string {
	if whole <= 0 {
		return ""
	}
	return decimal(int64(part), int64(whole), 4)
}

// decimal writes a/b, rounded half away from zero.
func decimal(a, b int64, places int) string { return big.NewRat(a, b).FloatString(places) }
