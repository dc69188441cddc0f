package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/wattledger/wattledger/internal/failpoint"
)

// What callers may ask for with errors.Is.
var (
	// ErrEmpty: nothing is kept that is not committed.
	ErrEmpty = errors.New("spool is empty")
	// ErrFull: twice MaxBytes is in use and merging gains nothing more.
	ErrFull = errors.New("spool is full")
	// ErrClosed: the spool was closed.
	ErrClosed = errors.New("spool is closed")
	// ErrInFlight: the operation needs all claims released or committed.
	ErrInFlight = errors.New("records are in flight")
	// ErrSize: a record is empty or larger than MaxRecord.
	ErrSize = errors.New("record of a wrong size")
)

// maxMaxBytes keeps offsets within a segment in 32 bits.
const maxMaxBytes = 1 << 30

// Options say where a spool is and how large it may grow.
type Options struct {
	// Dir holds the files; it is made if absent. It must survive a reboot.
	Dir string
	// MaxBytes bounds the segments on disk (default 32 MiB, at most 1 GiB). Above it old records
	// are merged; what cannot be merged is kept up to twice MaxBytes.
	MaxBytes int64
	// SegmentBytes is the size at which a new file is begun (default the smaller
	// of 1 MiB and MaxBytes/8, at most MaxBytes/4).
	SegmentBytes int64
	// ClaimBytes bounds the payload of one Next (default 256 KiB, at most
	// MaxBytes/4). So much of the head may have been in flight when the process
	// died, and is not merged after Open until its fate is known.
	ClaimBytes int64
	// NoSync leaves out every fsync: for spools that need not survive the machine.
	NoSync bool
	// Merge makes a run of consecutive records smaller: it returns at least one
	// and at most as many payloads that mean the same. level says how hard to try:
	// 0 drops nothing and only joins, 1 to MaxLevel thin further. It must not keep
	// or change records. nil: no merging.
	Merge func(records [][]byte, level int) ([][]byte, error)
	// Report is told what a person must know. nil: nobody is told.
	Report func(Event)
	// FS is the file system; nil means OS().
	FS FS
}

func (o *Options) setDefaults() error {
	if o.Dir == "" {
		return errors.New("cannot open spool: no directory given")
	}
	if o.MaxBytes < 0 || o.SegmentBytes < 0 || o.ClaimBytes < 0 {
		return fmt.Errorf("cannot open spool %s: a size is negative", o.Dir)
	}
	if o.MaxBytes > maxMaxBytes {
		return fmt.Errorf("cannot open spool %s: a limit of %d bytes is more than %d", o.Dir, o.MaxBytes, maxMaxBytes)
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 32 << 20
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = min(1<<20, o.MaxBytes/8)
	}
	if o.ClaimBytes == 0 {
		o.ClaimBytes = 256 << 10
	}
	o.SegmentBytes = min(o.SegmentBytes, o.MaxBytes/4)
	o.ClaimBytes = max(1, min(o.ClaimBytes, o.MaxBytes/4))
	if o.Report == nil {
		o.Report = func(Event) {}
	}
	if o.FS == nil {
		o.FS = OS()
	}
	return nil
}

// Spool is an open spool. Its methods may be called from several goroutines;
// the package comment says how.
type Spool struct {
	opts Options
	lock io.Closer

	mu        sync.Mutex
	segs      []*segment // by first; ranges do not overlap
	active    File       // of the last segment, if it may still grow
	marker    File       // of what is committed; nil before the first commit
	markAt    int64      // where it is written next: the place with the older number
	next      Seq        // of the next Append
	committed Seq
	count     int   // records kept and not committed
	bytes     int64 // of all segments
	claimed   Seq   // end of the claim in flight, 0 if none
	frozen    Seq   // end of what may have been in flight before Open
	wake      chan struct{}
	buf       []byte
	closed    bool
	broken    error // memory and disk may differ: only Open can tell

	over, full, failing bool // this episode has been reported
}

// Append adds b at the end and returns its number once it is on stable storage.
// After an error nothing of b will ever be read; the spool stays usable, and
// with a full disk the error wraps syscall.ENOSPC. ErrSize, ErrFull, ErrClosed.
func (s *Spool) Append(b []byte) (Seq, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return 0, err
	}
	seq, err := s.append(b)
	if err != nil {
		return 0, fmt.Errorf("cannot append to spool %s: %w", s.opts.Dir, err)
	}
	close(s.wake)
	s.wake = make(chan struct{})
	return seq, nil
}

func (s *Spool) append(b []byte) (Seq, error) {
	if err := checkSize(b); err != nil {
		return 0, err
	}
	need := int64(recordHeader + len(b))
	if err := s.makeRoom(need); err != nil {
		return 0, err
	}
	if s.active != nil {
		g := s.segs[len(s.segs)-1]
		if len(g.recs) > 0 && g.size+need > s.opts.SegmentBytes {
			s.seal()
		}
	}
	if s.active == nil {
		if err := s.begin(); err != nil {
			return 0, err
		}
	}
	g := s.segs[len(s.segs)-1]
	if err := s.write(g.size, b); err != nil {
		return 0, err
	}
	seq := s.next
	g.recs = append(g.recs, entry{seq: seq, off: uint32(g.size + recordHeader), n: uint32(len(b))})
	g.size += need
	s.bytes += need
	s.count++
	s.next++
	return seq, nil
}

// write puts one record at off of the active segment and makes it durable, or
// takes it back.
func (s *Spool) write(off int64, b []byte) error {
	s.buf = appendRecord(s.buf[:0], s.next, b)
	rec := s.buf
	if cap(s.buf) > 1<<20 {
		s.buf = nil
	}
	err := func() error {
		if failpoint.Enabled {
			half := len(rec) / 2
			if _, err := s.active.WriteAt(rec[:half], off); err != nil {
				return err
			}
			failpoint.Hit(failpoint.SpoolTorn)
			rec, off = rec[half:], off+int64(half)
		}
		_, err := s.active.WriteAt(rec, off)
		return err
	}()
	if err != nil {
		s.takeBack(false)
		return err
	}
	failpoint.Hit(failpoint.SpoolBeforeSync)
	if !s.opts.NoSync {
		if err := s.active.Sync(); err != nil {
			s.takeBack(true)
			return err
		}
	}
	failpoint.Hit(failpoint.SpoolAfterSync)
	return nil
}

// takeBack undoes a failed write. A file whose sync has failed is not written
// again: the kernel may have dropped pages and forgotten it. If the record cannot
// be cut off, the next segment, which begins with the same number, makes it void.
func (s *Spool) takeBack(syncFailed bool) {
	err := s.active.Truncate(s.segs[len(s.segs)-1].size)
	if err == nil && !syncFailed {
		return
	}
	if err == nil {
		err = s.active.Sync()
	}
	s.seal()
	if err != nil {
		_ = s.begin() // if this fails too, the next Append tries again
	}
}

// seal ends the active segment; it is not written again.
func (s *Spool) seal() {
	if s.active != nil {
		_ = s.active.Close() // every record in it is synced already
		s.active = nil
	}
}

// begin makes a new active segment that starts with the next number.
func (s *Spool) begin() error {
	g := &segment{first: s.next}
	rest := s.segs
	if n := len(s.segs); n > 0 && s.segs[n-1].first == s.next { // holds nothing but a failed record
		old := s.segs[n-1]
		g.gen, g.voids, rest = old.gen+1, append(old.voids, old.name), s.segs[:n-1]
	}
	if err := s.build(g, nil); err != nil {
		return err
	}
	if err := s.publish(g); err != nil {
		return err
	}
	s.segs = append(rest, g)
	f, err := s.opts.FS.OpenFile(s.path(g.name), os.O_RDWR)
	if err == nil {
		s.active = f
	}
	_ = s.tidy() // what cannot be deleted now is tried again at the next commit
	return err
}

// Len returns how many records are kept and not committed.
func (s *Spool) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Bytes returns the size of the segments on disk, committed records in them
// included.
func (s *Spool) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// Wait returns nil as soon as there is a record that is not committed, ErrClosed
// when the spool is closed, or the error of ctx.
func (s *Spool) Wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		err, count, wake := s.open(), s.count, s.wake
		s.mu.Unlock()
		if err != nil || count > 0 {
			return err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Last returns the newest record, committed or not, and its number: what was
// appended last stays readable until something is appended after it. ErrEmpty,
// ErrClosed.
func (s *Spool) Last() ([]byte, Seq, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		return nil, 0, err
	}
	var record []byte
	var seq Seq
	err := s.mending(func() error {
		for _, g := range slices.Backward(s.segs) {
			n := len(g.recs)
			if n == 0 {
				continue
			}
			got, err := s.read(g, n-1, n)
			if err != nil {
				return err
			}
			record, seq = got[0], g.recs[n-1].seq
			return nil
		}
		return ErrEmpty
	})
	return record, seq, err
}

// Close gives the directory back. Everything appended is durable already; a
// second Close does nothing.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.seal()
	s.closeMark()
	close(s.wake)
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("cannot unlock spool %s: %w", s.opts.Dir, err)
	}
	return nil
}

// open returns why nothing can be read.
func (s *Spool) open() error {
	if s.closed {
		return ErrClosed
	}
	return nil
}

// usable returns why nothing can be written.
func (s *Spool) usable() error {
	if s.closed {
		return ErrClosed
	}
	if s.broken != nil {
		return fmt.Errorf("cannot use spool %s until it is opened again: %w", s.opts.Dir, s.broken)
	}
	return nil
}

func (s *Spool) path(name string) string { return filepath.Join(s.opts.Dir, name) }

// recount brings the sums up to date with the list of segments.
func (s *Spool) recount() {
	s.bytes, s.count = 0, 0
	for _, g := range s.segs {
		s.bytes += g.size
		s.count += len(g.recs) - g.after(s.committed)
	}
}
