package slurm

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// absentEvery is how often folders of slurmd's are looked for that are not
// there, where the kernel tells when one is made. There are eighteen places, and
// most nodes of a site that has no cgroups of Slurm's never have one.
const absentEvery = 10 * time.Second

// root is a folder of slurmd's below which its jobs have their cgroups: a scope of
// version 2, or the folder of a controller of version 1.
type root struct {
	dir              string
	controller, base string // of version 1; "" for version 2
}

// places are the roots of a tree, as they were found.
type places struct {
	roots []root
	// absent are patterns of roots that are not there, above the folders in which
	// the next part of their path would be made. Both are empty where some root
	// is there: whoever runs slurmd has made it.
	absent, above []string
	blind         bool // a root may appear where no event tells
}

// places looks for the roots. A tree that has none is empty, not an error:
// slurmd makes it with its first job.
func (t Tree) places() (places, error) {
	var p places
	var errs []error
	for _, pattern := range t.scopes() {
		for _, top := range []string{t.Root, filepath.Join(t.Root, "unified")} {
			full := filepath.Join(escape(top), pattern)
			scopes, err := filepath.Glob(full)
			if err != nil {
				errs = append(errs, fmt.Errorf("cannot use the scope %q: %w", pattern, err))
				continue
			}
			for _, dir := range scopes {
				p.roots = append(p.roots, root{dir: dir})
			}
			p.absent = append(p.absent, full)
		}
	}
	p.addV1(t)
	if len(p.roots) > 0 {
		p.absent = nil
	}
	known := map[string]bool{}
	for _, pattern := range p.absent {
		p.blind = p.blind || escape(unescape(path.Dir(pattern))) != path.Dir(pattern)
		if dir := above(pattern, known); !slices.Contains(p.above, dir) {
			p.above = append(p.above, dir)
		}
	}
	return p, errors.Join(errs...)
}

// addV1 takes the folders of the first controller that has any.
func (p *places) addV1(t Tree) {
	for _, c := range controllers() {
		there := false
		for _, base := range t.bases() {
			dir := filepath.Join(t.Root, c, base)
			if st, err := os.Stat(dir); err == nil && st.IsDir() {
				p.roots = append(p.roots, root{dir: dir, controller: c, base: base})
				there = true
			}
			p.absent = append(p.absent, escape(dir))
		}
		if there {
			return
		}
	}
}

// above is the folder in which the first part of a pattern's path that is not
// there would be made. known are folders that are there, or not, as just seen.
func above(pattern string, known map[string]bool) string {
	dir := unescape(path.Dir(pattern))
	for ; len(dir) > 1; dir = path.Dir(dir) {
		there, seen := known[dir]
		if !seen {
			st, err := os.Stat(dir)
			there = err == nil && st.IsDir()
			known[dir] = there
		}
		if there {
			break
		}
	}
	return dir
}

// leads tells whether a path is that of an absent root, or on the way to it.
func (p *places) leads(name string) bool {
	parts := strings.Count(name, "/") + 1
	return slices.ContainsFunc(p.absent, func(pattern string) bool {
		all := strings.Split(pattern, "/")
		if len(all) < parts {
			return false
		}
		ok, err := path.Match(strings.Join(all[:parts], "/"), name)
		return ok && err == nil
	})
}

// list looks at all of it, at the roots that are known. gone: one of them is not
// there any more.
func (p *places) list() (l listing, gone bool, err error) {
	var errs []error
	for _, r := range p.roots {
		there, err := l.add(r)
		errs = append(errs, err)
		gone = gone || !there && err == nil
	}
	return l, gone, errors.Join(errs...)
}

// look lists the jobs' cgroups. It looks for roots anew each second, or, where
// events tell of new ones, when one did so, when one went, and now and then.
func (w *Watcher) look(now time.Time) (listing, error) {
	w.mu.Lock()
	wait := w.lookAt.Sub(now)
	known := w.places
	w.mu.Unlock()
	if wait > 0 && wait <= absentEvery {
		if l, gone, err := known.list(); !gone {
			return l, err
		}
	}
	found, err := w.opt.Tree.places()
	w.mu.Lock()
	w.places, w.lookAt = found, now
	if w.followed && !found.blind || len(found.roots) > 0 {
		w.lookAt = now.Add(absentEvery)
	}
	w.mu.Unlock()
	l, _, lerr := found.list()
	return l, errors.Join(err, lerr)
}

// follows notes whether the kernel tells when a root is made. What was made
// before it did is looked for at the next look.
func (w *Watcher) follows(all, added bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if added || !all {
		w.lookAt = time.Time{}
	}
	w.followed = all
}

// concerns tells whether something that was made or removed in a folder that is
// followed may change what a look finds.
func (w *Watcher) concerns(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leads(name) {
		w.lookAt = time.Time{}
		return true
	}
	return slices.Contains(w.parents, name) || slices.Contains(w.parents, path.Dir(name))
}
