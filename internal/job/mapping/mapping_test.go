package mapping

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

// desk is a folder, a clock and an agent that writes down what it is told.
type desk struct {
	*state
	t   *testing.T
	dir string
	now time.Time

	mu     sync.Mutex
	told   []string
	answer job.Answer
}

func open(t *testing.T, running ...job.Allocation) *desk {
	d := &desk{t: t, dir: t.TempDir(), now: time.Now(), answer: job.Answer{OK: true}}
	d.state = Folder{Dir: d.dir, Handle: d.handle, Running: running, Now: func() time.Time { return d.now }}.start()
	return d
}

func (d *desk) handle(_ context.Context, e job.Edge) job.Answer {
	d.mu.Lock()
	defer d.mu.Unlock()
	var refs []string
	for _, g := range e.Job.GPUs {
		refs = append(refs, g.Device)
	}
	d.told = append(d.told, strings.TrimSpace(fmt.Sprint(e.Op, " ", e.Job.ID, " ", strings.Join(refs, " "))))
	if e.Witness != "file" || e.AtNS <= 0 || e.AtNS > time.Now().Add(time.Hour).UnixNano() {
		d.t.Errorf("told is %+v", e)
	}
	return d.answer
}

func (d *desk) set(file, text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, file), []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// after lets the folder rest, so that what it says is told.
func (d *desk) after(what string, want ...string) {
	d.t.Helper()
	d.look(d.t.Context())
	d.now = d.now.Add(quiet)
	d.look(d.t.Context())
	d.mu.Lock()
	defer d.mu.Unlock()
	if diff := cmp.Diff(want, d.told); diff != "" {
		d.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
	d.told = nil
}

func TestJobsOfAFolder(t *testing.T) {
	d := open(t)
	d.after("an empty folder")
	d.set("0", "71001\n")
	d.set("1", "71001\n71002\n")
	d.set("2.3", "71003\n")
	d.set("README", "71009\n")
	d.set("2.x", "71009\n")
	d.set("3", "\n\n")
	d.after("jobs of one GPU, of two, of a shared one and of a MIG device",
		"begin 71001 index:0 index:1", "begin 71002 index:1", "begin 71003 index:2/3")
	d.after("once")
	d.set("1", "71002\n")
	d.set("0", "")
	d.after("a job that no file names ended", "end 71001")
	d.set("0", "71002\n")
	d.after("one that holds other devices now is another hold of the same job", "end 71002", "begin 71002 index:0 index:1")
	if err := os.RemoveAll(d.dir); err != nil {
		t.Fatal(err)
	}
	d.after("without the folder nobody holds anything", "end 71002", "end 71003")
}

// What a job holds now begins where what it held ended: at no instant does it
// hold both, whatever the stamps of the files say.
func TestAHoldThatChanges(t *testing.T) {
	d := open(t)
	var edges []job.Edge
	d.Handle = func(_ context.Context, e job.Edge) job.Answer { edges = append(edges, e); return job.Answer{OK: true} }
	d.set("0", "7\n")
	d.after("first")
	d.set("1", "7\n")
	old := d.now.Add(-time.Second)
	if err := os.Chtimes(filepath.Join(d.dir, "1"), old, old); err != nil {
		t.Fatal(err)
	}
	d.after("then")
	if len(edges) != 3 || edges[1].Op != "end" || edges[2].Op != "begin" || edges[2].AtNS != edges[1].AtNS {
		t.Errorf("told is %+v", edges)
	}
}

// A prolog writes file after file: the job begins when it is done.
func TestAFolderThatIsBeingWritten(t *testing.T) {
	d := open(t)
	for _, gpu := range []string{"0", "1", "2"} {
		d.set(gpu, "7\n")
		if !d.look(t.Context()) {
			t.Error("what changes is not looked at again")
		}
		d.now = d.now.Add(quiet / 2)
	}
	if len(d.told) != 0 {
		t.Errorf("told is %q while files are written", d.told)
	}
	d.after("then the job is told whole", "begin 7 index:0 index:1 index:2")
	// a folder that never rests is not waited for without end
	for i := range 100 {
		d.set("5", fmt.Sprintf("%d\n", 100+i))
		d.look(t.Context())
		d.now = d.now.Add(quiet / 2)
	}
	if len(d.told) == 0 {
		t.Error("nothing was told")
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	d := open(t)
	d.set("0", "7\n")
	d.after("first", "begin 7 index:0")
	if err := os.Mkdir(filepath.Join(d.dir, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(d.dir, "x"), filepath.Join(d.dir, "1")); err != nil {
		t.Fatal(err)
	}
	d.set("2", strings.Repeat("8", maxFile+1))
	d.set("3", "9\n")
	d.after("the good ones count", "begin 9 index:3")
	if !strings.Contains(d.said, "is no file") || !strings.Contains(d.said, "more than 65536 bytes") {
		t.Errorf("it complains of %q", d.said)
	}
	var many strings.Builder
	for i := range maxJobs + 1 {
		fmt.Fprintln(&many, i+100)
	}
	d.set("2", many.String())
	d.after("a folder that cannot be believed ends nobody")
	if !strings.Contains(d.said, "at most 4096") {
		t.Errorf("it complains of %q", d.said)
	}
}

func TestAnAgentThatStartsAgain(t *testing.T) {
	gpu := []window.Share{{Device: "gpu0", Weight: job.Whole}}
	d := open(t,
		job.Allocation{Spec: job.Spec{ID: "1", GPUs: gpu, Teller: witness}},               // learnt from files
		job.Allocation{Spec: job.Spec{ID: "2", GPUs: gpu, Teller: witness}},               // still in one
		job.Allocation{Spec: job.Spec{ID: "3", GPUs: gpu, Teller: witness, Project: "p"}}, // kept by a hook that knows more
		job.Allocation{Spec: job.Spec{ID: "4", GPUs: gpu, Teller: "cgroup", Found: true}}, // found in a cgroup
		job.Allocation{Spec: job.Spec{ID: "5", GPUs: gpu}},                                // told on the command line
	)
	d.set("0", "2\n")
	d.after("what only files told of ends with them", "end 1")
}

func TestAnAgentThatIsBusy(t *testing.T) {
	d := open(t)
	d.answer = job.Answer{Again: true}
	d.set("0", "7\n")
	d.after("it does not take it", "begin 7 index:0")
	d.answer = job.Answer{OK: true}
	if d.look(t.Context()) || len(d.told) != 1 {
		t.Errorf("told again is %q", d.told)
	}
	d.told = nil
	d.after("and then no more")
}

func TestRunFollowsTheFolder(t *testing.T) {
	d := &desk{t: t, dir: filepath.Join(t.TempDir(), "later"), answer: job.Answer{OK: true}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		Folder{Dir: d.dir, Handle: d.handle, Now: time.Now}.Run(ctx)
		close(done)
	}()
	defer func() { cancel(); <-done }()
	wait := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			d.mu.Lock()
			got := strings.Join(d.told, "; ")
			d.mu.Unlock()
			if got == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("told is %q, want %q", got, want)
			}
		}
	}
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d.set("0", "7\n")
	wait("begin 7 index:0")
	if err := os.Remove(filepath.Join(d.dir, "0")); err != nil {
		t.Fatal(err)
	}
	wait("begin 7 index:0; end 7")
}
