package sqlite

import (
	"encoding/json"
	"strconv"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// hole is a stretch of an odometer that is reserved and not booked.
type hole struct {
	odo        int64
	from, to   energy.Microjoules
	root       bool
	slot       int64
	quarantine int64
}

// holes gives the holes that the window's ranges are, all of them and exactly;
// nil if they are not.
func (t *tx) holes(n *nodeState, cat *catState, w *window.Window) ([]hole, error) {
	var out []hole
	for i := range w.Ranges {
		r := &w.Ranges[i]
		if r.To == r.From {
			continue
		}
		if r.Meter < 0 || r.Meter >= len(cat.odos) || r.To < r.From {
			return nil, nil
		}
		o, err := t.odometer(n, cat, r.Meter)
		if err != nil || o == nil {
			return nil, err
		}
		row, err := t.w.first("SELECT to_uj, root, slot, quarantine_id FROM hole WHERE odometer_id = ? AND from_uj = ?", o.id, int64(r.From))
		if err != nil || row == nil || number(row[0]) != int64(r.To) {
			return nil, err
		}
		out = append(out, hole{o.id, r.From, r.To, number(row[1]) != 0, number(row[2]), number(row[3])})
	}
	return out, nil
}

// fill takes holes away that are booked now, and settles what they came from.
func (t *tx) fill(n *nodeState, holes []hole) error {
	t.whole = t.whole || len(holes) > 0
	for _, h := range holes {
		if err := t.w.exec("DELETE FROM hole WHERE odometer_id = ? AND from_uj = ?", h.odo, int64(h.from)); err != nil {
			return err
		}
		if h.root {
			t.toCluster(h.slot, n.cluster.id, clusterSums{unbooked: -int64(energy.Span(h.from, h.to))})
		}
		row, err := t.w.first("SELECT COUNT(*) FROM hole WHERE quarantine_id = ?", h.quarantine)
		if err != nil {
			return err
		}
		if number(row[0]) == 0 {
			if err := t.settle(h.quarantine); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tx) settle(quarantine int64) error {
	return t.w.exec("UPDATE quarantine SET settled = 1 WHERE id = ?", quarantine)
}

func (t *tx) inQuarantine(n *nodeState, hash uint64) (bool, error) {
	row, err := t.w.first("SELECT id FROM quarantine WHERE node_id = ? AND hash = ?", n.id, int64(hash))
	return row != nil, err
}

// quarantine keeps a window that joins and may not be booked.
//
// No bad number moves in: the end of an odometer moves only where its range
// goes forward and stays in range, and only then is there a hole. The agent's
// next window begins at its own end, so it joins where the end moved; where it
// did not, that window is Apart and the agent bridges from the ledger's end.
func (t *tx) quarantine(n *nodeState, cat *catState, s *ledger.Submission, reason error) (ledger.Result, error) {
	if known, err := t.inQuarantine(n, s.Hash); err != nil || known {
		return ledger.Result{Status: ledger.Duplicate}, err
	}
	w := s.Window
	id, slot := t.c.id("quarantine"), window.Slot(w.StartMS)
	if !t.sane(w.StartMS, s.NowMS) {
		slot = window.Slot(s.NowMS)
	}
	total, err := t.reserve(n, cat, s, slot, id)
	if err != nil {
		return ledger.Result{}, err
	}
	stored := *w
	stored.Telemetry, stored.Packed = nil, nil
	body, err := json.Marshal(&stored)
	if err != nil {
		return ledger.Result{}, err
	}
	text := cut(reason.Error())
	err = t.w.exec(`INSERT INTO quarantine(id, node_id, at_ms, slot, start_ms, end_ms, hash, energy_mj, reason, settled, body, raw)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)`, id, n.id, s.NowMS, slot, w.StartMS, w.EndMS, int64(s.Hash), int64(total), text, body, s.Raw)
	if err != nil {
		return ledger.Result{}, err
	}
	t.toCluster(slot, n.cluster.id, clusterSums{unbooked: int64(total)})
	t.whole = true
	t.touchNode(n)
	err = t.event(n, window.Event{AtMS: s.NowMS, Kind: "quarantine", Detail: "quarantined window " + strconv.FormatInt(id, 10) + ": " + text})
	return ledger.Result{Status: ledger.Quarantined, Reason: reason.Error()}, err
}

func (t *tx) sane(ms, nowMS int64) bool { return ms >= year2000 && ms <= nowMS+t.l.future }

// reserve makes holes of the ranges of a quarantined window and moves the ends
// behind them. It gives the energy of the roots among them.
func (t *tx) reserve(n *nodeState, cat *catState, s *ledger.Submission, slot, id int64) (energy.Millijoules, error) {
	var total energy.Millijoules
	if cat.err != nil {
		return 0, nil
	}
	seen := map[int]bool{}
	for i := range s.Window.Ranges {
		r := s.Window.Ranges[i]
		if r.Meter < 0 || r.Meter >= len(cat.odos) || seen[r.Meter] || r.To <= r.From || r.To > energy.MaxOdometer {
			continue
		}
		seen[r.Meter] = true
		o, err := t.odometer(n, cat, r.Meter)
		if err == nil && o == nil {
			o, err = t.newOdometer(n, cat, &r, slot)
		}
		if err != nil {
			return 0, err
		}
		m := &cat.c.Meters[r.Meter]
		err = t.w.exec(`INSERT INTO hole(odometer_id, from_uj, to_uj, node_id, root, slot, from_ms, to_ms, quarantine_id)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, o.id, int64(r.From), int64(r.To), n.id, m.Root, slot, r.FromMS, r.ToMS, id)
		if err != nil {
			return 0, err
		}
		if m.Root {
			total += r.Energy()
		}
		if !rawAgrees(m, &r) {
			// A raw reading that does not give the odometer is no base for a
			// bridge; what the odometer gives is.
			r.Raw, r.Estimated = rawOf(m, r.To), true
		}
		at := r.ToMS
		if !t.sane(at, s.NowMS) {
			at = s.NowMS
		}
		o.move(m, &r, at)
		o.slot = slot
	}
	return total, nil
}

// rawOf is a raw reading that gives the odometer.
func rawOf(m *window.Meter, to energy.Microjoules) energy.Microjoules {
	switch {
	case m.Integrated:
		return 0
	case m.Modulus == 0:
		return to
	}
	return to % m.Modulus
}

// rawAgrees: an odometer is the raw counter plus whole wraps.
func rawAgrees(m *window.Meter, r *window.Range) bool {
	if m.Modulus == 0 {
		return m.Integrated || r.Raw == r.To
	}
	return m.Integrated || r.Raw <= r.To && (r.To-r.Raw)%m.Modulus == 0
}
