package packaging_test

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/job"
)

// hookScript copies a hook with its settings elsewhere, and gives how to run it:
// with nothing in its environment but what is named.
func hookScript(t *testing.T, name, settings string) func(shell string, env ...string) (said string, code int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("slurm", name))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf, script := filepath.Join(dir, "hook.conf"), filepath.Join(dir, name)
	text := strings.Replace(string(b), "conf=/etc/wattledger/slurm-hook.conf", "conf="+conf, 1)
	// nobody reads this machine's log after a test
	text = strings.ReplaceAll(text, "/usr/bin/logger", "/nonexistent/logger")
	if err := errors.Join(os.WriteFile(conf, []byte(settings), 0o644), os.WriteFile(script, []byte(text), 0o755)); err != nil {
		t.Fatal(err)
	}
	return func(shell string, env ...string) (string, int) {
		t.Helper()
		path, err := exec.LookPath(shell)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path, script)
		cmd.Env, cmd.Dir = append([]string{}, env...), "/"
		out, err := cmd.CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return string(out), exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		return string(out), 0
	}
}

func program(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestHooksAreShell(t *testing.T) {
	for _, name := range []string{"prolog", "epilog"} {
		file := filepath.Join("slurm", name)
		for _, shell := range []string{"sh", "dash", "bash"} {
			if out, err := exec.Command(shell, "-n", file).CombinedOutput(); err != nil {
				t.Errorf("%s -n %s: %v\n%s", shell, file, err, out)
			}
		}
		if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v; slurmd runs it", file, st.Mode(), err)
		}
	}
}

// A prolog that does not end with 0 drains the node. Whatever is wrong, it says
// so and ends with 0.
func TestHooksNeverDrainANode(t *testing.T) {
	f := func(what, settings, want string) {
		t.Helper()
		for _, name := range []string{"prolog", "epilog"} {
			run := hookScript(t, name, settings)
			for _, shell := range []string{"dash", "bash"} {
				began := time.Now()
				said, code := run(shell, "SLURM_JOB_ID=71001")
				if code != 0 || !strings.Contains(said, want) {
					t.Errorf("%s: %s %s ends with %d and says %q, want %q in it", what, shell, name, code, said, want)
				}
				if took := time.Since(began); took > 30*time.Second { // a lost process, not a slow machine
					t.Errorf("%s: %s took %s", what, name, took)
				}
			}
		}
	}
	f("no agent", "agent=/nonexistent/wattledger-agent", "/nonexistent/wattledger-agent is not there: nobody was told")
	f("no settings", "", "is not there: nobody was told")
	f("a folder for an agent", "agent=/etc", "wattledger: ")
	f("an agent that fails", "agent="+program(t, "echo no >&2; exit 3"), "no (slurm-")
	f("an agent that is killed", "agent="+program(t, "kill -9 $$"), "ended with 137")
	f("an agent that hangs", "agent="+program(t, "exec sleep 60"), "ended with 124")
	f("an agent that says nothing", "agent="+program(t, "exit 0"), "")
	f("settings that are no shell", "x=$(exit 9)\n;;(\nagent="+program(t, "echo called as $2"), "called as slurm-")
}

func TestHooksSayNothingWhenAllIsWell(t *testing.T) {
	run := hookScript(t, "prolog", "agent="+program(t, `[ "$1 $2 $3" = "job slurm-begin --conf" ] && [ -z "$PATH_FROM_SLURM" ] || echo "called as $*"`))
	if said, code := run("dash"); said != "" || code != 0 {
		t.Errorf("it says %q and ends with %d", said, code)
	}
}

// The scripts with the agent's own program, and somebody at the socket.
func TestHooksTellTheAgent(t *testing.T) {
	dir := t.TempDir()
	agent := filepath.Join(dir, "wattledger-agent")
	if out, err := exec.Command("go", "build", "-o", agent, "../cmd/wattledger-agent").CombinedOutput(); err != nil {
		t.Fatalf("cannot build the agent: %v\n%s", err, out)
	}
	socket, edges := filepath.Join(dir, "s"), filepath.Join(dir, "edges")
	settings := "agent=" + agent + "\nsocket=" + socket + "\nedges=" + edges + "\n"
	env := []string{
		"SLURM_JOB_ID=71001", "SLURM_JOB_ACCOUNT=a \"b\" $(c)", "SLURM_JOB_GPUS=0,3", "SLURM_JOB_CPUS_PER_NODE=16(x2),8",
		"SLURM_NODELIST=n[1-3]", "SLURMD_NODENAME=n3", "SLURM_JOB_RESTART_COUNT=1", "SLURM_JOB_USER=u",
	}
	prolog, epilog := hookScript(t, "prolog", settings), hookScript(t, "epilog", settings)

	// nobody is there: both edges are kept
	for _, run := range []func(string, ...string) (string, int){prolog, epilog} {
		if said, code := run("dash", env...); said != "" || code != 0 {
			t.Errorf("without an agent: %q, %d", said, code)
		}
	}
	waiting, err := filepath.Glob(filepath.Join(edges, "*.json"))
	if err != nil || len(waiting) != 2 {
		t.Fatalf("%q wait, %v", waiting, err)
	}
	if st, err := os.Stat(edges); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", st, err)
	}

	// somebody is there: what waits of the job comes first
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	told := make(chan job.Edge, 16)
	answer := make(chan string, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var e job.Edge
			if err := json.NewDecoder(c).Decode(&e); err == nil {
				told <- e
				_, _ = c.Write([]byte(<-answer + "\n")) // a client that left misses it
			}
			c.Close()
		}
	}()
	for range 3 {
		answer <- `{"ok":true}`
	}
	if said, code := prolog("dash", env...); said != "" || code != 0 {
		t.Errorf("with an agent: %q, %d", said, code)
	}
	b, e, again := <-told, <-told, <-told
	if b.Op != "begin" || e.Op != "end" || again.Op != "begin" || b.AtNS == 0 || e.AtNS < b.AtNS || again.AtNS != 0 {
		t.Errorf("told in this order: %+v, %+v, %+v", b, e, again)
	}
	if s := again.Job; s.ID != "71001" || s.Project != `a "b" $(c)` || s.CPUs != 8 || s.Restart != 1 || len(s.GPUs) != 2 || s.GPUs[1].Device != "minor:3" {
		t.Errorf("the begin is %+v", again)
	}

	// refused: it is said, and not kept
	answer <- `{"ok":false,"message":"no such thing"}`
	if said, code := epilog("dash", "SLURM_JOB_ID=x"); code != 0 || !strings.Contains(said, `"x" is no job's id`) || !strings.Contains(said, "no such thing") {
		t.Errorf("an absurd id: %q, %d", said, code)
	}
	if e := <-told; e.Op != "end" || e.Job.ID != "" || !strings.Contains(e.Note, `"x" is no job's id`) {
		t.Errorf("told is %+v", e)
	}
	// not now: it is kept
	answer <- `{"ok":false,"again":true}`
	if said, code := epilog("dash", "SLURM_JOB_ID=71002"); said != "" || code != 0 {
		t.Errorf("an agent that is stopping: %q, %d", said, code)
	}
	// a folder that cannot be trusted: it is said
	if err := errors.Join(os.Rename(edges, edges+"2"), os.Symlink(edges+"2", edges)); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if said, code := epilog("dash", "SLURM_JOB_ID=71003"); code != 0 || !strings.Contains(said, "is lost to the agent") || !strings.Contains(said, "it is a link") {
		t.Errorf("a link for a folder: %q, %d", said, code)
	}
	if left, err := filepath.Glob(filepath.Join(edges+"2", "*.json")); err != nil || len(left) != 1 || !strings.Contains(left[0], ",71002,") {
		t.Errorf("%q is kept, %v", left, err)
	}
}

// The example for another workload manager is shell, too.
func TestExamplesAreShell(t *testing.T) {
	files, err := filepath.Glob("examples/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		if out, err := exec.Command("dash", "-n", file).CombinedOutput(); err != nil {
			t.Errorf("dash -n %s: %v\n%s", file, err, out)
		}
	}
}
