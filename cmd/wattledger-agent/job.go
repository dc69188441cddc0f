package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/job/hook"
)

const defaultSocket = "/run/wattledger/agent.sock"

// errNo: the agent's answer is no; it was printed.
var errNo = errors.New("the answer is no")

// jobCommand tells the running agent that a job begins or ends here.
func jobCommand(args []string) error {
	word := ""
	if len(args) > 0 {
		word = args[0]
	}
	switch word {
	case "slurm-begin", "slurm-end":
		return slurmCommand(word, args[1:])
	case "deliver":
		return deliverCommand(args[1:])
	case "begin", "end":
	default:
		return wrong("job: begin, end, slurm-begin, slurm-end or deliver is expected")
	}
	f := flag.NewFlagSet("job "+word, flag.ContinueOnError)
	var s job.Spec
	socket := f.String("socket", defaultSocket, "the agent's socket")
	f.StringVar(&s.ID, "id", "", "the job's id in its cluster")
	f.StringVar(&s.Project, "project", "", "project (Slurm account) that pays")
	f.StringVar(&s.User, "user", "", "user who runs it")
	f.StringVar(&s.Partition, "partition", "", "partition (queue) it runs in")
	gpus := f.String("gpus", "", "GPUs held: 0,1 or with shares 0:50%,1:25%; also minor:2, pci:..., GPU-..., MIG-...")
	cpus := f.String("cpus", "", "CPUs held: 0-31,64-95")
	f.BoolVar(&s.Exclusive, "exclusive", false, "the job holds the whole node")
	restart := f.Uint("restart", 0, "restart count of a requeued job")
	kept := f.String("keep", "", "folder where the edge waits if no agent answers, such as "+hook.EdgesDir)
	f.Int64Var(&s.SubmitMS, "submit", 0, "when it was submitted, Unix ms")
	if err := parse(f, args[1:]); err != nil {
		return err
	}
	if s.ID == "" {
		return wrong("job %s: --id is needed", word)
	}
	if *restart > 1<<31 {
		return wrong("--restart: %d is too large", *restart)
	}
	s.Restart = uint32(*restart)
	var err error
	if s.GPUs, err = hook.ParseGPUs(*gpus); err != nil {
		return wrong("--gpus: %v", err)
	}
	if s.CPUs, err = hook.ParseCPUs(*cpus); err != nil {
		return wrong("--cpus: %v", err)
	}
	began := now()
	e := hook.Request{Op: word, Job: s}
	a, err := hook.Ask(*socket, e)
	if *kept != "" && (err != nil || a.Again) {
		e.AtNS, e.Witness = began.UnixNano(), "file"
		if kerr := hook.Keep(*kept, e, clockNow()); kerr != nil {
			return errors.Join(err, kerr)
		}
		fmt.Fprintf(os.Stderr, "wattledger-agent: no agent answered: the %s of job %s waits in %s\n", word, s.ID, *kept)
		return nil
	}
	if err != nil {
		return err
	}
	return tell(word, s.ID, a)
}

func tell(op, id string, a hook.Answer) error {
	if a.Message != "" {
		fmt.Fprintln(os.Stderr, "wattledger-agent:", a.Message)
	}
	if !a.OK {
		return errNo
	}
	if a.Bridged {
		fmt.Fprintf(os.Stderr, "wattledger-agent: %s of job %s is kept; its reading came late, so its edge is placed by time\n", op, id)
	}
	return nil
}

// wrong prints what is wrong with the command line.
func wrong(format string, args ...any) error {
	fmt.Fprintf(os.Stderr, "wattledger-agent: "+format+"\n", args...)
	return errUsage
}

func parse(f *flag.FlagSet, args []string) error {
	f.SetOutput(os.Stderr)
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if f.NArg() > 0 {
		return wrong("%q: nothing but flags is expected here", f.Arg(0))
	}
	return nil
}
