package sqlite

import (
	"database/sql/driver"

	"github.com/wattledger/wattledger/internal/energy"
)

// presence is the newest span in which a node's devices are known. Spans are
// additive: what is known at an instant is the sum of the spans that hold it.
type presence struct {
	id       int64 // 0: none yet
	from, to int64 // to is forever while it goes on
	counts   [energy.NumClasses]int64
}

const presenceColumns = "id, from_ms, to_ms, gpu, cpu, memory, other, node"

func readPresence(row []driver.Value) presence {
	p := presence{id: number(row[0]), from: number(row[1]), to: number(row[2])}
	for c := range p.counts {
		p.counts[c] = number(row[3+c])
	}
	return p
}

func (c *cache) loadPresence(node int64) (presence, error) {
	row, err := c.w.first("SELECT "+presenceColumns+" FROM presence WHERE node_id = ? ORDER BY to_ms DESC, from_ms DESC LIMIT 1", node)
	if err != nil || row == nil {
		return presence{}, err
	}
	return readPresence(row), nil
}

// present makes known what a window covered: [from, to) with so many devices.
// What is known is never less than what is covered.
func (t *tx) present(n *nodeState, from, to int64, counts [energy.NumClasses]int64, final bool) error {
	p := &n.presence
	open := p.id != 0 && p.to == forever
	var err error
	switch {
	case open && from >= p.from && counts == p.counts:
	case open && from >= p.from:
		// Other devices from here on; what was booked beyond stays known.
		if err = t.endPresence(n, max(from, n.lastMS)); err == nil {
			err = t.startPresence(n, from, counts)
		}
	case !open && (p.id == 0 || from >= p.to):
		err = t.startPresence(n, from, counts)
	default:
		return t.presentBefore(n, from, to, counts)
	}
	if err == nil && final {
		err = t.endPresence(n, max(to, n.lastMS))
	}
	return err
}

func (t *tx) startPresence(n *nodeState, from int64, counts [energy.NumClasses]int64) error {
	n.presence = presence{id: t.c.id("presence"), from: from, to: forever, counts: counts}
	return t.putPresence(n, n.presence)
}

func (t *tx) endPresence(n *nodeState, at int64) error {
	n.presence.to = at
	return t.w.exec("UPDATE presence SET to_ms = ? WHERE id = ?", at, n.presence.id)
}

func (t *tx) putPresence(n *nodeState, p presence) error {
	args := []driver.Value{p.id, p.from, p.to}
	for _, k := range p.counts {
		args = append(args, k)
	}
	return t.w.exec("INSERT INTO presence("+presenceColumns+", cluster_id, node_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		append(args, n.cluster.id, n.id)...)
}

// presentBefore fills in what a late window covered and no span knows of: it
// adds spans of the devices that are missing, piece by piece.
func (t *tx) presentBefore(n *nodeState, from, to int64, counts [energy.NumClasses]int64) error {
	var known []presence
	cuts := map[int64]bool{from: true}
	err := t.w.query("SELECT "+presenceColumns+" FROM presence WHERE node_id = ? AND to_ms > ? AND from_ms < ?", func(row []driver.Value) error {
		p := readPresence(row)
		known = append(known, p)
		for _, at := range []int64{p.from, p.to} {
			if at > from && at < to {
				cuts[at] = true
			}
		}
		return nil
	}, n.id, from, to)
	if err != nil {
		return err
	}
	for at := range cuts {
		end := to
		for other := range cuts {
			if other > at {
				end = min(end, other)
			}
		}
		lack := presence{from: at, to: end, counts: counts}
		for _, p := range known {
			if p.from <= at && p.to >= end {
				for c := range lack.counts {
					lack.counts[c] = max(0, lack.counts[c]-p.counts[c])
				}
			}
		}
		if lack.counts == [energy.NumClasses]int64{} {
			continue
		}
		lack.id = t.c.id("presence")
		if err := t.putPresence(n, lack); err != nil {
			return err
		}
	}
	return nil
}
