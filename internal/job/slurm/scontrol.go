package slurm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/hostlist"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

// Asked is what slurmctld says of a job on one node.
type Asked struct {
	// Here: it holds this node now.
	Here bool
	// Job is what it holds here; its id is not set.
	Job job.Spec
}

// ErrNoJob says that slurmctld does not know the job, or no longer.
var ErrNoJob = errors.New("slurmctld knows no such job")

// Scontrol asks by `scontrol show job -d ID`, for jobs that no prolog told of:
// which of a node's GPUs a job has is in no file that could be read, and a
// process's environment is its user's to edit.
type Scontrol struct {
	Path    string // of scontrol
	Node    string // name of this node in Slurm
	Timeout time.Duration
	Env     []string // SLURM_CONF=... where it is not in the usual place
	GPUIDs  string   // as in Hook
}

const maxAnswer = 1 << 20

// Job asks for one job.
//
// Asked for the id that the last task of an array shares with its array,
// scontrol tells of every task. squeue then says which task it is, and scontrol
// is asked for that alone: an answer about several jobs could hold one that a
// job's name only pretends to be.
func (s Scontrol) Job(ctx context.Context, id string) (Asked, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	text, err := s.run(ctx, id, s.Path, "show", "job", "-d", id)
	if err != nil {
		return Asked{}, err
	}
	a, err := parseJob(text, id, s.Node, s.GPUIDs)
	if task := s.task(ctx, id, text); err != nil && task != "" {
		if text, err = s.run(ctx, id, s.Path, "show", "job", "-d", task); err != nil {
			return Asked{}, err
		}
		a, err = parseJob(text, id, s.Node, s.GPUIDs)
	}
	if err != nil {
		return Asked{}, fmt.Errorf("cannot read what %s says of job %s: %w", s.Path, id, err)
	}
	return a, nil
}

// task is the ARRAY_TASK of an id that is its array's too, "" if it is none.
// Both columns are Slurm's own.
func (s Scontrol) task(ctx context.Context, id, text string) string {
	if !strings.Contains(text, " ArrayJobId="+id+" ") {
		return ""
	}
	list, err := s.run(ctx, id, filepath.Join(filepath.Dir(s.Path), "squeue"), "-h", "-r", "-t", "all", "-j", id, "-o", "%A %i")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(list) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == id && strings.HasPrefix(f[1], id+"_") {
			return f[1]
		}
	}
	return ""
}

func (s Scontrol) run(ctx context.Context, id, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "LC_ALL=C"}, s.Env...)
	cmd.WaitDelay = s.Timeout
	var out, fault bytes.Buffer
	cmd.Stdout, cmd.Stderr = &limited{w: &out, left: maxAnswer}, &limited{w: &fault, left: 4 << 10}
	err := cmd.Run()
	text := strings.TrimSpace(fault.String())
	switch {
	case err == nil:
		return out.String(), nil
	case strings.Contains(text, "Invalid job id"):
		return "", ErrNoJob
	case ctx.Err() != nil:
		return "", fmt.Errorf("cannot ask Slurm about job %s: %s did not answer within %s", id, name, s.Timeout)
	}
	return "", fmt.Errorf("cannot ask Slurm about job %s: %s: %w %s", id, name, err, text)
}

// limited drops what is too much.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	n := min(len(b), l.left)
	l.left -= n
	_, err := l.w.Write(b[:n])
	return len(b), err
}

// The lines of an answer that count, in their order. A job's name and comment
// are their user's, may hold line ends, and are printed as they are: a name can
// look like lines of an answer. So every one of these lines must be there
// exactly once and in this order, and Nodes= counts only between the last two;
// a user who forges them is refused, and pays with energy of unknown owner.
func marks() []string {
	return []string{"   UserId=", "   Priority=", "   JobState=", "   Requeue=", "   Partition=", "   NumNodes=", "   Socks/Node=", "   MinCPUsNode=", "   OverSubscribe="}
}

const (
	markUser = iota
	markPriority
	markState
	markRequeue
	markPartition
	markNumNodes
	markSocks
	markMin
	markShare
)

func parseJob(text, id, node, gpuIDs string) (Asked, error) {
	lines := strings.Split(text, "\n")
	if !strings.HasPrefix(lines[0], "JobId="+id+" ") {
		return Asked{}, fmt.Errorf("it does not begin with JobId=%s", id)
	}
	at, err := findMarks(lines)
	if err != nil {
		return Asked{}, err
	}
	a := Asked{}
	a.Job.User, _, _ = strings.Cut(field(lines[at[markUser]], "UserId"), "(")
	if a.Job.Project = field(lines[at[markPriority]], "Account"); a.Job.Project == "(null)" {
		a.Job.Project = ""
	}
	if a.Job.Partition = field(lines[at[markPartition]], "Partition"); !plain(a.Job.Project) || !plain(a.Job.User) || !plain(a.Job.Partition) {
		return Asked{}, errors.New("its account, user or partition is not plain text")
	}
	restarts, err := strconv.ParseUint(field(lines[at[markRequeue]], "Restarts"), 10, 16)
	if err != nil {
		return Asked{}, errors.New("its Restarts= is no number")
	}
	a.Job.Restart = uint32(restarts)
	a.Job.Exclusive = field(lines[at[markShare]], "OverSubscribe") == "NO"
	found, err := a.holds(lines[at[markSocks]:at[markMin]], node, gpuIDs)
	if err != nil {
		return Asked{}, err
	}
	a.Here = found && holding(field(lines[at[markState]], "JobState"))
	return a, nil
}

// holding states: the job has its nodes.
func holding(state string) bool {
	return slices.Contains([]string{"RUNNING", "SUSPENDED", "STOPPED", "COMPLETING", "CONFIGURING", "RESIZING", "SIGNALING", "STAGE_OUT"}, state)
}

func findMarks(lines []string) ([]int, error) {
	want := marks()
	at := make([]int, len(want))
	next := 0
	for i, line := range lines {
		for m, mark := range want {
			if !strings.HasPrefix(line, mark) {
				continue
			}
			if m != next {
				return nil, fmt.Errorf("the line %s... is not where it belongs: the job's name or comment may hold line ends", strings.TrimSpace(mark))
			}
			at[m] = i
			next++
		}
	}
	if next != len(want) {
		return nil, fmt.Errorf("the line %s... is missing", strings.TrimSpace(want[next]))
	}
	return at, nil
}

// field is the value of KEY=VALUE in a line of blank-separated pairs.
func field(line, key string) string {
	for f := range strings.FieldsSeq(line) {
		if v, ok := strings.CutPrefix(f, key+"="); ok {
			return v
		}
	}
	return ""
}

// holds reads the line of this node: Nodes=node[1-2] CPU_IDs=0-1,8 Mem=1500
// GRES=gpu:h100:2(IDX:1-2).
func (a *Asked) holds(lines []string, node, gpuIDs string) (bool, error) {
	for _, line := range lines {
		list := field(line, "Nodes")
		if list == "" || !strings.HasPrefix(line, "     Nodes=") {
			continue
		}
		short, _, _ := strings.Cut(node, ".")
		_, err := placeOf(list, node)
		if _, err2 := placeOf(list, short); err != nil && err2 != nil {
			continue
		}
		cpus, err := hostlist.Numbers(field(line, "CPU_IDs"), 1<<16)
		if err != nil {
			return false, fmt.Errorf("its CPU_IDs= cannot be read: %w", err)
		}
		megabytes, err := strconv.ParseUint(field(line, "Mem"), 10, 40)
		if err != nil {
			return false, errors.New("its Mem= is no number")
		}
		a.Job.CPUs, a.Job.MemoryBytes = uint32(len(cpus)), megabytes<<20
		a.Job.GPUs, a.Job.Unplaced, err = indices(field(line, "GRES"), gpuIDs)
		return err == nil, err
	}
	return false, nil
}

// indices reads gpu:a100:2(IDX:0-1),shard:4(4/8),gpu:a30:1(IDX:3). Of a part of a
// GPU (gres/shard, gres/mps) it does not say which GPU: that is not placed.
func indices(gres, gpuIDs string) (out []window.Share, unplaced []string, err error) {
	for _, item := range hostlist.Items(gres, "()") {
		kind, inside, _ := strings.Cut(item, "(")
		if name, _, _ := strings.Cut(kind, ":"); name == "shard" || name == "mps" {
			unplaced = append(unplaced, shown(item))
			continue
		}
		if kind != "gpu" && !strings.HasPrefix(kind, "gpu:") {
			continue
		}
		list, isList := strings.CutPrefix(strings.TrimSuffix(inside, ")"), "IDX:")
		numbers, err := hostlist.Numbers(list, window.MaxMeters)
		if !isList || err != nil {
			return nil, nil, fmt.Errorf("its GRES=%s names no GPUs", shown(item))
		}
		for _, n := range numbers {
			v, err := strconv.ParseUint(n, 10, 16)
			if err != nil {
				return nil, nil, fmt.Errorf("GPU %s of its GRES is no number", shown(n))
			}
			if ref := gpuRef(gpuIDs, v); !has(out, ref) {
				out = append(out, window.Share{Device: ref, Weight: job.Whole})
			}
		}
	}
	return out, unplaced, nil
}
