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

// nothingYet is a node on which slurmd has made nothing; told: the kernel tells of
// new folders.
func nothingYet(t *testing.T, told bool, change func(*Options)) *watched {
	w := watchTree(t, "v2", "n1", change)
	w.started = w.now.Add(-settle)
	w.tree.Remove("cgroup/system.slice")
	w.after(0)
	w.follows(told, false)
	w.after(time.Second)
	return w
}

// Where the kernel tells of new folders they are looked for now and then; elsewhere
// each second, as ever.
func TestFoldersThatAreNotThereYet(t *testing.T) {
	f := func(what string, told bool, meanwhile func(*watched), after time.Duration, want bool) {
		t.Helper()
		w := nothingYet(t, told, nil)
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
	f("it tells", true, func(w *watched) { w.stir() }, time.Second, true)
	f("it began to tell just now", true, func(w *watched) { w.follows(true, true) }, time.Second, true)
	f("it tells no more", true, func(w *watched) { w.follows(false, false) }, time.Second, true)
	f("the clock was put back", true, func(w *watched) { w.now = w.now.Add(-time.Hour) }, time.Second, true)
}

// slurmd makes the folders of its controllers one by one: while there is any, the
// one that follows a job best counts as soon as it is there, whoever tells.
func TestFoldersComeOneByOne(t *testing.T) {
	w := nothingYet(t, true, nil)
	w.tree.Set("cgroup/memory/slurm/uid_20001/job_7/step_batch/cgroup.procs", "")
	w.stir()
	w.after(time.Second)
	w.tree.Set("cgroup/freezer/slurm/uid_20001/job_7/step_batch/cgroup.procs", "")
	w.after(time.Second)
	w.tree.Remove("cgroup/freezer/slurm/uid_20001/job_7")
	w.after(time.Second)
	if w.sees("7") {
		t.Error("the job is seen though nothing of it runs")
	}
}

// A pattern of the site's own may come true where no event tells.
func TestPatternsAreLookedForEachSecond(t *testing.T) {
	w := nothingYet(t, true, func(o *Options) { o.Tree.Scopes = []string{"*.slice/*slurmstepd.scope"} })
	w.tree.Set("cgroup/system.slice/slurmstepd.scope/job_9/cgroup.procs", "")
	w.after(time.Second)
	if !w.sees("9") {
		t.Error("the job is not seen")
	}
}

// The kernel tells: on a clock that stands still nothing else finds the job.
func TestRunFollowsWhatIsNotThereYet(t *testing.T) {
	still := time.Now()
	w := follow(t, "v2", "n1", func(o *Options) {
		o.Tree.Root = filepath.Join(o.Procfs, "cgroup") // nothing
		o.Now = func() time.Time { return still }
	})
	until := func(what string, ready func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !ready(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	until("it does not rest", func() bool {
		w.Watcher.mu.Lock()
		defer w.Watcher.mu.Unlock()
		return w.rest.until.After(still)
	})
	for _, dir := range []string{"", "system.slice", "system.slice/slurmstepd.scope", "system.slice/slurmstepd.scope/job_9"} {
		if err := os.Mkdir(filepath.Join(w.opt.Tree.Root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	until("the job is not seen", func() bool { return w.sees("9") })
}
