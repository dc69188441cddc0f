package slurm

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// absentEvery is how often slurmd's folders are looked for on a node on which it
// has made none of them, where the kernel tells when it makes the first. There are
// two dozen places; most nodes without Slurm's cgroups never have one.
const absentEvery = 10 * time.Second

// rest is what a Watcher knows of a node on which slurmd has made nothing.
type rest struct {
	above    []string // folders in which the way to a first root would begin
	followed bool     // the kernel tells of changes in all of them
	until    time.Time
}

// look lists the jobs' cgroups, unless it knows that there are none: it found
// none of slurmd's folders, and the kernel has told of no new one since. As soon
// as there is one of them everything is looked at each second, since slurmd makes
// and removes the folders of its controllers one by one.
func (w *Watcher) look(now time.Time) (listing, error) {
	w.mu.Lock()
	wait := w.rest.until.Sub(now)
	w.mu.Unlock()
	if 0 < wait && wait <= absentEvery { // more: the clock was put back
		return listing{}, nil
	}
	l, err := w.opt.Tree.list()
	var above []string
	blind := true
	if len(l.parents) == 0 && err == nil {
		above, blind = w.opt.Tree.above()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest.above, w.rest.until = above, time.Time{}
	if w.rest.followed && !blind {
		w.rest.until = now.Add(absentEvery)
	}
	return l, err
}

// stir has the next look look.
func (w *Watcher) stir() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest.until = time.Time{}
}

// follows notes whether the kernel tells of changes in all folders. What came
// before it did, the next look finds.
func (w *Watcher) follows(all, added bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest.followed = all
	if added || !all {
		w.rest.until = time.Time{}
	}
}

// above are the folders in which the way to a root that is not there would begin:
// for each root the last folder of its path that is there. blind: a site's own
// pattern may come true elsewhere.
func (t Tree) above() (dirs []string, blind bool) {
	var roots []string
	for _, pattern := range t.scopes() {
		name := unescape(pattern)
		blind = blind || escape(name) != pattern
		roots = append(roots, filepath.Join(t.Root, name), filepath.Join(t.Root, "unified", name))
	}
	for _, c := range controllers() {
		for _, base := range t.bases() {
			roots = append(roots, filepath.Join(t.Root, c, base))
		}
	}
	known := map[string]bool{}
	for _, root := range roots {
		dir := path.Dir(root)
		for len(dir) > 1 && !isFolder(dir, known) {
			dir = path.Dir(dir)
		}
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, blind
}

// isFolder remembers what it saw in known.
func isFolder(dir string, known map[string]bool) bool {
	there, seen := known[dir]
	if !seen {
		st, err := os.Stat(dir)
		there = err == nil && st.IsDir()
		known[dir] = there
	}
	return there
}

// unescape undoes escape.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\\`, `\`, `\*`, `*`, `\?`, `?`, `\[`, `[`).Replace(s)
}
