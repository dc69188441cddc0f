package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// errNoHole: the window as a whole is not what is reserved for it.
var errNoHole = errors.New("its ranges are not all reserved: only what is a hole can be booked, as unknown")

// Repost implements ledger.Ledger. "Now" is the newest arrival the ledger has
// seen: a window of the future passes once its time has come.
func (l *Ledger) Repost(ctx context.Context, id int64, asUnknown bool) (ledger.Result, error) {
	var res ledger.Result
	err := l.update(ctx, func(t *tx) (err error) {
		res, err = t.repost(id, asUnknown)
		return err
	})
	if err != nil {
		return ledger.Result{}, fmt.Errorf("cannot re-post quarantine entry %d: %w", id, err)
	}
	return res, nil
}

func (t *tx) repost(id int64, asUnknown bool) (ledger.Result, error) {
	row, err := t.w.first(`SELECT q.settled, q.body, q.hash, q.slot, q.at_ms, n.name, c.name FROM quarantine q
		JOIN node n ON n.id = q.node_id JOIN cluster c ON c.id = n.cluster_id WHERE q.id = ?`, id)
	if err != nil {
		return ledger.Result{}, err
	}
	if row == nil {
		return ledger.Result{}, errors.New("there is no such entry")
	}
	if number(row[0]) != 0 {
		return ledger.Result{Status: ledger.Duplicate}, nil
	}
	w := &window.Window{}
	if err := json.Unmarshal(blob(row[1]), w); err != nil {
		return ledger.Result{}, err
	}
	hash, slot, now := uint64(number(row[2])), number(row[3]), max(t.c.now, number(row[4]))
	n, err := t.c.node(ledger.Node{Name: text(row[5]), Cluster: text(row[6])})
	if err != nil || n == nil {
		return ledger.Result{}, errors.Join(err, errBlob)
	}
	all, err := t.holesOf(id)
	if err != nil {
		return ledger.Result{}, err
	}
	reason, err := t.repostAs(n, w, hash, now, all)
	if err == nil && reason != nil && asUnknown {
		cat := n.catalogue(w)
		for i := range cat.odos {
			if _, err := t.odometer(n, cat, i); err != nil {
				return ledger.Result{}, err
			}
		}
		w = unknownWindow(cat, w, all, slot, t.sane(w.StartMS, now))
		reason, err = t.repostAs(n, w, hash, now, all)
	}
	if err != nil {
		return ledger.Result{}, err
	}
	if reason != nil {
		return ledger.Result{Status: ledger.Quarantined, Reason: reason.Error()}, nil
	}
	return ledger.Result{Status: ledger.Booked}, t.settle(id)
}

// repostAs books a window into the holes of its entry, or says why it may not
// be booked.
func (t *tx) repostAs(n *nodeState, w *window.Window, hash uint64, now int64, all []hole) (reason, err error) {
	cat := n.catalogue(w)
	if reason := t.check(cat, w, now); reason != nil {
		return reason, nil
	}
	holes, err := t.holes(n, cat, w)
	if err != nil {
		return nil, err
	}
	if len(holes) != len(all) || slices.ContainsFunc(w.Ranges, func(r window.Range) bool { return r.To != r.From }) && holes == nil {
		return errNoHole, nil
	}
	acc, err := t.acc(n, window.Slot(w.StartMS))
	if err != nil {
		return nil, err
	}
	if holes == nil {
		holes = []hole{} // not nil: no end is moved
	}
	return nil, t.book(n, acc, cat, w, hash, holes)
}

func (t *tx) holesOf(id int64) ([]hole, error) {
	var out []hole
	err := t.w.query("SELECT odometer_id, from_uj, to_uj, root, slot FROM hole WHERE quarantine_id = ? ORDER BY odometer_id, from_uj",
		func(row []driver.Value) error {
			out = append(out, hole{
				number(row[0]), energy.Microjoules(number(row[1])), energy.Microjoules(number(row[2])),
				number(row[3]) != 0, number(row[4]), id,
			})
			return nil
		}, id)
	return out, err
}

// unknownWindow makes the window that books what is reserved as unknown: each
// meter's own energy (its range less those of the meters inside it) in its
// class, bridged. Leaf meters without a range, and all of them where the times
// of the window make no sense, are absent.
func unknownWindow(cat *catState, w *window.Window, all []hole, slot int64, sane bool) *window.Window {
	u := &window.Window{Catalogue: w.Catalogue, StartMS: w.StartMS, EndMS: w.EndMS, Bridge: true}
	if w.Catalogue == nil {
		return u
	}
	timed := sane && w.EndMS > w.StartMS && window.Slot(w.EndMS-1) == slot && window.Slot(w.StartMS) == slot
	if !timed {
		u.StartMS = slot * window.SlotMS
		u.EndMS = u.StartMS + 1
	}
	place := map[string]int{} // meter -> range of u
	for _, h := range all {
		i := slices.IndexFunc(cat.odos, func(o *odometer) bool { return o != nil && o.id == h.odo })
		if i < 0 {
			continue
		}
		place[w.Catalogue.Meters[i].Name] = len(u.Ranges)
		u.Ranges = append(u.Ranges, window.Range{
			Meter: i, From: h.from, To: h.to, FromMS: u.StartMS, ToMS: u.EndMS,
			Raw: rawOf(&w.Catalogue.Meters[i], h.to), Estimated: true,
		})
	}
	post := func(c energy.Class, e energy.Millijoules, ms int64) {
		u.Postings = append(u.Postings, window.Posting{
			Job: -1, Class: c, Use: energy.Unknown, Grade: energy.Bridged, Energy: e, DeviceMS: ms,
		})
	}
	for _, m := range w.Catalogue.Meters {
		i, has := place[m.Name]
		if !m.Leaf && !has {
			continue
		}
		var length int64
		if m.Leaf && has && timed {
			length = u.EndMS - u.StartMS
		} else if m.Leaf {
			u.Absences = append(u.Absences, window.Absence{Class: m.Class, DeviceMS: u.EndMS - u.StartMS})
		}
		if has {
			post(m.Class, ownEnergy(w.Catalogue, u, place, m, i), length)
		}
	}
	return u
}

// ownEnergy is what the unknown posting of a meter holds: its range, if that is
// booked (it is a root, or inside one that is there), less those inside it.
func ownEnergy(c *window.Catalogue, u *window.Window, place map[string]int, m window.Meter, i int) energy.Millijoules {
	if !m.Root && !underRoot(c, place, m) {
		return 0
	}
	own := u.Ranges[i].Energy()
	for _, child := range c.Meters {
		if j, ok := place[child.Name]; ok && child.Parent == m.Name && !child.Root {
			own -= u.Ranges[j].Energy()
		}
	}
	return own
}

func underRoot(c *window.Catalogue, place map[string]int, m window.Meter) bool {
	for range c.Meters { // no deeper than there are meters
		if m.Root {
			return true
		}
		p := slices.IndexFunc(c.Meters, func(o window.Meter) bool { return o.Name == m.Parent })
		if p < 0 {
			return false
		}
		if m = c.Meters[p]; !has(place, m.Name) {
			return false
		}
	}
	return false
}

func has(m map[string]int, k string) bool { _, ok := m[k]; return ok }
