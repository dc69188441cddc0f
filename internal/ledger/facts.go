package ledger

import "github.com/wattledger/wattledger/internal/window"

// JobFacts is what a workload manager's own accounting says of one run of a
// job. It completes the node's view and never touches energy.
type JobFacts struct {
	Cluster string
	// Job is the key (id, restart, submit time) with the account as project and
	// the user; StartMS and EndMS are the scheduler's, StartMS 0 if it never
	// started, EndMS 0 while it runs.
	Job window.Job
	// AnyRestart: the restart count is not known, Job.Restart says nothing; the
	// run is found by its times.
	AnyRestart bool
	Name       string
	Partition  string
	QOS        string
	State      string // as the workload manager spells it: COMPLETED, REQUEUED, ...
	ArrayJob   string // id of the array, "" for none
	ArrayTask  string
	HetJob     string // id of the heterogeneous job, "" for none
	Requested  string // TRES as Slurm writes them: cpu=4,mem=8G,gres/gpu=2
	Allocated  string
	CPUs       int
	GPUs       int
	Nodes      []string
	// SuspendedMS is how long it was stopped while it kept its resources.
	SuspendedMS int64
	// ClaimedJoules is the workload manager's own figure (ConsumedEnergy); it is
	// compared and never booked. -1 where it gives none.
	ClaimedJoules int64
	SeenMS        int64 // when this was learnt
}

// NodeMS is the device time of the run's nodes within [fromMS, toMS): nodes
// times the time it ran there, in ms. A run without an end runs until toMS.
func (f JobFacts) NodeMS(fromMS, toMS int64) int64 {
	end := toMS
	if f.Job.EndMS != 0 {
		end = min(end, f.Job.EndMS)
	}
	if f.Job.StartMS == 0 {
		return 0
	}
	return int64(len(f.Nodes)) * max(0, end-max(fromMS, f.Job.StartMS))
}

// ProjectFacts is what is known of a project besides its energy.
type ProjectFacts struct {
	Cluster, Name string
	Parent        string // account above it, "" for none
	Title         string
	Investigator  string // principal investigator
	Organization  string
	StartMS       int64 // of the grant, 0 for not known
	EndMS         int64
	SeenMS        int64
}
