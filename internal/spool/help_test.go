package spool_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/wattledger/wattledger/internal/spool"
)

// world is a directory, the file system in front of it and what was reported.
type world struct {
	t      *testing.T
	dir    string
	opts   spool.Options
	mu     sync.Mutex
	events []spool.Event
}

func newWorld(t *testing.T, change func(*spool.Options)) *world {
	w := &world{t: t, dir: t.TempDir()}
	w.opts = spool.Options{Dir: w.dir, NoSync: true, Report: func(e spool.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e)
	}}
	if change != nil {
		change(&w.opts)
	}
	return w
}

func (w *world) open() *spool.Spool {
	w.t.Helper()
	s, err := spool.Open(w.opts)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (w *world) reopen(s *spool.Spool) *spool.Spool {
	w.t.Helper()
	if err := s.Close(); err != nil {
		w.t.Fatal(err)
	}
	return w.open()
}

// count returns how often a kind was reported.
func (w *world) count(k spool.Kind) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, e := range w.events {
		if e.Kind == k {
			n++
		}
	}
	return n
}

// files returns the files whose name contains part, sorted.
func (w *world) files(part string) []string {
	w.t.Helper()
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if strings.Contains(e.Name(), part) {
			out = append(out, filepath.Join(w.dir, e.Name()))
		}
	}
	return out
}

func appendAll(t *testing.T, s *spool.Spool, records ...string) {
	t.Helper()
	for _, r := range records {
		if _, err := s.Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
}

// contents returns all records that are not committed. It takes copies of the
// claim limits out of play by committing nothing.
func contents(t *testing.T, s *spool.Spool) []string {
	t.Helper()
	var out []string
	keep := errors.New("only looking")
	err := s.Rewrite(func(records [][]byte) ([][]byte, error) {
		for _, r := range records {
			out = append(out, string(r))
		}
		return nil, keep
	})
	if !errors.Is(err, keep) {
		t.Fatal(err)
	}
	return out
}

func wantContents(t *testing.T, s *spool.Spool, want ...string) {
	t.Helper()
	got := contents(t, s)
	if !slices.Equal(got, want) {
		t.Errorf("contents = %.20q (%d); want %.20q (%d)", got, len(got), want, len(want))
	}
	if s.Len() != len(want) {
		t.Errorf("Len() = %d; want %d", s.Len(), len(want))
	}
}

// numbered returns "1#pad", "2#pad" ...: what merge below can join.
func numbered(from, to, pad int) []string {
	var out []string
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprintf("%d#%s", i, strings.Repeat("x", pad)))
	}
	return out
}

// essence is what merging must keep: the numbers, in order.
func essence(records []string) string {
	var out []string
	for _, r := range records {
		head, _, _ := strings.Cut(r, "#")
		out = append(out, head)
	}
	return strings.Join(out, ",")
}

// merge joins up to 20 records, keeps one padding and drops all of it from level 1.
func merge(records [][]byte, level int) ([][]byte, error) {
	var out [][]byte
	for run := range slices.Chunk(records, 20) {
		var heads []string
		for _, r := range run {
			head, _, _ := strings.Cut(string(r), "#")
			heads = append(heads, head)
		}
		_, pad, _ := strings.Cut(string(run[0]), "#")
		joined := strings.Join(heads, ",")
		if level == 0 && pad != "" {
			joined += "#" + pad
		}
		out = append(out, []byte(joined))
	}
	return out, nil
}

// copyDir copies a directory as a crash would leave it.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, e.Name()), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// hookFS calls before each operation that changes something; an error keeps
// the operation from happening. torn writes half of what a failing write has.
type hookFS struct {
	spool.FS
	before func(op, name string) error
	torn   bool
}

type hookFile struct {
	spool.File
	fs   *hookFS
	name string
}

func (h *hookFS) OpenFile(name string, flag int) (spool.File, error) {
	if flag&os.O_CREATE != 0 {
		if err := h.before("create", name); err != nil {
			return nil, err
		}
	}
	f, err := h.FS.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return &hookFile{f, h, name}, nil
}

func (h *hookFS) Rename(a, b string) error {
	if err := h.before("rename", b); err != nil {
		return err
	}
	return h.FS.Rename(a, b)
}

func (h *hookFS) Remove(name string) error {
	if err := h.before("remove", name); err != nil {
		return err
	}
	return h.FS.Remove(name)
}

func (h *hookFS) SyncDir(name string) error {
	if err := h.before("syncdir", name); err != nil {
		return err
	}
	return h.FS.SyncDir(name)
}

func (f *hookFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fs.before("write", f.name); err != nil {
		n := 0
		if f.fs.torn {
			n, _ = f.File.WriteAt(b[:len(b)/2], off)
		}
		return n, err
	}
	return f.File.WriteAt(b, off)
}

func (f *hookFile) Sync() error {
	if err := f.fs.before("sync", f.name); err != nil {
		return err
	}
	return nil // the tests do not cut the power
}

func (f *hookFile) Truncate(n int64) error {
	if err := f.fs.before("truncate", f.name); err != nil {
		return err
	}
	return f.File.Truncate(n)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
