package sqlite

import (
	"context"
	"fmt"
	"slices"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// stretch is a run of ranges of one odometer without a gap.
type stretch struct {
	from, to    energy.Microjoules
	first, last int64 // slots of its ends
}

// chain is what an odometer went through as far as the audit has seen it:
// disjoint stretches in order. In sound books there is one.
type chain struct {
	node      int64
	stretches []stretch
}

// link adds a range to its chain. Ranges may come in any order of time (a clock
// was set back, a hole was filled later); none may come twice.
func (a *auditor) link(p piece, slot, node int64) {
	c := a.chains[p.odo]
	if c == nil {
		c = &chain{node: node}
		a.chains[p.odo] = c
	}
	s := stretch{p.from, p.to, slot, slot}
	if n := len(c.stretches); n > 0 && c.stretches[n-1].to == p.from { // nearly always
		c.stretches[n-1].to, c.stretches[n-1].last = p.to, slot
		return
	}
	i, _ := slices.BinarySearchFunc(c.stretches, s, func(x, y stretch) int {
		switch {
		case x.from < y.from:
			return -1
		case x.from > y.from:
			return 1
		}
		return 0
	})
	if i > 0 {
		i--
	}
	for i < len(c.stretches) && c.stretches[i].from <= s.to {
		o := c.stretches[i]
		if o.to < s.from {
			i++
			continue
		}
		if twice := energy.Span(max(o.from, s.from), min(o.to, s.to)); o.to > s.from && o.from < s.to {
			a.find(ledger.Finding{
				Kind: "chain", Node: a.nodes[node], Meter: a.meter(p.odo), SlotMS: slot * window.SlotMS, Difference: -twice,
				Detail: fmt.Sprintf("[%d, %d) uJ is booked twice", max(o.from, s.from), min(o.to, s.to)),
			})
		}
		if o.from < s.from {
			s.from, s.first = o.from, o.first
		}
		if o.to > s.to {
			s.to, s.last = o.to, o.last
		}
		c.stretches = slices.Delete(c.stretches, i, i+1)
	}
	c.stretches = slices.Insert(c.stretches, i, s)
}

// meter names an odometer's meter in the middle of another query.
func (a *auditor) meter(odo int64) string { return fmt.Sprintf("odometer %d", odo) }

func (a *auditor) inside(slot int64) bool { return slot >= a.p.from && slot < a.p.to }

// checkChains: every epoch that began in the period begins where it was first
// read, has no gap, and ends where the node's end stands if that was set in the
// period.
func (a *auditor) checkChains(ctx context.Context) error {
	ends, err := a.ends(ctx)
	if err != nil {
		return err
	}
	names := map[string]string{}
	err = each(ctx, a.q, func(scan func(...any) error) error {
		var id, node, firstUJ, firstSlot int64
		var meter string
		var retired []byte
		if err := scan(&id, &node, &meter, &firstUJ, &firstSlot, &retired); err != nil {
			return err
		}
		end := ends[id]
		if retired != nil {
			end = &odometer{}
			d := newDecoder(retired)
			d.end(end, 0)
			if d.err != nil {
				return d.err
			}
		}
		names[a.meter(id)] = meter
		if a.chains[id] == nil && (end == nil || !a.inside(end.slot)) {
			delete(names, a.meter(id))
			return nil
		}
		a.checkChain(id, node, meter, energy.Microjoules(firstUJ), firstSlot, end)
		return nil
	}, `SELECT o.id, o.node_id, o.meter, o.first_uj, o.first_slot, o.retired FROM odometer o JOIN node n ON n.id = o.node_id
		WHERE n.cluster_id = ? ORDER BY o.id`, a.cluster)
	for i := range a.res.Findings {
		if name, ok := names[a.res.Findings[i].Meter]; ok {
			a.res.Findings[i].Meter = name
		}
	}
	return err
}

func (a *auditor) checkChain(id, node int64, meter string, firstUJ energy.Microjoules, firstSlot int64, end *odometer) {
	gap := func(from, to energy.Microjoules, slot int64) {
		if a.inside(slot) && from != to {
			a.find(ledger.Finding{
				Kind: "chain", Node: a.nodes[node], Meter: meter, SlotMS: slot * window.SlotMS, Difference: energy.Span(from, to),
				Detail: fmt.Sprintf("[%d, %d) uJ is neither booked nor a hole; it may lie in the slot before", from, to),
			})
		}
	}
	c := a.chains[id]
	if c == nil {
		if a.inside(firstSlot) {
			gap(firstUJ, end.end.UJ, end.slot)
		} else {
			a.find(ledger.Finding{
				Kind: "chain", Node: a.nodes[node], Meter: meter, SlotMS: end.slot * window.SlotMS,
				Detail: fmt.Sprintf("nothing is booked up to its end at %d uJ", end.end.UJ),
			})
		}
		return
	}
	if s := c.stretches[0]; a.inside(firstSlot) {
		gap(firstUJ, s.from, firstSlot)
	}
	for i := 1; i < len(c.stretches); i++ {
		before, after := c.stretches[i-1], c.stretches[i]
		slot := after.first
		switch {
		case after.first > before.last+1:
			slot = before.last + 1 // whole slots are missing
		case !a.inside(slot):
			slot = before.last
		}
		gap(before.to, after.from, slot)
	}
	if end != nil && a.inside(end.slot) {
		gap(c.stretches[len(c.stretches)-1].to, end.end.UJ, end.slot)
	}
}

// ends reads how far each node is booked.
func (a *auditor) ends(ctx context.Context) (map[int64]*odometer, error) {
	out := map[int64]*odometer{}
	return out, each(ctx, a.q, func(scan func(...any) error) error {
		var node, last int64
		var packed []byte
		if err := scan(&node, &last, &packed); err != nil {
			return err
		}
		ends, err := decodeEnds(packed, last)
		if err != nil {
			return fmt.Errorf("ends of node %s: %w", a.nodes[node], err)
		}
		for _, o := range ends {
			if a.chains[o.id] != nil || a.inside(o.slot) {
				out[o.id] = o
			}
		}
		return nil
	}, "SELECT e.node_id, e.last_ms, e.ends FROM node_end e JOIN node n ON n.id = e.node_id WHERE n.cluster_id = ?", a.cluster)
}
