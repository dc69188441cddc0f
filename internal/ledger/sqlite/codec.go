package sqlite

import (
	"encoding/binary"
	"errors"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/window"
)

// Blobs begin with a version byte; numbers are varints.
const codecVersion = 1

var errBlob = errors.New("stored blob cannot be read: the file is damaged or of a newer version")

// piece is a stretch of an odometer that was booked in a slot.
type piece struct {
	odo      int64
	root     bool
	from, to energy.Microjoules
}

type decoder struct {
	b   []byte
	err error
}

func newDecoder(b []byte) *decoder {
	d := &decoder{b: b}
	if len(b) == 0 || b[0] != codecVersion {
		d.err = errBlob
		return d
	}
	d.b = b[1:]
	return d
}

func (d *decoder) uint() uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.err = errBlob
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.err = errBlob
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads a number of things that follow, each of at least one byte.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.err = errBlob
		return 0
	}
	return int(n)
}

func (d *decoder) string() string {
	n := d.count()
	if d.err != nil {
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

// bytes reads a length and so many bytes, which stay the decoder's.
func (d *decoder) bytes() []byte {
	n := d.count()
	if d.err != nil {
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// encodePieces packs the ranges of a slot: id, root, from, length.
func encodePieces(b []byte, pieces []piece) []byte {
	b = append(b, codecVersion)
	b = binary.AppendUvarint(b, uint64(len(pieces)))
	for _, p := range pieces {
		id := uint64(p.odo) << 1
		if p.root {
			id |= 1
		}
		b = binary.AppendUvarint(b, id)
		b = binary.AppendUvarint(b, uint64(p.from))
		b = binary.AppendUvarint(b, uint64(p.to-p.from))
	}
	return b
}

func decodePieces(into []piece, b []byte) ([]piece, error) {
	d := newDecoder(b)
	for range d.count() {
		id := d.uint()
		p := piece{odo: int64(id >> 1), root: id&1 != 0, from: energy.Microjoules(d.uint())}
		p.to = p.from + energy.Microjoules(d.uint())
		into = append(into, p)
	}
	return into, d.err
}

// encodeSeen packs content hashes; partial says that older ones were pruned.
func encodeSeen(hashes []uint64, partial bool) []byte {
	b := make([]byte, 0, 2+8*len(hashes))
	b = append(b, codecVersion, 0)
	if partial {
		b[1] = 1
	}
	for _, h := range hashes {
		b = binary.LittleEndian.AppendUint64(b, h)
	}
	return b
}

func decodeSeen(b []byte) (hashes []uint64, partial bool, err error) {
	if len(b) < 2 || b[0] != codecVersion || len(b)%8 != 2 {
		return nil, false, errBlob
	}
	for i := 2; i < len(b); i += 8 {
		hashes = append(hashes, binary.LittleEndian.Uint64(b[i:]))
	}
	return hashes, b[1] != 0, nil
}

// encodeHeld packs what was open at the end of a window: its jobs that run or
// hold something, and the holdings.
func encodeHeld(b []byte, w *window.Window) []byte {
	b = append(b, codecVersion)
	place := make([]int, len(w.Jobs))
	for i := range w.Jobs {
		if w.Jobs[i].EndMS == 0 {
			place[i] = 1
		}
	}
	holdings := 0
	for _, h := range w.Holdings {
		if h.Job >= 0 && h.Job < len(w.Jobs) {
			place[h.Job] = 1
			holdings++
		}
	}
	n := 0
	for i, open := range place {
		place[i] = n
		if open == 0 {
			place[i] = -1
			continue
		}
		n++
	}
	b = binary.AppendUvarint(b, uint64(n))
	for i := range w.Jobs {
		if place[i] >= 0 {
			b = appendJob(b, &w.Jobs[i])
		}
	}
	b = binary.AppendUvarint(b, uint64(holdings))
	for _, h := range w.Holdings {
		if h.Job < 0 || h.Job >= len(w.Jobs) {
			continue
		}
		b = binary.AppendUvarint(b, uint64(place[h.Job]))
		b = binary.AppendUvarint(b, uint64(len(h.Devices)))
		for _, s := range h.Devices {
			b = binary.AppendUvarint(appendString(b, s.Device), uint64(s.Weight))
		}
	}
	return b
}

func appendJob(b []byte, j *window.Job) []byte {
	b = binary.AppendUvarint(appendString(b, j.ID), uint64(j.Restart))
	b = appendString(appendString(binary.AppendVarint(b, j.SubmitMS), j.Project), j.User)
	return binary.AppendVarint(binary.AppendVarint(b, j.StartMS), j.EndMS)
}

func decodeHeld(b []byte) (jobs []window.Job, holdings []window.Holding, err error) {
	if len(b) == 0 {
		return nil, nil, nil
	}
	d := newDecoder(b)
	for range d.count() {
		j := window.Job{ID: d.string(), Restart: uint32(d.uint())}
		j.SubmitMS, j.Project, j.User = d.int(), d.string(), d.string()
		j.StartMS, j.EndMS = d.int(), d.int()
		jobs = append(jobs, j)
	}
	for range d.count() {
		h := window.Holding{Job: int(d.uint())}
		for range d.count() {
			h.Devices = append(h.Devices, window.Share{Device: d.string(), Weight: uint32(d.uint())})
		}
		if h.Job >= len(jobs) {
			d.err = errBlob
		}
		holdings = append(holdings, h)
	}
	return jobs, holdings, d.err
}

// Flags of an end.
const (
	endEstimated = 1 << iota
	endRoot
	endRaw
)

// encodeEnd packs one end, times relative to ms.
func encodeEnd(b []byte, o *odometer, ms int64) []byte {
	var flags byte
	if o.end.Estimated {
		flags |= endEstimated
	}
	if o.end.Root {
		flags |= endRoot
	}
	if o.end.Raw != 0 {
		flags |= endRaw
	}
	b = append(binary.AppendUvarint(b, uint64(o.id)), flags)
	b = binary.AppendUvarint(b, uint64(o.end.UJ))
	if o.end.Raw != 0 {
		b = binary.AppendVarint(b, int64(o.end.UJ-o.end.Raw))
	}
	b = binary.AppendVarint(b, o.end.AtMS-ms)
	return binary.AppendVarint(b, o.slot-window.Slot(ms))
}

// decodeEnd reads what encodeEnd packed; names and modulus are not part of it.
func (d *decoder) end(o *odometer, ms int64) {
	o.id = int64(d.uint())
	if d.err == nil && len(d.b) == 0 {
		d.err = errBlob
	}
	if d.err != nil {
		return
	}
	flags := d.b[0]
	d.b = d.b[1:]
	o.end.Estimated, o.end.Root = flags&endEstimated != 0, flags&endRoot != 0
	o.end.UJ = energy.Microjoules(d.uint())
	if flags&endRaw != 0 {
		o.end.Raw = o.end.UJ - energy.Microjoules(d.int())
	}
	o.end.AtMS = ms + d.int()
	o.slot = window.Slot(ms) + d.int()
}

// encodeTimes packs device time and absence per class.
func encodeTimes(device, absent *[energy.NumClasses]int64) []byte {
	b := append(make([]byte, 0, 32), codecVersion)
	for c := range device {
		b = binary.AppendVarint(binary.AppendVarint(b, device[c]), absent[c])
	}
	return b
}

func decodeTimes(b []byte, device, absent *[energy.NumClasses]int64) error {
	d := newDecoder(b)
	for c := range device {
		device[c], absent[c] = d.int(), d.int()
	}
	return d.err
}
