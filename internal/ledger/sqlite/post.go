package sqlite

import (
	"encoding/json"
	"slices"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

const (
	maxCatalogues   = 64  // kept per node
	maxWindowEvents = 100 // kept of one window
)

// book books a window that was found sound: at the ends, or into holes.
func (t *tx) book(n *nodeState, acc *slotAcc, cat *catState, w *window.Window, hash uint64, holes []hole) error {
	if err := t.bookRanges(n, acc, cat, w, holes == nil); err != nil {
		return err
	}
	acc.seen = append(acc.seen, hash)
	t.touchAcc(acc)
	t.touchNode(n)
	t.windows++
	if err := t.bookPostings(n, acc, w); err != nil {
		return err
	}
	if err := t.present(n, w.StartMS, w.EndMS, cat.leafs, w.Final); err != nil {
		return err
	}
	if err := t.fill(n, holes); err != nil {
		return err
	}
	if err := t.describe(n, cat, w); err != nil {
		return err
	}
	if w.EndMS >= n.lastMS {
		n.lastMS, n.held = w.EndMS, encodeHeld(n.held[:0], w)
	}
	return nil
}

// bookRanges moves the metered side.
func (t *tx) bookRanges(n *nodeState, acc *slotAcc, cat *catState, w *window.Window, atEnd bool) error {
	length := w.EndMS - w.StartMS
	add := clusterSums{metered: int64(w.Metered())}
	for c, devices := range cat.leafs {
		acc.device[c] += devices * length
		add.device += devices * length
	}
	for _, a := range w.Absences {
		acc.absent[a.Class] += a.DeviceMS
		add.absent += a.DeviceMS
	}
	acc.metered += add.metered
	t.toCluster(acc.slot, n.cluster.id, add)
	t.entry.window(n, acc.slot, add)
	for i := range w.Ranges {
		r := &w.Ranges[i]
		o, err := t.odometer(n, cat, r.Meter)
		if err != nil {
			return err
		}
		if o == nil {
			if o, err = t.newOdometer(n, cat, r, acc.slot); err != nil {
				return err
			}
		}
		m := &cat.c.Meters[r.Meter]
		if r.To > r.From {
			acc.pieces = addPiece(acc.pieces, piece{odo: o.id, root: m.Root, from: r.From, to: r.To})
		}
		if atEnd {
			o.move(m, r, r.ToMS)
			if r.To > r.From {
				o.slot = acc.slot
			}
		}
	}
	return nil
}

// move sets the end of an odometer to the end of a range.
func (o *odometer) move(m *window.Meter, r *window.Range, atMS int64) {
	o.end.UJ, o.end.AtMS, o.end.Root, o.end.Modulus = r.To, atMS, m.Root, m.Modulus
	o.end.Raw, o.end.Estimated = r.Raw, r.Estimated
	if m.Integrated {
		o.end.Raw = 0
	}
}

// addPiece adds a range to the pieces of a slot, joined where it adjoins.
func addPiece(pieces []piece, p piece) []piece {
	before, after := -1, -1
	for i := range pieces {
		if q := &pieces[i]; q.odo == p.odo && q.root == p.root {
			if q.to == p.from {
				before = i
			} else if q.from == p.to {
				after = i
			}
		}
	}
	switch {
	case before >= 0 && after >= 0:
		pieces[before].to = pieces[after].to
		return slices.Delete(pieces, after, after+1)
	case before >= 0:
		pieces[before].to = p.to
	case after >= 0:
		pieces[after].from = p.from
	default:
		pieces = append(pieces, p)
	}
	return pieces
}

// newOdometer begins an epoch of a meter.
func (t *tx) newOdometer(n *nodeState, cat *catState, r *window.Range, slot int64) (*odometer, error) {
	m := &cat.c.Meters[r.Meter]
	o := &odometer{id: t.c.id("odometer"), slot: slot, end: ledger.End{Meter: m.Name, Epoch: m.Epoch, UJ: r.From, AtMS: r.FromMS}}
	err := t.w.exec(`INSERT INTO odometer(id, node_id, meter, epoch, class, root, leaf, integrated, modulus, first_uj, first_slot)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, o.id, n.id, m.Name, m.Epoch, int64(m.Class), m.Root, m.Leaf, m.Integrated,
		int64(m.Modulus), int64(r.From), slot)
	if err != nil {
		return nil, err
	}
	n.ends = append(n.ends, o)
	t.touchNode(n)
	cat.odos[r.Meter] = o
	return o, nil
}

// retire takes the ends of epochs long over out of the row that every window
// writes; they come back when a window names them.
func (t *tx) retire(n *nodeState, cat *catState) error {
	most := 2*len(cat.odos) + 8
	if len(n.ends) <= most {
		return nil
	}
	old := slices.Clone(n.ends)
	slices.SortStableFunc(old, func(a, b *odometer) int { return int(max(-1, min(1, a.end.AtMS-b.end.AtMS))) })
	for _, o := range old {
		if len(n.ends) <= most {
			break
		}
		if slices.Contains(cat.odos, o) {
			continue
		}
		if err := t.w.exec("UPDATE odometer SET retired = ? WHERE id = ?", encodeEnd([]byte{codecVersion}, o, 0), o.id); err != nil {
			return err
		}
		n.ends = slices.DeleteFunc(n.ends, func(e *odometer) bool { return e == o })
	}
	return nil
}

// bookPostings moves the booked side.
func (t *tx) bookPostings(n *nodeState, acc *slotAcc, w *window.Window) error {
	var few [8]*jobNode
	jobs := few[:0]
	for i := range w.Jobs {
		jn, err := t.jobOn(n, &w.Jobs[i], w.EndMS)
		if err != nil {
			return err
		}
		jobs = append(jobs, jn)
	}
	t.entry.count(len(w.Postings))
	t.posted = t.posted[:0]
	for _, jn := range jobs {
		t.posted = append(t.posted, jn.job.project)
	}
	for i := range w.Postings {
		p := &w.Postings[i]
		if p.Job >= 0 {
			jn := jobs[p.Job]
			if err := t.jobPosted(jn, acc.slot); err != nil {
				return err
			}
			jn.add.post(p)
			t.toPosting(acc, jn.job.id).post(p)
			t.toProject(acc.slot, jn.job.project).post(p)
			t.entry.posting(jn.job, true, p)
			continue
		}
		j, err := t.c.nobody(n.cluster, p.Use)
		if err != nil {
			return err
		}
		t.toPosting(acc, j.id).post(p)
		t.toProject(acc.slot, j.project).post(p)
		t.entry.posting(j, false, p)
	}
	return nil
}

// describe keeps what came with a window beside its energy.
func (t *tx) describe(n *nodeState, cat *catState, w *window.Window) error {
	for i, e := range w.Events {
		if i >= maxWindowEvents {
			break
		}
		if err := t.event(n, e); err != nil {
			return err
		}
	}
	if n.cat == cat {
		return nil
	}
	if err := t.keepCatalogue(n, cat.c, w.StartMS); err != nil {
		return err
	}
	if p := cat.c.Policy; !n.cluster.policies[p] {
		if err := t.w.exec("INSERT INTO policy(cluster_id, name) VALUES (?, ?) ON CONFLICT DO NOTHING", n.cluster.id, p); err != nil {
			return err
		}
		n.cluster.policies[p] = true
	}
	n.cat = cat
	return t.retire(n, cat)
}

// keepCatalogue stores a catalogue for windows that name it by id only.
func (t *tx) keepCatalogue(n *nodeState, c *window.Catalogue, atMS int64) error {
	body, err := json.Marshal(c)
	if err != nil {
		return err
	}
	err = t.w.exec(`INSERT INTO catalogue(node_id, id, at_ms, body) VALUES (?, ?, ?, ?)
		ON CONFLICT(node_id, id) DO UPDATE SET at_ms = excluded.at_ms, body = excluded.body`, n.id, int64(c.ID), atMS, body)
	if err != nil {
		return err
	}
	row, err := t.w.first("SELECT COUNT(*) FROM catalogue WHERE node_id = ?", n.id)
	if err != nil || number(row[0]) <= maxCatalogues {
		return err
	}
	return t.w.exec(`DELETE FROM catalogue WHERE node_id = ? AND id = (
		SELECT id FROM catalogue WHERE node_id = ? ORDER BY at_ms, id LIMIT 1)`, n.id, n.id)
}
