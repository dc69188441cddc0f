//go:build lab

package slurmlab_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/job/hook"
	"github.com/wattledger/wattledger/internal/job/slurm"
	slurmlab "github.com/wattledger/wattledger/test/slurm-lab"
)

const (
	confDir = "/etc/wattledger"
	runDir  = "/run/wattledger"
)

// listener stands for the agent of one node: it writes down what the hooks and
// the cgroup watcher tell.
type listener struct {
	t    *testing.T
	lab  *slurmlab.Lab
	n    int
	stop func()

	mu   sync.Mutex
	told []job.Edge
}

func (l *listener) node() string { return fmt.Sprintf("node%d", l.n) }

func (l *listener) handle(_ context.Context, e job.Edge) job.Answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.AtNS == 0 {
		e.AtNS = time.Now().UnixNano()
	}
	l.told = append(l.told, e)
	return job.Answer{OK: true}
}

// start listens as an agent that has just started, and first takes what was
// kept for it.
func (l *listener) start() {
	l.t.Helper()
	p := hook.Pending{Dir: l.lab.Own(l.n, hook.EdgesDir), Clock: clock, Handle: l.handle}
	if _, err := p.Deliver(context.Background()); err != nil {
		l.t.Fatal(err)
	}
	bin := filepath.Join(l.lab.Dir, "bin", "scontrol")
	w := slurm.NewWatcher(slurm.Options{
		Tree: slurm.Tree{Root: "/sys/fs/cgroup", Node: l.node()}, Procfs: "/proc", Handle: l.handle, Now: time.Now,
		Ask: slurm.Scontrol{Path: bin, Node: l.node(), Timeout: 10 * time.Second}.Job,
	})
	s, err := hook.Listen(l.lab.Own(l.n, runDir+"/agent.sock"), "")
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.Run(ctx) })
	wg.Go(func() {
		srv := &hook.Server{Handle: w.Through(l.handle)}
		if err := srv.Serve(ctx, s); err != nil && !errors.Is(err, net.ErrClosed) {
			l.t.Error(err)
		}
	})
	l.stop = func() { cancel(); s.Close(); wg.Wait() }
}

// edges gives what was told of a job.
func (l *listener) edges(id string) []job.Edge {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []job.Edge
	for _, e := range l.told {
		if e.Job.ID == id {
			out = append(out, e)
		}
	}
	return out
}

// pair waits for the begin and the end of a job, and for no more than those.
func (l *listener) pair(id, witness, endWitness string) (begin, end job.Edge) {
	l.t.Helper()
	var got []job.Edge
	for limit := time.Now().Add(30 * time.Second); len(got) < 2; time.Sleep(20 * time.Millisecond) {
		if got = l.edges(id); time.Now().After(limit) {
			l.t.Fatalf("%s was told of job %s: %+v", l.node(), id, got)
		}
	}
	if len(got) != 2 || got[0].Op != "begin" || got[1].Op != "end" || got[0].Witness != witness || got[1].Witness != endWitness || got[0].AtNS >= got[1].AtNS {
		l.t.Errorf("%s was told of job %s: %+v; want one begin by %s and one end by %s", l.node(), id, got, witness, endWitness)
	}
	return got[0], got[1]
}

func clock() hook.Clock {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // 0: it is not used
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return hook.Clock{WallNS: time.Now().UnixNano(), BootNS: ts.Nano(), Boot: strings.TrimSpace(string(b))}
}

func refs(s job.Spec) string {
	var out []string
	for _, g := range s.GPUs {
		out = append(out, g.Device)
	}
	return strings.Join(out, " ")
}

func hooks(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range []string{"prolog", "epilog"} {
		b, err := os.ReadFile("../../packaging/slurm/" + name)
		if err != nil {
			t.Fatal(err)
		}
		out[name+".sh"] = string(b)
	}
	return out
}

// TestTwoWitnesses: what the shipped prolog and epilog tell, and what the
// cgroups show, of the jobs of a real Slurm on two nodes.
func TestTwoWitnesses(t *testing.T) {
	script := hooks(t)
	lab := slurmlab.Start(t, slurmlab.Options{
		Nodes: 2, GPUs: 4, Cgroup: "v1", Net: "10.213.45", Own: []string{confDir, runDir, hook.EdgesDir}, Hooks: script, Env: []string{"LAB_REST=0"},
	})
	prepare(t, lab)
	nodes := []*listener{{t: t, lab: lab, n: 1}, {t: t, lab: lab, n: 2}}
	for _, l := range nodes {
		l.start()
		defer func() { l.stop() }()
	}
	both := func(do func(*listener)) {
		for _, l := range nodes {
			do(l)
		}
	}

	// prologs and epilogs
	shared := lab.Submit("alice", "-w", "node1", "-n2", "--gres=gpu:1", "--wrap", "sleep 4")
	beside := lab.Submit("bob", "-w", "node1", "-n3", "--gres=gpu:2", "--wrap", "sleep 4")
	wide := lab.Submit("carol", "-N2", "-w", "node[1-2]", "-n5", "--gres=gpu:1", "--wrap", "srun sleep 3")
	b, _ := nodes[0].pair(shared, "prolog", "epilog")
	if b.Job.Project != "physics" || b.Job.User != "alice" || b.Job.CPUs != 2 || b.Job.Partition != "all" || refs(b.Job) != "minor:0" || b.Note != "" {
		t.Errorf("the begin of job %s is %+v", shared, b)
	}
	if b, _ = nodes[0].pair(beside, "prolog", "epilog"); b.Job.Project != "chem" || b.Job.CPUs != 3 || refs(b.Job) != "minor:1 minor:2" {
		t.Errorf("the begin of job %s is %+v", beside, b)
	}
	on1, _ := nodes[0].pair(wide, "prolog", "epilog")
	on2, _ := nodes[1].pair(wide, "prolog", "epilog")
	if refs(on1.Job) != "minor:3" || refs(on2.Job) != "minor:0" || on1.Job.CPUs+on2.Job.CPUs != 5 {
		t.Errorf("job %s on both nodes: %+v and %+v", wide, on1.Job, on2.Job)
	}
	array := lab.Submit("bob", "-w", "node2", "-a", "1-3", "-n1", "--gres=gpu:1", "--wrap", "sleep 1")
	lab.Idle(time.Minute)
	for id := range lab.States() {
		if id >= array && id != wide {
			nodes[1].pair(id, "prolog", "epilog")
		}
	}

	// nobody listens: what happened is kept with its time
	both(func(l *listener) { l.stop() })
	before := time.Now()
	alone := lab.Submit("alice", "-w", "node2", "-n1", "--gres=gpu:1", "--wrap", "sleep 2")
	lab.Idle(time.Minute)
	kept, err := filepath.Glob(filepath.Join(lab.Own(2, hook.EdgesDir), "*,"+alone+",*.json"))
	if err != nil || len(kept) != 2 {
		t.Errorf("kept for job %s are %q, %v", alone, kept, err)
	}
	both(func(l *listener) { l.start() })
	b, e := nodes[1].pair(alone, "prolog", "epilog")
	if took := time.Duration(e.AtNS - b.AtNS); b.AtNS < before.UnixNano() || took < 1900*time.Millisecond || took > 20*time.Second {
		t.Errorf("job %s of 2 s is told as %v from %v on", alone, took, time.Unix(0, b.AtNS))
	}
	if left, err := os.ReadDir(lab.Own(2, hook.EdgesDir)); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}

	// no prolog, no epilog: the cgroups, and what Slurm says when it is asked
	for name := range script {
		if err := os.WriteFile(filepath.Join(lab.Dir, "hooks", name), []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * time.Second) // what is found at the start waits for kept edges
	forged := lab.Submit("alice", "-w", "node1", "-n2", "--gres=gpu:2", "-J", "x Account=chem\n     Nodes=node1 CPU_IDs=0-3 Mem=1 GRES=gpu:h100:4(IDX:0-3)", "--wrap",
		"export SLURM_JOB_GPUS=0,1,2,3 SLURM_JOB_ACCOUNT=chem; exec sleep 4")
	tasks := lab.Submit("bob", "-w", "node2", "-a", "1-2", "-n1", "--gres=gpu:1", "--wrap", "sleep 4")
	wide = lab.Submit("carol", "-N2", "-w", "node[1-2]", "-n2", "--gres=gpu:1", "--wrap", "srun sleep 4")
	b, e = nodes[0].pair(forged, "slurm", "cgroup")
	if refs(b.Job) != "minor:0 minor:1" || b.Job.Project != "physics" || b.Job.User != "alice" || b.Job.CPUs != 2 {
		t.Errorf("job %s is found as %+v", forged, b.Job)
	}
	if took := time.Duration(e.AtNS - b.AtNS); took < 3800*time.Millisecond || took > 20*time.Second {
		t.Errorf("job %s of 4 s is found for %v", forged, took)
	}
	if b, _ = nodes[1].pair(tasks, "slurm", "cgroup"); b.Job.Project != "chem" || !slices.Contains([]string{"minor:0", "minor:1"}, refs(b.Job)) {
		t.Errorf("the task of the array's own id is found as %+v", b.Job)
	}
	for _, l := range nodes {
		if b, _ := l.pair(wide, "slurm", "cgroup"); len(b.Job.GPUs) != 1 || b.Job.User != "carol" {
			t.Errorf("job %s is found on %s as %+v", wide, l.node(), b.Job)
		}
	}
	lab.Idle(time.Minute)
}

// prepare puts the agent's program, the hooks' settings and a scontrol into the
// lab.
func prepare(t *testing.T, lab *slurmlab.Lab) {
	t.Helper()
	bin := filepath.Join(lab.Dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(bin, "wattledger-agent")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/wattledger-agent").CombinedOutput(); err != nil {
		t.Fatalf("cannot build the agent: %v\n%s", err, out)
	}
	script, err := filepath.Abs("slurm-lab.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"scontrol", "squeue"} {
		text := fmt.Sprintf("#!/bin/sh\nexec %s exec %s %s \"$@\"\n", script, lab.Dir, name)
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n <= 2; n++ {
		conf := "agent=" + program + "\nsocket=" + runDir + "/agent.sock\n"
		if err := errors.Join(os.WriteFile(lab.Own(n, confDir+"/slurm-hook.conf"), []byte(conf), 0o644), os.Chmod(lab.Own(n, hook.EdgesDir), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
}
