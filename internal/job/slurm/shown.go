package slurm

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/wattledger/wattledger/internal/hostlist"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

// What is never read here is /proc/PID/environ. SLURM_JOB_GPUS,
// CUDA_VISIBLE_DEVICES and the account stand in it, but a process can write
// there whatever it likes: a user could name another's GPU or project. Limits
// of cgroups, device lists and the owner of a process are the kernel's and
// slurmd's word.

// nvidiaMajor and drmMajor are the major numbers of GPU device files
// (Documentation/admin-guide/devices.txt); nvidiactl and nvidia-modeset are 255
// and 254 of the former, DRM's cards are the minors below 64.
const (
	nvidiaMajor = 195
	drmMajor    = 226
	nvidiaLast  = 253
	drmCards    = 64
	capsFirst   = 3 // of nvidia-caps: 1 and 2 are MIG's configuration and monitor
)

// stepdTitle is what slurmstepd calls itself: slurmstepd: [71001.batch].
var stepdTitle = regexp.MustCompile(`^slurmstepd: \[([1-9][0-9]{0,9})[.+]`)

// lasts tells whether the job's cgroup is there from the job's begin to its end:
// a step of the batch script or an external step is in it. Where srun's steps
// alone are (the other nodes of a job, salloc) it comes and goes with them.
func lasts(dir jobDir) bool {
	for _, step := range []string{"step_extern", "step_batch", "step_4294967295", "step_4294967294"} {
		if _, err := os.Stat(filepath.Join(dir.path, step)); err == nil {
			return true
		}
	}
	return false
}

// born is when the cgroup was made, Unix ns: the oldest stamp of its folders,
// since cgroups keep no birth time, and a change inside makes a stamp younger.
// 0: it is gone.
func born(dir jobDir) int64 {
	st, err := os.Stat(dir.path)
	if err != nil {
		return 0
	}
	at := st.ModTime().UnixNano()
	steps, err := os.ReadDir(dir.path)
	if err != nil {
		return at
	}
	for _, e := range steps {
		if info, err := e.Info(); err == nil && e.IsDir() {
			at = min(at, info.ModTime().UnixNano())
		}
	}
	return at
}

// jobOfSLUID asks the titles of the slurmstepd in a job's cgroup for its id.
// They stand in leaves that users cannot enter, and must be root's.
func jobOfSLUID(dir jobDir, procfs string) string {
	leaves, err := filepath.Glob(filepath.Join(escape(dir.path), "step_*", "slurm", "cgroup.procs"))
	if err != nil {
		return ""
	}
	for _, leaf := range leaves {
		for _, pid := range pidsIn(leaf) {
			p := filepath.Join(procfs, pid)
			title, err := os.ReadFile(filepath.Join(p, "cmdline"))
			if err != nil {
				continue
			}
			m := stepdTitle.FindSubmatch(title)
			if uid, ok := realUID(p); m != nil && ok && uid == 0 {
				return string(m[1])
			}
		}
	}
	return ""
}

// populated tells whether a process is in a job's cgroup or below; also where
// that cannot be told.
func populated(dir jobDir) bool {
	if b, err := os.ReadFile(filepath.Join(dir.path, "cgroup.events")); err == nil { // version 2
		return !strings.Contains(string(b), "populated 0")
	}
	return inhabited(dir.path)
}

func inhabited(dir string) bool {
	if b, err := os.ReadFile(dir + "/cgroup.procs"); len(b) > 0 || (err != nil && !errors.Is(err, fs.ErrNotExist)) {
		return true
	}
	below, err := folders(dir)
	return err != nil || slices.ContainsFunc(below, func(name string) bool { return inhabited(dir + "/" + name) })
}

func pidsIn(file string) []string {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var out []string
	for pid := range strings.FieldsSeq(string(b)) {
		if n, err := strconv.ParseUint(pid, 10, 31); err == nil && n > 0 {
			out = append(out, pid)
		}
	}
	return out
}

// realUID of a process (proc(5), status: real, effective, saved, file system).
// A set-user-id program of the user keeps the real one.
func realUID(proc string) (uint32, bool) {
	b, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				n, err := strconv.ParseUint(f[0], 10, 32)
				return uint32(n), err == nil
			}
		}
	}
	return 0, false
}

// look is what a job's cgroup shows of it. known tells whether its GPUs are
// among that.
func (t Tree) look(dir jobDir, procfs string) (s job.Spec, uid uint32, hasUID, gpusKnown bool) {
	if dir.v1 != "" {
		uid, hasUID = dir.uid, true
		s.CPUs = cpusIn(filepath.Join(t.Root, "cpuset", dir.rel, "cpuset.cpus"))
		s.MemoryBytes = limitIn(filepath.Join(t.Root, "memory", dir.rel, "memory.limit_in_bytes"))
		s.GPUs, gpusKnown = devicesIn(filepath.Join(t.Root, "devices", dir.rel, "devices.list"), capsMajor(procfs))
		return s, uid, hasUID, gpusKnown
	}
	// version 2: devices are fenced by BPF, there is no list to read
	s.CPUs = cpusIn(filepath.Join(dir.path, "cpuset.cpus"))
	s.MemoryBytes = limitIn(filepath.Join(dir.path, "memory.max"))
	uid, hasUID = ownerOf(dir, procfs)
	return s, uid, hasUID, false
}

// ownerOf is the user of the job's own processes.
func ownerOf(dir jobDir, procfs string) (uid uint32, ok bool) {
	err := filepath.WalkDir(dir.path, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" || !strings.Contains(file, "/user/") {
			return nil
		}
		for _, pid := range pidsIn(file) {
			if u, found := realUID(filepath.Join(procfs, pid)); found {
				if uid, ok = u, true; u != 0 {
					return fs.SkipAll
				}
			}
		}
		return nil
	})
	return uid, ok && err == nil
}

// cpusIn counts a CPU list such as 0-31,64-95; 0 where there is none.
func cpusIn(file string) uint32 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	cpus, err := hostlist.Numbers(strings.TrimSpace(string(b)), 1<<16)
	if err != nil {
		return 0
	}
	return uint32(len(cpus))
}

// limitIn is a limit of memory; 0 where there is none ("max", and near 2^63 in
// version 1).
func limitIn(file string) uint64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n >= 1<<60 {
		return 0
	}
	return n
}

// devicesIn reads the device files that a job may open. "a *:* rwm" says
// nothing: either nothing is fenced, or what is fenced is not shown (a list of
// what is denied is kept inside, Documentation/admin-guide/cgroup-v1/devices.rst).
func devicesIn(file string, caps uint64) (gpus []window.Share, known bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, false
	}
	for line := range strings.Lines(string(b)) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		number, _, _ := strings.Cut(rest, " ")
		if strings.HasPrefix(number, strconv.Itoa(nvidiaMajor)+":*") || strings.HasPrefix(number, "*:") {
			return nil, false
		}
		if ref, ok := deviceRef(kind, number, caps); ok && !has(gpus, ref) {
			gpus = append(gpus, window.Share{Device: ref, Weight: job.Whole})
		}
	}
	return migsAlone(gpus), true
}

func deviceRef(kind, number string, caps uint64) (string, bool) {
	major, minor, _ := strings.Cut(number, ":")
	ma, err1 := strconv.ParseUint(major, 10, 32)
	mi, err2 := strconv.ParseUint(minor, 10, 32)
	if kind != "c" || errors.Join(err1, err2) != nil {
		return "", false
	}
	switch {
	case ma == nvidiaMajor && mi <= nvidiaLast, ma == drmMajor && mi < drmCards:
		return "minor:" + minor, true
	case caps != 0 && ma == caps && mi >= capsFirst:
		return "capability:" + minor, true
	}
	return "", false
}

// migsAlone: a job with MIG devices may open the boards they are on, too. It
// holds the devices, not the boards.
func migsAlone(gpus []window.Share) []window.Share {
	var migs []window.Share
	for _, g := range gpus {
		if strings.HasPrefix(g.Device, "capability:") {
			migs = append(migs, g)
		}
	}
	if len(migs) > 0 {
		return migs
	}
	return gpus
}

// capsMajor is the major number of /dev/nvidia-caps, which the kernel deals out;
// 0 if there is none.
func capsMajor(procfs string) uint64 {
	b, err := os.ReadFile(filepath.Join(procfs, "devices"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[1] == "nvidia-caps" {
			n, err := strconv.ParseUint(f[0], 10, 32)
			if err == nil {
				return n
			}
		}
	}
	return 0
}
