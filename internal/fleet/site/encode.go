package site

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// Telemetry is nine tenths of the work of encoding a window, and an agent has
// the time for it that a thousand of them on one core have not. encoder writes
// what wire.EncodeFragment would, byte for byte (a test holds one against the
// other), without anything in between.
type encoder struct {
	numbers map[string]uint32
	group   []byte
	packed  []byte
	names   []uint32
	out     []byte
}

// Numbers of fields in wire.proto.
const (
	fragmentWindows = 11
	windowTelemetry = 15

	groupStart  = 1
	groupStep   = 2
	groupPoints = 3
	groupName   = 4
	groupNames  = 5
	groupMeter  = 6
	groupMilli  = 7
	groupMax    = 8
	groupLast   = 9
	groupUnit   = 10
)

// window encodes a window as a fragment of its own, without its catalogue. The
// result is the caller's.
func (e *encoder) window(w *window.Window) ([]byte, error) {
	bare := *w
	bare.Telemetry = nil
	b, err := wire.EncodeFragment(nil, []*window.Window{&bare})
	if err != nil || len(w.Telemetry) == 0 {
		return b, err
	}
	_, _, tag := protowire.ConsumeTag(b)
	inner, size := protowire.ConsumeBytes(b[tag:])
	if tag < 0 || size < 0 {
		return nil, protowire.ParseError(min(tag, size))
	}
	e.out = e.out[:0]
	for from := 0; from < len(w.Telemetry); {
		to := from + 1
		for to < len(w.Telemetry) && alike(&w.Telemetry[from], &w.Telemetry[to]) {
			to++
		}
		e.series(w.StartMS, w.Telemetry[from:to])
		e.out = protowire.AppendTag(e.out, windowTelemetry, protowire.BytesType)
		e.out = protowire.AppendBytes(e.out, e.group)
		from = to
	}
	whole := make([]byte, 0, len(inner)+len(e.out)+8)
	whole = protowire.AppendTag(whole, fragmentWindows, protowire.BytesType)
	whole = protowire.AppendVarint(whole, uint64(len(inner)+len(e.out)))
	return append(append(whole, inner...), e.out...), nil
}

func alike(a, b *window.Series) bool {
	return a.StartMS == b.StartMS && a.StepMS == b.StepMS && len(a.Milli) == len(b.Milli) && extremes(a) == extremes(b)
}

func extremes(s *window.Series) bool { return s.Max != 0 || s.Last != 0 }

func (e *encoder) number(name string) uint32 {
	n, ok := e.numbers[name]
	if !ok {
		if e.numbers == nil {
			e.numbers = map[string]uint32{}
		}
		n = wire.SeriesNumber(name)
		e.numbers[name] = n
	}
	return n
}

// series encodes a group into e.group.
func (e *encoder) series(start int64, all []window.Series) {
	g := e.group[:0]
	first := &all[0]
	g = number(g, groupStart, protowire.EncodeZigZag(first.StartMS-start))
	g = number(g, groupStep, uint64(first.StepMS))
	g = number(g, groupPoints, uint64(len(first.Milli)))
	e.names = e.names[:0]
	one := true
	for i := range all {
		n := uint32(0)
		if i > 0 && all[i].Name == all[i-1].Name {
			n = e.names[i-1]
		} else {
			n = e.number(all[i].Name)
		}
		e.names = append(e.names, n)
		one = one && n != 0 && n == e.names[0]
	}
	listed := e.names
	if one {
		listed = listed[:1]
	}
	g = e.column(g, groupName, len(listed), func(i int) uint64 { return uint64(listed[i]) })
	for i, n := range e.names {
		if n == 0 {
			g = protowire.AppendTag(g, groupNames, protowire.BytesType)
			g = protowire.AppendString(g, all[i].Name)
		}
	}
	g = e.column(g, groupMeter, len(all), func(i int) uint64 { return uint64(all[i].Meter + 1) })
	e.group = e.points(g, all)
}

func (e *encoder) points(g []byte, all []window.Series) []byte {
	unit := unitOf(all)
	e.packed = e.packed[:0]
	for i := range all {
		last := int64(0)
		for _, v := range all[i].Milli {
			e.packed = protowire.AppendVarint(e.packed, protowire.EncodeZigZag((v-last)/unit))
			last = v
		}
	}
	g = protowire.AppendTag(g, groupMilli, protowire.BytesType)
	g = protowire.AppendBytes(g, e.packed)
	if extremes(&all[0]) {
		g = e.column(g, groupMax, len(all), func(i int) uint64 {
			return protowire.EncodeZigZag((all[i].Max - all[i].Milli[0]) / unit)
		})
		g = e.column(g, groupLast, len(all), func(i int) uint64 {
			return protowire.EncodeZigZag((all[i].Last - all[i].Milli[0]) / unit)
		})
	}
	if unit > 1 {
		g = number(g, groupUnit, uint64(unit))
	}
	return g
}

// unitOf is the largest of 1000, 100 and 1 that every value is a multiple of.
func unitOf(all []window.Series) int64 {
	unit := int64(1000)
	for i := range all {
		s := &all[i]
		for unit > 1 && (s.Max%unit != 0 || s.Last%unit != 0) {
			unit = smaller(unit)
		}
		for _, v := range s.Milli {
			for unit > 1 && v%unit != 0 {
				unit = smaller(unit)
			}
		}
	}
	return unit
}

func smaller(unit int64) int64 {
	if unit == 1000 {
		return 100
	}
	return 1
}

// column appends packed numbers.
func (e *encoder) column(g []byte, field protowire.Number, n int, at func(i int) uint64) []byte {
	e.packed = e.packed[:0]
	for i := range n {
		e.packed = protowire.AppendVarint(e.packed, at(i))
	}
	g = protowire.AppendTag(g, field, protowire.BytesType)
	return protowire.AppendBytes(g, e.packed)
}

// number appends a number that is not 0.
func number(g []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return g
	}
	g = protowire.AppendTag(g, field, protowire.VarintType)
	return protowire.AppendVarint(g, v)
}
