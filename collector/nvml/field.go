package nvml

import "math"

// Fields by their number in nvml.h.
const (
	fieldECCCorrected   = 5 // aggregate
	fieldECCUncorrected = 6
	fieldMemoryTemp     = 82
	fieldEnergy         = 83
	fieldNVLinkTx       = 138 // KiB
	fieldNVLinkRx       = 139
	fieldRowsCorrected  = 142
	fieldRowsBad        = 143
	fieldRowsPending    = 144
	fieldRowsFailure    = 145
	fieldPowerAverage   = 185
	fieldPowerInstant   = 186
	fieldPowerMaxLimit  = 188
	fieldPowerLimit     = 190
	fieldScopedEnergy   = 191
	fieldRecovery       = 230

	scopeGPU    = 0
	scopeModule = 1
	allLinks    = math.MaxUint32
)

// Types of a field's value.
const (
	typeDouble = iota
	typeUint32
	typeUlong
	typeUint64
	typeInt64
	typeInt32
	typeUint16
)

// Blanks of DCGM and its kin: this value or a few above it stand for no value.
const (
	blankInt32  = 0x7ffffff0
	blankInt64  = 0x7ffffffffffffff0
	blankDouble = 140737488355328.0
)

// uint is the field as a whole number; ok is false for a blank, a negative
// number, a type that is no whole number or that we do not know.
func (f *field) uint() (n uint64, ok bool) {
	switch f.Type {
	case typeUint16:
		n = f.Raw & math.MaxUint16
		return n, n != math.MaxUint16
	case typeUint32:
		n = f.Raw & math.MaxUint32
		return n, n != math.MaxUint32
	case typeUlong, typeUint64:
		return f.Raw, f.Raw != math.MaxUint64 && (f.Raw < blankInt64 || f.Raw > math.MaxInt64)
	case typeInt32:
		i := int32(f.Raw)
		return uint64(i), i >= 0 && i < blankInt32
	case typeInt64:
		i := int64(f.Raw)
		return uint64(i), i >= 0 && i < blankInt64
	}
	return 0, false
}

// number is the field as something to show.
func (f *field) number() (float64, bool) {
	switch f.Type {
	case typeDouble:
		v := math.Float64frombits(f.Raw)
		return v, v < blankDouble && v > -blankDouble
	case typeInt32:
		i := int32(f.Raw)
		return float64(i), i < blankInt32
	case typeInt64:
		i := int64(f.Raw)
		return float64(i), i < blankInt64
	}
	n, ok := f.uint()
	return float64(n), ok
}

// show says how a field becomes a gauge.
type show struct {
	id, scope uint32
	name      string
	scale     float64
	low, high float64 // of the scaled value; outside it is absurd
	event     string  // told when the value changes to something other than 0
}

// slowShows lists the fields that are read every Options.Slow. A field with the
// name of an earlier one stands in for it.
func slowShows() []show {
	const ns, kib, century = 1e-9, 1024, 3.2e9
	throttle := func(id uint32, name string) show {
		return show{id: id, name: "throttle_" + name + "_seconds_total", scale: ns, high: century}
	}
	count := func(id uint32, name, event string) show {
		return show{id: id, name: name, scale: 1, high: 1e12, event: event}
	}
	return []show{
		{id: fieldMemoryTemp, name: "memory_temperature_celsius", scale: 1, low: -40, high: 150},
		{id: fieldPowerLimit, name: "power_limit_watts", scale: 1e-3, low: 1, high: 10_000},
		throttle(74, "power"), throttle(75, "thermal"), throttle(76, "sync_boost"), throttle(77, "board_limit"),
		throttle(78, "low_utilization"), throttle(79, "reliability"), throttle(80, "app_clocks"), throttle(81, "base_clocks"),
		throttle(269, "software_thermal"), throttle(270, "hardware_thermal"), throttle(271, "power_brake"),
		count(fieldECCCorrected, "ecc_corrected_total", ""),
		count(fieldECCUncorrected, "ecc_uncorrected_total", ""),
		count(fieldRowsCorrected, "remapped_rows_corrected_total", ""),
		count(fieldRowsBad, "remapped_rows_uncorrected_total", ""),
		count(fieldRowsPending, "remapped_rows_pending", "row_remap_pending"),
		count(fieldRowsFailure, "remapped_rows_failure", "row_remap_failure"),
		count(fieldRecovery, "recovery_action", "recovery_action"),
		{id: fieldNVLinkTx, scope: allLinks, name: "nvlink_transmit_bytes_total", scale: kib, high: 1e21},
		{id: fieldNVLinkRx, scope: allLinks, name: "nvlink_receive_bytes_total", scale: kib, high: 1e21},
	}
}

// recoveryAction spells the values of field 230.
func recoveryAction(n uint64) string {
	words := []string{"none", "reset the GPU", "reboot the node", "drain peer-to-peer traffic", "drain and reset the GPU", "recover the IMEX domain"}
	if n < uint64(len(words)) {
		return words[n]
	}
	return "an action this version does not know"
}
