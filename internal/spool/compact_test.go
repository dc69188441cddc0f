package spool_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wattledger/wattledger/internal/spool"
)

func small(o *spool.Options) { o.MaxBytes, o.Merge = 8000, merge }

func TestOldRecordsAreMergedAndNothingIsLost(t *testing.T) {
	w := newWorld(t, small)
	s := w.open()
	all := numbered(1, 1000, 60)
	for _, r := range all {
		appendAll(t, s, r)
		if s.Bytes() > 8000 {
			t.Fatalf("%d bytes in use; the limit is 8000", s.Bytes())
		}
	}
	if w.count(spool.Merged) == 0 || len(w.events) != w.count(spool.Merged) {
		t.Errorf("events: %+v", w.events)
	}
	s = w.reopen(s)
	got := contents(t, s)
	if essence(got) != essence(all) || len(got) > 200 {
		t.Errorf("%d records, essence %.60q", len(got), essence(got))
	}
	if got[len(got)-1] != all[999] {
		t.Errorf("the newest record was merged: %q", got[len(got)-1])
	}
}

func TestRecordsInFlightAreNotMerged(t *testing.T) {
	w := newWorld(t, small)
	s := w.open()
	appendAll(t, s, numbered(1, 20, 60)...)
	_, last, claim, err := s.Next(0, 0)
	must(t, err)
	appendAll(t, s, numbered(21, 500, 60)...)
	head := func() [][]byte {
		t.Helper()
		_, _, got, err := s.Next(0, len(claim))
		must(t, err)
		return got
	}
	same := func(a, b []byte) bool { return string(a) == string(b) }
	if !slices.EqualFunc(claim, head(), same) {
		t.Error("the claimed records have changed")
	}
	s = w.reopen(s) // nobody knows now what was in flight
	appendAll(t, s, numbered(501, 900, 60)...)
	if !slices.EqualFunc(claim, head(), same) {
		t.Error("what may have been in flight has changed after Open")
	}
	s.Release()
	appendAll(t, s, numbered(901, 1100, 60)...)
	if slices.EqualFunc(claim, head(), same) {
		t.Error("released records are still not merged")
	}
	if got := essence(contents2(t, s)); got != essence(numbered(1, 1100, 0)) {
		t.Errorf("essence %.60q", got)
	}
	must(t, s.Commit(last)) // an old number: merged records keep the highest
	s.Release()
	rest := essence(numbered(int(last)+1, 1100, 0))
	if got := essence(contents2(t, s)); !strings.HasSuffix(got, rest) {
		t.Errorf("a commit through %d forgot more: %.60q", last, got)
	}
}

// contents2 reads all records by Rewrite after the claim is given back.
func contents2(t *testing.T, s *spool.Spool) []string {
	t.Helper()
	s.Release()
	return contents(t, s)
}

func TestTheNewestRecordIsNotMerged(t *testing.T) {
	s := newWorld(t, small).open()
	all := numbered(1, 150, 60)
	must(t, s.Rewrite(func([][]byte) ([][]byte, error) {
		var out [][]byte
		for _, r := range all {
			out = append(out, []byte(r))
		}
		return out, nil
	}))
	must(t, s.Compact())
	if last, _, err := s.Last(); err != nil || string(last) != all[149] || s.Bytes() > 8000 {
		t.Errorf("Last() = %.20q, %v, %d bytes; want %.20q", last, err, s.Bytes(), all[149])
	}
}

func TestNothingMoreToGain(t *testing.T) {
	w := newWorld(t, func(o *spool.Options) { o.MaxBytes = 4000 })
	s := w.open()
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, err = s.Append([]byte(strings.Repeat("y", 84)))
	}
	if !errors.Is(err, spool.ErrFull) || s.Bytes() > 8000 || s.Bytes() < 7800 {
		t.Errorf("%d bytes, %v; want ErrFull at 8000", s.Bytes(), err)
	}
	if _, err := s.Append([]byte(strings.Repeat("y", 84))); !errors.Is(err, spool.ErrFull) {
		t.Errorf("Append: %v", err)
	}
	if w.count(spool.OverLimit) != 1 || w.count(spool.Full) != 1 || len(w.events) != 2 {
		t.Errorf("events: %+v", w.events)
	}
	if s.Len() != n-1 {
		t.Errorf("Len() = %d; want %d", s.Len(), n-1)
	}
	must(t, s.Commit(spool.Seq(n-10)))
	appendAll(t, s, "z")
}

func TestMergeThatFailsOrLies(t *testing.T) {
	f := func(name string, fn func([][]byte, int) ([][]byte, error), failed bool) {
		t.Helper()
		w := newWorld(t, func(o *spool.Options) { o.MaxBytes, o.Merge = 4000, fn })
		s := w.open()
		want := numbered(1, 60, 60)
		appendAll(t, s, want...)
		wantContents(t, s, want...)
		if (w.count(spool.MergeFailed) > 0) != failed || w.count(spool.Merged) > 0 {
			t.Errorf("%s: events %+v", name, w.events)
		}
		if n := len(w.files(".tmp")); n != 0 {
			t.Errorf("%s: %d temporary files", name, n)
		}
	}
	f("error", func([][]byte, int) ([][]byte, error) { return nil, errors.New("no") }, true)
	f("nothing", func([][]byte, int) ([][]byte, error) { return nil, nil }, true)
	f("more", func(r [][]byte, _ int) ([][]byte, error) { return append(r, r...), nil }, true)
	f("empty", func(r [][]byte, _ int) ([][]byte, error) { return make([][]byte, 1), nil }, true)
	f("larger", func(r [][]byte, _ int) ([][]byte, error) { return [][]byte{make([]byte, 10000)}, nil }, false)
	f("same", func(r [][]byte, _ int) ([][]byte, error) { return r, nil }, false)
}

// TestOneBadRunDoesNotBlockTheRest: what Merge refuses stays, the rest shrinks.
func TestOneBadRunDoesNotBlockTheRest(t *testing.T) {
	w := newWorld(t, func(o *spool.Options) {
		o.MaxBytes = 8000
		o.Merge = func(r [][]byte, level int) ([][]byte, error) {
			if strings.HasPrefix(string(r[0]), "1#") {
				return nil, errors.New("cannot read record 1")
			}
			return merge(r, level)
		}
	})
	s := w.open()
	must(t, s.Rewrite(func([][]byte) ([][]byte, error) { return nil, nil }))
	all := numbered(1, 300, 60)
	appendAll(t, s, all...)
	if got := contents(t, s); essence(got) != essence(all) || s.Bytes() > 8000 {
		t.Errorf("%d bytes, essence %.60q", s.Bytes(), essence(got))
	}
}

func TestMergingOnAFullDisk(t *testing.T) {
	w := newWorld(t, small)
	fail := false
	w.opts.FS = &hookFS{FS: spool.OS(), torn: true, before: func(op, name string) error {
		if fail && strings.HasSuffix(name, ".tmp") && op == "write" {
			return errors.New("disk full")
		}
		return nil
	}}
	w.opts.SegmentBytes = 1900
	s := w.open()
	all := numbered(1, 80, 60)
	appendAll(t, s, all...)
	fail = true
	before := w.count(spool.Merged)
	for i := 81; ; i++ {
		r := numbered(i, i, 60)[0]
		if _, err := s.Append([]byte(r)); err != nil {
			break // not even a new segment can be made
		}
		all = append(all, r)
	}
	fail = false
	if essence(contents(t, s)) != essence(all) {
		t.Errorf("records differ after a failed merge")
	}
	next := numbered(len(all)+1, len(all)+50, 60)
	appendAll(t, s, next...)
	if essence(contents(t, s)) != essence(append(all, next...)) || w.count(spool.Merged) == before {
		t.Errorf("merging did not go on: %+v", w.events)
	}
}

// TestCrashAtEachStep copies the directory before each operation on it, as a
// killed process would leave it: its copy must hold the state before or after.
func TestCrashAtEachStep(t *testing.T) {
	f := func(name string, minSteps int, act func(s *spool.Spool) error) {
		t.Helper()
		w := newWorld(t, small)
		var copies []string
		watching := false
		w.opts.NoSync = false
		w.opts.FS = &hookFS{FS: spool.OS(), before: func(op, file string) error {
			if watching {
				copies = append(copies, copyDir(t, w.dir))
			}
			return nil
		}}
		s := w.open()
		appendAll(t, s, numbered(1, 70, 60)...)
		must(t, s.Commit(5))
		before := contents(t, s)
		watching = true
		must(t, act(s))
		copies = append(copies, copyDir(t, w.dir))
		watching = false
		after := contents(t, s)
		if len(copies) < minSteps || slices.Equal(before, after) {
			t.Errorf("%s: only %d steps, or no change: the test tests nothing", name, len(copies))
		}
		switched := false
		for i, dir := range copies {
			o := spool.Options{Dir: dir, MaxBytes: 8000, NoSync: true}
			o.Report = func(e spool.Event) {
				if e.Kind != spool.TornTail { // records are written in halves under the tag failpoint
					t.Errorf("%s, step %d: %+v", name, i, e)
				}
			}
			for range 2 {
				c, err := spool.Open(o)
				must(t, err)
				got := contents(t, c)
				is := slices.Equal(got, after)
				if !is && (switched || !slices.Equal(got, before)) {
					t.Errorf("%s, step %d of %d: %d records, neither before nor after: %.40q", name, i, len(copies), len(got), got)
				}
				switched = switched || is
				must(t, c.Close())
			}
		}
		if !switched {
			t.Errorf("%s: the last copy is not the state after", name)
		}
	}
	f("append", 3, func(s *spool.Spool) error { _, err := s.Append([]byte("x")); return err })
	f("append to a new segment", 6, func(s *spool.Spool) error { _, err := s.Append([]byte(strings.Repeat("x", 900))); return err })
	f("commit", 4, func(s *spool.Spool) error { return s.Commit(40) })
	f("rewrite", 8, func(s *spool.Spool) error {
		return s.Rewrite(func(r [][]byte) ([][]byte, error) { return merge(r, 1) })
	})
	f("rewrite to nothing", 8, func(s *spool.Spool) error {
		return s.Rewrite(func([][]byte) ([][]byte, error) { return nil, nil })
	})
}

// TestCrashAtEachStepOfMerging: any number of merges, so the essence is compared.
func TestCrashAtEachStepOfMerging(t *testing.T) {
	w := newWorld(t, small)
	type snapshot struct{ dir, step, want string }
	var copies []snapshot
	var s *spool.Spool
	acked := 0
	w.opts.FS = &hookFS{FS: spool.OS(), before: func(op, file string) error {
		if acked >= 75 && acked < 160 {
			copies = append(copies, snapshot{copyDir(t, w.dir), op + " " + file, fmt.Sprint(acked)})
		}
		return nil
	}}
	s = w.open()
	for i, r := range numbered(1, 160, 60) {
		appendAll(t, s, r)
		acked = i + 1
	}
	if w.count(spool.Merged) < 2 {
		t.Fatalf("only %d merges", w.count(spool.Merged))
	}
	for _, c := range copies {
		var acked int
		_, err := fmt.Sscan(c.want, &acked)
		must(t, err)
		s, err := spool.Open(spool.Options{Dir: c.dir, MaxBytes: 8000, NoSync: true})
		must(t, err)
		got := essence(contents(t, s))
		if got != essence(numbered(1, acked, 0)) && got != essence(numbered(1, acked+1, 0)) {
			t.Errorf("before %s with %d records: %s", c.step, acked, got)
		}
		must(t, s.Close())
	}
}
