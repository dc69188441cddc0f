package amdgpu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/wattledger/wattledger/internal/energy"
)

// layout says where in a gpu_metrics table the few values stand that we use.
// Offsets are those of the structs in drivers/gpu/drm/amd/include/kgd_pp_interface.h
// as a compiler for x86-64 lays them out.
type layout struct {
	name            string
	format, content byte
	size            uint16
	power           int // u16, W
	gfx             int // u16, % of the time
	energy          int // u64, 2^-16 J
	clock           int // u64, ns: the host's, when the table was made
	firmware        int // u64, 10 ns: the firmware's; 0 for none
}

// layouts known. Two tables carry the number 1.6: one was withdrawn before a
// kernel was released with it, but kernels with it are about. What is not here
// word for word, the size included, is refused.
func layouts() []layout {
	return []layout{
		{"1.1", 1, 1, 96, 22, 16, 24, 32, 0},
		{"1.2", 1, 2, 104, 22, 16, 24, 32, 96},
		{"1.3", 1, 3, 120, 22, 16, 24, 32, 96},
		{"1.4", 1, 4, 288, 10, 12, 24, 32, 232},
		{"1.5", 1, 5, 360, 10, 12, 88, 96, 304},
		{"1.6 (May 2024)", 1, 6, 384, 10, 12, 88, 96, 328},
		{"1.6", 1, 6, 1664, 10, 12, 16, 24, 256},
		{"1.7", 1, 7, 2208, 10, 12, 24, 32, 288},
		{"1.8", 1, 8, 3872, 10, 12, 24, 32, 288},
	}
}

// tableSize is room for the largest table; sysfs gives no more at once.
const tableSize = 4096

var (
	errRefused = errors.New("this table is not known")
	errNoData  = errors.New("no data")
)

// layoutOf finds the layout of a table by its header: u16 size, u8 format
// revision, u8 content revision.
func layoutOf(b []byte) (*layout, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("a table of %d bytes is cut off", len(b))
	}
	size, format, content := binary.LittleEndian.Uint16(b), b[2], b[3]
	for _, l := range layouts() {
		if l.format == format && l.content == content && l.size == size {
			return &l, nil
		}
	}
	switch {
	case format == 1 && content == 9:
		return nil, fmt.Errorf("%w: gpu_metrics 1.9 is a list of attributes", errRefused)
	case format == 2 || format == 3:
		return nil, fmt.Errorf("%w: gpu_metrics %d.%d is that of a processor with graphics, which counts no energy", errRefused, format, content)
	}
	return nil, fmt.Errorf("%w: gpu_metrics %d.%d of %d bytes", errRefused, format, content, size)
}

// is tells whether a table still has this layout.
func (l *layout) is(b []byte) bool {
	return l != nil && len(b) >= 4 && binary.LittleEndian.Uint16(b) == l.size && b[2] == l.format && b[3] == l.content
}

// metrics are the values of one table. A field of all ones is not provided.
type metrics struct {
	counter            energy.Microjoules
	counted            bool // the counter is provided and not 0
	zero               bool // it is provided and 0: a secondary die
	power              energy.Microwatts
	powered            bool
	busy               uint16 // %
	busyKnown          bool
	clock, firmware    uint64 // 0 where not provided
	counterIsOutOfSize bool
}

func (l *layout) decode(b []byte) (metrics, error) {
	if len(b) < int(l.size) {
		return metrics{}, fmt.Errorf("gpu_metrics %s is cut off: %d of %d bytes", l.name, len(b), l.size)
	}
	u16 := func(at int) (uint16, bool) {
		v := binary.LittleEndian.Uint16(b[at:])
		return v, v != math.MaxUint16
	}
	u64 := func(at int) (uint64, bool) {
		v := binary.LittleEndian.Uint64(b[at:])
		return v, v != math.MaxUint64
	}
	var m metrics
	if w, ok := u16(l.power); ok && w > 0 {
		m.power, m.powered = energy.Microwatts(w)*energy.Watt, true
	}
	if v, ok := u16(l.gfx); ok && v <= 100 {
		m.busy, m.busyKnown = v, true
	}
	if v, ok := u64(l.clock); ok {
		m.clock = v
	}
	if v, ok := u64(l.firmware); ok && l.firmware > 0 {
		m.firmware = v
	}
	v, ok := u64(l.energy)
	switch {
	case !ok:
	case v == 0:
		m.zero = true
	default:
		m.counter, m.counted = microjoules(v)
		m.counterIsOutOfSize = !m.counted
	}
	return m, nil
}

// microjoules of a count of 2^-16 J, exactly, rounded down; false where that is
// more than an odometer holds.
func microjoules(count uint64) (energy.Microjoules, bool) {
	// 10^6 / 2^16 = 15625 / 1024
	hi, lo := bits.Mul64(count, 15625)
	if hi >= 1024 {
		return 0, false
	}
	uj := energy.Microjoules(hi<<54 | lo>>10)
	return uj, uj <= energy.MaxOdometer
}
