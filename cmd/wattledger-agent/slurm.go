package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/job/hook"
	"github.com/wattledger/wattledger/internal/job/slurm"
)

// hookTime is what a prolog or epilog has, from its start to its end, less what
// it takes to write a file.
const hookTime = 85 * time.Millisecond

// hookSettings are those of slurm-hook.conf.
type hookSettings struct {
	socket, edges, gpuIDs string
}

// slurmCommand is what Slurm's prolog and epilog run. Whatever happens it says
// so and ends well: a prolog that fails drains the node.
func slurmCommand(word string, args []string) error {
	began := now()
	f := flag.NewFlagSet("job "+word, flag.ContinueOnError)
	conf := f.String("conf", "/etc/wattledger/slurm-hook.conf", "settings")
	if err := parse(f, args); err != nil {
		return nil // it was printed
	}
	s := readHookSettings(*conf)
	h := slurm.Hook{Env: os.LookupEnv, GPUIDs: s.gpuIDs}
	e := h.End()
	if word == "slurm-begin" {
		e = h.Begin()
	}
	if e.Note != "" {
		complain("%s", e.Note)
	}
	tellOrKeep(s, e, began)
	return nil
}

// tellOrKeep tells the agent; if it does not answer in time the edge is kept
// with its time. It may be told and kept: the agent knows it again.
func tellOrKeep(s hookSettings, e job.Edge, began time.Time) {
	left := func() time.Duration { return max(hookTime-now().Sub(began), time.Millisecond) }
	if e.Job.ID != "" { // its begin, if that had to wait, comes before its end
		p := pendingOf(s.edges, bySocket(s.socket, left))
		if _, err := p.DeliverJob(context.Background(), e.Job.ID); err != nil {
			complain("%v", err)
		}
	}
	a, err := hook.AskWithin(s.socket, e, left())
	if err == nil && !a.Again {
		if !a.OK {
			complain("the agent refuses the %s of job %s: %s", e.Op, e.Job.ID, a.Message)
		}
		return
	}
	e.AtNS = began.UnixNano()
	if err := hook.Keep(s.edges, e, clockNow()); err != nil {
		complain("the %s of job %s is lost to the agent: %v", e.Op, e.Job.ID, err)
	}
}

// deliverCommand hands over what prologs and epilogs kept.
func deliverCommand(args []string) error {
	f := flag.NewFlagSet("job deliver", flag.ContinueOnError)
	conf := f.String("conf", "/etc/wattledger/slurm-hook.conf", "settings")
	if err := parse(f, args); err != nil {
		return err
	}
	s := readHookSettings(*conf)
	p := pendingOf(s.edges, bySocket(s.socket, func() time.Duration { return 2 * time.Second }))
	n, err := p.Deliver(context.Background())
	if n > 0 {
		fmt.Printf("%d kept edges were handed to the agent\n", n)
	}
	return err
}

// bySocket hands edges to the agent that answers on a socket; none there: later.
func bySocket(socket string, limit func() time.Duration) func(context.Context, job.Edge) job.Answer {
	return func(_ context.Context, e job.Edge) job.Answer {
		a, err := hook.AskWithin(socket, e, limit())
		if err != nil {
			return job.Answer{Again: true, Message: err.Error()}
		}
		return a
	}
}

func pendingOf(dir string, handle func(context.Context, job.Edge) job.Answer) hook.Pending {
	return hook.Pending{
		Dir: dir, Clock: clockNow, Handle: handle,
		Event: func(kind, detail string) { complain("%s: %s", kind, detail) },
	}
}

// clockNow reads the clocks that kept edges are stamped with.
func clockNow() hook.Clock {
	wall := now().UnixNano()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return hook.Clock{WallNS: wall, Boot: bootID("/proc")}
	}
	return hook.Clock{WallNS: wall, BootNS: ts.Nano(), Boot: bootID("/proc")}
}

// readHookSettings reads lines of name=value; what is wrong is said and left at
// its default.
func readHookSettings(path string) hookSettings {
	s := hookSettings{socket: defaultSocket, edges: hook.EdgesDir}
	f, err := os.Open(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			complain("cannot read the settings, their defaults count: %v", err)
		}
		return s
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		if err := s.set(name, value); err != nil {
			complain("%s, line %d: %v", path, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		complain("cannot read all settings: %v", err)
	}
	return s
}

func (s *hookSettings) set(name, value string) error {
	switch name {
	case "agent": // the script's
	case "socket", "edges":
		if !strings.HasPrefix(value, "/") {
			return fmt.Errorf("%s: %q is not an absolute path; the default counts", name, value)
		}
		if name == "socket" {
			s.socket = value
		} else {
			s.edges = value
		}
	case "gpu_ids":
		if value != "minor" && value != "index" {
			return fmt.Errorf("gpu_ids: %q is neither minor nor index; minor counts", value)
		}
		s.gpuIDs = value
	default:
		return fmt.Errorf("%q is not known: agent, socket, edges and gpu_ids are", name)
	}
	return nil
}

func complain(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "wattledger-agent: "+format+"\n", args...)
}
