package spool

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strconv"
	"strings"
)

const (
	magic        = "WLSP"
	version      = 1
	headerSize   = 32
	recordHeader = 16
	// MaxRecord is the largest record in bytes.
	MaxRecord = 16 << 20

	segmentSuffix   = ".seg"
	temporarySuffix = ".tmp"
	// With a damaged header nothing bounds the numbers in a superseding segment; a
	// bound keeps the search for the next intact record cheap.
	farAway = 1 << 32
)

// Seq numbers records in the order of Append, from 1. It orders the transport
// and means nothing else.
type Seq uint64

// entry is one record of a segment: where its payload is.
type entry struct {
	seq Seq
	off uint32 // of the payload in the file
	n   uint32 // length of the payload
}

// segment is one file and the index of its intact records.
type segment struct {
	name  string
	first Seq
	last  Seq // end of the superseded range; 0 in an ordinary segment
	gen   uint32
	recs  []entry
	size  int64

	tried int      // levels below this one have been tried on it
	held  Seq      // the frozen head at that try, if it reached into the segment
	voids []string // files that this segment replaces and that are still there
}

// end returns the highest number the segment stands for.
func (g *segment) end() Seq {
	e := g.first - 1
	if len(g.recs) > 0 {
		e = g.recs[len(g.recs)-1].seq
	}
	return max(e, g.last)
}

func segmentName(first Seq, gen uint32) string {
	return fmt.Sprintf("%016x-%08x%s", uint64(first), gen, segmentSuffix)
}

// parseName returns what segmentName was given; ok is false for other files.
func parseName(name string) (first Seq, gen uint32, ok bool) {
	a, b, found := strings.Cut(strings.TrimSuffix(name, segmentSuffix), "-")
	f, err1 := strconv.ParseUint(a, 16, 64)
	g, err2 := strconv.ParseUint(b, 16, 32)
	ok = found && err1 == nil && err2 == nil && name == segmentName(Seq(f), uint32(g))
	return Seq(f), uint32(g), ok
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) } // made once by the library

func appendHeader(b []byte, first, last Seq, gen uint32) []byte {
	start := len(b)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint64(b, uint64(first))
	b = binary.LittleEndian.AppendUint64(b, uint64(last))
	b = binary.LittleEndian.AppendUint32(b, gen)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli()))
}

func appendRecord(b []byte, seq Seq, payload []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	at := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(seq))
	sum := checksum(b[at:], payload)
	b = binary.LittleEndian.AppendUint32(b, sum)
	return append(b, payload...)
}

func checksum(seq, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(seq, castagnoli()), castagnoli(), payload)
}

// parsed is what a reading of a segment's bytes has found.
type parsed struct {
	headerOK bool
	last     Seq // of the header, 0 if it is damaged
	recs     []entry
	good     int64 // end of the last intact record

	damaged   bool  // something other than the tail is wrong
	badBytes  int64 // bytes in no intact record, the tail included
	lost      int   // records gone, at the least, without the tail
	tail      bool  // what follows the last intact record is not a record
	tailShort bool  // and is a part of one, or zeros: an Append that was cut off
}

// parse reads a segment. It never fails: it returns every record whose
// checksum holds and says what is wrong with the rest. first and gen are what
// the file's name says.
func parse(data []byte, first Seq, gen uint32) parsed {
	p := parsed{good: headerSize}
	limit := first + Seq(len(data)/recordHeader) // an ordinary segment counts without a gap
	if len(data) >= headerSize {
		p.last = Seq(binary.LittleEndian.Uint64(data[16:]))
		p.headerOK = string(data[:headerSize]) == string(appendHeader(nil, first, p.last, gen))
	}
	switch {
	case !p.headerOK:
		p.last, p.damaged, p.good = 0, true, int64(min(len(data), headerSize))
		p.badBytes = p.good
		if gen > 0 {
			limit = first + farAway
		}
	case p.last != 0:
		limit = p.last
	}
	prev := first - 1
	for off := int(p.good); off < len(data); {
		if e, ok := recordAt(data, off, prev+1, limit); ok {
			p.add(e)
			off, prev = int(p.good), e.seq
			continue
		}
		next := resync(data, off, prev+1, limit)
		if e, ok := mended(data, off, next, prev+1, limit); ok { // only its length was wrong
			p.add(e)
			p.damaged = true
			p.badBytes += 4
			off, prev = next, e.seq
			continue
		}
		p.badBytes += int64(next - off)
		if next == len(data) {
			p.tail, p.tailShort = true, shortTail(data[off:])
			break
		}
		p.damaged = true
		if p.last == 0 && (p.headerOK || gen == 0) { // an ordinary segment counts without a gap
			p.lost += int(Seq(binary.LittleEndian.Uint64(data[next+4:])) - prev - 1)
		} else {
			p.lost++
		}
		off = next
	}
	return p
}

func (p *parsed) add(e entry) {
	p.recs = append(p.recs, e)
	p.good = int64(e.off) + int64(e.n)
}

// recordAt returns the record at off if all of it is intact and its number is
// in [lo, hi].
func recordAt(data []byte, off int, lo, hi Seq) (entry, bool) {
	if len(data)-off <= recordHeader {
		return entry{}, false
	}
	return checked(data, off, int64(binary.LittleEndian.Uint32(data[off:])), lo, hi)
}

// checked returns the record at off taken to be n bytes long.
func checked(data []byte, off int, n int64, lo, hi Seq) (entry, bool) {
	if n < 1 || n > MaxRecord || n > int64(len(data)-off-recordHeader) {
		return entry{}, false
	}
	seq := Seq(binary.LittleEndian.Uint64(data[off+4:]))
	if seq < lo || seq > hi {
		return entry{}, false
	}
	from := off + recordHeader
	if checksum(data[off+4:off+12], data[from:from+int(n)]) != binary.LittleEndian.Uint32(data[off+12:]) {
		return entry{}, false
	}
	return entry{seq: seq, off: uint32(from), n: uint32(n)}, true
}

// resync returns the offset of the first intact record behind the damaged one at
// off, or the end: first where the damaged one says it ends, then anywhere.
func resync(data []byte, off int, lo, hi Seq) int {
	if len(data)-off > recordHeader {
		n := int64(binary.LittleEndian.Uint32(data[off:]))
		if at := int64(off) + recordHeader + n; at < int64(len(data)) {
			if _, ok := recordAt(data, int(at), lo, hi); ok {
				return int(at)
			}
		}
	}
	for at := off + 1; at < len(data)-recordHeader; at++ {
		if _, ok := recordAt(data, at, lo, hi); ok {
			return at
		}
	}
	return len(data)
}

// mended returns the record between off and next if it is intact but for its length.
func mended(data []byte, off, next int, lo, hi Seq) (entry, bool) {
	if next-off <= recordHeader {
		return entry{}, false
	}
	return checked(data, off, int64(next-off-recordHeader), lo, hi)
}

// shortTail says whether a tail looks like an Append that was cut off: it ends
// before its record does, or was never written.
func shortTail(tail []byte) bool {
	if len(tail) <= recordHeader || int64(binary.LittleEndian.Uint32(tail)) > int64(len(tail)-recordHeader) {
		return true
	}
	return strings.Trim(string(tail), "\x00") == ""
}

// segmentWriter writes a whole segment and keeps its index.
type segmentWriter struct {
	w    *bufio.Writer
	size int64
	recs []entry
	buf  []byte
}

func newSegmentWriter(f io.WriterAt, first, last Seq, gen uint32) (*segmentWriter, error) {
	w := &segmentWriter{w: bufio.NewWriterSize(io.NewOffsetWriter(f, 0), 64<<10), size: headerSize}
	_, err := w.w.Write(appendHeader(nil, first, last, gen))
	return w, err
}

// add writes one record.
func (w *segmentWriter) add(seq Seq, payload []byte) error {
	if err := checkSize(payload); err != nil {
		return err
	}
	if w.size+int64(len(payload))+recordHeader > math.MaxUint32 {
		return fmt.Errorf("%w: the segment would be larger than 4 GiB", ErrSize)
	}
	w.buf = appendRecord(w.buf[:0], seq, payload)
	w.recs = append(w.recs, entry{seq: seq, off: uint32(w.size + recordHeader), n: uint32(len(payload))})
	w.size += int64(len(w.buf))
	_, err := w.w.Write(w.buf)
	return err
}

func checkSize(payload []byte) error {
	if len(payload) == 0 || len(payload) > MaxRecord {
		return fmt.Errorf("%w: %d bytes, must be 1 to %d", ErrSize, len(payload), MaxRecord)
	}
	return nil
}
