package spool

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// FS is what a spool asks of a file system. Names are full paths. The tests
// hand in one that fails; everyone else uses [OS].
type FS interface {
	// MkdirAll makes a directory and its parents.
	MkdirAll(name string) error
	// Lock takes the exclusive lock of a file until the closer is closed or the
	// process ends. It fails at once if another holds it.
	Lock(name string) (io.Closer, error)
	// OpenFile is os.OpenFile with mode 0600.
	OpenFile(name string, flag int) (File, error)
	// Rename replaces newName by oldName in one step.
	Rename(oldName, newName string) error
	// Remove deletes a file.
	Remove(name string) error
	// ReadDir returns the names in a directory.
	ReadDir(name string) ([]string, error)
	// SyncDir makes renames and creations in a directory durable.
	SyncDir(name string) error
}

// File is an open file of an [FS].
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Truncate cuts the file to size bytes.
	Truncate(size int64) error
	// Sync returns once what was written is on stable storage.
	Sync() error
	// Size returns the length in bytes.
	Size() (int64, error)
}

// OS returns the file system of the machine.
func OS() FS { return osFS{} }

type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (osFS) MkdirAll(name string) error { return os.MkdirAll(name, 0o700) }

func (osFS) OpenFile(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) ReadDir(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (osFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != syscall.EINTR { //nolint:errorlint // a bare errno
			break
		}
	}
	if err != nil {
		holder := make([]byte, 20)
		n, _ := f.ReadAt(holder, 0)
		_ = f.Close()
		pid := strings.TrimSpace(string(holder[:n]))
		if pid == "" {
			pid = "unknown"
		}
		return nil, fmt.Errorf("cannot lock %s: in use by another process (pid %s): %w", name, pid, err)
	}
	// The pid is a hint for a person: a full disk must not keep the spool shut.
	if f.Truncate(0) == nil {
		_, _ = fmt.Fprintf(io.NewOffsetWriter(f, 0), "%d\n", os.Getpid())
	}
	return f, nil
}

// removeIfThere deletes a file; one that is already gone is no error.
func removeIfThere(fsys FS, name string) error {
	err := fsys.Remove(name)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("cannot remove %s: %w", name, err)
	}
	return nil
}
