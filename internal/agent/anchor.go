package agent

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/sample"
	"github.com/wattledger/wattledger/internal/window"
)

type jobAllocation = job.Allocation

var errStopping = errors.New("the agent is stopping")

func compareStrings(a, b string) int { return strings.Compare(a, b) }

// Disown ends a job that has ended elsewhere: nobody is told of it again.
func (p *Pipeline) Disown(id string, at time.Time) error {
	if _, err := p.End(id, at); err != nil {
		return err
	}
	p.untold = slices.DeleteFunc(p.untold, func(a job.Allocation) bool { return a.ID == id })
	return nil
}

// Doubted names the devices whose holder nobody has spoken of yet.
func (p *Pipeline) Doubted() []string { return slices.Sorted(maps.Keys(p.doubt)) }

// Await keeps where the ledger stands with a meter that this state has not read
// yet: if it comes back, it goes on from there, and what it drew meanwhile has no
// known owner.
func (p *Pipeline) Await(e ledger.End) {
	if p.spare[e.Meter] != nil {
		return
	}
	p.starts[e.Meter] = sample.Start{Epoch: e.Epoch, UJ: e.UJ, Raw: e.Raw, AtNS: e.AtMS * 1e6}
	p.doubt[e.Meter] = true
}

// Scope is the description of a meter.
func (p *Pipeline) Scope(name string) (collector.Scope, bool) {
	s, ok := p.scopes[name]
	return s, ok
}

// Scopes are the descriptions of all meters. Not to be changed.
func (p *Pipeline) Scopes() map[string]collector.Scope { return p.scopes }

// OpenEdges is a window without length at the start of the open one: where the
// ranges that are not booked yet begin. nil before the first reading.
func (p *Pipeline) OpenEdges() *window.Window {
	if p.cat == nil {
		return nil
	}
	w := &window.Window{Catalogue: p.cat, StartMS: p.start, EndMS: p.start}
	for i, e := range p.edges {
		if e.known {
			w.Ranges = append(w.Ranges, window.Range{Meter: i, From: e.uj, To: e.uj, FromMS: floorMS(e.ns), ToMS: floorMS(e.ns)})
		}
	}
	return w
}

// Anchor moves the open window's ranges to the ledger's ends where those are
// further: a state that was rolled back. An end beyond our own reading is not
// ours to join; that odometer begins a new epoch at its last reading.
func (p *Pipeline) Anchor(ends map[odometer]ledger.End) bool {
	if p.cat == nil {
		return false
	}
	moved, renewed := false, false
	for i, e := range p.edges {
		m := p.cat.Meters[i]
		end, ok := ends[odometer{m.Name, m.Epoch}]
		if !ok || !e.known || end.UJ <= e.uj {
			continue
		}
		last, _ := p.tracks[i].Last()
		if end.UJ > last.UJ {
			p.tracks[i].Renew()
			p.event(last.At/1e6, "new_epoch", m.Name, "the ledger is ahead of this meter: its odometer begins anew")
			renewed = true
			continue
		}
		p.edges[i] = edge{ns: clamp(end.AtMS*1e6, e.ns, last.At), uj: end.UJ, known: true}
		moved = true
	}
	if renewed {
		p.rebuild(p.start)
	}
	return moved || renewed
}
