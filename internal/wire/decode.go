package wire

import (
	"errors"
	"math"
	"math/bits"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire/wirepb"
)

// Numbers of the fields of Window that repeat, in wire.proto.
const (
	fieldJobs      = 5
	fieldAbsences  = 7
	fieldHoldings  = 8
	fieldEvents    = 11
	fieldTelemetry = 15
)

// countFields counts the fields of a message by number, so that a limit is
// checked before anything is allocated. Numbers above 15 are not counted.
func countFields(b []byte) (counts [16]int, err error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return counts, malformed("%v", protowire.ParseError(n))
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return counts, malformed("field %d: %v", num, protowire.ParseError(m))
		}
		if int(num) < len(counts) {
			counts[num]++
		}
		b = b[n+m:]
	}
	return counts, nil
}

// apart takes the telemetry out of the fields of a Window message. A message that
// cannot be read is given as it is.
func apart(b []byte) (rest, telemetry []byte) {
	var others, told stretch
	for at := 0; at < len(b); {
		num, _, n := protowire.ConsumeField(b[at:])
		switch {
		case n < 0:
			return b, nil
		case num == fieldTelemetry:
			told.add(b, at, at+n)
		default:
			others.add(b, at, at+n)
		}
		at += n
	}
	return others.bytes, told.bytes
}

// stretch gathers parts of a message: it is itself a part of it while they lie
// together, as encoders write them, and a copy from then on.
type stretch struct {
	bytes    []byte
	from, to int
	copied   bool
}

func (s *stretch) add(b []byte, from, to int) {
	switch {
	case s.bytes == nil:
		s.bytes, s.from = b[from:to:to], from
	case from == s.to && !s.copied:
		s.bytes = b[s.from:to:to]
	default:
		s.bytes, s.copied = append(s.bytes, b[from:to]...), true
	}
	s.to = to
}

// catalogueOf gives the id that a Catalogue or Window message begins with; 0 if
// none. It is a first look: decoding compares it with what is decoded.
func catalogueOf(b []byte) uint64 {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			break
		}
		if num == 1 && typ == protowire.Fixed64Type {
			id, _ := protowire.ConsumeFixed64(b[n:])
			return id
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			break
		}
		b = b[n+m:]
	}
	return 0
}

// decodeWindow reads the bytes of one Window message that names catalogue c.
func decodeWindow(b []byte, c *window.Catalogue) (*window.Window, error) {
	counts, err := countFields(b)
	if err != nil {
		return nil, err
	}
	if err := checkCounts(&counts); err != nil {
		return nil, err
	}
	p := wirepb.WindowFromVTPool()
	defer p.ReturnToVTPool()
	if err := p.UnmarshalVT(b); err != nil {
		return nil, malformed("%v", err)
	}
	if p.Catalogue != c.ID {
		return nil, malformed("catalogue %016x is not %016x", p.Catalogue, c.ID)
	}
	if err := checkTimes("start_ms", p.StartMs); err != nil {
		return nil, err
	}
	w := &window.Window{
		Catalogue: c, StartMS: p.StartMs, EndMS: p.StartMs + int64(p.LengthMs), Bridge: p.Bridge, Final: p.Final,
	}
	if err := checkTimes("end_ms", w.EndMS); err != nil {
		return nil, err
	}
	if err := decodeRanges(w, p.Ranges); err != nil {
		return nil, err
	}
	if w.Jobs, err = decodeJobs(p.Jobs); err != nil {
		return nil, err
	}
	if err := decodePostings(w, p); err != nil {
		return nil, err
	}
	if w.Holdings, err = decodeHoldings(p.Holdings, len(w.Jobs), c); err != nil {
		return nil, err
	}
	if err := decodeEvents(w, p.Events); err != nil {
		return nil, err
	}
	return w, decodeTelemetry(w, p.Telemetry)
}

func checkCounts(counts *[16]int) error {
	return errors.Join(
		tooMany("jobs", counts[fieldJobs], MaxJobs),
		tooMany("absences", counts[fieldAbsences], MaxJobs),
		tooMany("holdings", counts[fieldHoldings], MaxJobs),
		tooMany("events", counts[fieldEvents], MaxJobs),
		tooMany("groups of series", counts[fieldTelemetry], MaxJobs),
	)
}

func checkColumns(p *wirepb.Ranges) error {
	n := len(p.FromUj)
	for _, c := range []struct {
		name   string
		length int
		must   bool
	}{
		{"meter", len(p.Meter), false},
		{"length_uj", len(p.LengthUj), true},
		{"from_offset_ms", len(p.FromOffsetMs), false},
		{"to_offset_ms", len(p.ToOffsetMs), false},
		{"wraps", len(p.Wraps), false},
		{"raw_back_uj", len(p.RawBackUj), false},
	} {
		if c.length != n && (c.must || c.length != 0) {
			return malformed("ranges.%s has %d entries for %d ranges", c.name, c.length, n)
		}
	}
	for _, i := range p.Estimated {
		if int(i) >= n {
			return malformed("ranges.estimated %d: there are %d ranges", i, n)
		}
	}
	return tooMany("ranges", n, window.MaxMeters)
}

func decodeRanges(w *window.Window, p *wirepb.Ranges) error {
	if p == nil {
		return nil
	}
	if err := checkColumns(p); err != nil {
		return err
	}
	if len(p.FromUj) == 0 {
		return nil
	}
	w.Ranges = make([]window.Range, len(p.FromUj))
	for _, i := range p.Estimated {
		w.Ranges[i].Estimated = true
	}
	for i := range w.Ranges {
		if err := decodeRange(w, p, i); err != nil {
			return malformed("ranges[%d]: %v", i, err)
		}
	}
	return nil
}

func decodeRange(w *window.Window, p *wirepb.Ranges, i int) (err error) {
	r := &w.Ranges[i]
	r.Meter = i
	if len(p.Meter) > 0 {
		r.Meter = int(p.Meter[i])
	}
	if r.Meter >= len(w.Catalogue.Meters) {
		return malformed("meter %d: the catalogue has %d", r.Meter, len(w.Catalogue.Meters))
	}
	to := p.FromUj[i] + p.LengthUj[i]
	if to < p.FromUj[i] {
		return malformed("from_uj %d + length_uj %d overflows", p.FromUj[i], p.LengthUj[i])
	}
	r.From, r.To = energy.Microjoules(p.FromUj[i]), energy.Microjoules(to)
	if r.FromMS, err = addTime("from_offset_ms", w.StartMS, column(p.FromOffsetMs, i)); err != nil {
		return err
	}
	if r.ToMS, err = addTime("to_offset_ms", w.EndMS, column(p.ToOffsetMs, i)); err != nil {
		return err
	}
	if w.Catalogue.Meters[r.Meter].Integrated {
		return nil
	}
	modulus := uint64(w.Catalogue.Meters[r.Meter].Modulus)
	high, back := bits.Mul64(column(p.Wraps, i), modulus)
	back, carry := bits.Add64(back, column(p.RawBackUj, i), 0)
	if high > 0 || carry > 0 || back > to {
		return malformed("wraps %d of %d and raw_back_uj %d are more than to_uj %d", column(p.Wraps, i), modulus, column(p.RawBackUj, i), to)
	}
	r.Raw = energy.Microjoules(to - back)
	return nil
}

func column[T int64 | uint64 | uint32](c []T, i int) T {
	if len(c) == 0 {
		return 0
	}
	return c[i]
}

// addTime adds an offset to a time that was checked.
func addTime(what string, ms, offset int64) (int64, error) {
	if offset < -maxMS || offset > maxMS {
		return 0, malformed("%s %d is out of range", what, offset)
	}
	return ms + offset, checkTimes(what, ms+offset)
}

func decodeJobs(in []*wirepb.Job) ([]window.Job, error) {
	if err := tooMany("jobs", len(in), MaxJobs); err != nil || len(in) == 0 {
		return nil, err
	}
	jobs := make([]window.Job, len(in))
	for i, p := range in {
		if err := checkNames("id", p.Id, "project", p.Project, "user", p.User); err != nil {
			return nil, malformed("jobs[%d]: %v", i, err)
		}
		if err := checkTimes("submit_ms, start_ms or end_ms", p.SubmitMs, p.StartMs, p.EndMs); err != nil {
			return nil, malformed("jobs[%d]: %v", i, err)
		}
		jobs[i] = window.Job{
			ID: p.Id, Restart: p.Restart, SubmitMS: p.SubmitMs, Project: p.Project, User: p.User,
			StartMS: p.StartMs, EndMS: p.EndMs,
		}
	}
	return jobs, nil
}

// decodePostings fills in postings and absences.
func decodePostings(w *window.Window, p *wirepb.Window) error {
	if err := decodePostingColumns(w, p.Postings); err != nil {
		return err
	}
	if len(p.Absences) > 0 {
		w.Absences = make([]window.Absence, len(p.Absences))
	}
	for i, a := range p.Absences {
		if a.Class >= energy.NumClasses || a.DeviceMs > math.MaxInt64 {
			return malformed("absences[%d]: class %d, device_ms %d is out of range", i, a.Class, a.DeviceMs)
		}
		w.Absences[i] = window.Absence{Class: energy.Class(a.Class), DeviceMS: int64(a.DeviceMs)}
	}
	return nil
}

func decodePostingColumns(w *window.Window, p *wirepb.Postings) error {
	n := len(p.GetKind())
	if err := tooMany("postings", n, window.MaxPostings); err != nil || n == 0 {
		return err
	}
	if len(p.Mj) != n || (len(p.Job) != n && len(p.Job) != 0) || (len(p.DeviceMs) != n && len(p.DeviceMs) != 0) {
		return malformed("postings: %d jobs, %d kinds, %d mj, %d device_ms", len(p.Job), n, len(p.Mj), len(p.DeviceMs))
	}
	w.Postings = make([]window.Posting, n)
	for i, kind := range p.Kind {
		x := window.Posting{
			Job: int(column(p.Job, i)) - 1, Class: energy.Class(kind & kindMask), Use: energy.Use(kind >> kindUse & kindMask),
			Grade: energy.Grade(min(kind>>kindGrade, energy.NumGrades)), Energy: energy.Millijoules(p.Mj[i]),
		}
		device := column(p.DeviceMs, i)
		switch {
		case x.Job >= len(w.Jobs):
			return malformed("postings[%d].job %d: the window has %d", i, x.Job, len(w.Jobs))
		case x.Class >= energy.NumClasses || x.Use >= energy.NumUses || x.Grade >= energy.NumGrades:
			return malformed("postings[%d]: unknown class, use or grade (%d)", i, kind)
		case device > math.MaxInt64:
			return malformed("postings[%d].device_ms %d is out of range", i, device)
		}
		x.DeviceMS = int64(device)
		w.Postings[i] = x
	}
	return nil
}

// decodeHoldings reads holdings of one of so many jobs; c is nil in an answer.
func decodeHoldings(in []*wirepb.Holding, jobs int, c *window.Catalogue) ([]window.Holding, error) {
	if err := tooMany("holdings", len(in), MaxJobs); err != nil || len(in) == 0 {
		return nil, err
	}
	out := make([]window.Holding, len(in))
	for i, p := range in {
		if int(p.Job) >= jobs {
			return nil, malformed("holdings[%d].job %d: there are %d", i, p.Job, jobs)
		}
		if len(p.Weight) != 0 && len(p.Weight) != len(p.Device) {
			return nil, malformed("holdings[%d]: %d weights for %d devices", i, len(p.Weight), len(p.Device))
		}
		devices, err := decodeDevices(p, c)
		if err != nil {
			return nil, malformed("holdings[%d]: %v", i, err)
		}
		out[i] = window.Holding{Job: int(p.Job), Devices: devices}
	}
	return out, nil
}

func decodeDevices(p *wirepb.Holding, c *window.Catalogue) ([]window.Share, error) {
	if err := tooMany("devices of a holding", len(p.Device), window.MaxMeters); err != nil || len(p.Device) == 0 {
		return nil, err
	}
	shared := sharedDevices()
	names := p.Names
	devices := make([]window.Share, len(p.Device))
	for k, n := range p.Device {
		d := &devices[k]
		d.Weight = wholeDevice
		if len(p.Weight) > 0 {
			d.Weight = p.Weight[k]
		}
		switch {
		case n == deviceNamed && len(names) == 0:
			return nil, malformed("device %d has no name", k)
		case n == deviceNamed:
			d.Device, names = names[0], names[1:]
			if err := CheckName("device", d.Device); err != nil {
				return nil, err
			}
		case n < deviceMeters:
			d.Device = shared[n]
		case c == nil || int(n)-deviceMeters >= len(c.Meters):
			return nil, malformed("device %d is meter %d, which is unknown", k, int(n)-deviceMeters)
		default:
			d.Device = c.Meters[int(n)-deviceMeters].Name
		}
	}
	return devices, nil
}

func decodeEvents(w *window.Window, in []*wirepb.Event) error {
	if len(in) > 0 {
		w.Events = make([]window.Event, len(in))
	}
	for i, p := range in {
		at, err := addTime("at_offset_ms", w.StartMS, p.AtOffsetMs)
		if err != nil {
			return malformed("events[%d]: %v", i, err)
		}
		if err := checkNames("kind", p.Kind, "meter", p.Meter); err != nil {
			return malformed("events[%d]: %v", i, err)
		}
		if err := checkText("detail", p.Detail, MaxDetail); err != nil {
			return malformed("events[%d]: %v", i, err)
		}
		w.Events[i] = window.Event{AtMS: at, Kind: p.Kind, Meter: p.Meter, Detail: p.Detail}
	}
	return nil
}
