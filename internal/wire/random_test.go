package wire_test

import (
	"fmt"
	"math/rand/v2"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// arbitrary makes any window that can be encoded, sensible or not.
type arbitrary struct{ *rand.Rand }

func (r arbitrary) name() string {
	return []string{"", "gpu0", "cpu", "memory", "µ-node", "71001", "EUHPC_A01_001"}[r.IntN(7)]
}

func (r arbitrary) ms() int64 { return 1_790_000_000_000 + r.Int64N(1e10) }

func (r arbitrary) uj() energy.Microjoules {
	return energy.Microjoules(r.Uint64() >> r.IntN(64))
}

func (r arbitrary) flag() bool { return r.IntN(2) == 0 }

func (r arbitrary) catalogue() *window.Catalogue {
	c := &window.Catalogue{Policy: r.name()}
	for i := range r.IntN(8) {
		c.Meters = append(c.Meters, window.Meter{
			Name: fmt.Sprintf("meter%d", i), Epoch: r.name(), Parent: r.name(), Class: energy.Class(r.IntN(energy.NumClasses)),
			Root: r.flag(), Leaf: r.flag(), Integrated: r.flag(), Modulus: r.uj(),
		})
	}
	c.ID = wire.CatalogueID(c)
	return c
}

func (r arbitrary) window(c *window.Catalogue) *window.Window {
	w := &window.Window{Catalogue: c, StartMS: r.ms(), Bridge: r.flag(), Final: r.flag()}
	w.EndMS = w.StartMS + r.Int64N(1e6)
	for range r.IntN(4) * min(1, len(c.Meters)) {
		w.Ranges = append(w.Ranges, r.span(w))
	}
	for range r.IntN(4) {
		w.Jobs = append(w.Jobs, window.Job{
			ID: r.name(), Restart: r.Uint32(), SubmitMS: r.ms(), Project: r.name(), User: r.name(), StartMS: r.ms(), EndMS: r.ms(),
		})
	}
	for range r.IntN(6) {
		w.Postings = append(w.Postings, window.Posting{
			Job: r.IntN(len(w.Jobs)+1) - 1, Class: energy.Class(r.IntN(energy.NumClasses)),
			Use: energy.Use(r.IntN(energy.NumUses)), Grade: energy.Grade(r.IntN(energy.NumGrades)),
			Energy: energy.Millijoules(r.Uint64()), DeviceMS: r.Int64(),
		})
	}
	for range r.IntN(3) {
		w.Absences = append(w.Absences, window.Absence{Class: energy.Class(r.IntN(energy.NumClasses)), DeviceMS: r.Int64()})
	}
	for range r.IntN(3) * min(1, len(w.Jobs)) {
		w.Holdings = append(w.Holdings, r.holding(w))
	}
	for range r.IntN(2) {
		w.Events = append(w.Events, window.Event{AtMS: r.ms(), Kind: r.name(), Meter: r.name(), Detail: r.name()})
	}
	for range r.IntN(5) {
		w.Telemetry = append(w.Telemetry, r.series(w))
	}
	return w
}

func (r arbitrary) span(w *window.Window) window.Range {
	x := window.Range{
		Meter: r.IntN(len(w.Catalogue.Meters)), From: r.uj() / 2, FromMS: r.ms(), ToMS: r.ms(), Estimated: r.IntN(4) == 0,
	}
	x.To = x.From + r.uj()/2
	if !x.Estimated && !w.Catalogue.Meters[x.Meter].Integrated {
		x.Raw = min(x.To, r.uj())
	}
	if r.flag() {
		x.FromMS, x.ToMS = w.StartMS, w.EndMS
	}
	return x
}

func (r arbitrary) holding(w *window.Window) window.Holding {
	h := window.Holding{Job: r.IntN(len(w.Jobs))}
	for i := range r.IntN(4) {
		d := window.Share{Device: r.name(), Weight: 1_000_000}
		if i < len(w.Catalogue.Meters) {
			d.Device = w.Catalogue.Meters[i].Name
		}
		if r.IntN(3) == 0 {
			d.Weight = r.Uint32()
		}
		h.Devices = append(h.Devices, d)
	}
	return h
}

func (r arbitrary) series(w *window.Window) window.Series {
	s := window.Series{Meter: r.IntN(len(w.Catalogue.Meters)+1) - 1, Name: "power_watts", StartMS: w.StartMS, StepMS: 1000}
	if r.flag() {
		s.Name = []string{"utilization_ratio", "of_my_own", "", "temperature_celsius"}[r.IntN(4)]
	}
	for range []int{0, 1, 1, 10}[r.IntN(4)] {
		s.Milli = append(s.Milli, int64(r.Uint64()>>r.IntN(64)))
	}
	if r.flag() {
		s.Max, s.Last = r.Int64(), -r.Int64()
	}
	return s
}
