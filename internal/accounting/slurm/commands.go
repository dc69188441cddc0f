package slurm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/wattledger/wattledger/internal/accounting"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// Commands are Slurm's own, run on this host.
type Commands struct {
	Sacct    string // path
	Sacctmgr string // path, "" for none
	// Env is added to this process's: SLURM_CONF and the like.
	Env []string

	plain atomic.Bool // this sacct writes no JSON
}

// separator parts the fields of sacct -P: no name holds it.
const separator = "\x1f"

// columnsOfSacct are asked for in this order.
const columnsOfSacct = "jobidraw,jobid,jobname,account,user,partition,qos,state,submit,start,end,suspended,nodelist,alloctres,reqtres,consumedenergyraw"

// jobs reads the runs of a span; -D tells all runs of a requeued job. A sacct
// without JSON (no serializer plugin, or before 21.08) is asked for columns.
func (c *Commands) jobs(ctx context.Context, cluster string, from, to time.Time) (accounting.Answer, error) {
	args := []string{"-D", "-a", "-X", "-S", uts(from), "-E", uts(to)}
	if cluster != "" {
		args = append(args, "-M", cluster)
	}
	if !c.plain.Load() {
		a, err := c.json(ctx, cluster, args)
		if err == nil || ctx.Err() != nil || errors.Is(err, accounting.ErrUnreachable) {
			return a, err
		}
		a, plainErr := c.columns(ctx, args)
		if plainErr != nil {
			return a, errors.Join(err, plainErr)
		}
		c.plain.Store(true)
		a.Notes = append(a.Notes, "its columns are read: "+err.Error())
		return a, nil
	}
	return c.columns(ctx, args)
}

func (c *Commands) json(ctx context.Context, cluster string, args []string) (accounting.Answer, error) {
	g := gather{cluster: cluster}
	var notes []string
	err := c.run(ctx, c.Sacct, append([]string{"--json"}, args...), func(r io.Reader) error {
		faults, bad, firstBad, err := list(r, "jobs", g.add)
		for _, f := range faults {
			err = errors.Join(err, errors.New(f.String()))
		}
		if bad > 0 {
			notes = append(notes, fmt.Sprintf("%d entries of sacct could not be read (the first: %v)", bad, firstBad))
		}
		return err
	})
	return g.answer(notes), err
}

func (c *Commands) columns(ctx context.Context, args []string) (accounting.Answer, error) {
	g := gather{}
	args = append([]string{"-P", "-n", "--delimiter=" + separator, "--format=" + columnsOfSacct}, args...)
	err := c.run(ctx, c.Sacct, args, func(r io.Reader) error {
		return lines(r, func(line string) {
			f, ok, err := ofColumns(strings.Split(line, separator))
			switch {
			case err != nil:
				if g.bad++; g.first == nil {
					g.first = err
				}
			case ok:
				g.facts = append(g.facts, f)
			}
		})
	})
	return g.answer(nil), err
}

// ofColumns reads one line of sacct -P with columnsOfSacct.
func ofColumns(v []string) (f ledger.JobFacts, ok bool, err error) {
	if len(v) != strings.Count(columnsOfSacct, ",")+1 {
		return f, false, fmt.Errorf("a line of sacct has %d fields", len(v))
	}
	id, err := strconv.ParseInt(v[0], 10, 64)
	if err != nil || id <= 0 {
		return f, false, fmt.Errorf("%.40q: %w", v[0], errNoID)
	}
	state, _, _ := strings.Cut(v[7], " ")
	f = ledger.JobFacts{
		Name: v[2], Partition: v[5], QOS: v[6], State: state, Allocated: withoutEnergy(v[13]), Requested: withoutEnergy(v[14]), AnyRestart: true,
		Job: window.Job{ID: v[0], Project: v[3], User: v[4], SubmitMS: seconds(v[8]), StartMS: seconds(v[9]), EndMS: seconds(v[10])},
	}
	if job, task, array := strings.Cut(v[1], "_"); array {
		f.ArrayJob, f.ArrayTask = job, task
	} else if job, _, het := strings.Cut(v[1], "+"); het {
		f.HetJob = job
	}
	if d, ok := span(v[11]); ok {
		f.SuspendedMS = d.Milliseconds()
	}
	f.CPUs, f.GPUs, f.ClaimedJoules = amounts(parseTRES(v[13]))
	if j, err := strconv.ParseInt(v[15], 10, 64); err == nil && j > 0 {
		f.ClaimedJoules = j
	}
	if f.Nodes, err = hosts(v[12]); err != nil {
		return f, false, fmt.Errorf("job %s: %w", f.Job.ID, err)
	}
	return f, settle(&f), nil
}

// withoutEnergy leaves the claim out of what was allocated.
func withoutEnergy(text string) string {
	parts := strings.Split(text, ",")
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return strings.HasPrefix(p, "energy=") }), ",")
}

// seconds reads a time that SLURM_TIME_FORMAT=%s made; None and Unknown are 0.
func seconds(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	return ms(number{n, err == nil})
}

// projects reads the account tree.
func (c *Commands) projects(ctx context.Context, cluster string) ([]ledger.ProjectFacts, error) {
	if c.Sacctmgr == "" {
		return nil, nil
	}
	t := newTree(cluster)
	table := func(f func(v []string), columns int, args ...string) error {
		return c.run(ctx, c.Sacctmgr, append([]string{"-n", "-P"}, args...), func(r io.Reader) error {
			return lines(r, func(line string) {
				if v := strings.Split(line, "|"); len(v) == columns {
					f(v)
				}
			})
		})
	}
	err := table(func(v []string) { t.account(v[0], v[1], v[2]) }, 3, "show", "account", "format=account,descr,org")
	if err == nil {
		err = table(func(v []string) { t.association(v[0], v[1], v[2], v[3]) }, 4, "show", "assoc", "format=cluster,account,parentname,user")
	}
	if err != nil {
		return nil, err
	}
	return t.facts()
}

// run starts a command and hands its output on while it comes.
func (c *Commands) run(ctx context.Context, path string, args []string, read func(io.Reader) error) error {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = c.environment(args)
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", path, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot run %s: %w", path, err)
	}
	readErr := read(io.LimitReader(out, maxAnswer))
	_, _ = io.Copy(io.Discard, out) // else it waits for a reader
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("cannot read jobs with %s: %w: %w: %s", path, kindOf(ctx, stderr.Bytes()), err, brief(stderr.Bytes()))
	}
	if readErr != nil {
		return fmt.Errorf("cannot understand %s: %w", path, readErr)
	}
	return nil
}

// environment lets sacct -P write Unix times. sacct --json must not see that: it
// hands the times it was asked for on in that format, and does not know them
// again (seen with 22.05).
func (c *Commands) environment(args []string) []string {
	env := slices.DeleteFunc(append(os.Environ(), c.Env...), func(v string) bool { return strings.HasPrefix(v, "SLURM_TIME_FORMAT=") })
	env = append(env, "LC_ALL=C")
	if !slices.Contains(args, "--json") {
		env = append(env, "SLURM_TIME_FORMAT=%s")
	}
	return env
}

var errCommand = errors.New("it failed")

// kindOf tells from what a command complained whether slurmdbd was away.
func kindOf(ctx context.Context, stderr []byte) error {
	text := strings.ToLower(string(stderr))
	switch {
	case ctx.Err() != nil, strings.Contains(text, "connection refused"), strings.Contains(text, "problem talking to"), strings.Contains(text, "unable to connect"),
		strings.Contains(text, "failed to open persistent connection"), strings.Contains(text, "timed out"):
		return accounting.ErrUnreachable
	case strings.Contains(text, "access/permission denied"), strings.Contains(text, "authentication"):
		return accounting.ErrRefused
	}
	return errCommand
}

func lines(r io.Reader, f func(string)) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<22)
	for s.Scan() {
		if s.Text() != "" {
			f(s.Text())
		}
	}
	return s.Err()
}
