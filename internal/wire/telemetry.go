package wire

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire/wirepb"
)

// encodeTelemetry puts consecutive series of one shape into one group.
func encodeTelemetry(w *window.Window) ([]*wirepb.SeriesGroup, error) {
	if err := tooMany("series", len(w.Telemetry), MaxSeries); err != nil {
		return nil, err
	}
	var out []*wirepb.SeriesGroup
	for from := 0; from < len(w.Telemetry); {
		to := from + 1
		for to < len(w.Telemetry) && sameShape(&w.Telemetry[from], &w.Telemetry[to]) {
			to++
		}
		g, err := encodeGroup(w, from, to)
		if err != nil {
			return nil, err
		}
		out = append(out, g)
		from = to
	}
	return out, nil
}

func sameShape(a, b *window.Series) bool {
	return a.StartMS == b.StartMS && a.StepMS == b.StepMS && len(a.Milli) == len(b.Milli) && hasExtremes(a) == hasExtremes(b)
}

func hasExtremes(s *window.Series) bool { return s.Max != 0 || s.Last != 0 }

// encodeGroup makes a group of the series [from, to), which are of one shape.
func encodeGroup(w *window.Window, from, to int) (*wirepb.SeriesGroup, error) {
	first := &w.Telemetry[from]
	if first.StepMS < 0 || first.StepMS > math.MaxUint32 {
		return nil, malformed("telemetry[%d].step_ms %d is out of range", from, first.StepMS)
	}
	if err := checkTimes("start_ms", first.StartMS); err != nil {
		return nil, malformed("telemetry[%d]: %v", from, err)
	}
	g := &wirepb.SeriesGroup{
		StartOffsetMs: first.StartMS - w.StartMS, StepMs: uint32(first.StepMS), Points: uint32(len(first.Milli)),
	}
	unit := commonUnit(w.Telemetry[from:to])
	if unit > 1 {
		g.Unit = uint32(unit)
	}
	names := seriesNames()
	n := to - from
	g.Name, g.Meter = make([]uint32, 0, n), make([]uint32, 0, n)
	g.Milli = make([]int64, 0, n*len(first.Milli))
	if hasExtremes(first) {
		g.Max, g.Last = make([]int64, 0, n), make([]int64, 0, n)
	}
	oneName := true
	for i := from; i < to; i++ {
		s := &w.Telemetry[i]
		if s.Meter < -1 || s.Meter >= len(w.Catalogue.Meters) {
			return nil, malformed("telemetry[%d].meter %d: the catalogue has %d", i, s.Meter, len(w.Catalogue.Meters))
		}
		n := numberIn(names[:], s.Name)
		if n == 0 {
			if err := CheckName("name", s.Name); err != nil {
				return nil, malformed("telemetry[%d]: %v", i, err)
			}
			g.Names = append(g.Names, s.Name)
		}
		oneName = oneName && n != 0 && s.Name == first.Name
		g.Name = append(g.Name, n)
		g.Meter = append(g.Meter, uint32(s.Meter+1))
		encodePoints(g, s, unit)
	}
	if oneName {
		g.Name = g.Name[:1]
	}
	return g, nil
}

// commonUnit is the largest of 1000, 100 and 1 thousandths that every value of
// the series is a multiple of: 1000 where a sensor gives whole watts.
func commonUnit(series []window.Series) int64 {
	unit := int64(1000)
	for i := range series {
		s := &series[i]
		for _, v := range [2]int64{s.Max, s.Last} {
			unit = unitOf(v, unit)
		}
		for _, v := range s.Milli {
			unit = unitOf(v, unit)
		}
	}
	return unit
}

// unitOf is the largest unit up to most that v is a multiple of. Differences of
// huge values overflow: they are not divided.
func unitOf(v, most int64) int64 {
	switch {
	case v > math.MaxInt64/2 || v < math.MinInt64/2:
		return 1
	case most == 1 || v%most == 0:
		return most
	case v%100 == 0:
		return 100
	}
	return 1
}

// encodePoints appends differences. They may overflow and come back: both ends
// calculate modulo 2^64.
func encodePoints(g *wirepb.SeriesGroup, s *window.Series, unit int64) {
	var first, last int64
	for i, v := range s.Milli {
		if i == 0 {
			first = v
		}
		g.Milli = append(g.Milli, (v-last)/unit)
		last = v
	}
	if hasExtremes(s) {
		g.Max = append(g.Max, (s.Max-first)/unit)
		g.Last = append(g.Last, (s.Last-first)/unit)
	}
}

// decodeTelemetry fills in w.Telemetry.
func decodeTelemetry(w *window.Window, groups []*wirepb.SeriesGroup) error {
	var total int
	for i, g := range groups {
		total += len(g.Meter)
		if err := checkGroup(w, g); err != nil {
			return malformed("telemetry[%d]: %v", i, err)
		}
	}
	if err := tooMany("series", total, MaxSeries); err != nil {
		return err
	}
	if total == 0 {
		return nil
	}
	to := Unpacker{series: make([]window.Series, 0, total)}
	for i, g := range groups {
		to.values = nil // of each group its own
		if err := to.group(w, g); err != nil {
			return malformed("telemetry[%d]: %v", i, err)
		}
	}
	w.Telemetry = to.series
	return nil
}

// keepValues and keepSeries are how much memory an Unpacker keeps.
const keepValues, keepSeries = 64 << 10, 4096

// Unpacker unpacks the telemetry of one window after the other into memory of its
// own. The zero value is ready. It serves one goroutine.
type Unpacker struct {
	message wirepb.SeriesGroup
	series  []window.Series
	values  []int64
}

// Unpack fills in w.Telemetry from w.Packed, if there is some. What it fills in is
// valid until the next call. An error wraps ErrMalformed or ErrTooLarge; the window
// then has no telemetry.
func (u *Unpacker) Unpack(w *window.Window) error {
	if len(w.Packed) == 0 {
		return nil
	}
	if cap(u.values) > keepValues || cap(u.series) > keepSeries {
		*u = Unpacker{}
	}
	u.series, u.values, w.Telemetry = u.series[:0], u.values[:0], nil
	for i, b := 0, w.Packed; len(b) > 0; i++ {
		num, typ, n := protowire.ConsumeTag(b)
		if num != fieldTelemetry || typ != protowire.BytesType {
			return malformed("telemetry[%d] is not there", i)
		}
		v, m := protowire.ConsumeBytes(b[n:])
		if m < 0 {
			return malformed("telemetry[%d]: %v", i, protowire.ParseError(m))
		}
		b = b[n+m:]
		u.message.ResetVT()
		err := u.message.UnmarshalVT(v)
		if err == nil {
			err = tooMany("series", len(u.series)+len(u.message.Meter), MaxSeries)
		}
		if err == nil {
			err = checkGroup(w, &u.message)
		}
		if err == nil {
			err = u.group(w, &u.message)
		}
		if err != nil {
			return malformed("telemetry[%d]: %v", i, err)
		}
	}
	w.Telemetry = u.series
	return nil
}

func checkGroup(w *window.Window, g *wirepb.SeriesGroup) error {
	n := len(g.Meter)
	switch {
	case n == 0:
		return malformed("no series")
	case len(g.Name) != n && (len(g.Name) != 1 || g.Name[0] == 0):
		return malformed("%d names for %d series", len(g.Name), n)
	case uint64(len(g.Milli)) != uint64(n)*uint64(g.Points):
		return malformed("%d values for %d series of %d points", len(g.Milli), n, g.Points)
	case len(g.Max) != len(g.Last) || (len(g.Max) != 0 && len(g.Max) != n):
		return malformed("%d maxima and %d last values for %d series", len(g.Max), len(g.Last), n)
	}
	for _, m := range g.Meter {
		if int(m) > len(w.Catalogue.Meters) {
			return malformed("meter %d: the catalogue has %d", int(m)-1, len(w.Catalogue.Meters))
		}
	}
	return nil
}

// group adds the series of a group that was checked.
func (u *Unpacker) group(w *window.Window, g *wirepb.SeriesGroup) error {
	start, err := addTime("start_offset_ms", w.StartMS, g.StartOffsetMs)
	if err != nil {
		return err
	}
	names, unit := g.Names, int64(max(g.Unit, 1))
	points := int(g.Points)
	known := seriesNames()
	from := len(u.values)
	u.values = append(u.values, g.Milli...) // the message is used again
	values := u.values[from:]
	for i := range g.Meter {
		number := g.Name[min(i, len(g.Name)-1)]
		s := window.Series{Meter: int(g.Meter[i]) - 1, StartMS: start, StepMS: int64(g.StepMs)}
		switch {
		case number == 0 && len(names) == 0:
			return malformed("series %d has no name", i)
		case number == 0:
			if s.Name, names = names[0], names[1:]; CheckName("name", s.Name) != nil {
				return CheckName("name", s.Name)
			}
		case int(number) < len(known):
			s.Name = known[number]
		default:
			continue // of a later version: a value to look at, whose name we do not know
		}
		var first int64
		if points > 0 {
			s.Milli = values[i*points : (i+1)*points : (i+1)*points]
			for k, last := 0, int64(0); k < points; k++ {
				last += s.Milli[k] * unit
				s.Milli[k] = last
			}
			first = s.Milli[0]
		}
		if len(g.Max) > 0 {
			s.Max, s.Last = g.Max[i]*unit+first, g.Last[i]*unit+first
		}
		u.series = append(u.series, s)
	}
	return nil
}
