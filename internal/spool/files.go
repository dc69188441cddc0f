package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sort"
	"syscall"

	"github.com/wattledger/wattledger/internal/failpoint"
)

const (
	lockName = "lock"
	markName = "committed"
	markSize = 12
	markGap  = 512 // between the two places of the mark: each has a sector of its own
	block    = 4096
)

// errRepaired: the segment was damaged under our hands; its index is right now.
var errRepaired = errors.New("segment was repaired")

// build writes a whole segment under a temporary name: the records that fill
// adds, or none.
func (s *Spool) build(g *segment, fill func(*segmentWriter) error) (err error) {
	g.name = segmentName(g.first, g.gen)
	tmp := s.path(g.name + temporarySuffix)
	f, err := s.opts.FS.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return fmt.Errorf("cannot create %s: %w", tmp, err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("cannot close %s: %w", tmp, cerr)
		}
		if err != nil {
			_ = s.opts.FS.Remove(tmp) // Open deletes it otherwise
		}
	}()
	w, err := newSegmentWriter(f, g.first, g.last, g.gen)
	if err == nil && fill != nil {
		err = fill(w)
	}
	if err == nil {
		err = w.w.Flush()
	}
	if err == nil && !s.opts.NoSync {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", tmp, err)
	}
	g.recs, g.size = w.recs, w.size
	return nil
}

// publish gives a built segment its name, durably. After an error it has none.
func (s *Spool) publish(g *segment) error {
	name := s.path(g.name)
	tmp := name + temporarySuffix
	if g.last != 0 {
		failpoint.Hit(failpoint.SpoolBeforeRename)
	}
	if err := s.opts.FS.Rename(tmp, name); err != nil {
		_ = s.opts.FS.Remove(tmp)
		return fmt.Errorf("cannot rename %s: %w", tmp, err)
	}
	if err := s.syncDir(); err != nil {
		if rerr := removeIfThere(s.opts.FS, name); rerr != nil {
			s.broken = errors.Join(err, rerr)
			s.seal()
		}
		return err
	}
	if g.last != 0 {
		failpoint.Hit(failpoint.SpoolAfterRename)
	}
	return nil
}

func (s *Spool) syncDir() error {
	if s.opts.NoSync {
		return nil
	}
	if err := s.opts.FS.SyncDir(s.opts.Dir); err != nil {
		return fmt.Errorf("cannot sync directory %s: %w", s.opts.Dir, err)
	}
	return nil
}

// after returns the index of the first record above seq.
func (g *segment) after(seq Seq) int {
	return sort.Search(len(g.recs), func(i int) bool { return g.recs[i].seq > seq })
}

// read returns the payloads of records [from, to) of g, which it checks again.
// If one is damaged it repairs the segment and returns errRepaired: the caller
// begins again (mending).
func (s *Spool) read(g *segment, from, to int) ([][]byte, error) {
	start := int64(g.recs[from].off) - recordHeader
	data := make([]byte, int64(g.recs[to-1].off)+int64(g.recs[to-1].n)-start)
	err := s.readAt(g, data, start)
	if err != nil && !damage(err) {
		return nil, fmt.Errorf("cannot read %s: %w", g.name, err)
	}
	out := make([][]byte, 0, to-from)
	for _, e := range g.recs[from:to] {
		at := int64(e.off) - start
		if _, ok := checked(data, int(at)-recordHeader, int64(e.n), e.seq, e.seq); !ok || err != nil {
			return nil, s.mend(g)
		}
		out = append(out, data[at:at+int64(e.n):at+int64(e.n)])
	}
	return out, nil
}

// readAt reads from a segment's file; the one that grows is open already.
func (s *Spool) readAt(g *segment, data []byte, off int64) error {
	if s.active != nil && g == s.segs[len(s.segs)-1] {
		_, err := s.active.ReadAt(data, off)
		return err
	}
	f, err := s.opts.FS.OpenFile(s.path(g.name), os.O_RDONLY)
	if err != nil {
		return err
	}
	_, err = f.ReadAt(data, off)
	return errors.Join(err, f.Close())
}

// mending calls f until it has met no damage. Each time one record less is in
// the index, so it ends.
func (s *Spool) mending(f func() error) error {
	for {
		if err := f(); !errors.Is(err, errRepaired) {
			return err
		}
	}
}

// mend reads a segment again that was found damaged while the spool is open.
func (s *Spool) mend(g *segment) error {
	data, err := s.readFile(g.name)
	if err != nil {
		return err
	}
	p := parse(data, g.first, g.gen)
	known := len(g.recs)
	end := g.end()
	recs := p.recs[:0]
	for _, e := range p.recs {
		if e.seq <= end { // above it: an Append that has failed
			recs = append(recs, e)
		}
	}
	if len(recs) >= known {
		return fmt.Errorf("cannot read %s: it reads differently each time", g.name)
	}
	g.recs = recs
	s.repair(g, end, Event{Lost: known - len(recs), Bytes: p.badBytes}, data)
	s.recount()
	return errRepaired
}

// damage says whether an error of reading means that the content is gone.
func damage(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EIO)
}

// readFile returns a whole file, or as much as the disk still gives.
func (s *Spool) readFile(name string) ([]byte, error) {
	f, err := s.opts.FS.OpenFile(s.path(name), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", name, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("cannot measure %s: %w", name, err)
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return data[:n], nil
	case !damage(err):
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	for at := 0; at < len(data); at += block { // a bad sector costs its block only
		part := data[at:min(at+block, len(data))]
		if _, err := f.ReadAt(part, int64(at)); err != nil {
			clear(part)
		}
	}
	return data, nil
}

// Commit forgets everything up to and including through. Call it only when the
// ledger has booked that. The mark on disk is not synced: if the machine goes down
// the records may be sent again, and the aggregator knows them. For the same
// reason the records are forgotten by this process even when Commit returns an
// error: that says only that a restart may send them again, or that files could
// not be deleted yet. Only a number that was never appended changes nothing.
func (s *Spool) Commit(through Seq) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if through >= s.next {
		return fmt.Errorf("cannot commit spool %s through %d: the newest record is %d", s.opts.Dir, through, s.next-1)
	}
	known := through <= s.committed
	s.committed = max(s.committed, through)
	if s.claimed <= s.committed {
		s.claimed = 0
	}
	if s.frozen <= s.committed {
		s.frozen = 0
	}
	if known {
		return nil
	}
	failpoint.Hit(failpoint.SpoolBeforeCommit)
	err := s.writeMark()
	failpoint.Hit(failpoint.SpoolAfterCommit)
	if err = errors.Join(err, s.tidy()); err != nil {
		return fmt.Errorf("cannot complete commit of spool %s: %w", s.opts.Dir, err)
	}
	return nil
}

// tidy deletes what is void or wholly committed. The newest segment stays, so
// that numbers never start again, and so does the newest record, for Last. A
// segment outlives what it makes void.
func (s *Spool) tidy() error {
	defer s.recount()
	for _, g := range s.segs {
		for len(g.voids) > 0 {
			if err := removeIfThere(s.opts.FS, s.path(g.voids[0])); err != nil {
				return err
			}
			g.voids = g.voids[1:]
		}
	}
	hasRecords := func(g *segment) bool { return len(g.recs) > 0 }
	for len(s.segs) > 1 && s.segs[0].after(s.committed) == len(s.segs[0].recs) {
		if hasRecords(s.segs[0]) && !slices.ContainsFunc(s.segs[1:], hasRecords) {
			break
		}
		if err := removeIfThere(s.opts.FS, s.path(s.segs[0].name)); err != nil {
			return err
		}
		s.segs = s.segs[1:]
	}
	return nil
}

// writeMark notes what is committed. The mark has two places, and the one with
// the older number is written: a write that is cut off spoils that one, and the
// other still holds. It is not synced (see Commit).
func (s *Spool) writeMark() error {
	if s.marker == nil {
		f, err := s.opts.FS.OpenFile(s.path(markName), os.O_RDWR|os.O_CREATE)
		if err != nil {
			return fmt.Errorf("cannot open mark: %w", err)
		}
		s.marker = f
	}
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, markSize), uint64(s.committed))
	b = binary.LittleEndian.AppendUint32(b, checksum(b, nil))
	if _, err := s.marker.WriteAt(b, s.markAt); err != nil {
		s.closeMark() // opened anew by the next commit
		return fmt.Errorf("cannot write mark: %w", err)
	}
	s.markAt = markGap - s.markAt
	return nil
}

func (s *Spool) closeMark() {
	if s.marker != nil {
		_ = s.marker.Close() // what it holds need not last
		s.marker = nil
	}
}

// readMark reads it. A damaged mark is as good as none: records are sent again.
// The first place alone, at the beginning of the file, is what earlier versions
// wrote.
func (s *Spool) readMark() error {
	f, err := s.opts.FS.OpenFile(s.path(markName), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot open mark: %w", err)
	}
	defer f.Close()
	var bad error
	found := false
	for _, at := range []int64{0, markGap} {
		seq, err := markIn(f, at)
		switch {
		case errors.Is(err, io.EOF) && at > 0: // not written yet
		case err != nil && !damage(err) && !errors.Is(err, errMark):
			return fmt.Errorf("cannot read mark: %w", err)
		case err != nil:
			bad = err
		case !found || seq > s.committed:
			s.committed, s.markAt, found = seq, markGap-at, true
		}
	}
	if bad != nil {
		s.opts.Report(Event{Kind: MarkUnreadable, File: markName, Err: bad})
	}
	return nil
}

var errMark = errors.New("wrong checksum")

func markIn(f io.ReaderAt, at int64) (Seq, error) {
	b := make([]byte, markSize)
	if _, err := f.ReadAt(b, at); err != nil {
		return 0, err
	}
	if checksum(b[:8], nil) != binary.LittleEndian.Uint32(b[8:]) {
		return 0, errMark
	}
	return Seq(binary.LittleEndian.Uint64(b)), nil
}
