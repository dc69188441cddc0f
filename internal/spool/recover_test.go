package spool_test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/wattledger/wattledger/internal/spool"
)

func TestTornTailIsCutAtEveryOffset(t *testing.T) {
	w := newWorld(t, nil)
	s := w.open()
	appendAll(t, s, "first", "second")
	whole := s.Bytes()
	appendAll(t, s, "the third is torn")
	end := s.Bytes()
	must(t, s.Close())
	name := w.files(".seg")[0]
	data, err := os.ReadFile(name)
	must(t, err)
	f := func(tail []byte, torn bool) {
		t.Helper()
		w.events = nil
		must(t, os.WriteFile(name, append(slices.Clone(data[:whole]), tail...), 0o600))
		s := w.open()
		wantContents(t, s, "first", "second")
		if n := w.count(spool.TornTail); (n == 1) != torn || len(w.events) > 1 {
			t.Errorf("tail of %d bytes: %+v", len(tail), w.events)
		}
		appendAll(t, s, "next")
		s = w.reopen(s)
		wantContents(t, s, "first", "second", "next")
		must(t, s.Close())
	}
	f(nil, false)
	for cut := whole + 1; cut < end; cut++ {
		f(data[whole:cut], true)
	}
	f(make([]byte, 4096), true) // blocks that were never written
	if n := len(w.files("damaged")); n != 0 {
		t.Errorf("%d files moved aside for torn tails", n)
	}
}

// TestAnyFlippedBit flips bits in each byte of a spool of three segments. One
// record at most is lost, never silently, and the damaged file is kept.
func TestAnyFlippedBit(t *testing.T) {
	w := newWorld(t, func(o *spool.Options) { o.SegmentBytes = 100 })
	s := w.open()
	records := []string{"one---------", "two---------", "three-------", "four--------", "five--------", "six"}
	appendAll(t, s, records...)
	must(t, s.Close())
	files := w.files(".seg")
	if len(files) != 3 {
		t.Fatalf("%d segments; the test wants 3", len(files))
	}
	for i, name := range files {
		data, err := os.ReadFile(name)
		must(t, err)
		for bit := range len(data) * 8 {
			if (bit+bit/8)%4 != 0 {
				continue // two bits of each byte, all of them over the bytes
			}
			must(t, flipAndOpen(t, w, name, bit, records))
			if t.Failed() {
				t.Fatalf("segment %d, bit %d of byte %d", i, bit%8, bit/8)
			}
		}
	}
}

func flipAndOpen(t *testing.T, w *world, name string, bit int, records []string) error {
	c := &world{t: t, dir: copyDir(t, w.dir)}
	c.opts = w.opts
	c.opts.Dir = c.dir
	c.opts.Report = func(e spool.Event) { c.events = append(c.events, e) }
	name = c.dir + name[len(w.dir):]
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	data[bit/8] ^= 1 << (bit % 8)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		return err
	}
	for round := range 2 {
		s, err := spool.Open(c.opts)
		if err != nil {
			return err
		}
		got := contents(t, s)
		if round == 1 && !slices.Equal(got, records) {
			t.Errorf("after another Open: %q; want %q", got, records)
		}
		if err := checkFlip(c, got, records); round == 0 && err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if _, err := s.Append([]byte("after")); err != nil {
			return err
		}
		if round == 0 && len(c.events) != 1 {
			t.Errorf("events: %+v", c.events)
		}
		records = append(got, "after")
		if err := s.Close(); err != nil {
			return err
		}
	}
	if len(c.events) != 1 {
		t.Errorf("events after the second Open: %+v", c.events)
	}
	return nil
}

// checkFlip says what is wrong with the records after one bit was flipped.
func checkFlip(c *world, got, want []string) error {
	lost := 0
	for _, e := range c.events {
		lost += e.Lost
		if e.Err != nil {
			return e.Err
		}
	}
	damaged := len(c.files("damaged"))
	if c.count(spool.TornTail) == 1 { // a longer length of the last record looks so
		lost, damaged = 1, damaged+1
	}
	if damaged != 1 {
		return fmt.Errorf("%d damaged files are kept; events %+v", damaged, c.events)
	}
	if slices.Equal(got, want) {
		return nil
	}
	for i := range want { // else one record is missing, and was reported
		if lost == 1 && slices.Equal(got, slices.Delete(slices.Clone(want), i, i+1)) {
			return nil
		}
	}
	return fmt.Errorf("records %q, %d lost by the reports", got, lost)
}

func TestDamageWhileOpen(t *testing.T) {
	f := func(damage func(name string, data []byte) error, want ...string) {
		t.Helper()
		w := newWorld(t, nil)
		s := w.open()
		appendAll(t, s, "one", "two", "three")
		name := w.files(".seg")[0]
		data, err := os.ReadFile(name)
		must(t, err)
		must(t, damage(name, data))
		first, last, records, err := s.Next(0, 0)
		if err != nil || len(records) != len(want) {
			t.Fatalf("Next = %d to %d, %q, %v; want %q", first, last, records, err, want)
		}
		s.Release()
		if w.count(spool.Damaged) != 1 || w.events[0].Lost != 3-len(want) {
			t.Errorf("events: %+v", w.events)
		}
		wantContents(t, s, want...)
		appendAll(t, s, "four")
		s = w.reopen(s)
		wantContents(t, s, append(want, "four")...)
		if len(w.events) != 1 {
			t.Errorf("events: %+v", w.events)
		}
	}
	f(func(name string, data []byte) error {
		data[32+16+3+16] ^= 1
		return os.WriteFile(name, data, 0o600)
	}, "one", "three")
	f(func(name string, data []byte) error { return os.Truncate(name, int64(len(data)-1)) }, "one", "two")
}

func TestVanishedSegmentIsReported(t *testing.T) {
	w := newWorld(t, func(o *spool.Options) { o.SegmentBytes = 100 })
	s := w.open()
	appendAll(t, s, numbered(1, 6, 30)...)
	must(t, s.Close())
	must(t, os.Remove(w.files(".seg")[1]))
	s = w.open()
	if w.count(spool.Missing) != 1 || w.events[0].Lost != 6-s.Len() {
		t.Errorf("%d records left, events: %+v", s.Len(), w.events)
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	w := newWorld(t, nil)
	f := func(name string, stays bool) {
		t.Helper()
		must(t, os.WriteFile(w.dir+"/"+name, []byte("x"), 0o600))
		must(t, w.open().Close())
		if _, err := os.Stat(w.dir + "/" + name); (err == nil) != stays {
			t.Errorf("%s: stays = %v", name, err == nil)
		}
	}
	f("README", true)
	f("notes.tmp", true)
	f("1-2.seg", true)
	f("0000000000000001-00000000.seg.damaged-1", true)
	f("0000000000000001-00000001.seg.tmp", false)
	f("committed.tmp", false)
}

func FuzzParse(f *testing.F) {
	good := spool.SegmentForTest(7, 0, 0, []spool.Seq{7, 8, 9}, [][]byte{[]byte("a"), []byte("bb"), []byte("ccc")})
	f.Add(good, uint32(0))
	f.Add(spool.SegmentForTest(7, 100, 3, []spool.Seq{50, 100}, [][]byte{[]byte("a"), []byte("bb")}), uint32(3))
	f.Add(good[:len(good)-1], uint32(0))
	f.Add(append(slices.Clone(good[:40]), good...), uint32(1))
	f.Fuzz(func(t *testing.T, data []byte, gen uint32) {
		seqs, payloads := spool.ParseForTest(data, 7, gen)
		last := spool.Seq(6)
		for i, p := range payloads {
			if seqs[i] <= last {
				t.Errorf("number %d after %d", seqs[i], last)
			}
			last = seqs[i]
			// The record must stand in the data with its checksum: only its length may be mended.
			want := spool.SegmentForTest(7, 0, 0, seqs[i:i+1], payloads[i:i+1])[32+4:]
			if len(p) == 0 || !containsAt(data, want) {
				t.Errorf("record %d %q is not in the data with this checksum", seqs[i], p)
			}
		}
	})
}

func containsAt(data, want []byte) bool {
	for i := 0; i+len(want) <= len(data); i++ {
		if slices.Equal(data[i:i+len(want)], want) {
			return true
		}
	}
	return false
}
