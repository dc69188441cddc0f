package slurm

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// job is a run as /slurmdb/vX/jobs and sacct --json tell it.
type job struct {
	ID          number `json:"job_id"`
	Cluster     string `json:"cluster"`
	Account     string `json:"account"`
	User        string `json:"user"`
	Name        string `json:"name"`
	Partition   string `json:"partition"`
	QOS         string `json:"qos"`
	Nodes       string `json:"nodes"`
	Restarts    number `json:"restart_cnt"`
	Association struct {
		Account string `json:"account"`
		User    string `json:"user"`
	} `json:"association"`
	State state `json:"state"`
	Array struct {
		Job  number `json:"job_id"`
		Task number `json:"task_id"`
	} `json:"array"`
	Het struct {
		Job number `json:"job_id"`
	} `json:"het"`
	Time struct {
		Submit    number `json:"submission"`
		Start     number `json:"start"`
		End       number `json:"end"`
		Suspended number `json:"suspended"`
	} `json:"time"`
	TRES struct {
		Allocated []tres `json:"allocated"`
		Requested []tres `json:"requested"`
	} `json:"tres"`
}

// state is what a run came to: one word, or one with flags behind it.
type state struct {
	Current words `json:"current"`
}

// tres is a trackable resource and how much of it.
type tres struct {
	Type  string `json:"type"`
	Name  string `json:"name"`
	Count number `json:"count"`
}

var errNoID = errors.New("it has no job id")

// facts turns a run into what the ledger keeps; ok is false for a run that has
// not started and may yet.
func (j *job) facts() (f ledger.JobFacts, ok bool, err error) {
	if !j.ID.set || j.ID.value <= 0 {
		return f, false, errNoID
	}
	f = ledger.JobFacts{
		Name: j.Name, Partition: j.Partition, QOS: j.QOS, State: j.State.Current.first(),
		Requested: tresText(j.TRES.Requested), Allocated: tresText(j.TRES.Allocated), ClaimedJoules: -1,
		Job: window.Job{
			ID: strconv.FormatInt(j.ID.value, 10), Project: first(j.Account, j.Association.Account), User: first(j.User, j.Association.User),
			SubmitMS: ms(j.Time.Submit), StartMS: ms(j.Time.Start), EndMS: ms(j.Time.End),
		},
		AnyRestart: true,
	}
	if j.Restarts.set && j.Restarts.value >= 0 && j.Restarts.value <= 1<<31 {
		f.Job.Restart, f.AnyRestart = uint32(j.Restarts.value), false
	}
	if j.Array.Job.set && j.Array.Job.value != 0 {
		f.ArrayJob = strconv.FormatInt(j.Array.Job.value, 10)
		if j.Array.Task.set {
			f.ArrayTask = strconv.FormatInt(j.Array.Task.value, 10)
		}
	}
	if j.Het.Job.set && j.Het.Job.value != 0 {
		f.HetJob = strconv.FormatInt(j.Het.Job.value, 10)
	}
	if j.Time.Suspended.set {
		f.SuspendedMS = max(0, j.Time.Suspended.value) * 1000
	}
	f.CPUs, f.GPUs, f.ClaimedJoules = amounts(j.TRES.Allocated)
	if f.Nodes, err = hosts(j.Nodes); err != nil {
		return f, false, fmt.Errorf("job %s: %w", f.Job.ID, err)
	}
	return f, settle(&f), nil
}

// settle brings the times of a run to what they mean; false: it has not started
// and may yet.
func settle(f *ledger.JobFacts) bool {
	switch f.State {
	case "PENDING", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT", "REQUEUE_FED":
		return false
	case "RUNNING", "CONFIGURING", "SUSPENDED", "COMPLETING", "STAGE_OUT", "STOPPED", "SIGNALING":
		f.Job.EndMS = 0
		return f.Job.StartMS != 0
	}
	if len(f.Nodes) == 0 { // it had none: it never started, whatever is said of its start
		f.Job.StartMS = 0
	}
	return true
}

func ms(seconds number) int64 {
	if !seconds.set || seconds.value <= 0 || seconds.value > 1<<40 {
		return 0
	}
	return seconds.value * 1000
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// tresText writes resources as sacct does: cpu=4,mem=8000M,gres/gpu=2. Energy is
// no allocation and is left out.
func tresText(list []tres) string {
	var parts []string
	for _, t := range list {
		if !t.Count.set || t.Type == "energy" || t.Count.value < 0 {
			continue
		}
		name, unit := t.Type, ""
		if t.Name != "" {
			name += "/" + t.Name
		}
		if t.Type == "mem" {
			unit = "M"
		}
		parts = append(parts, name+"="+strconv.FormatInt(t.Count.value, 10)+unit)
	}
	return strings.Join(parts, ",")
}

// amounts finds CPUs, GPUs and the energy that Slurm claims; -1: none. A claim of
// nothing is what a cluster without an energy plugin writes.
func amounts(list []tres) (cpus, gpus int, joules int64) {
	joules = -1
	typed := 0
	for _, t := range list {
		if !t.Count.set || t.Count.value < 0 || t.Count.value > 1<<50 {
			continue
		}
		switch {
		case t.Type == "cpu":
			cpus = int(t.Count.value)
		case t.Type == "gres" && t.Name == "gpu":
			gpus = int(t.Count.value)
		case t.Type == "gres" && strings.HasPrefix(t.Name, "gpu:"):
			typed += int(t.Count.value)
		case t.Type == "energy" && t.Count.value > 0:
			joules = t.Count.value
		}
	}
	if gpus == 0 {
		gpus = typed
	}
	return cpus, gpus, joules
}

// parseTRES reads what tresText and sacct write.
func parseTRES(s string) []tres {
	var out []tres
	for part := range strings.SplitSeq(s, ",") {
		name, count, ok := strings.Cut(part, "=")
		if !ok {
			continue
		}
		t := tres{}
		t.Type, t.Name, _ = strings.Cut(name, "/")
		if v, err := strconv.ParseInt(count, 10, 64); err == nil { // memory has a unit, and nothing to count it for
			t.Count = number{v, true}
		}
		out = append(out, t)
	}
	return out
}

// span reads [days-]hours:minutes:seconds[.fraction].
func span(s string) (time.Duration, bool) {
	var days int64
	if d, rest, ok := strings.Cut(s, "-"); ok {
		n, err := strconv.ParseInt(d, 10, 32)
		if err != nil {
			return 0, false
		}
		days, s = n, rest
	}
	s, _, _ = strings.Cut(s, ".")
	sum := time.Duration(days) * 24 * time.Hour
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return 0, false
	}
	unit := time.Second
	for _, part := range slices.Backward(parts) {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return 0, false
		}
		sum += time.Duration(n) * unit
		unit *= 60
	}
	return sum, true
}
