// Package sysfstest unpacks recorded machines for tests. A recording is a text
// archive (txtar): a file whose content is "-> target" is a link, a name that
// ends in "/" an empty folder.
package sysfstest

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"

	"github.com/wattledger/wattledger/internal/sysfs"
)

// Tree is an unpacked machine in a folder of the test's own.
type Tree struct {
	t   testing.TB
	Dir string
}

// Open unpacks the archives over each other: of a name that several hold, the
// last counts.
func Open(t testing.TB, archives ...string) *Tree {
	t.Helper()
	tree := folder(t)
	for _, name := range archives {
		a, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tree.unpack(a)
	}
	return tree
}

// Parse unpacks an archive that the test has written down.
func Parse(t testing.TB, text string) *Tree {
	t.Helper()
	tree := folder(t)
	tree.unpack(txtar.Parse([]byte(text)))
	return tree
}

// folder is one that everybody may look into, as /sys is.
func folder(t testing.TB) *Tree {
	t.Helper()
	tree := &Tree{t: t, Dir: t.TempDir()}
	tree.must(os.Chmod(filepath.Dir(tree.Dir), 0o755))
	tree.must(os.Chmod(tree.Dir, 0o755))
	return tree
}

func (tr *Tree) unpack(a *txtar.Archive) {
	tr.t.Helper()
	for _, f := range a.Files {
		if strings.HasSuffix(f.Name, "/") {
			tr.must(os.MkdirAll(tr.path(f.Name), 0o755))
			continue
		}
		if to, ok := bytes.CutPrefix(f.Data, []byte("-> ")); ok {
			tr.Link(f.Name, string(bytes.TrimSpace(to)))
			continue
		}
		tr.Replace(f.Name, string(f.Data))
	}
}

func (tr *Tree) must(err error) {
	tr.t.Helper()
	if err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *Tree) path(name string) string { return filepath.Join(tr.Dir, filepath.FromSlash(name)) }

func (tr *Tree) parents(name string) {
	tr.t.Helper()
	tr.must(os.MkdirAll(filepath.Dir(tr.path(name)), 0o755))
}

// Root opens a folder of the tree ("sys", "proc"; "" for all of it).
func (tr *Tree) Root(name string) *sysfs.Root { return sysfs.Open(tr.path(name)) }

// Set writes a file in place by one write, as the kernel changes an attribute.
func (tr *Tree) Set(name, content string) {
	tr.t.Helper()
	tr.parents(name)
	f, err := os.OpenFile(tr.path(name), os.O_CREATE|os.O_WRONLY, 0o644)
	tr.must(err)
	_, err = f.WriteAt([]byte(content), 0)
	tr.must(err)
	tr.must(f.Truncate(int64(len(content))))
	tr.must(f.Close())
}

// Replace puts a new file under the name.
func (tr *Tree) Replace(name, content string) {
	tr.t.Helper()
	tr.parents(name)
	next := tr.path(name) + "~"
	tr.must(os.WriteFile(next, []byte(content), 0o644))
	tr.must(os.Rename(next, tr.path(name)))
}

// Link makes a link.
func (tr *Tree) Link(name, target string) {
	tr.t.Helper()
	tr.parents(name)
	tr.must(os.Symlink(target, tr.path(name)))
}

// Remove takes a file or a folder away.
func (tr *Tree) Remove(name string) {
	tr.t.Helper()
	tr.must(os.RemoveAll(tr.path(name)))
}

// Break makes every read of a file fail, while it can still be opened: a folder
// stands in its place.
func (tr *Tree) Break(name string) {
	tr.t.Helper()
	tr.Remove(name)
	tr.must(os.MkdirAll(tr.path(name), 0o755))
}

// Forbid makes a file readable by its owner alone.
func (tr *Tree) Forbid(name string) {
	tr.t.Helper()
	tr.must(os.Chmod(tr.path(name), 0o400))
}

// AsNobody calls f on a thread that has no right to files but everybody's. Where
// the test does not run as root, it has none but its own anyway: the test is
// then skipped, as it owns what it forbids.
func AsNobody(t testing.TB, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("forbidden files are tried as another user; this needs root")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setfsuid(0); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}
