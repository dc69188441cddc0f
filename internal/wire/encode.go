package wire

import (
	"math"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire/wirepb"
)

// encodeWindow is the message of a window. It refuses what decodeWindow would.
func encodeWindow(w *window.Window) (*wirepb.Window, error) {
	if w.Catalogue == nil {
		return nil, malformed("window has no catalogue")
	}
	length := w.EndMS - w.StartMS
	if err := checkTimes("start_ms or end_ms", w.StartMS, w.EndMS); err != nil {
		return nil, err
	}
	if length < 0 || length > math.MaxUint32 {
		return nil, malformed("length_ms %d is out of range", length)
	}
	p := &wirepb.Window{
		Catalogue: w.Catalogue.ID, StartMs: w.StartMS, LengthMs: uint32(length),
		Bridge: w.Bridge, Final: w.Final,
	}
	var err error
	if p.Ranges, err = encodeRanges(w); err != nil {
		return nil, err
	}
	if p.Jobs, err = encodeJobs(w.Jobs); err != nil {
		return nil, err
	}
	if err := encodePostings(p, w); err != nil {
		return nil, err
	}
	if p.Holdings, err = encodeHoldings(w.Holdings, len(w.Jobs), w.Catalogue); err != nil {
		return nil, err
	}
	if p.Events, err = encodeEvents(w); err != nil {
		return nil, err
	}
	p.Telemetry, err = encodeTelemetry(w)
	return p, err
}

func encodeRanges(w *window.Window) (*wirepb.Ranges, error) {
	if len(w.Ranges) == 0 {
		return nil, nil
	}
	if err := tooMany("ranges", len(w.Ranges), window.MaxMeters); err != nil {
		return nil, err
	}
	p := &wirepb.Ranges{}
	n := len(w.Ranges)
	inOrder, even := true, true
	for i := range w.Ranges {
		r := &w.Ranges[i]
		if r.Meter < 0 || r.Meter >= len(w.Catalogue.Meters) {
			return nil, malformed("ranges[%d].meter %d: the catalogue has %d", i, r.Meter, len(w.Catalogue.Meters))
		}
		if r.To < r.From {
			return nil, malformed("ranges[%d] goes back from %d to %d uJ", i, r.From, r.To)
		}
		if err := checkTimes("from_ms or to_ms", r.FromMS, r.ToMS); err != nil {
			return nil, malformed("ranges[%d]: %v", i, err)
		}
		var back energy.Microjoules
		if !integrated(w.Catalogue, r.Meter) {
			if r.Raw > r.To {
				return nil, malformed("ranges[%d]: raw reading %d is above the odometer %d uJ", i, r.Raw, r.To)
			}
			back = r.To - r.Raw
		}
		inOrder = inOrder && r.Meter == i
		p.Meter = append(p.Meter, uint32(r.Meter))
		p.FromUj = append(p.FromUj, uint64(r.From))
		p.LengthUj = append(p.LengthUj, uint64(r.To-r.From))
		p.FromOffsetMs = appendColumn(p.FromOffsetMs, r.FromMS-w.StartMS, i, n)
		p.ToOffsetMs = appendColumn(p.ToOffsetMs, r.ToMS-w.EndMS, i, n)
		modulus := w.Catalogue.Meters[r.Meter].Modulus
		even = even && (back == 0 || modulus > 0 && back%modulus == 0)
		p.Wraps = appendColumn(p.Wraps, uint64(back/max(modulus, 1)), i, n)
		p.RawBackUj = appendColumn(p.RawBackUj, uint64(back), i, n)
		if r.Estimated {
			p.Estimated = append(p.Estimated, uint32(i))
		}
	}
	if inOrder {
		p.Meter = nil
	}
	if even {
		p.RawBackUj = nil
	} else {
		p.Wraps = nil
	}
	return p, nil
}

// appendColumn adds the i-th of n entries to a column that is none while all of
// it is zero.
func appendColumn[T int64 | uint64 | uint32](column []T, v T, i, n int) []T {
	if v == 0 && len(column) == 0 {
		return nil
	}
	if len(column) == 0 {
		column = make([]T, i, n)
	}
	return append(column, v)
}

func encodeJobs(jobs []window.Job) ([]*wirepb.Job, error) {
	if err := tooMany("jobs", len(jobs), MaxJobs); err != nil {
		return nil, err
	}
	var out []*wirepb.Job
	for i := range jobs {
		j := &jobs[i]
		if err := checkNames("id", j.ID, "project", j.Project, "user", j.User); err != nil {
			return nil, malformed("jobs[%d]: %v", i, err)
		}
		if err := checkTimes("submit_ms, start_ms or end_ms", j.SubmitMS, j.StartMS, j.EndMS); err != nil {
			return nil, malformed("jobs[%d]: %v", i, err)
		}
		out = append(out, &wirepb.Job{
			Id: j.ID, Restart: j.Restart, SubmitMs: j.SubmitMS, Project: j.Project, User: j.User,
			StartMs: j.StartMS, EndMs: j.EndMS,
		})
	}
	return out, nil
}

// Where use and grade are in the kind of a posting.
const (
	kindUse   = 3
	kindGrade = 6
	kindMask  = 7
)

// encodePostings fills in postings and absences.
func encodePostings(p *wirepb.Window, w *window.Window) error {
	if err := tooMany("postings", len(w.Postings), window.MaxPostings); err != nil {
		return err
	}
	if err := tooMany("absences", len(w.Absences), MaxJobs); err != nil {
		return err
	}
	if n := len(w.Postings); n > 0 {
		p.Postings = &wirepb.Postings{Kind: make([]uint32, n), Mj: make([]int64, n)}
	}
	for i, x := range w.Postings {
		switch {
		case x.Job < -1 || x.Job >= len(w.Jobs):
			return malformed("postings[%d].job %d: the window has %d", i, x.Job, len(w.Jobs))
		case x.Class >= energy.NumClasses || x.Use >= energy.NumUses || x.Grade >= energy.NumGrades:
			return malformed("postings[%d]: unknown class, use or grade (%d, %d, %d)", i, x.Class, x.Use, x.Grade)
		case x.DeviceMS < 0:
			return malformed("postings[%d].device_ms %d is negative", i, x.DeviceMS)
		}
		p.Postings.Job = appendColumn(p.Postings.Job, uint32(x.Job+1), i, len(w.Postings))
		p.Postings.Kind[i] = uint32(x.Class) | uint32(x.Use)<<kindUse | uint32(x.Grade)<<kindGrade
		p.Postings.Mj[i] = int64(x.Energy)
		p.Postings.DeviceMs = appendColumn(p.Postings.DeviceMs, uint64(x.DeviceMS), i, len(w.Postings))
	}
	for i, a := range w.Absences {
		if a.DeviceMS < 0 {
			return malformed("absences[%d].device_ms %d is negative", i, a.DeviceMS)
		}
		p.Absences = append(p.Absences, &wirepb.Absence{Class: uint32(a.Class), DeviceMs: uint64(a.DeviceMS)})
	}
	return nil
}

// encodeHoldings names devices by their meter in the catalogue, where there is one.
func encodeHoldings(holdings []window.Holding, jobs int, c *window.Catalogue) ([]*wirepb.Holding, error) {
	if err := tooMany("holdings", len(holdings), MaxJobs); err != nil {
		return nil, err
	}
	var out []*wirepb.Holding
	for i := range holdings {
		h := &holdings[i]
		if h.Job < 0 || h.Job >= jobs {
			return nil, malformed("holdings[%d].job %d: there are %d", i, h.Job, jobs)
		}
		if err := tooMany("devices of a holding", len(h.Devices), window.MaxMeters); err != nil {
			return nil, err
		}
		p := &wirepb.Holding{Job: uint32(h.Job)}
		whole := true
		for _, d := range h.Devices {
			n := deviceNumber(d.Device, c)
			if n == deviceNamed {
				if err := CheckName("device", d.Device); err != nil {
					return nil, malformed("holdings[%d]: %v", i, err)
				}
				p.Names = append(p.Names, d.Device)
			}
			p.Device = append(p.Device, n)
			p.Weight = append(p.Weight, d.Weight)
			whole = whole && d.Weight == wholeDevice
		}
		if whole {
			p.Weight = nil
		}
		out = append(out, p)
	}
	return out, nil
}

const wholeDevice = 1_000_000 // millionths

func deviceNumber(name string, c *window.Catalogue) uint32 {
	for i, n := range sharedDevices() {
		if i > 0 && n == name {
			return uint32(i)
		}
	}
	if c != nil {
		for i := range c.Meters {
			if c.Meters[i].Name == name {
				return uint32(i + deviceMeters)
			}
		}
	}
	return deviceNamed
}

func encodeEvents(w *window.Window) ([]*wirepb.Event, error) {
	if err := tooMany("events", len(w.Events), MaxJobs); err != nil {
		return nil, err
	}
	var out []*wirepb.Event
	for i := range w.Events {
		e := &w.Events[i]
		if err := checkNames("kind", e.Kind, "meter", e.Meter); err != nil {
			return nil, malformed("events[%d]: %v", i, err)
		}
		if err := checkText("detail", e.Detail, MaxDetail); err != nil {
			return nil, malformed("events[%d]: %v", i, err)
		}
		if err := checkTimes("at_ms", e.AtMS); err != nil {
			return nil, malformed("events[%d]: %v", i, err)
		}
		out = append(out, &wirepb.Event{AtOffsetMs: e.AtMS - w.StartMS, Kind: e.Kind, Meter: e.Meter, Detail: e.Detail})
	}
	return out, nil
}

// checkTimes tells whether all of them are Unix milliseconds from 1970 to 9999.
func checkTimes(what string, times ...int64) error {
	for _, ms := range times {
		if ms < 0 || ms >= maxMS {
			return malformed("%s: %d is not a time in milliseconds", what, ms)
		}
	}
	return nil
}
