package spool_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/spool"
)

func TestRecordsComeInOrderAndGoByCommit(t *testing.T) {
	w := newWorld(t, nil)
	s := w.open()
	if _, _, err := s.Last(); !errors.Is(err, spool.ErrEmpty) {
		t.Errorf("Last of an empty spool: %v", err)
	}
	if _, _, _, err := s.Next(0, 0); !errors.Is(err, spool.ErrEmpty) {
		t.Errorf("Next of an empty spool: %v", err)
	}
	if _, _, err := s.Last(); !errors.Is(err, spool.ErrEmpty) {
		t.Errorf("Last of an empty spool: %v", err)
	}
	appendAll(t, s, "a", "bb", "ccc", "dddd")
	f := func(maxBytes, maxRecords int, want ...string) spool.Seq {
		t.Helper()
		first, last, got, err := s.Next(maxBytes, maxRecords)
		must(t, err)
		var text []string
		for _, b := range got {
			text = append(text, string(b))
		}
		if !slices.Equal(text, want) || last-first != spool.Seq(len(want)-1) {
			t.Errorf("Next(%d, %d) = %d to %d %q; want %q", maxBytes, maxRecords, first, last, text, want)
		}
		return last
	}
	f(0, 0, "a", "bb", "ccc", "dddd")
	f(1, 0, "a")
	f(2, 0, "a")
	f(3, 0, "a", "bb")
	must(t, s.Commit(f(0, 2, "a", "bb")))
	f(1, 0, "ccc") // at least one
	wantLast := func(want string) {
		t.Helper()
		if b, _, err := s.Last(); err != nil || string(b) != want {
			t.Errorf("Last() = %q, %v; want %q", b, err, want)
		}
	}
	wantLast("dddd")
	s = w.reopen(s)
	wantContents(t, s, "ccc", "dddd")
	must(t, s.Commit(f(0, 0, "ccc", "dddd")))
	must(t, s.Commit(1)) // old news
	s = w.reopen(s)
	wantContents(t, s)
	wantLast("dddd") // committed, and the newest there is
	if seq, err := s.Append([]byte("e")); err != nil || seq != 5 {
		t.Errorf("Append = %d, %v; want number 5", seq, err)
	}
	if err := s.Commit(6); err == nil || !strings.Contains(err.Error(), "newest record is 5") {
		t.Errorf("commit of a number that was never given: %v", err)
	}
	wantContents(t, s, "e")
	if len(w.events) > 0 {
		t.Errorf("events: %+v", w.events)
	}
}

func TestNextIsBoundedByTheClaim(t *testing.T) {
	w := newWorld(t, func(o *spool.Options) { o.ClaimBytes = 10 })
	s := w.open()
	appendAll(t, s, "12345", "12345", "1")
	if _, last, _, err := s.Next(1000, 0); err != nil || last != 2 {
		t.Errorf("last = %d, %v; want 2", last, err)
	}
}

func TestSegmentsAreCutAndDeleted(t *testing.T) {
	w := newWorld(t, func(o *spool.Options) { o.SegmentBytes = 200 })
	s := w.open()
	want := numbered(1, 50, 60)
	appendAll(t, s, want...)
	if n := len(w.files(".seg")); n != 25 {
		t.Errorf("%d segments; want 25", n)
	}
	s = w.reopen(s)
	wantContents(t, s, want...)
	must(t, s.Commit(25))
	if n := len(w.files(".seg")); n != 13 {
		t.Errorf("%d segments after half was committed; want 13", n)
	}
	must(t, s.Commit(50))
	if n := len(w.files(".seg")); n != 1 {
		t.Errorf("%d segments after all was committed; want the newest", n)
	}
	var size int64
	for _, name := range w.files(".seg") {
		info, err := os.Stat(name)
		must(t, err)
		size += info.Size()
	}
	if s.Bytes() != size {
		t.Errorf("Bytes() = %d; on disk %d", s.Bytes(), size)
	}
}

func TestNumbersGoOnWithoutTheMark(t *testing.T) {
	w := newWorld(t, func(o *spool.Options) { o.SegmentBytes = 100 })
	s := w.open()
	appendAll(t, s, numbered(1, 9, 60)...)
	must(t, s.Commit(9))
	must(t, s.Close())
	must(t, os.Remove(w.dir+"/committed"))
	s = w.open()
	if seq, err := s.Append([]byte("x")); err != nil || seq != 10 {
		t.Errorf("Append = %d, %v; want number 10", seq, err)
	}
}

func TestDamagedMarkOnlySendsAgain(t *testing.T) {
	f := func(spoil func([]byte) []byte) {
		t.Helper()
		w := newWorld(t, nil)
		s := w.open()
		appendAll(t, s, "a", "b")
		must(t, s.Commit(1))
		must(t, s.Close())
		b, err := os.ReadFile(w.dir + "/committed")
		must(t, err)
		must(t, os.WriteFile(w.dir+"/committed", spoil(b), 0o600))
		wantContents(t, w.open(), "a", "b")
		if w.count(spool.MarkUnreadable) != 1 {
			t.Errorf("events: %+v", w.events)
		}
	}
	f(func(b []byte) []byte { b[0] ^= 2; return b })
	f(func([]byte) []byte { return nil })
	f(func(b []byte) []byte { return b[:11] })
}

// TestMarkIsWrittenInTwoPlaces: a write that the machine did not finish spoils
// one of them, and costs that commit alone.
func TestMarkIsWrittenInTwoPlaces(t *testing.T) {
	for commits := 2; commits <= 5; commits++ {
		for _, half := range []int{1, 6, 11} {
			w := newWorld(t, nil)
			s := w.open()
			all := numbered(1, 6, 10)
			appendAll(t, s, all...)
			for seq := spool.Seq(1); seq <= spool.Seq(commits); seq++ {
				if seq == 3 {
					s = w.reopen(s) // goes on where the older number is
				}
				must(t, s.Commit(seq))
			}
			must(t, s.Close())
			after, err := os.ReadFile(w.dir + "/committed")
			must(t, err)
			place := after[(commits-1)%2*512:]
			copy(place[half:12], "what came after the cut")
			must(t, os.WriteFile(w.dir+"/committed", after, 0o600))
			s = w.open()
			wantContents(t, s, all[commits-1:]...)
			must(t, s.Commit(6))
			wantContents(t, w.reopen(s))
		}
	}
}

// TestMarkOfAnEarlierVersion: one place, at the beginning of the file.
func TestMarkOfAnEarlierVersion(t *testing.T) {
	w := newWorld(t, nil)
	s := w.open()
	appendAll(t, s, "a", "b", "c")
	must(t, s.Close())
	b := binary.LittleEndian.AppendUint64(nil, 2)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	must(t, os.WriteFile(w.dir+"/committed", b, 0o600))
	s = w.open()
	wantContents(t, s, "c")
	must(t, s.Commit(3))
	wantContents(t, w.reopen(s))
	if len(w.events) > 0 {
		t.Errorf("events: %+v", w.events)
	}
}

// TestNewestRecordStays: the agent starts again from it, whoever has booked it.
func TestNewestRecordStays(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5, 6} {
		w := newWorld(t, func(o *spool.Options) { o.SegmentBytes = 200 })
		full := false
		w.opts.FS = &hookFS{FS: spool.OS(), before: func(op, name string) error {
			if full && op == "write" && strings.HasSuffix(name, ".seg") {
				return syscall.EIO
			}
			return nil
		}}
		s := w.open()
		all := numbered(1, n, 60)
		for i, r := range all {
			appendAll(t, s, r)
			must(t, s.Commit(spool.Seq(i+1)))
		}
		want := func(when string) {
			t.Helper()
			if b, seq, err := s.Last(); err != nil || string(b) != all[n-1] || seq != spool.Seq(n) {
				t.Errorf("%d records, %s: Last is %d %.5q, %v", n, when, seq, b, err)
			}
		}
		want("all committed")
		full = true // a segment is begun, and the record does not reach it
		for range 3 {
			_, _ = s.Append([]byte(strings.Repeat("y", 150)))
		}
		full = false
		want("after a failed append")
		s = w.reopen(s)
		want("opened again")
		if s.Len() != 0 {
			t.Errorf("%d records are not committed", s.Len())
		}
	}
}

func TestWrongSizesAreRefused(t *testing.T) {
	s := newWorld(t, nil).open()
	for _, n := range []int{0, spool.MaxRecord + 1} {
		if _, err := s.Append(make([]byte, n)); !errors.Is(err, spool.ErrSize) {
			t.Errorf("Append of %d bytes: %v; want ErrSize", n, err)
		}
	}
	appendAll(t, s, strings.Repeat("x", spool.MaxRecord))
	if s.Len() != 1 {
		t.Errorf("Len() = %d", s.Len())
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	f := func(o spool.Options, want string) {
		t.Helper()
		if _, err := spool.Open(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%+v): %v; want %q in it", o, err, want)
		}
	}
	f(spool.Options{}, "no directory")
	f(spool.Options{Dir: t.TempDir(), MaxBytes: -1}, "negative")
	f(spool.Options{Dir: t.TempDir(), MaxBytes: 1 << 40}, "more than")
}

func TestOneProcessAtATime(t *testing.T) {
	w := newWorld(t, nil)
	s := w.open()
	_, err := spool.Open(w.opts)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("second Open: %v; want the pid of the holder", err)
	}
	must(t, s.Close())
	must(t, s.Close())
	w.open()
}

func TestClosedSpoolSaysSo(t *testing.T) {
	s := newWorld(t, nil).open()
	appendAll(t, s, "a")
	must(t, s.Close())
	_, err1 := s.Append([]byte("b"))
	_, _, _, err2 := s.Next(0, 0)
	_, _, err3 := s.Last()
	for _, err := range []error{err1, err2, err3, s.Commit(1), s.Rewrite(nil), s.Compact(), s.Wait(t.Context())} {
		if !errors.Is(err, spool.ErrClosed) {
			t.Errorf("got %v; want ErrClosed", err)
		}
	}
}

func TestWaitReturnsWhenThereIsSomethingToSend(t *testing.T) {
	s := newWorld(t, nil).open()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait on an empty spool: %v", err)
	}
	done := make(chan error)
	go func() { done <- s.Wait(t.Context()) }()
	appendAll(t, s, "a")
	must(t, <-done)
	must(t, s.Wait(ctx)) // there is something: the context is not asked
	must(t, s.Commit(1))
	go func() { done <- s.Wait(t.Context()) }()
	must(t, s.Close())
	if err := <-done; !errors.Is(err, spool.ErrClosed) {
		t.Errorf("Wait over Close: %v", err)
	}
}

func TestRewriteReplacesEverything(t *testing.T) {
	w := newWorld(t, func(o *spool.Options) { o.SegmentBytes = 100 })
	s := w.open()
	f := func(out, want []string) {
		t.Helper()
		must(t, s.Rewrite(func([][]byte) ([][]byte, error) {
			var b [][]byte
			for _, r := range out {
				b = append(b, []byte(r))
			}
			return b, nil
		}))
		wantContents(t, s, want...)
		s = w.reopen(s)
		wantContents(t, s, want...)
	}
	f(nil, nil)
	f([]string{"first"}, []string{"first"})
	appendAll(t, s, numbered(1, 9, 50)...)
	f([]string{"x", "y"}, []string{"x", "y"})
	f(numbered(1, 30, 50), numbered(1, 30, 50))
	appendAll(t, s, "more")
	wantContents(t, s, append(numbered(1, 30, 50), "more")...)
	f(nil, nil)
	appendAll(t, s, "again")
	s = w.reopen(s)
	wantContents(t, s, "again")
	_, last, _, err := s.Next(0, 0)
	must(t, err)
	if err := s.Rewrite(nil); !errors.Is(err, spool.ErrInFlight) {
		t.Errorf("Rewrite with a claim: %v", err)
	}
	must(t, s.Commit(last))
	if n := len(w.files(".seg")); n != 1 {
		t.Errorf("%d segments left: %v", n, w.files(".seg"))
	}
	err = s.Rewrite(func([][]byte) ([][]byte, error) { return [][]byte{nil}, nil })
	if !errors.Is(err, spool.ErrSize) {
		t.Errorf("Rewrite to an empty record: %v", err)
	}
	if len(w.events) > 0 {
		t.Errorf("events: %+v", w.events)
	}
}
