package outbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

const (
	magic      = "WLO1"
	headerSize = 24
	// MaxRecord is the largest record in bytes.
	MaxRecord = 4 << 20
	// maxValues bounds the values of one record, and farthest all positions, so
	// that no sum of them overflows.
	maxValues = 1 << 24
	farthest  = 1 << 62

	segmentSuffix = ".ring"
)

// ErrSize is given for a record that is empty or too large.
var ErrSize = errors.New("a record of this size cannot be kept")

// record is what one Append has brought.
type record struct {
	at      uint64 // values appended before it
	values  uint32
	payload []byte
}

// end is the position behind the record.
func (r record) end() uint64 { return r.at + uint64(r.values) }

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) } // made once by the library

func appendRecord(b []byte, r record) []byte {
	from := len(b)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint64(b, r.at)
	b = binary.LittleEndian.AppendUint32(b, r.values)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.payload)))
	b = binary.LittleEndian.AppendUint32(b, checksum(b[from:], r.payload))
	return append(b, r.payload...)
}

func checksum(header, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(header, castagnoli()), castagnoli(), payload)
}

// recordAt gives the record that begins at data[off:], if all of it is intact.
func recordAt(data []byte, off int) (record, bool) {
	if len(data)-off < headerSize || string(data[off:off+4]) != magic {
		return record{}, false
	}
	h := data[off : off+headerSize]
	r := record{at: binary.LittleEndian.Uint64(h[4:]), values: binary.LittleEndian.Uint32(h[12:])}
	n := binary.LittleEndian.Uint32(h[16:])
	if n > MaxRecord || int(n) > len(data)-off-headerSize || r.values == 0 || r.values > maxValues || r.at > farthest {
		return record{}, false
	}
	r.payload = data[off+headerSize : off+headerSize+int(n)]
	return r, checksum(h[:20], r.payload) == binary.LittleEndian.Uint32(h[20:])
}

// scan gives the first intact record at or behind off that lies within the
// positions from least up to most, and the offset behind it.
func scan(data []byte, off int, least, most uint64) (r record, next int, ok bool) {
	for off < len(data) {
		if r, ok := recordAt(data, off); ok {
			off += headerSize + len(r.payload)
			if r.at >= least && r.end() <= most {
				return r, off, true
			}
			continue
		}
		i := bytes.Index(data[off+1:], []byte(magic))
		if i < 0 {
			break
		}
		off += 1 + i
	}
	return record{}, len(data), false
}

func segmentName(at uint64) string { return fmt.Sprintf("%016x%s", at, segmentSuffix) }

// parseName gives what segmentName was given; ok is false for other files.
func parseName(name string) (at uint64, ok bool) {
	at, err := strconv.ParseUint(strings.TrimSuffix(name, segmentSuffix), 16, 64)
	return at, err == nil && at <= farthest && name == segmentName(at)
}

// mark is what the cursor file holds.
type mark struct {
	times   uint64 // it was written so often
	settled uint64 // everything before this has been delivered or given up
	keep    uint64 // everything from here on is sent again after a crash
	gone    uint64 // everything before this has gone from the disk, and was counted
}

const slotSize = 36

func appendMark(b []byte, m mark) []byte {
	from := len(b)
	b = binary.LittleEndian.AppendUint64(b, m.times)
	b = binary.LittleEndian.AppendUint64(b, m.settled)
	b = binary.LittleEndian.AppendUint64(b, m.keep)
	b = binary.LittleEndian.AppendUint64(b, m.gone)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[from:], castagnoli()))
}

// parseMark gives the newest intact slot of a cursor file; the zero mark if
// there is none, which sends again all that is kept.
func parseMark(data []byte) mark {
	var best mark
	for len(data) >= slotSize {
		word := func(i int) uint64 { return binary.LittleEndian.Uint64(data[8*i:]) }
		m := mark{times: word(0), settled: word(1), keep: word(2), gone: word(3)}
		sound := m.settled <= farthest && m.keep <= m.settled && m.gone <= farthest
		if sound && m.times >= best.times && bytes.Equal(appendMark(nil, m), data[:slotSize]) {
			best = m
		}
		data = data[slotSize:]
	}
	return best
}
