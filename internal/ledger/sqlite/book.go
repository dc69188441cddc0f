package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// year2000 is the earliest time a window may have, Unix ms.
const year2000 = 946_684_800_000

// Book implements ledger.Ledger.
func (l *Ledger) Book(ctx context.Context, subs []ledger.Submission) ([]ledger.Result, error) {
	for i := range subs {
		if subs[i].Window == nil {
			return nil, fmt.Errorf("cannot book: submission %d has no window", i)
		}
	}
	if len(subs) == 0 {
		return nil, ctx.Err()
	}
	out := make([]ledger.Result, len(subs))
	err := l.change(ctx, false, func(t *tx) error {
		var refused map[refusal]ledger.Result
		for i := range subs {
			s := &subs[i]
			key := refusal{s.Node, s.Session}
			if r, ok := refused[key]; ok {
				out[i] = r
				continue
			}
			r, err := t.decide(s)
			if err != nil {
				return fmt.Errorf("cannot book a window of node %q: %w", s.Node.Name, err)
			}
			out[i] = r
			if r.Status > ledger.Quarantined {
				if refused == nil {
					refused = map[refusal]ledger.Result{}
				}
				refused[key] = r
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// refusal names the windows that follow a refused one: they are refused alike,
// so that a node's windows stay in order.
type refusal struct {
	node    ledger.Node
	session string
}

// decide is the one mechanism behind exactly-once; the order of its questions
// is part of it.
func (t *tx) decide(s *ledger.Submission) (ledger.Result, error) {
	t.c.now = max(t.c.now, s.NowMS)
	n, err := t.c.node(s.Node)
	if err != nil {
		return ledger.Result{}, err
	}
	if n == nil {
		return ledger.Result{Status: ledger.Reopen, Reason: "the node is not known"}, nil
	}
	if s.Session != n.session {
		if slices.Contains(n.past, s.Session) || s.Incarnation < n.incarnation {
			return ledger.Result{Status: ledger.Fenced}, t.fence(n, s.NowMS, "a session that was taken over sent a window")
		}
		return ledger.Result{Status: ledger.Reopen, Reason: "the session is not known"}, nil
	}
	acc, err := t.acc(n, window.Slot(s.Window.StartMS))
	if err != nil {
		return ledger.Result{}, err
	}
	if slices.Contains(acc.seen, s.Hash) {
		return ledger.Result{Status: ledger.Duplicate}, nil
	}
	return t.place(n, acc, s)
}

// place decides by the ranges.
func (t *tx) place(n *nodeState, acc *slotAcc, s *ledger.Submission) (ledger.Result, error) {
	w := s.Window
	cat := n.catalogue(w)
	fit, err := t.compare(n, cat, w)
	if err != nil {
		return ledger.Result{}, err
	}
	if fit.joins {
		if !fit.moves && acc.partial && w.StartMS < n.lastMS {
			// Nothing moves, so the ranges cannot tell; it was booked before its
			// hash was pruned.
			return ledger.Result{Status: ledger.Duplicate}, nil
		}
		if reason := t.check(cat, w, s.NowMS); reason != nil {
			return t.quarantine(n, cat, s, reason)
		}
		return t.booked(t.book(n, acc, cat, w, s.Hash, nil))
	}
	holes, err := t.holes(n, cat, w)
	if err != nil {
		return ledger.Result{}, err
	}
	if holes != nil {
		if reason := t.check(cat, w, s.NowMS); reason != nil {
			return ledger.Result{Status: ledger.Quarantined, Reason: reason.Error()}, nil // as it is already
		}
		return t.booked(t.book(n, acc, cat, w, s.Hash, holes))
	}
	known, err := t.inQuarantine(n, s.Hash)
	if err != nil {
		return ledger.Result{}, err
	}
	switch {
	case known: // its acknowledgement was lost
		return ledger.Result{Status: ledger.Duplicate}, nil
	case !fit.inside:
		return ledger.Result{Status: ledger.Apart, Ends: n.allEnds()}, nil
	case acc.partial: // its hash was pruned
		return ledger.Result{Status: ledger.Duplicate}, nil
	}
	n.conflicts++
	reason := "its range is booked with other content"
	if err := t.event(n, window.Event{AtMS: s.NowMS, Kind: "conflict", Detail: reason}); err != nil {
		return ledger.Result{}, err
	}
	return ledger.Result{Status: ledger.Conflict, Reason: reason}, t.putNode(n)
}

// check tells why a window may not be booked, nil if it may.
func (t *tx) check(cat *catState, w *window.Window, nowMS int64) error {
	switch {
	case cat.err != nil:
		return cat.err
	case w.StartMS < year2000:
		return fmt.Errorf("window starts at %d ms, before the year 2000", w.StartMS)
	case w.StartMS > nowMS+t.l.future:
		return fmt.Errorf("window starts %d ms after it arrived: the node's clock is wrong", w.StartMS-nowMS)
	}
	// Sums of device time must not overflow on the way to a check that passes.
	most := (w.EndMS - w.StartMS) * int64(len(cat.c.Meters))
	for i := range w.Postings {
		if w.Postings[i].DeviceMS > most {
			return fmt.Errorf("posting with %d ms of device time: the window has %d", w.Postings[i].DeviceMS, most)
		}
	}
	for _, a := range w.Absences {
		if a.DeviceMS > most {
			return fmt.Errorf("absence of %d ms of device time: the window has %d", a.DeviceMS, most)
		}
	}
	return window.Check(w)
}

// fit is how a window's ranges lie to what is booked.
type fit struct {
	joins  bool // each begins at its end, or its epoch is new
	moves  bool // some range is not empty
	inside bool // each ends at or before its end
}

func (t *tx) compare(n *nodeState, cat *catState, w *window.Window) (fit, error) {
	f := fit{joins: true, inside: true}
	for i := range w.Ranges {
		r := &w.Ranges[i]
		if r.Meter < 0 || r.Meter >= len(cat.odos) {
			continue // refused by the check
		}
		f.moves = f.moves || r.To > r.From
		o, err := t.odometer(n, cat, r.Meter)
		if err != nil {
			return f, err
		}
		if o == nil {
			f.inside = false
			continue
		}
		f.joins = f.joins && r.From == o.end.UJ
		f.inside = f.inside && r.To <= o.end.UJ
	}
	return f, nil
}

// catalogue gives the state of a window's catalogue, found again where it is
// the one of the window before.
func (n *nodeState) catalogue(w *window.Window) *catState {
	c := w.Catalogue
	if n.cat != nil && c != nil && (n.cat.c == c ||
		n.cat.c.ID == c.ID && n.cat.c.Policy == c.Policy && slices.Equal(n.cat.c.Meters, c.Meters)) {
		return n.cat
	}
	cat := &catState{c: c, err: checkCatalogue(c)}
	if c == nil {
		return cat
	}
	cat.odos = make([]*odometer, len(c.Meters))
	for _, m := range c.Meters {
		if m.Leaf && m.Class < energy.NumClasses {
			cat.leafs[m.Class]++
		}
	}
	return cat
}

func checkCatalogue(c *window.Catalogue) error {
	if c == nil {
		return errors.New("window has no catalogue")
	}
	if len(c.Meters) > window.MaxMeters || len(c.Policy) > window.MaxName {
		return fmt.Errorf("catalogue of %d meters, at most %d", len(c.Meters), window.MaxMeters)
	}
	names := make(map[string]bool, len(c.Meters))
	for _, m := range c.Meters {
		switch {
		case m.Name == "" || len(m.Name) > window.MaxName || len(m.Epoch) > window.MaxName || len(m.Parent) > window.MaxName:
			return fmt.Errorf("meter %.40q: a name is needed, and no name may be longer than %d bytes", m.Name, window.MaxName)
		case m.Class >= energy.NumClasses:
			return fmt.Errorf("meter %s is of unknown class %d", m.Name, m.Class)
		case names[m.Name]:
			return fmt.Errorf("two meters are named %s", m.Name)
		}
		names[m.Name] = true
	}
	return nil
}

// odometer finds what a meter of the catalogue is; nil: its epoch is new.
func (t *tx) odometer(n *nodeState, cat *catState, meter int) (*odometer, error) {
	if o := cat.odos[meter]; o != nil {
		return o, nil
	}
	m := &cat.c.Meters[meter]
	for _, o := range n.ends {
		if o.end.Meter == m.Name && o.end.Epoch == m.Epoch {
			cat.odos[meter] = o
			return o, nil
		}
	}
	row, err := t.w.first("SELECT id, retired FROM odometer WHERE node_id = ? AND meter = ? AND epoch = ?", n.id, m.Name, m.Epoch)
	if err != nil || row == nil {
		return nil, err
	}
	o := &odometer{}
	d := newDecoder(blob(row[1]))
	d.end(o, 0)
	if d.err != nil {
		return nil, fmt.Errorf("cannot read the end of meter %s: %w", m.Name, d.err)
	}
	o.end.Meter, o.end.Epoch, o.end.Modulus = m.Name, m.Epoch, m.Modulus
	n.ends = append(n.ends, o)
	t.touchNode(n)
	cat.odos[meter] = o
	return o, t.w.exec("UPDATE odometer SET retired = NULL WHERE id = ?", o.id)
}

// acc gives the row of a node's slot.
func (t *tx) acc(n *nodeState, slot int64) (*slotAcc, error) {
	for _, a := range n.slots {
		if a.slot == slot {
			return a, nil
		}
	}
	a := &slotAcc{slot: slot, node: n}
	row, err := t.w.first("SELECT metered_mj, device_ms, pieces FROM node_slot WHERE slot = ? AND node_id = ?", slot, n.id)
	if err != nil {
		return nil, err
	}
	if row != nil {
		a.stored, a.metered = true, number(row[0])
		if a.pieces, err = decodePieces(nil, blob(row[2])); err == nil {
			err = decodeTimes(blob(row[1]), &a.device, &a.absent)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read slot %d: %w", slot, err)
		}
		if err := t.loadSeen(a); err != nil {
			return nil, err
		}
	}
	if len(n.slots) >= 4 {
		n.slots = slices.DeleteFunc(n.slots, func(a *slotAcc) bool { return !a.dirty })
	}
	n.slots = append(n.slots, a)
	return a, nil
}

func (t *tx) loadSeen(a *slotAcc) error {
	row, err := t.w.first("SELECT hashes FROM seen WHERE slot = ? AND node_id = ?", a.slot, a.node.id)
	if err != nil {
		return err
	}
	if row == nil {
		a.partial = true
		return nil
	}
	a.seen, a.partial, err = decodeSeen(blob(row[0]))
	a.known = len(a.seen)
	return err
}
