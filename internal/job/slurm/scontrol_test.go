package slurm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/sysfs/sysfstest"
)

func answer(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(sysfstest.Open(t, "testdata/scontrol.txtar").Dir, name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWhatSlurmSays(t *testing.T) {
	f := func(name, id, node string, want Asked) {
		t.Helper()
		got, err := parseJob(answer(t, name), id, node, "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s on %s (-want +got):\n%s", name, node, d)
		}
	}
	alice := job.Spec{Restart: 2, Project: "physics", User: "alice", Partition: "all"}
	on := func(s job.Spec, cpus uint32, mb uint64, refs ...string) job.Spec {
		s.CPUs, s.MemoryBytes, s.GPUs = cpus, mb<<20, gpus(refs...)
		return s
	}
	f("shared", "21", "node1", Asked{Here: true, Job: on(alice, 3, 1500, "minor:0")})
	f("shared", "21", "node3.example.org", Asked{Here: true, Job: on(alice, 2, 1000, "minor:1", "minor:2")})
	f("shared", "21", "node4", Asked{Job: alice})
	f("exclusive", "22", "node2", Asked{Here: true, Job: job.Spec{User: "bob", Partition: "cpu", CPUs: 16, Exclusive: true}})
	alice.Restart = 0
	f("forged-name", "23", "node2", Asked{Here: true, Job: on(alice, 1, 500, "minor:3")})
	f("done", "25", "node2", Asked{Job: on(alice, 1, 500)})
}

// A job's name is its user's. What it could pretend is refused.
func TestAnswersThatCannotBeBelieved(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got, err := parseJob(text, "21", "node1", ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("read is %+v, %v; want %q", got, err, want)
		}
	}
	good := answer(t, "shared")
	f(strings.Replace(answer(t, "forged-lines"), "JobId=24", "JobId=21", 1), "UserId=... is not where it belongs")
	f("", "does not begin with JobId=21")
	f(answer(t, "done"), "does not begin with JobId=21")
	f(good+"\n"+good, "is not where it belongs")
	for _, mark := range marks() {
		f(strings.Replace(good, mark, "   X=", 1), "...")
	}
	f(strings.Replace(good, "CPU_IDs=0-1,8", "CPU_IDs=", 1), "CPU_IDs= cannot be read")
	f(strings.Replace(good, "Mem=1500", "Mem=x", 1), "Mem= is no number")
	f(strings.Replace(good, "(IDX:0)", "(CNT:1)", 1), "names no GPUs")
	f(strings.Replace(good, "Restarts=2", "Restarts=-2", 1), "Restarts= is no number")
}

func TestIndices(t *testing.T) {
	f := func(gres, lost string, want ...string) {
		t.Helper()
		got, unplaced, err := indices(gres, "")
		if d := cmp.Diff(gpus(want...), got); d != "" || err != nil || strings.Join(unplaced, " ") != lost {
			t.Errorf("indices(%q): not placed %q, %v\n%s", gres, unplaced, err, d)
		}
	}
	f("", "")
	f("gpu:2(IDX:0,3)", "", "minor:0", "minor:3")
	f("license:3,gpu:a100:2(IDX:0-1),gpu:a30:1(IDX:7)", "", "minor:0", "minor:1", "minor:7")
	// which GPU a part is of is not said: not none of them
	f("license:3,shard:h100:4(1/8,3/8),gpu:a30:1(IDX:7)", `"shard:h100:4(1/8,3/8)"`, "minor:7")
	f("mps:50(IDX:0)", `"mps:50(IDX:0)"`)
}

// fake writes a program that stands for scontrol or squeue.
func fake(t *testing.T, dir, name, script string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestScontrol(t *testing.T) {
	dir := sysfstest.Open(t, "testdata/scontrol.txtar").Dir
	// as scontrol does: an array's own id gives all its tasks
	path := fake(t, dir, "scontrol", `cd `+dir+`
case "$*" in
"show job -d 21") cat shared.txt ;;
"show job -d 22") cat exclusive.txt; echo; cat done.txt ;;
"show job -d 22_3") cat exclusive.txt ;;
"show job -d 23") echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1 ;;
"show job -d 24") sleep 60 ;;
*) echo "no such call: $*; SLURM_CONF=$SLURM_CONF HOME=$HOME" >&2; exit 1 ;;
esac`)
	fake(t, dir, "squeue", `echo "26 22_1"; echo "22 22_3"`)
	ask := func(timeout time.Duration, id string) (Asked, error) {
		s := Scontrol{Path: path, Node: "node2", Timeout: timeout, Env: []string{"SLURM_CONF=/etc/slurm/slurm.conf"}}
		return s.Job(context.Background(), id)
	}
	if a, err := ask(10*time.Second, "21"); err != nil || !a.Here || a.Job.Project != "physics" {
		t.Errorf("job 21: %+v, %v", a, err)
	}
	if a, err := ask(10*time.Second, "22"); err != nil || !a.Here || a.Job.User != "bob" {
		t.Errorf("the task of an array with the array's id: %+v, %v", a, err)
	}
	if _, err := ask(10*time.Second, "23"); !errors.Is(err, ErrNoJob) {
		t.Errorf("a job that Slurm does not know: %v", err)
	}
	if _, err := ask(300*time.Millisecond, "24"); err == nil || !strings.Contains(err.Error(), "did not answer within 300ms") {
		t.Errorf("a Slurm that does not answer: %v", err)
	}
	if _, err := ask(10*time.Second, "25"); err == nil || !strings.Contains(err.Error(), "SLURM_CONF=/etc/slurm/slurm.conf HOME=") {
		t.Errorf("another failure: %v", err)
	}
}
