package spool_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/wattledger/wattledger/internal/spool"
)

// failing is a file system that fails an operation while armed says so.
func failing(w *world, err error, torn bool) (arm func(ops ...string)) {
	var armed []string
	w.opts.FS = &hookFS{FS: spool.OS(), torn: torn, before: func(op, name string) error {
		if strings.HasSuffix(name, "/committed") {
			op = "mark"
		}
		if slices.Contains(armed, op) {
			return err
		}
		return nil
	}}
	return func(ops ...string) { armed = ops }
}

func TestFailedAppendLeavesNothing(t *testing.T) {
	f := func(torn bool, ops ...string) {
		t.Helper()
		for _, before := range [][]string{nil, {"one", "two"}} {
			w := newWorld(t, func(o *spool.Options) { o.NoSync = false })
			arm := failing(w, syscall.ENOSPC, torn)
			s := w.open()
			appendAll(t, s, before...)
			arm(ops...)
			for range 2 {
				if _, err := s.Append([]byte("refused")); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("%v: Append: %v; want ENOSPC", ops, err)
				}
			}
			wantContents(t, s, before...)
			arm()
			appendAll(t, s, "three", "four")
			want := append(slices.Clone(before), "three", "four")
			wantContents(t, s, want...)
			s = w.reopen(s)
			wantContents(t, s, want...)
			if len(w.events) > 0 {
				t.Errorf("%v: events: %+v", ops, w.events)
			}
		}
	}
	f(false, "write")
	f(true, "write")
	f(false, "sync")
	f(true, "write", "truncate")
	f(false, "sync", "truncate")
	f(true, "write", "sync", "truncate", "create", "rename", "remove")
	f(false, "create", "write")
}

// TestFailedAppendIsVoidAfterACrash: the record is whole on disk, the disk
// refuses to cut it off, and the process dies.
func TestFailedAppendIsVoidAfterACrash(t *testing.T) {
	w := newWorld(t, func(o *spool.Options) { o.NoSync = false })
	first := true
	w.opts.FS = &hookFS{FS: spool.OS(), before: func(op, _ string) error {
		if op == "truncate" || op == "sync" && first {
			first = op == "truncate" && first
			return syscall.EIO
		}
		return nil
	}}
	first = false
	s := w.open()
	appendAll(t, s, "one")
	first = true
	if _, err := s.Append([]byte("refused")); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Append: %v; want EIO", err)
	}
	w.opts.FS, w.opts.Dir = nil, copyDir(t, w.dir) // the process is dead
	wantContents(t, w.open(), "one")
	if len(w.events) > 0 {
		t.Errorf("events: %+v", w.events)
	}
}

func TestFailedBeginOfASegment(t *testing.T) {
	f := func(op string) {
		t.Helper()
		w := newWorld(t, func(o *spool.Options) { o.NoSync, o.SegmentBytes = false, 60 })
		arm := failing(w, syscall.EIO, false)
		s := w.open()
		appendAll(t, s, numbered(1, 3, 40)...)
		arm(op)
		for range 2 {
			if _, err := s.Append([]byte("refused")); !errors.Is(err, syscall.EIO) {
				t.Errorf("%s: Append: %v; want EIO", op, err)
			}
		}
		arm()
		appendAll(t, s, "4#")
		want := append(numbered(1, 3, 40), "4#")
		wantContents(t, s, want...)
		s = w.reopen(s)
		wantContents(t, s, want...)
		if n := len(w.files(".tmp")); n != 0 || len(w.events) > 0 {
			t.Errorf("%s: %d temporary files, events %+v", op, n, w.events)
		}
	}
	f("create")
	f("write")
	f("sync")
	f("rename")
	f("syncdir")
}

// TestUnknownDirectoryStopsWriting: a rename that may not last and cannot be undone.
func TestUnknownDirectoryStopsWriting(t *testing.T) {
	w := newWorld(t, func(o *spool.Options) { o.NoSync = false })
	arm := failing(w, syscall.EIO, false)
	s := w.open()
	appendAll(t, s, "one", "two")
	arm("syncdir", "remove")
	err := s.Rewrite(func(r [][]byte) ([][]byte, error) { return r, nil })
	if !errors.Is(err, syscall.EIO) {
		t.Fatalf("Rewrite: %v", err)
	}
	arm()
	if _, err := s.Append([]byte("three")); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "opened again") {
		t.Errorf("Append: %v; want a request to open again", err)
	}
	s = w.reopen(s)
	appendAll(t, s, "three")
	wantContents(t, s, "one", "two", "three")
}

func TestFailedRewriteChangesNothing(t *testing.T) {
	f := func(op string) {
		t.Helper()
		w := newWorld(t, func(o *spool.Options) { o.NoSync, o.SegmentBytes = false, 60 })
		arm := failing(w, syscall.EIO, true)
		s := w.open()
		want := numbered(1, 5, 30)
		appendAll(t, s, want...)
		arm(op)
		err := s.Rewrite(func([][]byte) ([][]byte, error) { return [][]byte{[]byte("new")}, nil })
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: Rewrite: %v; want EIO", op, err)
		}
		arm()
		wantContents(t, s, want...)
		appendAll(t, s, "6#")
		s = w.reopen(s)
		wantContents(t, s, append(want, "6#")...)
		if n := len(w.files(".tmp")); n != 0 {
			t.Errorf("%s: %d temporary files", op, n)
		}
	}
	f("create")
	f("write")
	f("sync")
	f("rename")
	f("syncdir")
}

func TestCommitOnAFullDiskFreesIt(t *testing.T) {
	w := newWorld(t, func(o *spool.Options) { o.SegmentBytes = 60 })
	arm := failing(w, syscall.ENOSPC, false)
	s := w.open()
	appendAll(t, s, numbered(1, 9, 40)...)
	arm("mark")
	if err := s.Commit(8); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Commit: %v; want ENOSPC", err)
	}
	wantContents(t, s, numbered(9, 9, 40)...)
	if n := len(w.files(".seg")); n != 1 {
		t.Errorf("%d segments left; want 1", n)
	}
}

func TestLeftoversAreDeletedLater(t *testing.T) {
	w := newWorld(t, func(o *spool.Options) { o.SegmentBytes = 60 })
	arm := failing(w, syscall.EIO, false)
	s := w.open()
	appendAll(t, s, numbered(1, 5, 30)...)
	arm("remove")
	must(t, s.Rewrite(func([][]byte) ([][]byte, error) { return [][]byte{[]byte("a"), []byte("b")}, nil }))
	appendAll(t, s, "c")
	wantContents(t, s, "a", "b", "c")
	if err := s.Commit(7); !errors.Is(err, syscall.EIO) { // the void files hold the merged one back
		t.Errorf("Commit: %v; want EIO", err)
	}
	must(t, os.Remove(w.dir+"/committed"))
	s = w.reopen(s)
	wantContents(t, s, "a", "b", "c") // not the old ones
	arm()
	must(t, s.Commit(7))
	if n := len(w.files(".seg")); n != 1 {
		t.Errorf("%d segments left: %v", n, w.files(".seg"))
	}
}

// TestBadSector: reading one block fails for good.
func TestBadSector(t *testing.T) {
	w := newWorld(t, nil)
	s := w.open()
	want := numbered(1, 30, 1000)
	appendAll(t, s, want...)
	must(t, s.Close())
	w.opts.FS = badFS{spool.OS()}
	s = w.open()
	got := contents(t, s)
	if len(got) < 24 || w.count(spool.Damaged) != 1 || w.events[0].Lost != 30-len(got) {
		t.Errorf("%d of 30 records left, events %+v", len(got), w.events)
	}
	if got[0] != want[0] || got[len(got)-1] != want[29] {
		t.Errorf("first %.5q, last %.5q", got[0], got[len(got)-1])
	}
}

type badFS struct{ spool.FS }

type badFile struct{ spool.File }

func (b badFS) OpenFile(name string, flag int) (spool.File, error) {
	f, err := b.FS.OpenFile(name, flag)
	if err != nil || !strings.Contains(name, "-00000000.seg") {
		return f, err
	}
	return badFile{f}, nil
}

func (f badFile) ReadAt(b []byte, off int64) (int, error) {
	const bad = 10_000
	if off <= bad && bad < off+int64(len(b)) {
		return 0, syscall.EIO
	}
	return f.File.ReadAt(b, off)
}
