package outbox

import (
	"fmt"
	"io"
	"os"
	"time"

	"go.uber.org/zap"
)

// reader is how far the ring was read.
type reader struct {
	placed bool   // at is the segment that is read
	at     uint64 // position of its first record
	off    int64  // where data begins in its file
	data   []byte // what is loaded and not handed out; never written to again
}

// flight is what goes out in one request.
type flight struct {
	records []record
}

func (f flight) values() int {
	n := 0
	for _, r := range f.records {
		n += int(r.values)
	}
	return n
}

// seek lets the next record be the first one at or behind a position.
func (b *Box) seek(at uint64) {
	if at != b.taken {
		b.taken, b.done, b.reader = at, at, reader{}
	}
}

// take hands out the next records: at least one if there is any, else no more
// than most and MaxBytes allow.
func (b *Box) take() flight {
	b.mu.Lock()
	defer b.mu.Unlock()
	var f flight
	values, size := 0, 0
	for {
		r, n, ok := b.peek()
		if !ok {
			b.missing(b.appended)
			b.taken = b.appended
			return f
		}
		values, size = values+int(r.values), size+len(r.payload)
		if len(f.records) > 0 && (values > b.most || size > b.opts.MaxBytes) {
			return f
		}
		b.missing(r.at)
		f.records = append(f.records, r)
		b.taken = r.end()
		b.reader.data, b.reader.off = b.reader.data[n:], b.reader.off+int64(n)
	}
}

// missing counts the values between the last record that was handed out and one
// at a position: they were damaged.
func (b *Box) missing(at uint64) {
	if from := max(b.taken, b.settled); from < at {
		b.metrics.damaged.Add(float64(at - from))
		b.opts.Log.Error("a part of the buffer is damaged; its values are not delivered",
			zap.String("folder", b.opts.Dir), zap.Uint64("values", at-from))
	}
}

// peek gives the next record and how many bytes of the loaded ones it ends at.
func (b *Box) peek() (record, int, bool) {
	for {
		i, ok := b.reading()
		if !ok {
			return record{}, 0, false
		}
		most := b.appended
		if i+1 < len(b.segs) {
			most = b.segs[i+1].at
		}
		if r, n, ok := scan(b.reader.data, 0, b.taken, most); ok {
			return r, n, true
		}
		b.reader.off += int64(len(b.reader.data))
		b.reader.data = nil
		switch {
		case b.reader.off < b.segs[i].size:
			b.load(b.segs[i])
		case i+1 < len(b.segs):
			b.reader = reader{placed: true, at: b.segs[i+1].at}
		default:
			return record{}, 0, false
		}
	}
}

// reading gives the index of the segment that is read: the last one that begins
// at or before what was taken, unless it was read to its end.
func (b *Box) reading() (int, bool) {
	found := -1
	for i, s := range b.segs {
		if b.reader.placed && s.at == b.reader.at {
			return i, true
		}
		if s.at <= b.taken || found < 0 {
			found = i
		}
	}
	if found >= 0 {
		b.reader = reader{placed: true, at: b.segs[found].at}
	}
	return found, found >= 0
}

// load reads the rest of a segment. What cannot be read is passed over.
func (b *Box) load(s segment) {
	data, err := readFile(b.file(s.at), b.reader.off, s.size)
	if err != nil {
		b.remarks.disk(fmt.Errorf("cannot read the buffer: %w", err))
		b.reader.off = s.size
	}
	b.reader.data = data
}

func readFile(name string, from, to int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data := make([]byte, to-from)
	n, err := io.ReadFull(io.NewSectionReader(f, from, to-from), data)
	return data[:n], err
}

// fate is what became of a record that is done with.
type fate int

const (
	delivered fate = iota
	refused
)

// settle notes that a flight is done with.
func (b *Box) settle(f flight, what fate) {
	now := b.opts.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range f.records {
		if r.at < b.settled {
			continue // it was sent again to be safe, and is counted already
		}
		if what == delivered {
			b.metrics.delivered.Add(float64(r.values))
		} else {
			b.metrics.refused.Add(float64(r.values))
		}
	}
	from, to := f.records[0].at, f.records[len(f.records)-1].end()
	b.settled, b.done = max(b.settled, to), to
	if n := len(b.recent); n == 0 || now.Sub(b.recent[n-1].when) > b.opts.Rewind/16 {
		b.recent = append(b.recent, moment{when: now, from: from})
	}
	if b.brokeAt.IsZero() {
		b.forget(now.Add(-b.opts.Rewind))
	} else if what == delivered {
		b.rewind(now)
	}
	b.last = now
	b.note()
}

// forget lets go of what was delivered before an instant.
func (b *Box) forget(before time.Time) {
	for len(b.recent) > 0 && !b.recent[0].when.After(before) {
		b.recent = b.recent[1:]
	}
}

// breaks notes that the connection broke after something had been delivered.
func (b *Box) breaks() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.brokeAt = b.opts.Now()
	b.forget(b.last.Add(-b.opts.Rewind))
}

// A receiver that breaks may have lost what it answered for: as often as this
// in a row it is served at once, and then once in 2 x Rewind.
const mostRewinds = 3

// rewind sends again what was delivered just before the connection broke, but
// not so often that a receiver that breaks all the time gets nothing new.
func (b *Box) rewind(now time.Time) {
	if b.opts.Rewind == 0 {
		b.brokeAt = time.Time{}
		return
	}
	b.credit = min(mostRewinds, b.credit+float64(now.Sub(b.credited))/float64(2*b.opts.Rewind))
	b.credited = now
	if b.credit < 1 {
		return
	}
	b.credit--
	b.brokeAt = time.Time{}
	b.seek(max(b.keep(), b.floor()))
	b.recent = nil
}

// keep is the position from which on records stay.
func (b *Box) keep() uint64 {
	keep := min(b.settled, b.taken)
	if len(b.recent) > 0 {
		keep = min(keep, b.recent[0].from)
	}
	return keep
}

// note writes the cursor and removes what is not needed any more.
func (b *Box) note() {
	keep := b.keep()
	for len(b.segs) > 1 && b.segs[1].at <= keep {
		b.removeOldest()
	}
	b.times++
	slot := appendMark(nil, mark{times: b.times, settled: b.settled, keep: keep, gone: b.gone})
	if _, err := b.cursor.WriteAt(slot, int64(b.times%2)*slotSize); err != nil {
		b.remarks.disk(fmt.Errorf("cannot note what is delivered: %w", err))
	}
}
