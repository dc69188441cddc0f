package slurm

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

// Hook reads what slurmd gives a prolog or an epilog in its environment. slurmd
// makes that environment itself; a user's own variables are not in it, or only
// under names that begin with SPANK_.
type Hook struct {
	// Env looks a variable up.
	Env func(name string) (string, bool)
	// GPUIDs says what Slurm's numbers of GPUs are: "minor" ("" too), the N of
	// the device file, which they are where gres.conf names /dev/nvidia[0-3] or
	// detects the devices; "index", the vendor's own order.
	GPUIDs string
}

// Begin is the edge of a prolog. What cannot be read is left out, said in the
// edge's note, and never guessed: devices that are not known are Unplaced, so
// that their energy is unknown and not somebody else's. An edge without a job's
// id is given too: the agent refuses it, and keeps that as an event.
func (h Hook) Begin() job.Edge {
	e := job.Edge{Op: "begin", Witness: "prolog"}
	var p problems
	e.Job = h.run(&p)
	s := &e.Job
	s.Project = h.word(&p, "SLURM_JOB_ACCOUNT")
	s.Partition = h.word(&p, "SLURM_JOB_PARTITION")
	if s.User = h.word(&p, "SLURM_JOB_USER"); s.User == "" {
		s.User = h.first(&p, "SLURM_JOB_UID", "SLURM_UID")
	}
	// job_share_string(): NO is a job that shares its nodes with nobody
	shared, _ := h.Env("SLURM_JOB_OVERSUBSCRIBE")
	s.Exclusive = shared == "NO"
	h.gpus(&p, s)
	h.cpus(&p, s)
	h.memory(&p, s)
	e.Note = p.text("the prolog of job " + s.ID)
	return e
}

// End is the edge of an epilog.
func (h Hook) End() job.Edge {
	var p problems
	e := job.Edge{Op: "end", Witness: "epilog", Job: h.run(&p)}
	e.Note = p.text("the epilog of job " + e.Job.ID)
	return e
}

// run is which run of which job it is.
func (h Hook) run(p *problems) job.Spec {
	var s job.Spec
	id := h.first(p, "SLURM_JOB_ID", "SLURM_JOBID")
	if n, err := strconv.ParseUint(id, 10, 32); err != nil || n == 0 {
		p.add("SLURM_JOB_ID=%s is no job's id", shown(id))
	} else {
		s.ID = strconv.FormatUint(n, 10)
	}
	if v, ok := h.Env("SLURM_JOB_RESTART_COUNT"); ok && v != "" {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil {
			p.add("SLURM_JOB_RESTART_COUNT=%s is no count", shown(v))
		}
		s.Restart = uint32(n)
	}
	s.SLUID = h.first(p, "SLURM_JOB_SLUID", "SLURM_SLUID")
	return s
}

// gpus: the UUIDs that slurmd gives where it knows them (MIG devices), else its
// own numbers.
func (h Hook) gpus(p *problems, s *job.Spec) {
	numbers, _ := h.Env("SLURM_JOB_GPUS")
	visible, _ := h.Env("CUDA_VISIBLE_DEVICES")
	list, byUUID := numbers, false
	if strings.Contains(visible, "MIG-") || strings.Contains(visible, "GPU-") {
		list, byUUID = visible, true
	}
	if list == "" {
		return
	}
	weight := h.mps(p)
	for ref := range strings.SplitSeq(list, ",") {
		if !byUUID {
			n, err := strconv.ParseUint(ref, 10, 16)
			if err != nil {
				p.add("SLURM_JOB_GPUS=%s has %s, which is no GPU's number", shown(numbers), shown(ref))
				s.Unplaced = append(s.Unplaced, "SLURM_JOB_GPUS "+shown(ref))
				continue
			}
			ref = gpuRef(h.GPUIDs, n)
		}
		if !plain(ref) || has(s.GPUs, ref) {
			p.add("the GPU %s is named twice, or is no name", shown(ref))
			continue
		}
		s.GPUs = append(s.GPUs, window.Share{Device: ref, Weight: weight})
	}
	if len(s.GPUs) > window.MaxMeters {
		p.add("SLURM_JOB_GPUS names %d GPUs", len(s.GPUs))
		s.GPUs, s.Unplaced = nil, append(s.Unplaced, "SLURM_JOB_GPUS")
	}
}

// gpuRef names a GPU as a collector.Locator knows it.
func gpuRef(ids string, n uint64) string {
	if ids == "" {
		ids = "minor"
	}
	return ids + ":" + strconv.FormatUint(n, 10)
}

// mps is the share of the one GPU that gres/mps gives.
func (h Hook) mps(p *problems) uint32 {
	v, ok := h.Env("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")
	if !ok || v == "" {
		return job.Whole
	}
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n == 0 || n > 100 {
		p.add("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=%s is no percentage", shown(v))
		return job.Whole
	}
	return uint32(n) * (job.Whole / 100)
}

func (h Hook) cpus(p *problems, s *job.Spec) {
	counts, ok := h.Env("SLURM_JOB_CPUS_PER_NODE")
	var err error
	if !ok {
		err = fmt.Errorf("SLURM_JOB_CPUS_PER_NODE is missing")
	} else {
		hosts, _ := h.Env("SLURM_NODELIST")
		if hosts == "" {
			hosts, _ = h.Env("SLURM_JOB_NODELIST")
		}
		node, _ := h.Env("SLURMD_NODENAME")
		s.CPUs, err = cpusOfNode(counts, hosts, node)
	}
	if err == nil {
		return
	}
	p.add("%v", err)
	if len(s.GPUs) == 0 { // without GPUs and CPUs it would own the node
		s.Unplaced = append(s.Unplaced, "CPUs of job "+s.ID+": not known")
	}
}

// memory: slurmd does not say it to a prolog so far; a site's own wrapper may.
func (h Hook) memory(p *problems, s *job.Spec) {
	v, ok := h.Env("SLURM_MEM_PER_NODE")
	if !ok || v == "" {
		return
	}
	n, err := strconv.ParseUint(v, 10, 40)
	if err != nil {
		p.add("SLURM_MEM_PER_NODE=%s is no number of megabytes", shown(v))
		return
	}
	s.MemoryBytes = n << 20
}

// word is a name that people gave.
func (h Hook) word(p *problems, name string) string {
	v, _ := h.Env(name)
	if !plain(v) {
		p.add("%s=%s is no name: it is longer than %d bytes or not plain text", name, shown(v), window.MaxName)
		return ""
	}
	return v
}

func (h Hook) first(p *problems, names ...string) string {
	for _, name := range names {
		if v := h.word(p, name); v != "" {
			return v
		}
	}
	return ""
}

func plain(s string) bool {
	return len(s) <= window.MaxName && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func has(list []window.Share, device string) bool {
	for _, s := range list {
		if s.Device == device {
			return true
		}
	}
	return false
}

// shown is a value in a message: quoted, and not longer than a line.
func shown(s string) string {
	const most = 60
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strconv.Quote(s)
}

// problems are what could not be read.
type problems []string

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

func (p problems) text(of string) string {
	if len(p) == 0 {
		return ""
	}
	return of + ": " + strings.Join(p, "; ")
}
