package slurm

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

// recorded is the environment of a prolog of Slurm 22.05, with what later
// versions add.
const recorded = `CUDA_VISIBLE_DEVICES=1,2
GPU_DEVICE_ORDINAL=1,2
PWD=/
SLURMD_NODENAME=node2
SLURM_CLUSTER_NAME=lab
SLURM_JOBID=71001
SLURM_JOB_ACCOUNT=physics
SLURM_JOB_CPUS_PER_NODE=16(x2),8
SLURM_JOB_GPUS=1,2
SLURM_JOB_ID=71001
SLURM_JOB_OVERSUBSCRIBE=OK
SLURM_JOB_PARTITION=all
SLURM_JOB_RESTART_COUNT=2
SLURM_JOB_SLUID=s5K1KKYAYG5D00
SLURM_JOB_UID=20001
SLURM_JOB_USER=alice
SLURM_NODELIST=node[1-3]
SLURM_SCRIPT_CONTEXT=prolog_slurmd`

// hookOf is the recorded environment with lines changed; "NAME" alone removes.
func hookOf(changes ...string) Hook {
	env := map[string]string{}
	for _, line := range append(strings.Split(recorded, "\n"), changes...) {
		name, value, set := strings.Cut(line, "=")
		env[name] = value
		if !set {
			delete(env, name)
		}
	}
	return Hook{Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
}

func gpus(refs ...string) []window.Share {
	var out []window.Share
	for _, r := range refs {
		out = append(out, window.Share{Device: r, Weight: job.Whole})
	}
	return out
}

func TestProlog(t *testing.T) {
	got := hookOf().Begin()
	want := job.Edge{Op: "begin", Witness: "prolog", Job: job.Spec{
		ID: "71001", Restart: 2, Project: "physics", User: "alice", Partition: "all", SLUID: "s5K1KKYAYG5D00",
		GPUs: gpus("minor:1", "minor:2"), CPUs: 16,
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the edge (-want +got):\n%s", d)
	}
	end := hookOf().End()
	if d := cmp.Diff(job.Edge{Op: "end", Witness: "epilog", Job: job.Spec{ID: "71001", Restart: 2, SLUID: "s5K1KKYAYG5D00"}}, end); d != "" {
		t.Errorf("the end (-want +got):\n%s", d)
	}
}

// What is missing or absurd is said, and never becomes somebody's device.
func TestPrologsThatLackSomething(t *testing.T) {
	f := func(change, note string, with func(*job.Spec)) {
		t.Helper()
		want := hookOf().Begin().Job
		with(&want)
		got := hookOf(strings.Split(change, "|")...).Begin()
		if d := cmp.Diff(want, got.Job); d != "" {
			t.Errorf("with %s (-want +got):\n%s", change, d)
		}
		if !strings.Contains(got.Note, note) || (note == "") != (got.Note == "") {
			t.Errorf("with %s: the note is %q, want %q in it", change, got.Note, note)
		}
	}
	same := func(*job.Spec) {}
	f("SLURM_JOB_ID", "", same) // the older name is there
	f("SLURM_JOB_ID=0", `"0" is no job's id`, func(s *job.Spec) { s.ID = "" })
	f("SLURM_JOB_ID=71001; rm", "is no job's id", func(s *job.Spec) { s.ID = "" })
	f("SLURM_JOB_ID=99999999999", "is no job's id", func(s *job.Spec) { s.ID = "" })
	f("SLURM_JOB_ID|SLURM_JOBID", `"" is no job's id`, func(s *job.Spec) { s.ID = "" })
	f("SLURM_JOB_RESTART_COUNT=x", "is no count", func(s *job.Spec) { s.Restart = 0 })
	f("SLURM_JOB_RESTART_COUNT", "", func(s *job.Spec) { s.Restart = 0 })
	f("SLURM_JOB_ACCOUNT", "", func(s *job.Spec) { s.Project = "" })
	f(`SLURM_JOB_ACCOUNT=a "b" c`, "", func(s *job.Spec) { s.Project = `a "b" c` })
	f("SLURM_JOB_ACCOUNT="+strings.Repeat("p", 300), "longer than 256 bytes", func(s *job.Spec) { s.Project = "" })
	f("SLURM_JOB_ACCOUNT=a\tb", "not plain text", func(s *job.Spec) { s.Project = "" })
	f("SLURM_JOB_USER", "", func(s *job.Spec) { s.User = "20001" })
	f("SLURM_JOB_GPUS|CUDA_VISIBLE_DEVICES", "", func(s *job.Spec) { s.GPUs = nil })
	f("SLURM_JOB_GPUS=1,x", `"x", which is no GPU's number`, func(s *job.Spec) {
		s.GPUs, s.Unplaced = gpus("minor:1"), []string{`SLURM_JOB_GPUS "x"`}
	})
	f("SLURM_JOB_GPUS=1,1", "named twice", func(s *job.Spec) { s.GPUs = gpus("minor:1") })
	f("CUDA_VISIBLE_DEVICES=MIG-11-22,MIG-33-44", "", func(s *job.Spec) { s.GPUs = gpus("MIG-11-22", "MIG-33-44") })
	f("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=25|SLURM_JOB_GPUS=3", "", func(s *job.Spec) {
		s.GPUs = []window.Share{{Device: "minor:3", Weight: 250_000}}
	})
	f("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=0", "is no percentage", same)
	f("SLURM_JOB_OVERSUBSCRIBE=NO", "", func(s *job.Spec) { s.Exclusive = true })
	f("SLURM_JOB_CPUS_PER_NODE", "SLURM_JOB_CPUS_PER_NODE is missing", func(s *job.Spec) { s.CPUs = 0 })
	f("SLURMD_NODENAME=elsewhere", "not in the host list", func(s *job.Spec) { s.CPUs = 0 })
	f("SLURM_MEM_PER_NODE=1500", "", func(s *job.Spec) { s.MemoryBytes = 1500 << 20 })
	f("SLURM_MEM_PER_NODE=lots", "no number of megabytes", same)
	f("CUDA_VISIBLE_DEVICES|SLURM_JOB_GPUS|SLURM_JOB_CPUS_PER_NODE=x", "cannot read", func(s *job.Spec) {
		s.GPUs, s.CPUs, s.Unplaced = nil, 0, []string{"CPUs of job 71001: not known"}
	})
}

// A job of which nothing is known must not own the node.
func TestAPrologWithoutAnythingOwnsNothing(t *testing.T) {
	h := Hook{Env: func(string) (string, bool) { return "", false }}
	e := h.Begin()
	if e.Job.WholeNode() || e.Job.ID != "" || e.Note == "" {
		t.Errorf("an empty environment gives %+v", e)
	}
	if e := h.End(); e.Job.ID != "" || e.Note == "" {
		t.Errorf("an empty environment ends %+v", e)
	}
}

func TestGPUNumbersCanBeTheVendors(t *testing.T) {
	h := hookOf()
	h.GPUIDs = "index"
	if d := cmp.Diff(gpus("index:1", "index:2"), h.Begin().Job.GPUs); d != "" {
		t.Error(d)
	}
}
