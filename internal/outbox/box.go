package outbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// ErrClosed is given by a box that is closed.
var ErrClosed = errors.New("the buffer is closed")

// segment is one file of the ring.
type segment struct {
	at   uint64 // position of its first record
	size int64
}

// Box is the buffer of one receiver. Append, Values and Bytes may be called from
// any goroutine; one goroutine runs Run.
type Box struct {
	opts    Options
	metrics *metrics
	wake    chan struct{} // something was appended
	lock    *os.File
	cursor  *os.File
	remarks remarks
	down    bool // of Run: nothing was delivered since the connection broke
	most    int  // of Run: values of a request; less than MaxValues after a 413

	mu       sync.Mutex
	closed   bool
	segs     []segment // by position; the last one may be active
	total    int64     // bytes of all of them
	active   *os.File  // of the last segment; nil if the next Append begins one
	dirty    bool      // written since the last sync
	appended uint64    // position behind the newest record
	settled  uint64    // everything before it was delivered or given up, and is counted
	done     uint64    // everything before it was delivered, also what is sent again
	taken    uint64    // the next record to hand out is at or behind this
	gone     uint64    // everything before it has gone from the disk, and is counted
	recent   []moment  // what was delivered lately, oldest first
	times    uint64    // writes of the cursor
	brokeAt  time.Time // when the connection last broke and nothing was sent again for it yet; zero if all was
	last     time.Time // when something was last settled
	credit   float64   // how often it may be sent again
	credited time.Time // when that was last reckoned

	reader reader
}

// moment says when everything from a position on was delivered.
type moment struct {
	when time.Time
	from uint64
}

// Open opens the buffer in a folder, which it makes if need be. What an earlier
// process has left is delivered first.
func Open(o Options) (*Box, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	b := &Box{opts: o, most: o.MaxValues, wake: make(chan struct{}, 1)}
	b.remarks = newRemarks(o)
	if err := b.openFiles(); err != nil {
		return nil, fmt.Errorf("cannot open the buffer %s: %w", o.Dir, errors.Join(err, b.closeFiles()))
	}
	m, err := newMetrics(o.Registerer, b)
	if err != nil {
		return nil, errors.Join(err, b.closeFiles())
	}
	b.metrics = m
	b.missing(b.floor())
	b.settled = max(b.settled, b.floor())
	b.seek(b.recent[0].from)
	return b, nil
}

func (b *Box) openFiles() error {
	err := os.MkdirAll(b.opts.Dir, 0o700)
	if err != nil {
		return err
	}
	if b.lock, err = lockFile(filepath.Join(b.opts.Dir, "lock")); err != nil {
		return err
	}
	if b.cursor, err = os.OpenFile(filepath.Join(b.opts.Dir, "cursor"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	slots := make([]byte, 2*slotSize)
	n, _ := b.cursor.ReadAt(slots, 0) // a short or unreadable cursor sends more again, nothing else
	m := parseMark(slots[:n])
	if err := b.list(); err != nil {
		return err
	}
	end, err := b.findEnd()
	if err != nil {
		return err
	}
	b.times, b.appended = m.times, max(end, m.settled)
	b.settled, b.taken, b.gone = m.settled, max(m.settled, m.gone), m.gone
	b.done, b.credit, b.credited = b.taken, mostRewinds, b.opts.Now()
	b.recent = []moment{{when: b.opts.Now(), from: max(m.keep, b.floor())}}
	return nil
}

func lockFile(name string) (*os.File, error) {
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
		_ = f.Close()
		return nil, fmt.Errorf("cannot lock %s: another process uses it; two exporters need two folders: %w", name, err)
	}
	return f, nil
}

// list finds the segments.
func (b *Box) list() error {
	entries, err := os.ReadDir(b.opts.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		at, ok := parseName(e.Name())
		info, err := e.Info()
		if !ok || err != nil || !info.Mode().IsRegular() {
			continue
		}
		b.segs = append(b.segs, segment{at: at, size: info.Size()})
		b.total += info.Size()
	}
	slices.SortFunc(b.segs, func(x, y segment) int {
		if x.at < y.at {
			return -1
		}
		return 1
	})
	return nil
}

// findEnd gives the position behind the newest intact record. Newer segments
// without one hold nothing that could be sent, and go.
func (b *Box) findEnd() (uint64, error) {
	for len(b.segs) > 0 {
		last := b.segs[len(b.segs)-1]
		data, err := os.ReadFile(b.file(last.at))
		if err != nil {
			return 0, err
		}
		var end uint64
		for off, ok := 0, true; ok; {
			var r record
			if r, off, ok = scan(data, off, max(last.at, end), farthest); ok {
				end = r.end()
			}
		}
		if end > 0 {
			return end, nil
		}
		if len(data) > 0 {
			b.opts.Log.Warn("a part of the buffer holds no intact record and is removed",
				zap.String("file", b.file(last.at)), zap.Int("bytes", len(data)))
		}
		if err := os.Remove(b.file(last.at)); err != nil {
			return 0, err
		}
		b.total -= last.size
		b.segs = b.segs[:len(b.segs)-1]
	}
	return 0, nil
}

// floor is the position of the oldest record that is still there.
func (b *Box) floor() uint64 {
	if len(b.segs) == 0 {
		return b.appended
	}
	return b.segs[0].at
}

func (b *Box) file(at uint64) string { return filepath.Join(b.opts.Dir, segmentName(at)) }

// Append keeps a record of so many values. After an error nothing of it is
// kept, and its values are counted. A full ring gives up its oldest records.
func (b *Box) Append(payload []byte, values int) error {
	if len(payload) == 0 || len(payload) > MaxRecord || values < 1 || values > maxValues {
		b.metrics.unbuffered.Add(float64(max(values, 0)))
		return fmt.Errorf("%w: %d bytes for %d values", ErrSize, len(payload), values)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		b.metrics.unbuffered.Add(float64(values))
		return ErrClosed
	}
	r := record{at: b.appended, values: uint32(values), payload: payload}
	if err := b.write(appendRecord(nil, r)); err != nil {
		b.metrics.unbuffered.Add(float64(values))
		err = fmt.Errorf("cannot buffer %d values in %s: %w", values, b.opts.Dir, err)
		b.remarks.disk(err)
		return err
	}
	b.appended = r.end()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return nil
}

// write adds bytes to the active segment, or begins one.
func (b *Box) write(data []byte) error {
	if b.active != nil && b.segs[len(b.segs)-1].size+int64(len(data)) > b.opts.segment() {
		if err := b.seal(); err != nil {
			b.remarks.disk(fmt.Errorf("cannot sync the buffer %s: %w", b.opts.Dir, err))
		}
	}
	if b.active == nil {
		f, err := os.OpenFile(b.file(b.appended), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		b.active = f
		b.segs = append(b.segs, segment{at: b.appended})
	}
	for b.total+int64(len(data)) > b.opts.Limit && len(b.segs) > 1 {
		b.dropOldest()
	}
	last := &b.segs[len(b.segs)-1]
	_, err := b.active.WriteAt(data, last.size)
	if err != nil {
		if terr := b.active.Truncate(last.size); terr != nil {
			b.abandon()
		}
		return err
	}
	last.size += int64(len(data))
	b.total += int64(len(data))
	b.dirty = true
	return nil
}

// seal ends the active segment.
func (b *Box) seal() error {
	f := b.active
	b.active, b.dirty = nil, false
	return errors.Join(f.Sync(), f.Close())
}

// abandon leaves an active segment that cannot be trusted any more. The next one
// must not have its name.
func (b *Box) abandon() {
	_ = b.active.Close()
	b.active = nil
	if last := b.segs[len(b.segs)-1]; last.size == 0 {
		_ = os.Remove(b.file(last.at))
		b.segs = b.segs[:len(b.segs)-1]
	}
}

// dropOldest gives up the oldest segment to make room for new records.
func (b *Box) dropOldest() {
	upTo := b.segs[1].at
	if from := max(b.settled, b.taken); from < upTo {
		b.metrics.dropped.Add(float64(upTo - from))
		b.remarks.full(upTo - from)
	}
	b.removeOldest()
	b.seek(max(b.taken, upTo))
	for i := range b.recent {
		b.recent[i].from = max(b.recent[i].from, upTo)
	}
	b.note()
}

func (b *Box) removeOldest() {
	if err := os.Remove(b.file(b.segs[0].at)); err != nil && !errors.Is(err, os.ErrNotExist) {
		b.remarks.disk(fmt.Errorf("cannot remove what is delivered: %w", err))
	}
	b.total -= b.segs[0].size
	b.gone = b.segs[1].at
	b.segs = b.segs[1:]
}

// Sync makes durable what was appended.
func (b *Box) Sync() error {
	b.mu.Lock()
	f, dirty := b.active, b.dirty
	b.dirty = false
	b.mu.Unlock()
	if f == nil || !dirty {
		return nil
	}
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) { // sealed meanwhile, and synced by that
		return fmt.Errorf("cannot sync the buffer %s: %w", b.opts.Dir, err)
	}
	return b.cursor.Sync()
}

// Values is how many values wait to be delivered, or to be sent again.
func (b *Box) Values() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.appended - min(max(min(b.settled, b.done), b.floor()), b.appended)
}

// Bytes is the size of the ring on disk.
func (b *Box) Bytes() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}

// Close makes everything durable and lets go of the folder. Run must have ended.
func (b *Box) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	var err error
	if b.active != nil {
		err = b.seal()
	}
	return errors.Join(err, b.cursor.Sync(), b.closeFiles())
}

func (b *Box) closeFiles() error {
	var errs []error
	for _, f := range []*os.File{b.cursor, b.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
