package emulate

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// tree is the files under ROOT that are the kernel's. All paths in it are
// relative to ROOT, with slashes, of the files themselves and not of links.
type tree struct {
	root  string
	files []*attribute
	links map[string]string // path to target
	rules []rule
}

// attribute is one file. It is written in place, so that a reader may keep it
// open, by one write: one that is shorter than what was there is padded with line
// ends and cut after that. A reader would have to hit the same tenth of a
// microsecond to see two values mixed.
type attribute struct {
	path    string
	mode    fs.FileMode
	content func(at time.Time) string
	live    bool // content moves with time

	file *os.File
	was  string
	done string // the fault whose work is done: vanish, eio, permission
}

// rule is a file fault and what it hits.
type rule struct {
	fault Fault
	files []*attribute
	links []string
}

// static adds a file that stays as it is.
func (t *tree) static(path, content string) {
	t.add(path, 0o444, false, func(time.Time) string { return content + "\n" })
}

// live adds a file that moves; a line end is put after what content gives.
func (t *tree) live(path string, mode fs.FileMode, content func(at time.Time) string) {
	t.add(path, mode, true, func(at time.Time) string { return content(at) + "\n" })
}

// blob adds a file that moves and has no line end.
func (t *tree) blob(path string, content func(at time.Time) string) {
	t.add(path, 0o444, true, content)
}

func (t *tree) add(path string, mode fs.FileMode, live bool, content func(time.Time) string) {
	t.files = append(t.files, &attribute{path: path, mode: mode, live: live, content: content})
}

// link adds a link from path to another path of the tree. As the kernel's it ends
// in the target's name and goes up no further than that takes: whoever opens sys/
// alone can follow it.
func (t *tree) link(path, to string) {
	from, onto := strings.Split(path, "/"), strings.Split(to, "/")
	common := 0
	for common < min(len(from), len(onto))-1 && from[common] == onto[common] {
		common++
	}
	t.links[path] = strings.Repeat("../", len(from)-1-common) + strings.Join(onto[common:], "/")
}

// create makes everything that was added, as it is at an instant.
func (t *tree) create(at time.Time) error {
	for path, target := range t.links {
		if err := t.makeLink(path, target); err != nil {
			return err
		}
	}
	for _, a := range t.files {
		if err := a.create(t.root); err != nil {
			return err
		}
		if err := a.write(a.content(at)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) makeLink(path, target string) error {
	full := filepath.Join(t.root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		return fmt.Errorf("cannot make %s: %w", path, err)
	}
	if err := os.Symlink(target, full); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot make %s: %w", path, err)
	}
	return nil
}

// rule prepares a file fault; its pattern must hit something.
func (t *tree) rule(f Fault) error {
	hits, err := filepath.Glob(filepath.Join(t.root, f.File))
	if err != nil {
		return fmt.Errorf("%d: %s: %w", f.Line, f.File, err)
	}
	top, err := filepath.EvalSymlinks(t.root)
	if err != nil {
		return err
	}
	r := rule{fault: f}
	for _, hit := range hits {
		if rel, err := filepath.Rel(t.root, hit); err == nil && t.links[filepath.ToSlash(rel)] != "" && f.Kind == "vanish" {
			r.links = append(r.links, filepath.ToSlash(rel))
		}
		real, err := filepath.EvalSymlinks(hit)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, real)
		if err != nil {
			return err
		}
		for _, a := range t.files {
			if a.path == rel || strings.HasPrefix(a.path, rel+"/") {
				r.files = append(r.files, a)
			}
		}
	}
	if len(r.files) == 0 {
		return fmt.Errorf("%d: %s: nothing in the tree has that path", f.Line, f.File)
	}
	t.rules = append(t.rules, r)
	return nil
}

// update writes the tree as it is at an instant.
func (t *tree) update(at time.Time) error {
	var errs []error
	faults := map[*attribute]Fault{}
	for _, r := range t.rules {
		on := r.fault.active(at)
		for _, a := range r.files {
			if on {
				faults[a] = r.fault
			}
		}
		for _, path := range r.links {
			if on {
				if err := os.Remove(filepath.Join(t.root, path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
					errs = append(errs, err)
				}
			} else if err := t.makeLink(path, t.links[path]); err != nil {
				errs = append(errs, err)
			}
		}
	}
	for _, a := range t.files {
		f, ill := faults[a]
		var err error
		switch {
		case ill:
			err = a.suffer(t.root, f)
		case a.done != "":
			err = a.recover(t.root)
			fallthrough
		case a.live || a.was == "":
			err = errors.Join(err, a.write(a.content(at)))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot write %s: %w", a.path, err))
		}
	}
	return errors.Join(errs...)
}

func (t *tree) close() {
	for _, a := range t.files {
		if a.file != nil {
			a.file.Close()
		}
	}
}

func (a *attribute) create(root string) error {
	full := filepath.Join(root, a.path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		return fmt.Errorf("cannot make %s: %w", a.path, err)
	}
	if err := os.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot make %s: %w", a.path, err)
	}
	file, err := os.OpenFile(full, os.O_WRONLY|os.O_CREATE|os.O_EXCL, a.mode)
	if err != nil {
		return fmt.Errorf("cannot make %s: %w", a.path, err)
	}
	a.file, a.was = file, ""
	return nil
}

// write puts a value where the one before was.
func (a *attribute) write(value string) error {
	if value == a.was {
		return nil
	}
	padded := []byte(value)
	if n := len(a.was) - len(value); n > 0 {
		padded = append(padded, bytes.Repeat([]byte("\n"), n)...)
	}
	if _, err := a.file.WriteAt(padded, 0); err != nil {
		return err
	}
	if len(padded) > len(value) {
		if err := a.file.Truncate(int64(len(value))); err != nil {
			return err
		}
	}
	a.was = value
	return nil
}

// suffer does what a fault wants of a file.
func (a *attribute) suffer(root string, f Fault) error {
	full := filepath.Join(root, a.path)
	once := slices.Contains([]string{"vanish", "eio", "permission"}, f.Kind)
	if once && a.done == f.Kind {
		return nil
	}
	if a.done != "" && a.done != f.Kind {
		if err := a.recover(root); err != nil {
			return err
		}
	}
	switch f.Kind {
	case "is":
		return a.write(f.Name + "\n")
	case "garbage":
		return a.write("no value\n")
	case "empty":
		a.was = "" // what follows is written
		return a.file.Truncate(0)
	case "permission":
		a.done = f.Kind
		return a.file.Chmod(0)
	case "vanish", "eio":
		a.done = f.Kind
		err := errors.Join(a.file.Truncate(0), a.file.Close(), os.Remove(full))
		a.file = nil
		if f.Kind == "eio" && err == nil {
			err = os.Symlink("/proc/self/mem", full)
		}
		return err
	}
	return nil // stuck
}

// recover undoes what was done once.
func (a *attribute) recover(root string) error {
	was := a.done
	a.done = ""
	if was == "permission" {
		return a.file.Chmod(a.mode)
	}
	return a.create(root)
}
