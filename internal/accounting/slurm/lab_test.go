//go:build lab

package slurm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/wattledger/wattledger/internal/ledger"
	slurmlab "github.com/wattledger/wattledger/test/slurm-lab"
)

// lab is a running Slurm.
type lab struct{ script, dir string }

func openLab(t *testing.T) lab {
	t.Helper()
	l := slurmlab.Start(t, slurmlab.Options{Nodes: 2, GPUs: 4, Net: "10.213.33"})
	return lab{l.Script(), l.Dir}
}

func (l lab) do(t *testing.T, verb string, args ...string) string {
	t.Helper()
	var full []string
	if user, ok := strings.CutPrefix(verb, "as "); ok {
		full = append([]string{"as", user, l.dir}, args...)
	} else {
		full = append([]string{verb, l.dir}, args...)
	}
	out, err := exec.CommandContext(t.Context(), l.script, full...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", l.script, full, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (l lab) submit(t *testing.T, user string, args ...string) string {
	t.Helper()
	args = append([]string{"sbatch", "--parsable", "--mem=100", "-o", "/dev/null"}, args...)
	return l.do(t, "as "+user, args...)
}

// until polls a job's state.
func (l lab) until(t *testing.T, id, state string) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(300 * time.Millisecond) {
		got = l.do(t, "exec", "sacct", "-n", "-P", "-X", "-j", id, "--format=state")
		if got != "" && !slices.ContainsFunc(strings.Fields(got), func(s string) bool { return s != state && s != "by" && s != "0" }) {
			return
		}
	}
	t.Fatalf("job %s is %q; want %s", id, got, state)
}

// command makes a command of the lab callable by one path.
func (l lab) command(t *testing.T, name string) string {
	path := filepath.Join(t.TempDir(), name)
	text := fmt.Sprintf("#!/bin/sh\nexec '%s' exec '%s' %s \"$@\"\n", l.script, l.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLab: a real slurmrestd, sacct --json and sacct -P tell the same of arrays,
// a requeue, a suspend, a cancelled job, one that never ran, a heterogeneous job
// and one on two nodes; a token that is bad is told from a daemon that is away.
func TestLab(t *testing.T) {
	l := openLab(t)
	from := time.Now().Add(-5 * time.Second)
	array := l.submit(t, "alice", "--gres=gpu:2", "-J", "arr", "--array=0-2", "--wrap", "sleep 2")
	short := l.submit(t, "bob", "--gres=gpu:1", "-J", "two words | and \"quotes\"", "--wrap", "sleep 1")
	both := l.submit(t, "carol", "-N2", "--gres=gpu:1", "-J", "both", "--wrap", "srun sleep 3")
	het := l.submit(t, "alice", "-n1", "-J", "het", ":", "-n1", "--gres=gpu:1", "--mem=100", "--wrap", "sleep 2")
	for _, id := range []string{array, short, both, het} {
		l.until(t, id, "COMPLETED")
	}
	requeue := l.submit(t, "bob", "--gres=gpu:1", "--requeue", "-J", "requeue", "--wrap", "sleep 12")
	suspend := l.submit(t, "bob", "--gres=gpu:1", "-J", "suspend", "--wrap", "sleep 15")
	cancel := l.submit(t, "carol", "--gres=gpu:1", "-J", "cancel", "--wrap", "sleep 600")
	for _, id := range []string{requeue, suspend, cancel} {
		l.until(t, id, "RUNNING")
	}
	never := l.submit(t, "bob", "-N2", "--exclusive", "-J", "never", "--wrap", "sleep 2") // both nodes are in use
	l.until(t, never, "PENDING")
	l.do(t, "exec", "scancel", never)
	l.do(t, "exec", "scontrol", "requeue", requeue)
	l.do(t, "exec", "scontrol", "suspend", suspend)
	time.Sleep(2 * time.Second) // it is suspended for that long
	l.do(t, "exec", "scontrol", "resume", suspend)
	l.do(t, "exec", "scontrol", "update", "jobid="+requeue, "StartTime=now")
	l.do(t, "exec", "scancel", cancel)
	running := l.submit(t, "carol", "--gres=gpu:1", "-J", "running", "--wrap", "sleep 600")
	l.until(t, running, "RUNNING")
	defer l.do(t, "exec", "scancel", running)
	l.until(t, suspend, "COMPLETED")
	l.until(t, requeue, "COMPLETED")
	l.until(t, cancel, "CANCELLED")

	socket := filepath.Join(l.dir, "run/rest/slurmrestd.sock")
	rest, err := NewRest("unix:"+socket, NewAuth("root", "", []string{l.script, "token", l.dir, "root"}, time.Now))
	if err != nil {
		t.Fatal(err)
	}
	name := l.do(t, "exec", "sacctmgr", "-n", "-P", "show", "cluster", "format=cluster")
	plain := &Commands{Sacct: l.command(t, "sacct"), Sacctmgr: l.command(t, "sacctmgr")}
	plain.plain.Store(true)
	byWay := map[string]*Source{
		"rest":         {Cluster: name, Rest: rest},
		"sacct --json": {Commands: &Commands{Sacct: l.command(t, "sacct"), Sacctmgr: l.command(t, "sacctmgr")}},
		"sacct -P":     {Commands: plain},
	}
	jobs := map[string][]ledger.JobFacts{}
	to := time.Now().Add(time.Second)
	for way, s := range byWay {
		a, err := s.Jobs(t.Context(), from, to)
		if err != nil || len(a.Notes) > 0 {
			t.Fatalf("%s: %v, %v", way, err, a.Notes)
		}
		slices.SortFunc(a.Jobs, func(a, b ledger.JobFacts) int {
			return strings.Compare(fmt.Sprint(a.Job.ID, " ", a.Job.SubmitMS), fmt.Sprint(b.Job.ID, " ", b.Job.SubmitMS))
		})
		jobs[way] = a.Jobs
	}
	alike := cmp.Options{
		cmpopts.IgnoreFields(ledger.JobFacts{}, "AnyRestart", "Job.Restart", "Requested", "Allocated"), // in another order
	}
	for _, way := range []string{"sacct --json", "sacct -P"} {
		if d := cmp.Diff(jobs["rest"], jobs[way], alike); d != "" {
			t.Errorf("slurmrestd and %s differ:\n%s", way, d)
		}
	}
	of := func(id string) (out []ledger.JobFacts) {
		for _, f := range jobs["rest"] {
			if f.Job.ID == id || f.ArrayJob == id || f.HetJob == id {
				out = append(out, f)
			}
		}
		return out
	}
	if fs := of(array); len(fs) != 3 || fs[0].GPUs != 2 || fs[0].ArrayTask == "" || fs[0].Job.Project != "physics" || fs[0].Job.User != "alice" {
		t.Errorf("array: %+v", fs)
	}
	if fs := of(requeue); len(fs) != 2 || fs[0].State != "REQUEUED" || fs[1].State != "COMPLETED" || fs[1].AnyRestart || fs[1].Job.Restart != 1 {
		t.Errorf("requeue: %+v", fs)
	}
	if fs := of(suspend); len(fs) != 1 || fs[0].SuspendedMS < 1000 {
		t.Errorf("suspend: %+v", fs)
	}
	if fs := of(both); len(fs) != 1 || len(fs[0].Nodes) != 2 || fs[0].GPUs != 2 {
		t.Errorf("both: %+v", fs)
	}
	if fs := of(het); len(fs) != 2 {
		t.Errorf("het: %+v", fs)
	}
	if fs := of(never); len(fs) != 1 || fs[0].Job.StartMS != 0 || fs[0].State != "CANCELLED" {
		t.Errorf("never: %+v", fs)
	}
	if fs := of(cancel); len(fs) != 1 || fs[0].State != "CANCELLED" || fs[0].Job.StartMS == 0 || fs[0].Job.EndMS == 0 {
		t.Errorf("cancel: %+v", fs)
	}
	if fs := of(running); len(fs) != 1 || fs[0].Job.EndMS != 0 || fs[0].State != "RUNNING" {
		t.Errorf("running: %+v", fs)
	}
	want := []ledger.ProjectFacts{
		{Name: "chem", Parent: "root", Organization: "lab"},
		{Name: "physics", Parent: "root", Organization: "lab"},
		{Name: "root", Title: "default root account"},
	}
	for way, s := range byWay {
		got, err := s.Projects(t.Context())
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%s: %v\n%s", way, err, d)
		}
	}
	labFaults(t, l, socket, from, to)
}
