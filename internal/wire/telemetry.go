package wire

import (
	"math"

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
	oneName := true
	for i := from; i < to; i++ {
		s := &w.Telemetry[i]
		if s.Meter < -1 || s.Meter >= len(w.Catalogue.Meters) {
			return nil, malformed("telemetry[%d].meter %d: the catalogue has %d", i, s.Meter, len(w.Catalogue.Meters))
		}
		n := seriesNumber(s.Name)
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
	w.Telemetry = make([]window.Series, 0, total)
	known := seriesNames()
	for i, g := range groups {
		if err := decodeGroup(w, g, known[:]); err != nil {
			return malformed("telemetry[%d]: %v", i, err)
		}
	}
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

func decodeGroup(w *window.Window, g *wirepb.SeriesGroup, known []string) error {
	start, err := addTime("start_offset_ms", w.StartMS, g.StartOffsetMs)
	if err != nil {
		return err
	}
	names, unit := g.Names, int64(max(g.Unit, 1))
	points := int(g.Points)
	var values []int64
	if points > 0 {
		values = append(values, g.Milli...) // the message is pooled
	}
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
		w.Telemetry = append(w.Telemetry, s)
	}
	return nil
}
