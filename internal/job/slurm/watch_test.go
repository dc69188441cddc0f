package slurm

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/sysfs/sysfstest"
)

// watched is a Watcher on a recorded machine, with a clock of its own and an
// agent that writes down what it was told.
type watched struct {
	*Watcher
	t    *testing.T
	tree *sysfstest.Tree
	now  time.Time

	mu     sync.Mutex
	told   []job.Edge
	answer job.Answer
}

func watchTree(t *testing.T, archive, node string, change func(*Options)) *watched {
	t.Helper()
	tree := sysfstest.Open(t, "testdata/"+archive+".txtar")
	w := &watched{t: t, tree: tree, now: time.Now(), answer: job.Answer{OK: true}}
	opt := Options{
		Tree:   Tree{Root: filepath.Join(tree.Dir, "cgroup"), Node: node},
		Procfs: filepath.Join(tree.Dir, "proc"), Handle: w.handle,
		UserName: func(uid uint32) string { return map[uint32]string{20001: "alice"}[uid] },
		Now:      func() time.Time { return w.now },
	}
	if change != nil {
		change(&opt)
	}
	w.Watcher = NewWatcher(opt)
	return w
}

func (w *watched) handle(_ context.Context, e job.Edge) job.Answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, e)
	return w.answer
}

// after lets time pass and looks; edges that are told have then been answered.
func (w *watched) after(d time.Duration) {
	w.now = w.now.Add(d)
	w.scan(context.Background())
	w.wg.Wait()
}

// edges gives what was told since the last call, in the order of jobs.
func (w *watched) edges() []job.Edge {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.told
	w.told = nil
	slices.SortStableFunc(out, func(a, b job.Edge) int { return strings.Compare(a.Job.ID, b.Job.ID) })
	return out
}

func (w *watched) want(what string, want ...job.Edge) {
	w.t.Helper()
	got := w.edges()
	for i := range got {
		if e := &got[i]; e.AtNS == 0 || e.AtNS > w.now.UnixNano() {
			w.t.Errorf("%s: job %s: %s at %d; it is %d", what, e.Job.ID, e.Op, e.AtNS, w.now.UnixNano())
		}
		got[i].AtNS = 0
	}
	if d := cmp.Diff(want, got); d != "" {
		w.t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func foundEdge(s job.Spec) job.Edge { return job.Edge{Op: "begin", Witness: "cgroup", Job: s} }
func goneEdge(id string) job.Edge {
	return job.Edge{Op: "end", Witness: "cgroup", Job: job.Spec{ID: id}}
}

func alices() job.Spec {
	return job.Spec{ID: "7", User: "alice", GPUs: gpus("minor:1", "minor:2"), CPUs: 3, MemoryBytes: 1572864000}
}

func bobs() job.Spec {
	return job.Spec{ID: "8", User: "20002", Unplaced: []string{"GPUs of job 8: not known"}}
}

func TestJobsOfVersion1(t *testing.T) {
	w := watchTree(t, "v1", "node1.example.org", nil)
	w.after(0)
	w.want("at the start a prolog's edge may still lie in a file")
	w.after(settle)
	w.want("both jobs of node1, none of node2, none that a user made", foundEdge(alices()), foundEdge(bobs()))
	w.after(time.Second)
	w.want("once")

	w.tree.Remove("cgroup/freezer/slurm_node1/uid_20001/job_7")
	w.after(time.Second)
	w.want("it might come back")
	w.after(graceFound)
	w.want("the job ends when its cgroup is gone", goneEdge("7"))
	w.after(time.Minute)
	w.want("once, too")
}

// The other witnesses speak first, and what they said stands.
func TestAPrologIsNotOverruled(t *testing.T) {
	w := watchTree(t, "v1", "node1", nil)
	tell := w.Through(w.handle)
	ctx := context.Background()
	begin := job.Edge{Op: "begin", Witness: "prolog", AtNS: 1, Job: job.Spec{ID: "7", Project: "physics", GPUs: gpus("minor:3")}}
	if a := tell(ctx, begin); !a.OK {
		t.Fatalf("the answer is %+v", a)
	}
	w.edges()
	w.after(settle)
	w.after(time.Second)
	w.want("job 8 alone had no prolog", foundEdge(bobs()))

	// the epilog comes after the cgroup went, but before anybody wonders
	w.tree.Remove("cgroup/freezer/slurm_node1/uid_20001/job_7")
	w.after(time.Second)
	w.after(graceFound)
	w.want("an epilog is waited for")
	if a := tell(ctx, job.Edge{Op: "end", Witness: "epilog", AtNS: 2, Job: job.Spec{ID: "7"}}); !a.OK {
		t.Fatalf("the answer is %+v", a)
	}
	w.edges()
	w.after(time.Hour)
	w.want("nothing is doubled")
}

func TestAnEpilogThatNeverComes(t *testing.T) {
	w := watchTree(t, "v1", "node1", nil)
	tell := w.Through(w.handle)
	ctx := context.Background()
	for _, id := range []string{"7", "8"} {
		tell(ctx, job.Edge{Op: "begin", Witness: "prolog", Job: job.Spec{ID: id, CPUs: 1}})
	}
	w.edges()
	w.after(settle)
	w.tree.Remove("cgroup/freezer/slurm_node1/uid_20001/job_7") // of a batch step: as long as the job
	w.tree.Remove("cgroup/freezer/slurm_node1/uid_20002/job_8") // of srun's steps: comes and goes
	w.after(time.Second)
	gone := w.now.UnixNano()
	w.after(graceTold)
	got := w.edges()
	if len(got) != 1 || got[0].Op != "end" || got[0].Job.ID != "7" || got[0].AtNS != gone {
		t.Fatalf("told is %+v; job 7 ended when its cgroup was seen gone, at %d", got, gone)
	}
	w.after(graceSteps)
	w.want("nothing is heard of job 8's steps any more", goneEdge("8"))
	if a := tell(ctx, job.Edge{Op: "end", Witness: "epilog", Job: job.Spec{ID: "7"}}); !a.OK || !strings.Contains(a.Message, "is known") {
		t.Errorf("a late epilog is answered %+v", a)
	}
	w.want("and does not reach the agent")
}

// A step of a job on a node without its batch script, and the next.
func TestStepsComeAndGo(t *testing.T) {
	w := watchTree(t, "v1", "node1", nil)
	w.after(settle)
	w.edges()
	w.tree.Remove("cgroup/freezer/slurm_node1/uid_20002/job_8")
	w.after(time.Second)
	w.tree.Set("cgroup/freezer/slurm_node1/uid_20002/job_8/step_1/cgroup.procs", "202\n")
	w.after(time.Second)
	w.after(graceSteps)
	w.want("a short while between steps ends nothing")
	w.tree.Remove("cgroup/freezer/slurm_node1/uid_20002/job_8")
	w.after(time.Second)
	w.after(graceFound)
	w.want("a long one does", goneEdge("8"))
	w.tree.Set("cgroup/freezer/slurm_node1/uid_20002/job_8/step_2/cgroup.procs", "203\n")
	w.after(time.Second)
	w.want("and the next step begins it again", foundEdge(bobs()))
}

func TestJobsOfVersion2(t *testing.T) {
	w := watchTree(t, "v2", "n1", nil)
	w.after(settle)
	want := foundEdge(job.Spec{ID: "71001", User: "alice", CPUs: 64, MemoryBytes: 16 << 30, Unplaced: []string{"GPUs of job 71001: not known"}})
	w.want("the user is the owner of the job's processes, root's slurmstepd and sudo apart", want)
}

func TestJobsOfSLUIDs(t *testing.T) {
	w := watchTree(t, "sluid", "gpu01", nil)
	w.after(settle)
	w.want("the one job whose slurmstepd says what it is", foundEdge(job.Spec{
		ID: "71001", SLUID: "s5K1KKYAYG5D00", User: "alice", Unplaced: []string{"GPUs of job 71001: not known"},
	}))
	if id, ok := w.JobOf(51); !ok || id != "71001" {
		t.Errorf("process 51 is of job %q, %v", id, ok)
	}
	// a requeued job has a new SLUID, and a prolog that says its id
	w.Through(w.handle)(context.Background(), job.Edge{Op: "begin", Witness: "prolog", AtNS: 1, Job: job.Spec{ID: "71003", Restart: 1, SLUID: "s5K1KKYAYG5D01"}})
	w.edges()
	w.after(time.Second)
	w.want("nothing to add")
	w.tree.Set("proc/70/cgroup", "0::/system.slice/gpu01_slurmstepd.scope/s5K1KKYAYG5D01/step_0/user/task_0\n")
	if id, ok := w.JobOf(70); !ok || id != "71003" {
		t.Errorf("process 70 is of job %q, %v", id, ok)
	}
}

// The kernel says where a process is; its environment and what its user calls
// cgroups say nothing.
func TestJobOfAProcess(t *testing.T) {
	f := func(archive, node string, pid int, want string) {
		t.Helper()
		w := watchTree(t, archive, node, nil)
		id, ok := w.JobOf(pid)
		if id != want || ok != (want != "") {
			t.Errorf("%s: process %d is of job %q, %v; want %q", archive, pid, id, ok, want)
		}
	}
	f("v1", "node1", 100, "7") // it says 8 in its environment
	f("v1", "node1", 201, "8") // in a cgroup job_666 of its own making
	f("v1", "node1", 300, "")  // of another slurmd
	f("v1", "node2", 300, "9")
	f("v1", "node1", 400, "") // cgroups that only look like slurmd's
	f("v1", "node1", 999, "") // not there
	f("v2", "n1", 22, "71001")
	f("sluid", "gpu02", 51, "") // another node's scope
}

// What users write into their processes' environments changes nothing: it is
// not even opened.
func TestEnvironmentsAreNotRead(t *testing.T) {
	for _, archive := range []string{"v1", "v2"} {
		seen := func(edit bool) []job.Edge {
			w := watchTree(t, archive, "node1", nil)
			if edit {
				for _, pid := range []string{"21", "22", "100", "200"} {
					w.tree.Set("proc/"+pid+"/environ", "SLURM_JOB_ID=1\x00SLURM_JOB_ACCOUNT=chem\x00SLURM_JOB_GPUS=0,1,2,3\x00CUDA_VISIBLE_DEVICES=3\x00")
				}
			}
			w.after(settle)
			out := w.edges()
			for i := range out {
				out[i].AtNS = 0
			}
			return out
		}
		if d := cmp.Diff(seen(false), seen(true)); d != "" {
			t.Errorf("%s: edited environments change what is found:\n%s", archive, d)
		}
	}
}

func TestAnAgentThatStartsAgain(t *testing.T) {
	running := []job.Allocation{
		{Spec: job.Spec{ID: "7", Project: "physics", Teller: "prolog"}, From: 5},           // still there
		{Spec: job.Spec{ID: "1", Found: true, Teller: "cgroup"}, From: 6},                  // found before, gone since
		{Spec: job.Spec{ID: "2", Project: "chem", Teller: "prolog"}, From: 7},              // told before, gone since
		{Spec: job.Spec{ID: "71003", SLUID: "s5K1KKYAYG5D09", Teller: "prolog"}, From: 12}, // told, with its SLUID
		{Spec: job.Spec{ID: "3", Project: "bio"}, From: 8},                                 // of another workload manager
		{Spec: job.Spec{ID: "ns/pod", Teller: "kubernetes"}, From: 8},
		{Spec: job.Spec{ID: "4", Teller: "file"}, From: 8},
	}
	w := watchTree(t, "v1", "node1", func(o *Options) { o.Running = running })
	w.after(settle)
	w.want("of job 7 the agent knows", foundEdge(bobs()))
	w.after(graceFound)
	w.want("nobody else would end job 1", goneEdge("1"))
	w.after(graceSteps)
	w.want("and no epilog came for the others; jobs that are none of Slurm's are not its to end", goneEdge("2"), goneEdge("71003"))
}

// Where slurmd makes no cgroups there is nothing that a job could be missing
// from.
func TestAnAgentThatStartsAgainWithoutCgroups(t *testing.T) {
	running := []job.Allocation{{Spec: job.Spec{ID: "2", Project: "chem", Teller: "prolog"}, From: 7}}
	w := watchTree(t, "v2", "n1", func(o *Options) {
		o.Tree.Root = filepath.Join(o.Tree.Root, "none")
		o.Running = running
	})
	w.after(settle)
	w.after(graceSteps)
	w.after(time.Hour)
	w.want("the job runs on until its epilog")
}

// slurmd can leave the cgroup of a job behind.
func TestACgroupThatIsLeftBehind(t *testing.T) {
	w := watchTree(t, "v1", "node1", nil)
	w.tree.Set("cgroup/freezer/slurm_node1/uid_20002/job_8/step_0/cgroup.procs", "")
	w.tree.Set("cgroup/freezer/slurm_node1/uid_20002/job_8/step_0/job_666/cgroup.procs", "")
	w.after(settle)
	w.want("a cgroup that nobody is in is no job", foundEdge(alices()))
	w.tree.Set("cgroup/freezer/slurm_node1/uid_20001/job_7/step_batch/cgroup.procs", "")
	for range 5 {
		w.after(roundUp)
	}
	w.want("and one that everybody left is none any more", goneEdge("7"))
}

// An agent that is stopping keeps nothing; it is told again.
func TestAnAgentThatIsBusy(t *testing.T) {
	w := watchTree(t, "v2", "n1", nil)
	w.answer = job.Answer{Again: true}
	w.after(settle)
	if n := len(w.edges()); n != 1 {
		t.Fatalf("%d edges told", n)
	}
	w.answer = job.Answer{OK: true}
	w.after(time.Second)
	if got := w.edges(); len(got) != 1 || got[0].Op != "begin" {
		t.Errorf("told again is %+v", got)
	}
	w.after(time.Second)
	w.want("and then no more")
}

// A job that came and went between two looks of a slow agent has both edges.
func TestAJobThatIsGoneBeforeItIsTold(t *testing.T) {
	w := watchTree(t, "v1", "node1", nil)
	w.after(0)
	w.tree.Remove("cgroup/freezer/slurm_node1/uid_20001/job_7")
	w.after(settle)
	got := w.edges()
	if len(got) != 2 || got[0].Job.ID != "7" || got[0].Op != "begin" {
		t.Fatalf("told is %+v", got)
	}
	w.after(graceFound)
	w.want("its end", goneEdge("7"))
}

func TestATreeThatIsNotThere(t *testing.T) {
	w := watchTree(t, "v2", "n1", func(o *Options) { o.Tree.Root = filepath.Join(o.Tree.Root, "none") })
	w.after(settle)
	w.want("no slurmd has run here")
	if w.said != "" {
		t.Errorf("it complains: %s", w.said)
	}
	if err := os.MkdirAll(filepath.Join(w.opt.Tree.Root, "system.slice/slurmstepd.scope/job_5/step_batch"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.after(time.Second)
	w.want("its folder is empty")
}
