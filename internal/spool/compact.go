package spool

import (
	"errors"
	"fmt"
)

// MaxLevel is the highest level that Options.Merge is asked for.
const MaxLevel = 3

// errMerge marks an error of Options.Merge, which concerns only its records.
var errMerge = errors.New("merge refused")

// runSegments is how many segments' worth of records are merged at a time.
const runSegments = 4

// Compact makes old records smaller until the spool is a little below its limit
// or nothing more can be gained. Append calls it when it must.
func (s *Spool) Compact() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.compact(0); err != nil {
		return fmt.Errorf("cannot compact spool %s: %w", s.opts.Dir, err)
	}
	return nil
}

// makeRoom sees to it that need more bytes may be written. It reports each
// trouble once per episode.
func (s *Spool) makeRoom(need int64) error {
	need += headerSize // it may begin a segment
	if s.bytes+need > s.opts.MaxBytes {
		if err := errors.Join(s.tidy(), s.compact(need)); err == nil {
			s.failing = false
		} else if !s.failing {
			s.failing = true
			s.opts.Report(Event{Kind: MergeFailed, Err: err})
		}
	}
	if s.bytes+need <= s.opts.MaxBytes {
		s.over, s.full = false, false
		return nil
	}
	if !s.over {
		s.over = true
		s.opts.Report(Event{Kind: OverLimit, Bytes: s.bytes})
	}
	if s.bytes+need <= 2*s.opts.MaxBytes {
		s.full = false
		return nil
	}
	if !s.full {
		s.full = true
		s.opts.Report(Event{Kind: Full, Bytes: s.bytes})
	}
	return fmt.Errorf("%w: %d bytes of at most %d", ErrFull, s.bytes, 2*s.opts.MaxBytes)
}

// compact merges the oldest records first, and only as hard as it must: the
// next level is tried when the whole spool has seen this one and is still too
// large. It stops an eighth below the limit so as not to be called at once again.
func (s *Spool) compact(need int64) error {
	if s.opts.Merge == nil {
		return nil
	}
	target := s.opts.MaxBytes - s.opts.MaxBytes/8
	before, merged := s.bytes, 0
	var err, refused error
	for level := 0; level <= MaxLevel && err == nil && s.bytes+need > s.opts.MaxBytes; level++ {
		for i := 0; s.bytes+need > target && err == nil; i++ {
			from, to := s.run(i)
			if from == to {
				break
			}
			i = to - 1
			if s.exhausted(from, to, level) {
				continue
			}
			var n int
			var smaller bool
			err = s.mending(func() (err error) {
				n, smaller, err = s.merge(from, to, level)
				return err
			})
			merged += n
			if smaller {
				i = from // go on behind the one that replaces the run
			}
			if errors.Is(err, errMerge) { // these records stay as they are; go on with the next
				s.mark(from, to, level)
				err, refused = nil, err
			}
		}
	}
	if merged > 0 {
		s.opts.Report(Event{Kind: Merged, Records: merged, Bytes: before - s.bytes})
	}
	return errors.Join(err, refused)
}

// mark remembers that a run has been tried at a level.
func (s *Spool) mark(from, to, level int) {
	for _, g := range s.segs[from:to] {
		g.tried, g.held = level+1, 0
		if g.first <= s.held() {
			g.held = s.held()
		}
	}
}

// held returns the highest number that must stay as it is.
func (s *Spool) held() Seq { return max(s.claimed, s.frozen) }

// run returns the next run of segments worth merging, from the i-th on: sealed,
// not wholly held, and together about runSegments large.
func (s *Spool) run(i int) (from, to int) {
	n := len(s.segs)
	if s.active != nil {
		n--
	}
	for i < n && s.segs[i].after(max(s.held(), s.committed)) == len(s.segs[i].recs) {
		i++
	}
	from, to = i, i
	for size := int64(0); to < n && size < runSegments*s.opts.SegmentBytes; to++ {
		size += s.segs[to].size
	}
	return from, to
}

// exhausted says whether all of a run has been tried at this level, with the
// same records held.
func (s *Spool) exhausted(from, to, level int) bool {
	for _, g := range s.segs[from:to] {
		if g.tried <= level || g.held != 0 && g.held != s.held() {
			return false
		}
	}
	return true
}

// merge replaces the segments [from, to) by one if that is smaller, and returns
// how many records were merged for it.
func (s *Spool) merge(from, to, level int) (merged int, smaller bool, err error) {
	run := s.segs[from:to]
	fresh := &segment{first: run[0].first, last: run[len(run)-1].end(), tried: level + 1}
	var size int64
	for _, g := range run {
		size += g.size
		fresh.gen = max(fresh.gen, g.gen+1)
		fresh.voids = append(append(fresh.voids, g.voids...), g.name)
	}
	if fresh.first <= s.held() {
		fresh.held = s.held()
	}
	m := merger{s: s, level: level}
	if err := s.build(fresh, func(w *segmentWriter) error { return m.copy(w, run) }); err != nil {
		return 0, false, err
	}
	if fresh.size >= size {
		s.mark(from, to, level)
		return 0, false, removeIfThere(s.opts.FS, s.path(fresh.name+temporarySuffix))
	}
	if err := s.publish(fresh); err != nil {
		return 0, false, err
	}
	s.segs = append(append(append([]*segment{}, s.segs[:from]...), fresh), s.segs[to:]...)
	return m.seen, true, s.tidy()
}

// merger copies records and merges them on the way.
type merger struct {
	s     *Spool
	level int
	batch [][]byte
	seqs  []Seq
	bytes int64
	seen  int
}

func (m *merger) copy(w *segmentWriter, run []*segment) error {
	for _, g := range run {
		i := g.after(m.s.committed)
		if i == len(g.recs) {
			continue
		}
		payloads, err := m.s.read(g, i, len(g.recs))
		if err != nil {
			return err
		}
		for k, e := range g.recs[i:] {
			if e.seq <= m.s.held() || e.seq == m.s.next-1 { // in flight, or the newest
				if err := m.flush(w); err != nil {
					return err
				}
				if err := w.add(e.seq, payloads[k]); err != nil {
					return err
				}
				continue
			}
			m.batch, m.seqs = append(m.batch, payloads[k]), append(m.seqs, e.seq)
			if m.bytes += int64(e.n); m.bytes >= runSegments*m.s.opts.SegmentBytes {
				if err := m.flush(w); err != nil {
					return err
				}
			}
		}
	}
	return m.flush(w)
}

// flush writes the batch, merged if that makes it smaller. The replacement gets
// the highest numbers of what it replaces: committing a part of the old range
// then forgets none of it.
func (m *merger) flush(w *segmentWriter) error {
	if len(m.batch) == 0 {
		return nil
	}
	out, err := m.s.opts.Merge(m.batch, m.level)
	if err != nil {
		return fmt.Errorf("cannot merge records %d to %d: %w: %w", m.seqs[0], m.seqs[len(m.seqs)-1], errMerge, err)
	}
	if len(out) == 0 || len(out) > len(m.batch) {
		return fmt.Errorf("cannot merge records %d to %d: %w: they became %d",
			m.seqs[0], m.seqs[len(m.seqs)-1], errMerge, len(out))
	}
	total := int64(recordHeader * (len(out) - len(m.batch)))
	for _, b := range out {
		if err := checkSize(b); err != nil {
			return fmt.Errorf("cannot merge records %d to %d: %w: %w", m.seqs[0], m.seqs[len(m.seqs)-1], errMerge, err)
		}
		total += int64(len(b))
	}
	if total >= m.bytes {
		out = m.batch
	} else {
		m.seen += len(m.batch)
	}
	for i, b := range out {
		if err := w.add(m.seqs[len(m.seqs)-len(out)+i], b); err != nil {
			return err
		}
	}
	m.batch, m.seqs, m.bytes = m.batch[:0], m.seqs[:0], 0
	return nil
}

// Rewrite replaces all records that are not committed by what f makes of them,
// in one step: after a crash or an error there are either all the old or all the
// new ones. The new records get new numbers. f may return more or fewer records,
// or none; it must not call the spool. ErrInFlight while records are claimed.
func (s *Spool) Rewrite(f func(records [][]byte) ([][]byte, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.rewrite(f); err != nil {
		return fmt.Errorf("cannot rewrite spool %s: %w", s.opts.Dir, err)
	}
	close(s.wake)
	s.wake = make(chan struct{})
	return nil
}

func (s *Spool) rewrite(f func(records [][]byte) ([][]byte, error)) error {
	if s.claimed != 0 {
		return ErrInFlight
	}
	var records [][]byte
	err := s.mending(func() error {
		records = records[:0]
		for _, g := range s.segs {
			i := g.after(s.committed)
			if i == len(g.recs) {
				continue
			}
			got, err := s.read(g, i, len(g.recs))
			if err != nil {
				return err
			}
			records = append(records, got...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	out, err := f(records)
	if err != nil {
		return err
	}
	fresh := &segment{first: s.next, last: s.next + Seq(len(out)) - 1}
	if len(s.segs) > 0 {
		fresh.first = s.segs[0].first
	}
	for _, g := range s.segs {
		fresh.gen = max(fresh.gen, g.gen+1)
		fresh.voids = append(append(fresh.voids, g.voids...), g.name)
	}
	if len(out) == 0 && len(records) == 0 {
		return nil
	}
	err = s.build(fresh, func(w *segmentWriter) error {
		for i, b := range out {
			if err := w.add(s.next+Seq(i), b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.publish(fresh); err != nil {
		return err
	}
	s.seal()
	s.segs = []*segment{fresh}
	s.next, s.frozen = fresh.last+1, 0
	s.over, s.full = false, false
	_ = s.tidy() // what cannot be deleted now is tried again at the next commit
	return nil
}
