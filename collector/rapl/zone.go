package rapl

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/sysfs"
)

// part is what a zone covers.
type part uint8

const (
	nothing part = iota // that we book or compare
	processor
	memory
	platform
)

// meterOf names the meter of a zone by the zone's label and that of the zone it
// lies in: package-3 is package3, package-0-die-1 is package0-die1, the dram in
// package-3 is dram3. Labels are what counts: zone numbers are not sockets.
func meterOf(label, up string) (string, part) {
	switch label {
	case "psys":
		return "psys", platform
	case "dram":
		if place, ok := placeOf(up); ok {
			return "dram" + place, memory
		}
	default:
		if place, ok := placeOf(label); ok {
			return "package" + place, processor
		}
	}
	return "", nothing
}

// placeOf turns package-N into N and package-N-die-M into N-dieM.
func placeOf(label string) (string, bool) {
	rest, ok := strings.CutPrefix(label, "package-")
	if !ok {
		return "", false
	}
	socket, die, dies := strings.Cut(rest, "-die-")
	if !number(socket) || dies && !number(die) {
		return "", false
	}
	if dies {
		return socket + "-die" + die, true
	}
	return socket, true
}

func number(s string) bool {
	_, ok := sysfs.ParseUint([]byte(s))
	return ok
}

// zone is one counter, kept open.
type zone struct {
	id, label string
	what      part
	sys       *sysfs.Root
	file      *sysfs.File
	scope     collector.Scope // complete once the range is known
}

func newZone(sys *sysfs.Root, id, label, name string, what part) *zone {
	z := &zone{id: id, label: label, what: what, sys: sys, file: sys.File(class + "/" + id + "/energy_uj")}
	z.scope = collector.Scope{Name: name, Kind: collector.Counter, Class: energy.CPU, Device: id}
	switch what {
	case memory:
		z.scope.Class = energy.Memory
	case platform:
		z.scope.Class, z.scope.Rest, z.scope.Witness = energy.Node, energy.Other, true
	case processor, nothing:
	}
	return z
}

// read gives the counter. A zone without a range is not read: a wrap could not
// be told from a reset.
func (z *zone) read() (energy.Microjoules, error) {
	if z.scope.Modulus == 0 {
		name := class + "/" + z.id + "/max_energy_range_uj"
		top, err := z.sys.Uint(name)
		if err != nil {
			return 0, err
		}
		if top == 0 || top >= uint64(energy.MaxOdometer) {
			return 0, fmt.Errorf("%s is %d: no counter has such a range", z.sys.Full(name), top)
		}
		z.scope.Modulus, z.scope.Resolution = modulus(top)
		z.scope.Limit = z.limit()
	}
	uj, err := z.file.Uint()
	return energy.Microjoules(uj), err
}

func (z *zone) close() { _ = z.file.Close() }

// modulus is where the counter wraps, and its step. The kernel shows raw x unit
// of a register of 32 bits, in whole microjoules rounded down, and calls
// (2^32 - 1) x unit the range (get_energy_counter and get_max_energy_counter in
// drivers/powercap/intel_rapl_common.c; units are whole nanojoules there). So the range is the largest value that is shown and the counter wraps
// one unit above it: taking the range itself would lose a unit at each wrap.
// Where the range is no such product, values go from 0 to the range.
func modulus(top uint64) (wraps, step energy.Microjoules) {
	const registers = 1 << 32
	hi, lo := bits.Mul64(top, 1000)
	if hi < registers-1 {
		unit, rest := bits.Div64(hi, lo, registers-1) // nanojoules
		if rest > 0 {
			unit++
		}
		if unit > 0 && unit < math.MaxInt32 && (registers-1)*unit/1000 == top {
			return energy.Microjoules(registers * unit / 1000), energy.Microjoules((unit + 999) / 1000)
		}
	}
	return energy.Microjoules(top + 1), 1
}

// limit is the physical gate: twice what the zone's own limits allow, as short
// limits are above the long one and memory is often given none; within bounds,
// because firmware fills the field with anything. It also says after how long a
// silence the counter may have wrapped twice: 131 s at 2 kW and 61 uJ.
func (z *zone) limit() energy.Microwatts {
	lowest, usual, highest := 400*energy.Watt, 1000*energy.Watt, 2000*energy.Watt
	switch z.what {
	case memory:
		lowest, usual, highest = 200*energy.Watt, 500*energy.Watt, 1000*energy.Watt
	case platform:
		lowest, usual, highest = 1000*energy.Watt, 4000*energy.Watt, 8000*energy.Watt
	case processor, nothing:
	}
	var most energy.Microwatts
	for i := range 4 {
		uw, err := z.sys.Uint(class + "/" + z.id + "/constraint_" + strconv.Itoa(i) + "_max_power_uw")
		if err == nil && uw < uint64(highest) {
			most = max(most, energy.Microwatts(uw))
		}
	}
	if most == 0 {
		return usual
	}
	return min(max(2*most, lowest), highest)
}
