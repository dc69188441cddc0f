package slurm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/job"
)

// follow runs a Watcher on a machine that is there already for a while.
func follow(t *testing.T, archive, node string, change func(*Options)) *watched {
	t.Helper()
	w := watchTree(t, archive, node, func(o *Options) {
		o.Now = time.Now
		if change != nil {
			change(o)
		}
	})
	w.started = time.Now().Add(-settle)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { w.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// next waits for so many edges.
func (w *watched) next(n int) []job.Edge {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		w.mu.Lock()
		have := len(w.told)
		w.mu.Unlock()
		if have >= n {
			return w.edges()
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d edges came, want %d", have, n)
		}
	}
}

func TestRunFollowsTheTree(t *testing.T) {
	w := follow(t, "v1", "node1", nil)
	if got := w.next(2); got[0].Job.ID != "7" || got[1].Job.ID != "8" {
		t.Fatalf("told is %+v", got)
	}
	at := time.Now().UnixNano()
	w.tree.Set("cgroup/freezer/slurm_node1/uid_20003/job_10/step_batch/cgroup.procs", "500\n") // of a user who is new here
	got := w.next(1)
	if e := got[0]; e.Job.ID != "10" || e.Job.User != "20003" || e.AtNS < at-int64(time.Second) || e.AtNS > time.Now().UnixNano() {
		t.Errorf("told is %+v", e)
	}
	w.tree.Remove("cgroup/freezer/slurm_node1/uid_20003")
	if got := w.next(1); got[0].Op != "end" || got[0].Job.ID != "10" || got[0].AtNS <= at {
		t.Errorf("told is %+v", got)
	}
}

// Slurm is asked about jobs without a prolog, and what the kernel lists counts
// more than what it says.
func TestSlurmIsAsked(t *testing.T) {
	var asked atomic.Int32
	w := follow(t, "v1", "node1", func(o *Options) {
		o.Ask = func(_ context.Context, id string) (Asked, error) {
			asked.Add(1)
			return Asked{Here: true, Job: job.Spec{Project: "p" + id, User: "u", Restart: 3, CPUs: 4, GPUs: gpus("minor:0")}}, nil
		}
	})
	got := w.next(2)
	for i := range got {
		got[i].AtNS = 0
	}
	want := []job.Edge{
		{Op: "begin", Witness: "slurm", Job: job.Spec{ID: "7", Project: "p7", User: "u", Restart: 3, CPUs: 4, GPUs: gpus("minor:1", "minor:2")}},
		{Op: "begin", Witness: "slurm", Job: job.Spec{ID: "8", Project: "p8", User: "u", Restart: 3, CPUs: 4, GPUs: gpus("minor:0")}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("Slurm was asked %d times about 2 jobs", n)
	}
}

// A job that was over when Slurm was asked: whose it was is known, its GPUs are
// not any more.
func TestAShortJobIsAskedForTooLate(t *testing.T) {
	w := watchTree(t, "v1", "node1", func(o *Options) {
		o.Ask = func(context.Context, string) (Asked, error) { return Asked{}, nil }
	})
	w.after(0)
	w.tree.Remove("cgroup/freezer/slurm_node1/uid_20001/job_7")
	w.tree.Remove("cgroup/devices/slurm_node1/uid_20001/job_7")
	w.after(settle)
	w.answered("7", Asked{Job: job.Spec{Project: "physics", User: "alice", Restart: 2}}, nil)
	w.after(time.Second)
	w.want("its project", foundEdge(job.Spec{
		ID: "7", Restart: 2, Project: "physics", User: "alice", CPUs: 3, MemoryBytes: 1572864000, Unplaced: []string{"GPUs of job 7: not known"},
	}))
}

// A Slurm that is down delays what it knows, and nothing else.
func TestSlurmIsAskedInVain(t *testing.T) {
	var calls atomic.Int32
	w := follow(t, "v2", "n1", func(o *Options) {
		o.Ask = func(context.Context, string) (Asked, error) {
			calls.Add(1)
			return Asked{}, errors.New("slurmctld is not there")
		}
	})
	got := w.next(1)
	if e := got[0]; e.Witness != "cgroup" || e.Job.User != "alice" || len(e.Job.Unplaced) != 1 {
		t.Errorf("told is %+v", e)
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("Slurm was asked %d times in a moment", n)
	}
	// later it answers: the job is told once more, with all there is
	w.mu.Lock()
	w.told = nil
	w.mu.Unlock()
	w.answered("71001", Asked{Here: true, Job: job.Spec{Project: "physics", GPUs: gpus("minor:2")}}, nil)
	if e := w.next(1)[0]; e.Witness != "slurm" || e.Job.Project != "physics" || len(e.Job.Unplaced) != 0 || e.Op != "begin" {
		t.Errorf("told again is %+v", e)
	}
}

func TestStepsAloneAreAskedFor(t *testing.T) {
	answers := make(chan Asked, 8)
	w := watchTree(t, "v1", "node1", func(o *Options) {
		o.Ask = func(context.Context, string) (Asked, error) { return <-answers, nil }
	})
	tell := w.Through(w.handle)
	for _, id := range []string{"7", "8"} {
		tell(context.Background(), job.Edge{Op: "begin", Witness: "prolog", Job: job.Spec{ID: id, CPUs: 1}})
	}
	w.edges()
	w.after(settle)
	w.tree.Remove("cgroup/freezer/slurm_node1/uid_20002/job_8")
	w.after(time.Second)
	reply := func(a Asked) {
		if id := <-w.asks; id != "8" {
			t.Fatalf("Slurm is asked about %s", id)
		}
		w.answered("8", a, nil)
	}
	w.after(graceTold)
	reply(Asked{Here: true})
	w.after(time.Second)
	w.want("it is between two steps")
	w.after(askAgain)
	reply(Asked{})
	w.after(time.Second)
	w.want("it left this node", goneEdge("8"))
}

// Cgroups of the kernel itself, made by hand as slurmd makes them.
func TestLiveCgroupOfVersion1(t *testing.T) {
	const top = "/sys/fs/cgroup"
	node := "wltest" + strconv.Itoa(os.Getpid())
	base := filepath.Join(top, "freezer", "slurm_"+node)
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Skipf("no cgroup of version 1 can be made here: %v", err)
	}
	dirs := []string{base, base + "/uid_65534", base + "/uid_65534/job_41", base + "/uid_65534/job_41/step_batch"}
	t.Cleanup(func() {
		for _, d := range slices.Backward(dirs) {
			_ = os.Remove(d) // most are gone
		}
	})
	w := follow(t, "v1", node, func(o *Options) { o.Tree.Root, o.Procfs = top, "/proc" })
	before := time.Now()
	for _, d := range dirs[1:] {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			_ = sleeper.Process.Kill() // it may have ended
			_ = sleeper.Wait()         // killed: always an error
		}
	}
	defer stop()
	if err := os.WriteFile(dirs[3]+"/cgroup.procs", []byte(strconv.Itoa(sleeper.Process.Pid)), 0o644); err != nil {
		t.Fatal(err)
	}
	if id, ok := w.JobOf(sleeper.Process.Pid); !ok || id != "41" {
		t.Errorf("the process is of job %q, %v", id, ok)
	}
	if id, ok := w.JobOf(os.Getpid()); ok {
		t.Errorf("the test itself is of job %q", id)
	}
	got := w.next(1)
	if e := got[0]; e.Op != "begin" || e.Job.ID != "41" || e.Job.User != "65534" || e.AtNS < before.Add(-time.Second).UnixNano() {
		t.Errorf("told is %+v", e)
	}
	stop()
	for _, d := range slices.Backward(dirs[1:]) {
		gone := time.Now().Add(20 * time.Second) // the kernel takes a moment to see the last process go
		for err := os.Remove(d); err != nil; err = os.Remove(d) {
			if time.Now().After(gone) {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	left := time.Now()
	if e := w.next(1)[0]; e.Op != "end" || e.Job.ID != "41" || e.AtNS > left.Add(2*time.Second).UnixNano() || e.AtNS < before.UnixNano() {
		t.Errorf("told is %+v", e)
	}
}

// BenchmarkLook is a look at a node with 500 jobs of which all is known: what a
// tick costs. ns/job is the figure that has a limit: 20 000.
func BenchmarkLook(b *testing.B) {
	const jobs = 500
	f := func(name string, dir func(i int) string) {
		b.Run(name, func(b *testing.B) {
			root := b.TempDir()
			for i := range jobs {
				d := filepath.Join(root, dir(i+1))
				for _, step := range []string{"step_extern/slurm", "step_batch/user/task_0", "step_0/user/task_0"} {
					if err := os.MkdirAll(filepath.Join(d, step), 0o755); err != nil {
						b.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(d, step, "cgroup.procs"), []byte("1\n"), 0o644); err != nil {
						b.Fatal(err)
					}
				}
			}
			now := time.Now()
			w := NewWatcher(Options{
				Tree: Tree{Root: root, Node: "n1"}, Procfs: "/proc", Now: func() time.Time { return now },
				Handle: func(context.Context, job.Edge) job.Answer { return job.Answer{OK: true} },
			})
			w.started = now.Add(-settle)
			w.scan(b.Context())
			w.wg.Wait()
			if len(w.paths) != jobs {
				b.Fatalf("%d jobs were found", len(w.paths))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				now = now.Add(rescan)
				w.scan(b.Context())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/jobs, "ns/job")
		})
	}
	f("v1, 500 users", func(i int) string { return fmt.Sprintf("freezer/slurm/uid_%d/job_%d", 20000+i, i) })
	f("v1, 5 users", func(i int) string { return fmt.Sprintf("freezer/slurm/uid_%d/job_%d", 20000+i%5, i) })
	f("v2", func(i int) string { return fmt.Sprintf("system.slice/slurmstepd.scope/job_%d", i) })
}

// JobOf is asked for every process that uses a GPU.
func BenchmarkJobOf(b *testing.B) {
	t := Tree{Root: "/sys/fs/cgroup", Node: "n1"}
	text := strings.Repeat("9:name=systemd:/\n", 8) + "6:freezer:/slurm_n1/uid_20001/job_7/step_batch\n0::/\n"
	for b.Loop() {
		if _, ok := t.nameIn(text); !ok {
			b.Fatal("not found")
		}
	}
}
