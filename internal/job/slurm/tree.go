package slurm

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Tree is where slurmd keeps the cgroups of its jobs:
//
//	version 2   ROOT/system.slice/[NODE_]slurmstepd.scope/{job_ID|SLUID}/step_S/{slurm,user}/task_T
//	version 1   ROOT/CONTROLLER/slurm[_NODE]/uid_U/job_ID/step_S/task_T
//
// NODE is there where several slurmd run on one host. A path counts only if it
// begins there: below their own step users may make cgroups of any name.
type Tree struct {
	// Root is where the cgroup file systems are mounted, /sys/fs/cgroup.
	Root string
	// Node is the name slurmd has here.
	Node string
	// Scopes are the scopes of version 2 below the root, as patterns of two
	// parts; nil: system.slice/slurmstepd.scope, with and without the node's name.
	Scopes []string
}

// jobDir is the cgroup of a job.
type jobDir struct {
	path string // full
	name string // job_71001, or a SLUID
	v1   string // controller of version 1, "" for version 2
	rel  string // version 1: below the controller's root
	uid  uint32 // of version 1's path
}

var (
	jobName   = regexp.MustCompile(`^job_([1-9][0-9]{0,9})$`)
	sluidName = regexp.MustCompile(`^s[0-9A-Z]{10,20}$`)
	uidName   = regexp.MustCompile(`^uid_([0-9]{1,10})$`)
)

// controllers of version 1 that slurmd uses, the one that follows a job best
// first: proctrack/cgroup keeps every process of a job in the freezer.
func controllers() []string {
	return []string{"freezer", "memory", "cpuset", "devices", "cpuacct", "cpu", "pids"}
}

func (t Tree) scopes() []string {
	if t.Scopes != nil {
		return t.Scopes
	}
	out := []string{"system.slice/slurmstepd.scope"}
	for _, n := range t.nodes() {
		out = append(out, "system.slice/"+escape(n)+"_slurmstepd.scope")
	}
	return out
}

// bases are the names of version 1's folder of slurmd.
func (t Tree) bases() []string {
	out := []string{"slurm"}
	for _, n := range t.nodes() {
		out = append(out, "slurm_"+n)
	}
	return out
}

// nodes are the names slurmd may have here: as given, and without the domain.
func (t Tree) nodes() []string {
	if t.Node == "" || strings.ContainsAny(t.Node, "/") {
		return nil
	}
	short, _, _ := strings.Cut(t.Node, ".")
	return slices.Compact([]string{t.Node, short})
}

// escape keeps path.Match from reading a node's name as a pattern.
func escape(s string) string {
	if !strings.ContainsAny(s, `\*?[`) {
		return s
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// listing is what a look at the tree found.
type listing struct {
	jobs    []jobDir
	parents []string // folders in which jobs come and go
}

// list looks at all of it: a read of each folder that holds jobs, none of the
// jobs themselves. A tree that is not there is empty, not an error: slurmd makes
// it with its first job.
func (t Tree) list() (listing, error) {
	var l listing
	var errs []error
	for _, pattern := range t.scopes() {
		for _, top := range []string{t.Root, filepath.Join(t.Root, "unified")} {
			scopes, err := filepath.Glob(filepath.Join(escape(top), pattern))
			if err != nil {
				errs = append(errs, fmt.Errorf("cannot use the scope %q: %w", pattern, err))
			}
			for _, scope := range scopes {
				errs = append(errs, l.addV2(scope))
			}
		}
	}
	errs = append(errs, t.listV1(&l))
	return l, errors.Join(errs...)
}

func (t Tree) listV1(l *listing) error {
	for _, c := range controllers() {
		there := false
		var errs []error
		for _, base := range t.bases() {
			dir := filepath.Join(t.Root, c, base)
			if st, err := os.Stat(dir); err != nil || !st.IsDir() {
				continue
			}
			there = true
			errs = append(errs, l.addV1(c, base, dir))
		}
		if there {
			return errors.Join(errs...)
		}
	}
	return nil
}

func (l *listing) addV2(scope string) error {
	entries, err := folders(scope)
	if err != nil {
		return err
	}
	l.parents = append(l.parents, scope)
	for _, e := range entries {
		if jobName.MatchString(e) || sluidName.MatchString(e) {
			l.jobs = append(l.jobs, jobDir{path: scope + "/" + e, name: e})
		}
	}
	return nil
}

func (l *listing) addV1(controller, base, dir string) error {
	users, err := folders(dir)
	if err != nil {
		return err
	}
	l.parents = append(l.parents, dir)
	var errs []error
	for _, u := range users {
		m := uidName.FindStringSubmatch(u)
		if m == nil {
			continue
		}
		uid, err := strconv.ParseUint(m[1], 10, 32)
		if err != nil {
			continue
		}
		jobs, err := folders(dir + "/" + u)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l.parents = append(l.parents, dir+"/"+u)
		for _, j := range jobs {
			if jobName.MatchString(j) {
				l.jobs = append(l.jobs, jobDir{path: dir + "/" + u + "/" + j, name: j, v1: controller, rel: base + "/" + u + "/" + j, uid: uint32(uid)})
			}
		}
	}
	return errors.Join(errs...)
}

// idOf is the job's id that a folder's name says, "" for a SLUID.
func idOf(name string) string {
	if m := jobName.FindStringSubmatch(name); m != nil {
		return m[1]
	}
	return ""
}

// nameIn finds the job's cgroup in /proc/PID/cgroup (cgroups(7)): lines of
// "hierarchy:controllers:path". It gives job_ID or a SLUID.
func (t Tree) nameIn(text string) (string, bool) {
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		parts := strings.Split(strings.TrimPrefix(f[2], "/"), "/")
		if f[0] == "0" && f[1] == "" {
			if name, ok := t.inV2(parts); ok {
				return name, true
			}
			continue
		}
		if len(parts) >= 3 && slices.Contains(t.bases(), parts[0]) && ours(f[1]) &&
			uidName.MatchString(parts[1]) && jobName.MatchString(parts[2]) {
			return parts[2], true
		}
	}
	return "", false
}

// ours tells whether slurmd uses one of the controllers of a hierarchy.
func ours(list string) bool {
	for c := range strings.SplitSeq(list, ",") {
		if slices.Contains(controllers(), c) {
			return true
		}
	}
	return false
}

func (t Tree) inV2(parts []string) (string, bool) {
	for _, pattern := range t.scopes() {
		n := strings.Count(pattern, "/") + 1
		if len(parts) <= n {
			continue
		}
		if ok, err := path.Match(pattern, strings.Join(parts[:n], "/")); err != nil || !ok {
			continue
		}
		if name := parts[n]; jobName.MatchString(name) || sluidName.MatchString(name) {
			return name, true
		}
	}
	return "", false
}

func compareJobs(a, b jobDir) int { return cmp.Compare(a.path, b.path) }
