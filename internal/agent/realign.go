package agent

import (
	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/sample"
	"github.com/wattledger/wattledger/internal/window"
)

// odometer names one: a meter and its epoch.
type odometer struct{ meter, epoch string }

// Realign fits spooled windows to where the ledger says its books stand, after a
// disk was rolled back or the ledger was restored from a backup: what is booked
// already is taken out, what the ledger lost is bridged. Windows that join as
// they are stay as they are, byte for byte. ends is changed to where the books
// will stand when all of it is booked.
func Realign(opt PipelineOptions, ws []*window.Window, ends map[odometer]ledger.End, scopes map[string]collector.Scope, known []job.Allocation) []*window.Window {
	var out []*window.Window
	for _, w := range ws {
		behind, to := gaps(w, ends, scopes)
		if len(behind) > 0 {
			for _, b := range Bridge(opt, behind, to, known) {
				advanceEnds(ends, b)
				out = append(out, b)
			}
		}
		if w = trim(w, ends); w != nil {
			advanceEnds(ends, w)
			out = append(out, w)
		}
	}
	return out
}

// gaps lists the odometers of a window that begin after the ledger's end.
func gaps(w *window.Window, ends map[odometer]ledger.End, scopes map[string]collector.Scope) (behind []ledger.End, to map[string]Landfall) {
	to = map[string]Landfall{}
	for _, r := range w.Ranges {
		m := w.Catalogue.Meters[r.Meter]
		e, ok := ends[odometer{m.Name, m.Epoch}]
		if !ok || e.UJ >= r.From {
			continue
		}
		s, ok := scopes[m.Name]
		if !ok {
			s = collector.Scope{Name: m.Name, Class: m.Class, Modulus: m.Modulus, Parent: m.Parent, Rest: m.Class}
		}
		s.Witness = false
		if m.Integrated {
			s.Kind = collector.Power
		}
		behind = append(behind, e)
		to[m.Name] = Landfall{Scope: s, Epoch: sample.EpochSource(m.Epoch), Raw: r.From, AtMS: r.FromMS, Odometer: true}
	}
	return behind, to
}

func advanceEnds(ends map[odometer]ledger.End, w *window.Window) {
	for _, r := range w.Ranges {
		m := w.Catalogue.Meters[r.Meter]
		ends[odometer{m.Name, m.Epoch}] = ledger.End{
			Meter: m.Name, Epoch: m.Epoch, UJ: r.To, Raw: r.Raw, AtMS: r.ToMS,
			Estimated: r.Estimated, Modulus: m.Modulus, Root: m.Root,
		}
	}
}

// trim takes out of a window what is booked already; nil if all of it is.
func trim(w *window.Window, ends map[odometer]ledger.End) *window.Window {
	t := *w
	t.Ranges = nil
	cut := int64(0)
	for _, r := range w.Ranges {
		m := w.Catalogue.Meters[r.Meter]
		e, ok := ends[odometer{m.Name, m.Epoch}]
		switch {
		case !ok || e.UJ == r.From:
		case e.UJ >= r.To:
			cut = max(cut, w.EndMS)
			continue
		case e.UJ > r.From:
			r.From, r.FromMS = e.UJ, min(max(e.AtMS, r.FromMS), r.ToMS)
			cut = max(cut, r.FromMS)
		}
		t.Ranges = append(t.Ranges, r)
	}
	if cut == 0 {
		return w
	}
	if len(t.Ranges) == 0 {
		return nil
	}
	if cut > t.StartMS && cut < t.EndMS {
		t.StartMS = cut
	}
	rescale(&t)
	return &t
}

// rescale makes the postings add up to what is left of the ranges, and device
// time to what is left of the time; all of it is bridged.
func rescale(w *window.Window) {
	weights := make([]uint64, len(w.Postings)+1)
	var times [energy.NumClasses][]uint64
	for i, p := range w.Postings {
		weights[i] = uint64(max(p.Energy, 0))
		times[p.Class] = append(times[p.Class], uint64(p.DeviceMS))
	}
	parts, ok := energy.Split(nil, w.Metered(), weights)
	if !ok {
		parts[len(parts)-1] = w.Metered()
	}
	var want [energy.NumClasses]int64
	for _, m := range w.Catalogue.Meters {
		if m.Leaf {
			want[m.Class] += w.EndMS - w.StartMS
		}
	}
	w.Absences = nil
	var shares [energy.NumClasses][]energy.Millijoules
	for c := range want {
		s, ok := energy.Split(nil, energy.Millijoules(want[c]), times[c])
		if !ok && want[c] > 0 {
			w.Absences = append(w.Absences, window.Absence{Class: energy.Class(c), DeviceMS: want[c]})
		}
		shares[c] = s
	}
	postings := make([]window.Posting, 0, len(w.Postings)+1)
	for i, p := range w.Postings {
		p.Energy, p.Grade = parts[i], energy.Bridged
		p.DeviceMS, shares[p.Class] = int64(shares[p.Class][0]), shares[p.Class][1:]
		postings = append(postings, p)
	}
	if rest := parts[len(w.Postings)]; rest != 0 {
		postings = append(postings, window.Posting{Job: -1, Class: energy.Other, Use: energy.Unknown, Grade: energy.Bridged, Energy: rest})
	}
	w.Postings = postings
}
