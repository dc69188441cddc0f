package slurm

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// sees tells whether the cgroup of a job was found, and has not gone.
func (w *watched) sees(id string) bool {
	w.Watcher.mu.Lock()
	defer w.Watcher.mu.Unlock()
	for _, of := range w.paths {
		if of == id {
			return true
		}
	}
	return false
}

// A node on which slurmd has made nothing yet. Where the kernel tells of new
// folders they are looked for now and then; elsewhere each second, as ever.
func TestRootsThatAreNotThereYet(t *testing.T) {
	f := func(what string, told bool, meanwhile func(*watched), after time.Duration, want bool) {
		t.Helper()
		w := watchTree(t, "v2", "n1", nil)
		w.started = w.now.Add(-settle)
		w.tree.Remove("cgroup/system.slice")
		w.after(0)
		w.follows(told, false)
		w.after(time.Second)
		w.tree.Set("cgroup/freezer/slurm/uid_20001/job_7/step_batch/cgroup.procs", "")
		meanwhile(w)
		w.after(after)
		if got := w.sees("7"); got != want {
			t.Errorf("%s: the job is seen: %v", what, got)
		}
	}
	nothing := func(*watched) {}
	f("nobody tells", false, nothing, time.Second, true)
	f("the kernel would tell", true, nothing, time.Second, false)
	f("what it did not tell", true, nothing, absentEvery, true)
	f("it tells", true, func(w *watched) {
		if w.concerns(w.tree.Dir+"/cgroup/system.slice/cron.service") || !w.concerns(w.tree.Dir+"/cgroup/freezer") {
			t.Error("what leads to slurmd's folders is not known")
		}
	}, time.Second, true)
	f("it tells of something else", true, func(w *watched) { w.concerns(w.tree.Dir + "/cgroup/user.slice") }, time.Second, false)
	f("it began to tell just now", true, func(w *watched) { w.follows(true, true) }, time.Second, true)
	f("the clock was put back", true, func(w *watched) { w.now = w.now.Add(-time.Hour) }, time.Second, true)
}

// A pattern of the site's own may come true where no event tells.
func TestPatternsAreLookedForEachSecond(t *testing.T) {
	w := watchTree(t, "v2", "n1", func(o *Options) { o.Tree.Scopes = []string{"*.slice/*slurmstepd.scope"} })
	w.started = w.now.Add(-settle)
	w.tree.Remove("cgroup/system.slice/slurmstepd.scope")
	w.after(0)
	w.follows(true, false)
	w.after(time.Second)
	w.tree.Set("cgroup/system.slice/slurmstepd.scope/job_9/cgroup.procs", "")
	w.after(time.Second)
	if !w.sees("9") {
		t.Error("the job is not seen")
	}
}

// slurmd was set up anew, with the other version of cgroups.
func TestRootsThatGo(t *testing.T) {
	w := watchTree(t, "v1", "node1", nil)
	w.started = w.now.Add(-settle)
	w.after(0)
	w.follows(true, false)
	w.want("version 1", foundEdge(alices()), foundEdge(bobs()))
	w.tree.Remove("cgroup/freezer/slurm_node1")
	for _, c := range controllers() {
		w.tree.Remove("cgroup/" + c)
	}
	w.tree.Set("cgroup/system.slice/slurmstepd.scope/job_9/cgroup.procs", "")
	w.after(time.Second)
	if !w.sees("9") || w.sees("7") || w.sees("8") {
		t.Errorf("seen are %v", w.paths)
	}
}

// The kernel tells: on a clock that stands still nothing else finds the job.
func TestRunFollowsWhatIsNotThereYet(t *testing.T) {
	still := time.Now()
	w := follow(t, "v2", "n1", func(o *Options) {
		o.Tree.Root = filepath.Join(o.Procfs, "cgroup") // nothing
		o.Now = func() time.Time { return still }
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		w.Watcher.mu.Lock()
		ready := w.followed && !w.lookAt.IsZero()
		w.Watcher.mu.Unlock()
		if ready {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is followed")
		}
	}
	for _, dir := range []string{"", "system.slice", "system.slice/slurmstepd.scope", "system.slice/slurmstepd.scope/job_9"} {
		if err := os.Mkdir(filepath.Join(w.opt.Tree.Root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); !w.sees("9"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the job is not seen")
		}
	}
}
