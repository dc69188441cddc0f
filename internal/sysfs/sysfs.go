// Package sysfs reads attributes of the kernel's file trees: sysfs, procfs and
// whatever looks like them. A Root is one tree, so that a test or an emulator
// can hand in its own; links are followed inside it and never out of it.
//
// An attribute is one bounded read of a kept-open descriptor, straight from the
// system call: some drivers answer EAGAIN, at which the runtime's poller would
// wait for ever. Every failure comes back at once and names the file. A read
// that works allocates nothing.
package sysfs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Root is a tree of attributes. It may be shared by several goroutines.
type Root struct {
	path string
	mu   sync.Mutex
	dir  *os.Root
}

// Open gives the tree at a path. It does not fail: a tree that is not there is
// the error of whatever is read from it, for as long as it is not there.
func Open(path string) *Root { return &Root{path: path} }

// Path is where the tree is.
func (r *Root) Path() string { return r.path }

// Full is the path of an attribute as a person would type it.
func (r *Root) Full(name string) string { return filepath.Join(r.path, name) }

func (r *Root) root() (*os.Root, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dir == nil {
		dir, err := os.OpenRoot(r.path)
		if err != nil {
			return nil, err
		}
		r.dir = dir
	}
	return r.dir, nil
}

// forget makes the next access open the tree anew: it may have been replaced
// as a whole. The old one is closed when nobody uses it.
func (r *Root) forget() {
	r.mu.Lock()
	r.dir = nil
	r.mu.Unlock()
}

// failed wraps an error with the file it is about.
func (r *Root) failed(name string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	if errors.Is(err, fs.ErrNotExist) {
		r.forget()
	}
	return fmt.Errorf("cannot read %s: %w", r.Full(name), err)
}

// open gives a bare descriptor that the poller does not know. live tells that
// the kernel makes the content anew at each read, so that the file under the
// name cannot have become another one unseen.
func (r *Root) open(name string) (fd int, live bool, err error) {
	dir, err := r.root()
	if err != nil {
		return -1, false, err
	}
	f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return -1, false, err
	}
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, false, err
	}
	var dup error
	if err := conn.Control(func(old uintptr) { fd, dup = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, false, err
	}
	if dup != nil {
		return -1, false, dup
	}
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) == nil {
		live = st.Type == unix.SYSFS_MAGIC || st.Type == unix.PROC_SUPER_MAGIC
	}
	return fd, live, nil
}

// Entries are the names in a folder, hwmon2 before hwmon10.
func (r *Root) Entries(folder string) ([]string, error) {
	dir, err := r.root()
	if err != nil {
		return nil, r.failed(folder, err)
	}
	f, err := dir.Open(folder)
	if err != nil {
		return nil, r.failed(folder, err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, r.failed(folder, err)
	}
	slices.SortFunc(names, natural)
	return names, nil
}

// Target is the last element of what a link points at: of card0/device the PCI
// address.
func (r *Root) Target(name string) (string, error) {
	dir, err := r.root()
	if err != nil {
		return "", r.failed(name, err)
	}
	to, err := dir.Readlink(name)
	if err != nil {
		return "", r.failed(name, err)
	}
	return path.Base(to), nil
}

// Has tells whether something is there, readable or not.
func (r *Root) Has(name string) bool {
	dir, err := r.root()
	if err != nil {
		return false
	}
	_, err = dir.Stat(name)
	return err == nil
}

// Text reads an attribute once, without the white space around it.
func (r *Root) Text(name string) (string, error) {
	f := r.File(name)
	defer f.Close()
	return f.Text()
}

// Uint reads an attribute once as a whole number.
func (r *Root) Uint(name string) (uint64, error) {
	f := r.File(name)
	defer f.Close()
	return f.Uint()
}

// BootID names the boot that the machine is in; r is the root of procfs.
func (r *Root) BootID() (string, error) {
	const name = "sys/kernel/random/boot_id"
	id, err := r.Text(name)
	if err == nil && id == "" {
		err = r.failed(name, errEmpty)
	}
	return id, err
}

// natural orders names by their runs of digits as numbers.
func natural(a, b string) int {
	for a != "" && b != "" {
		na, nb := digits(a), digits(b)
		if na > 0 && nb > 0 {
			x, y := strings.TrimLeft(a[:na], "0"), strings.TrimLeft(b[:nb], "0")
			if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); c != 0 {
				return c
			}
			a, b = a[na:], b[nb:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}
