package nvml

import (
	"fmt"
	"time"
)

// usualSlices is what a board is cut into where it does not say.
const usualSlices = 7

// Slice is a MIG device: a part of a board that a job can hold. It has no energy
// of its own.
type Slice struct {
	GPU      string // the board's meter: gpu0, or module0 on a superchip
	UUID     string
	Instance int // GPU instance; numbers are used again after a change
	Compute  int // compute instance in it
	// Slices is how many of the board's Of compute slices it has; 0 if the driver
	// does not say.
	Slices         int
	InstanceSlices int // of the GPU instance it is in
	Of             int
	Memory         uint64 // bytes, of the GPU instance: shared by its compute instances
	// Since is when it was first seen: with the UUID it tells it from an earlier
	// one of the same numbers.
	Since time.Time
}

// lookForSlices lists the MIG devices of the board. Slots may be empty in
// between.
func (b *board) lookForSlices() code {
	enabled := false
	ok, dire := b.try(fnMIG, func() (c code) { enabled, c = b.dev.MIG(); return c })
	if dire != success || !ok {
		return dire
	}
	var found []Slice
	if enabled {
		var c code
		if found, c = b.listSlices(); c != success {
			if c.fate().dire() {
				return c
			}
			return success // as they were
		}
	}
	if b.migSeen && enabled != b.mig { // what a board can do changes with the mode
		b.cannot[fnUtilization], b.cannot[fnProcesses], b.cannot[fnProcessUse] = false, false, false
	}
	b.mig, b.migSeen = enabled, true
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if changed := b.date(found); changed {
		b.s.tell(b.s.o.Now(), "mig_changed", b.name, fmt.Sprintf("%d slices", len(found)))
	}
	b.slices = found
	return success
}

func (b *board) listSlices() ([]Slice, code) {
	slots, of := 0, usualSlices
	began := b.begin(fnMIG)
	c := b.end(fnMIG, began, func() (c code) { slots, c = b.dev.SliceSlots(); return c }())
	if c != success {
		return nil, c
	}
	began = b.begin(fnMIG)
	if n, c := b.dev.SliceCount(); b.end(fnMIG, began, c) == success && n > 0 {
		of = n
	}
	var out []Slice
	for i := range min(slots, 64) {
		began := b.begin(fnMIG)
		s, c := b.dev.Slice(i)
		switch b.end(fnMIG, began, c) {
		case success:
			s.GPU, s.Of = b.meterName(), of
			out = append(out, s)
		case notFound: // normal
		default:
			return nil, c
		}
	}
	return out, success
}

func (b *board) meterName() string {
	if b.scope == scopeOfModule {
		return b.module.Name
	}
	return b.name
}

// date carries over since when the slices are there; true where they are not
// those of before. s.mu is held.
func (b *board) date(found []Slice) bool {
	changed := len(found) != len(b.slices)
	for i := range found {
		f := &found[i]
		f.Since = b.s.o.Now()
		known := false
		for _, old := range b.slices {
			if old.UUID == f.UUID && old.Instance == f.Instance && old.Compute == f.Compute && old.Slices == f.Slices {
				f.Since, known = old.Since, true
			}
		}
		changed = changed || !known
	}
	return changed
}
