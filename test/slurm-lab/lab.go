// Package slurmlab drives slurm-lab.sh from tests: a Slurm cluster of the
// distribution's own daemons on this machine. It needs root and the packages
// that `slurm-lab.sh install` installs; where they are missing a test fails.
package slurmlab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Options of a lab. What is not set is as in slurm-lab.sh.
type Options struct {
	Nodes, GPUs int
	Cgroup      string // v1, or "" for none
	Net         string // first three bytes of its network: labs that run at once need different ones
	// Own are folders of which every node has its own.
	Own []string
	// Hooks are texts of prolog.sh, epilog.sh ...; those that are not given
	// write their environment into DIR/hooklog.
	Hooks map[string]string
	Env   []string // more settings: LAB_REST=0
}

// Lab is a cluster that runs.
type Lab struct {
	Dir    string
	t      testing.TB
	script string
	env    []string
}

// Start starts a cluster; it is destroyed when the test ends.
func Start(t testing.TB, opt Options) *Lab {
	t.Helper()
	_, self, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("cannot tell where slurm-lab.sh is")
	}
	parent, err := os.MkdirTemp("", "slurm-lab-") //nolint:usetesting // users of the lab must be able to enter it: TempDir is 0700 up to its top
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	l := &Lab{Dir: filepath.Join(parent, "lab"), t: t, script: filepath.Join(filepath.Dir(self), "slurm-lab.sh")}
	l.env = append(os.Environ(), opt.Env...)
	set := func(name, value string) {
		if value != "" && value != "0" {
			l.env = append(l.env, name+"="+value)
		}
	}
	set("LAB_NODES", strconv.Itoa(opt.Nodes))
	set("LAB_GPUS", strconv.Itoa(opt.GPUs))
	set("LAB_CGROUP", opt.Cgroup)
	set("LAB_NET", opt.Net)
	set("LAB_OWN", strings.Join(opt.Own, " "))
	hooks := filepath.Join(l.Dir, "hooks")
	if err := os.MkdirAll(hooks, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range opt.Hooks {
		if err := os.WriteFile(filepath.Join(hooks, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			l.tellLogs()
		}
		if out, err := l.command("destroy", l.Dir).CombinedOutput(); err != nil {
			t.Errorf("cannot destroy the lab in %s: %v\n%s", l.Dir, err, out)
			return
		}
		_ = os.RemoveAll(parent) // nothing is in it but what destroy could not remove
	})
	if out, err := l.command("up", l.Dir).CombinedOutput(); err != nil {
		t.Fatalf("cannot start Slurm (%s install installs it): %v\n%s", l.script, err, out)
	}
	return l
}

func (l *Lab) command(args ...string) *exec.Cmd {
	cmd := exec.Command(l.script, args...)
	cmd.Env = l.env
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func (l *Lab) run(args ...string) string {
	l.t.Helper()
	cmd := l.command(args...)
	var fault strings.Builder
	cmd.Stderr = &fault
	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("slurm-lab.sh %s: %v\n%s%s", strings.Join(args, " "), err, out, fault.String())
	}
	return strings.TrimSpace(string(out))
}

// Exec runs a command on the controller as root and gives what it says.
func (l *Lab) Exec(args ...string) string {
	l.t.Helper()
	return l.run(append([]string{"exec", l.Dir}, args...)...)
}

// As runs a command on the controller as a user.
func (l *Lab) As(userName string, args ...string) string {
	l.t.Helper()
	return l.run(append([]string{"as", userName, l.Dir}, args...)...)
}

// Submit submits a batch job and gives its id.
func (l *Lab) Submit(userName string, args ...string) string {
	l.t.Helper()
	return l.As(userName, append([]string{"sbatch", "--parsable"}, args...)...)
}

// OnNode makes a command that runs on node n (1..) as root. A signal to it
// reaches the program itself.
func (l *Lab) OnNode(ctx context.Context, n int, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, l.script, append([]string{"node", strconv.Itoa(n), l.Dir}, args...)...)
	cmd.Env = l.env
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// Own is where a file of node n's own folders is, seen from outside.
func (l *Lab) Own(n int, path string) string {
	return filepath.Join(l.Dir, "own", fmt.Sprintf("node%d", n), path)
}

// Script is the path of slurm-lab.sh.
func (l *Lab) Script() string { return l.script }

// Conf is the path of slurm.conf.
func (l *Lab) Conf() string { return filepath.Join(l.Dir, "etc", "slurm.conf") }

// Rest is the socket of slurmrestd.
func (l *Lab) Rest() string { return filepath.Join(l.Dir, "run", "rest", "slurmrestd.sock") }

// States gives the state of every job by id, as slurmctld knows it.
func (l *Lab) States() map[string]string {
	l.t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(l.Exec("squeue", "-h", "-r", "-t", "all", "-o", "%A %T")) {
		if f := strings.Fields(line); len(f) == 2 {
			out[f[0]] = f[1]
		}
	}
	return out
}

// Idle waits until no job is left and every node takes new ones.
func (l *Lab) Idle(limit time.Duration) {
	l.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		jobs := l.Exec("squeue", "-h")
		nodes := l.Exec("sinfo", "-h", "-N", "-o", "%T")
		if jobs == "" && strings.Trim(nodes, "idle\n") == "" {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("after %s these jobs are left:\n%s\nand the nodes are:\n%s", limit, jobs, nodes)
		}
	}
}

// tellLogs shows the ends of the daemons' logs.
func (l *Lab) tellLogs() {
	files, err := filepath.Glob(filepath.Join(l.Dir, "log", "*"))
	if err != nil {
		return
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil || len(b) == 0 {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		l.t.Logf("%s:\n%s", filepath.Base(f), strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
}
