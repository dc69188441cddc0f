package sysfs

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Size is how much of an attribute is read unless a File says otherwise: a
// number, a name, a line with a stamp.
const Size = 64

var (
	errEmpty = errors.New("it is empty")
	errLong  = errors.New("it is longer than such a file can be")
)

// File is one attribute, opened when it is first read and kept open. It is used
// by one goroutine at a time.
type File struct {
	root *Root
	name string
	fd   int
	live bool
	buf  []byte
	st   unix.Stat_t
}

// File is the attribute of that name, of up to Size bytes.
func (r *Root) File(name string) *File { return r.Sized(name, Size) }

// Sized is an attribute of up to that many bytes.
func (r *Root) Sized(name string, size int) *File {
	// one more, to see a file that does not fit
	return &File{root: r, name: name, fd: -1, buf: make([]byte, size+1)}
}

// Name is the attribute's name within its root.
func (f *File) Name() string { return f.name }

// Full is its path as a person would type it.
func (f *File) Full() string { return f.root.Full(f.name) }

// Close lets go of the descriptor; the next read opens the file anew.
func (f *File) Close() error {
	fd := f.fd
	f.fd = -1
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}

// Bytes is the whole attribute by one read. The slice is good until the next.
func (f *File) Bytes() ([]byte, error) {
	for {
		kept := f.fd >= 0
		if kept && !f.live && f.replaced() {
			_ = f.Close()
			kept = false
		}
		if f.fd < 0 {
			fd, live, err := f.root.open(f.name)
			if err != nil {
				return nil, f.root.failed(f.name, err)
			}
			f.fd, f.live = fd, live
		}
		n, err := f.pread()
		switch {
		case err == nil && n < len(f.buf):
			return f.buf[:n], nil
		case err == nil:
			return nil, f.root.failed(f.name, errLong)
		case gone(err):
			_ = f.Close()
			if kept { // the device may be back under the same name
				continue
			}
		}
		return nil, f.root.failed(f.name, err)
	}
}

// pread is one system call, or another where a signal came first.
func (f *File) pread() (int, error) {
	for {
		n, err := unix.Pread(f.fd, f.buf, 0)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// replaced tells that the open file has no name any more: an emulator, or a
// tree that was copied, has put another in its place. The kernel's own trees
// answer ENODEV instead.
func (f *File) replaced() bool {
	return unix.Fstat(f.fd, &f.st) != nil || f.st.Nlink == 0
}

// gone tells errors of a descriptor whose device was taken away.
func gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) ||
		errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EBADF)
}

// Text is the attribute without the white space around it.
func (f *File) Text() (string, error) {
	b, err := f.Bytes()
	return string(bytes.TrimSpace(b)), err
}

// Is tells, without allocating, whether the attribute reads as s.
func (f *File) Is(s string) (bool, error) {
	b, err := f.Bytes()
	return err == nil && string(bytes.TrimSpace(b)) == s, err
}

// Uint is the attribute as a whole number that is not negative.
func (f *File) Uint() (uint64, error) {
	b, err := f.Bytes()
	if err != nil {
		return 0, err
	}
	v, ok := ParseUint(bytes.TrimSpace(b))
	if !ok {
		return 0, f.notNumber(b)
	}
	return v, nil
}

// Int is the attribute as a whole number.
func (f *File) Int() (int64, error) {
	b, err := f.Bytes()
	if err != nil {
		return 0, err
	}
	s := bytes.TrimSpace(b)
	negative := len(s) > 0 && s[0] == '-'
	if negative {
		s = s[1:]
	}
	v, ok := ParseUint(s)
	switch {
	case !ok || v > math.MaxInt64:
		return 0, f.notNumber(b)
	case negative:
		return -int64(v), nil
	}
	return int64(v), nil
}

func (f *File) notNumber(b []byte) error { return f.Fault(b, "whole number") }

// Fault is the error of content that is not what it should be.
func (f *File) Fault(b []byte, want string) error {
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return f.root.failed(f.name, errEmpty)
	}
	return f.root.failed(f.name, fmt.Errorf("%.64q is no %s", b, want))
}

// ParseUint reads decimal digits and nothing else; ok is false for anything
// that is no such number or does not fit.
func ParseUint(s []byte) (v uint64, ok bool) {
	if len(s) == 0 || len(s) > 20 {
		return 0, false
	}
	for _, c := range s {
		d := uint64(c - '0')
		if d > 9 || v > (math.MaxUint64-d)/10 {
			return 0, false
		}
		v = v*10 + d
	}
	return v, true
}
