package agent

import (
	"math"
	"slices"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/sample"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// Landfall is where an agent's own books of a meter begin: the far side of a
// bridge.
type Landfall struct {
	Scope collector.Scope
	Epoch string // as the source names it
	Raw   energy.Microjoules
	AtMS  int64
	// Odometer: Raw is a place of the very odometer the end is of, so that what
	// lies between is known whatever the counter did meanwhile.
	Odometer bool
}

// Bridge makes the windows for what passed between the ledger's ends and an
// agent's landfalls, in the odometer epochs of the ends. Energy goes to the jobs
// known at both ends, else to unknown, never to idle; all of it is graded
// bridged. A meter whose source epoch changed, or whose counter may have
// wrapped twice, or that went further than it can have, is left out: its time
// is missing, and the events say why.
//
// Integrated meters are bridged only where the odometer is the same (the ledger
// was restored); their integral is their counter.
func Bridge(opt PipelineOptions, ends []ledger.End, to map[string]Landfall, known []job.Allocation) []*window.Window {
	jobs := &job.Table{}
	for _, a := range known {
		_ = jobs.Begin(a.Spec, 1) // a job that is there twice is there
	}
	p := NewPipeline(opt, jobs)
	starts, lastMS := map[string]sample.Start{}, int64(math.MaxInt64)
	var readings []collector.Reading
	own := map[string]collector.Scope{} // bridged in their odometers
	epochs := map[string]string{}
	now := int64(0)
	for _, e := range ends {
		l, ok := to[e.Meter]
		if ok && l.Odometer {
			own[e.Meter] = l.Scope
			l.Scope.Kind, l.Scope.Modulus, l.Scope.Limit, e.Raw = collector.Counter, 0, 0, e.UJ
			l.AtMS = max(l.AtMS, e.AtMS+1) // the clock may have been put back
			opt.Demoted = nil
		}
		if !ok || sample.EpochSource(e.Epoch) != l.Epoch || l.AtMS <= e.AtMS || l.Scope.Kind == collector.Power {
			continue
		}
		epochs[e.Meter] = e.Epoch
		starts[e.Meter] = sample.Start{Epoch: e.Epoch, UJ: e.UJ, Raw: e.Raw, AtNS: e.AtMS * 1e6}
		lastMS, now = min(lastMS, e.AtMS), max(now, l.AtMS)
		readings = append(readings, collector.Reading{Scope: l.Scope, At: time.UnixMilli(l.AtMS), Epoch: l.Epoch, Counter: l.Raw})
	}
	if len(readings) == 0 {
		return nil
	}
	p.Resume(starts, lastMS, math.MaxInt64)
	ws := p.Observe(time.UnixMilli(now), readings)
	ws = append(ws, p.Flush()...)
	return finishBridge(ws, own, epochs)
}

// finishBridge leaves out the odometers that began anew, of which nothing is
// bridged, drops windows in which nothing is known and marks the rest.
func finishBridge(ws []*window.Window, own map[string]collector.Scope, epochs map[string]string) []*window.Window {
	cats := map[uint64]*window.Catalogue{}
	var out []*window.Window
	for _, w := range ws {
		w.Ranges = slices.DeleteFunc(w.Ranges, func(r window.Range) bool {
			m := w.Catalogue.Meters[r.Meter]
			return m.Epoch != epochs[m.Name]
		})
		if len(w.Ranges) == 0 {
			continue
		}
		w.Bridge = true
		if len(own) > 0 {
			if cats[w.Catalogue.ID] == nil {
				cats[w.Catalogue.ID] = ownCatalogue(w.Catalogue, own)
			}
			w.Catalogue = cats[w.Catalogue.ID]
			for i, r := range w.Ranges {
				w.Ranges[i].Raw = rawOf(w.Catalogue.Meters[r.Meter], r.To)
			}
		}
		out = append(out, w)
	}
	return out
}

// ownCatalogue describes meters that were bridged in their odometers as what
// they are.
func ownCatalogue(c *window.Catalogue, own map[string]collector.Scope) *window.Catalogue {
	n := &window.Catalogue{Policy: c.Policy, Meters: append([]window.Meter{}, c.Meters...)}
	for i := range n.Meters {
		if s, ok := own[n.Meters[i].Name]; ok {
			n.Meters[i].Integrated, n.Meters[i].Modulus = s.Kind == collector.Power, s.Modulus
		}
	}
	n.ID = wire.CatalogueID(n)
	return n
}

// KnownAtBothEnds gives the allocations that the ledger saw open at its end and
// that are open here now, with the same devices.
func KnownAtBothEnds(jobs []window.Job, holdings []window.Holding, here []job.Allocation) []job.Allocation {
	var out []job.Allocation
	for _, a := range here {
		for _, h := range holdings {
			j := jobs[h.Job]
			if j.ID == a.ID && j.Restart == a.Restart && sameDevices(h.Devices, a) {
				out = append(out, a)
				break
			}
		}
	}
	return out
}

func sameDevices(held []window.Share, a job.Allocation) bool {
	if a.WholeNode() {
		return len(held) == 1 && held[0].Device == "node"
	}
	if len(held) != len(a.GPUs) {
		return false
	}
	for i := range held {
		if held[i] != a.GPUs[i] {
			return false
		}
	}
	return true
}
