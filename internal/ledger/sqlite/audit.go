package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// maxFindings bounds what an audit of a badly damaged ledger returns.
const maxFindings = 10_000

// auditor recomputes both sides of the books from the finest grain, slot by
// slot, in one read transaction. It trusts no roll-up and no cache; what it
// keeps is bounded by the number of nodes, odometers and running jobs.
type auditor struct {
	q       *sql.Tx
	cluster int64
	name    string
	p       span
	res     ledger.AuditResult
	nodes   map[int64]string
	chains  map[int64]*chain // by odometer
	holes   map[int64]int64  // root energy of holes by slot
	known   map[int64][]presence
	balance map[int64]*[energy.NumClasses]int64 // known less covered, by node
	worst   map[int64]worstSlot
	jobs    map[int64]map[int64]*sums // of jobs that lie in the period, by node
}

type worstSlot struct{ slot, lack int64 }

// Audit implements ledger.Ledger. toMS 0 is the end of the books.
func (l *Ledger) Audit(ctx context.Context, cluster string, fromMS, toMS int64) (ledger.AuditResult, error) {
	a := &auditor{
		name: cluster, nodes: map[int64]string{}, chains: map[int64]*chain{}, holes: map[int64]int64{},
		known: map[int64][]presence{}, balance: map[int64]*[energy.NumClasses]int64{}, worst: map[int64]worstSlot{},
		jobs: map[int64]map[int64]*sums{},
	}
	err := l.readTx(ctx, func(q *sql.Tx) (err error) {
		a.q = q
		var ok bool
		if a.cluster, ok, err = clusterID(ctx, q, cluster); err != nil {
			return err
		}
		if !ok {
			return errors.New("the cluster is not known")
		}
		if toMS == 0 {
			if toMS, err = a.end(ctx); err != nil {
				return err
			}
			toMS = max(toMS, fromMS) // nothing is booked since
		}
		if a.p, err = newSpan(fromMS, toMS); err != nil {
			return err
		}
		return a.run(ctx)
	})
	if err != nil {
		return ledger.AuditResult{}, fmt.Errorf("cannot audit cluster %q: %w", cluster, err)
	}
	return a.res, nil
}

func (a *auditor) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		a.load, a.loadHoles, a.quarantined, a.slots, a.checkChains, a.checkDays, a.checkTotals,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	a.checkPresence()
	return nil
}

func (a *auditor) find(f ledger.Finding) {
	if len(a.res.Findings) < maxFindings {
		f.Cluster = a.name
		a.res.Findings = append(a.res.Findings, f)
	}
}

// end is the end of the newest slot of the books, ms.
func (a *auditor) end(ctx context.Context) (int64, error) {
	var slot int64
	err := a.q.QueryRowContext(ctx, `SELECT MAX(COALESCE(s, -1)) FROM (SELECT MAX(slot) AS s FROM cluster_slot
		UNION ALL SELECT MAX(slot) FROM node_slot UNION ALL SELECT MAX(slot) FROM posting) t`).Scan(&slot)
	return (slot + 1) * window.SlotMS, err
}

func (a *auditor) load(ctx context.Context) error {
	err := each(ctx, a.q, func(scan func(...any) error) error {
		var id int64
		var name string
		err := scan(&id, &name)
		a.nodes[id] = name
		return err
	}, "SELECT id, name FROM node WHERE cluster_id = ?", a.cluster)
	if err != nil {
		return err
	}
	return each(ctx, a.q, func(scan func(...any) error) error {
		var node int64
		var p presence
		k := &p.counts
		err := scan(&node, &p.from, &p.to, &k[0], &k[1], &k[2], &k[3], &k[4])
		a.known[node] = append(a.known[node], p)
		return err
	}, "SELECT node_id, from_ms, to_ms, gpu, cpu, memory, other, node FROM presence WHERE cluster_id = ? AND to_ms > ? AND from_ms < ?",
		a.cluster, a.p.from*window.SlotMS, a.p.to*window.SlotMS)
}

// loadHoles takes holes as links of the chains; those of the period are
// findings.
func (a *auditor) loadHoles(ctx context.Context) error {
	return each(ctx, a.q, func(scan func(...any) error) error {
		var odo, from, to, node, slot int64
		var root bool
		var meter string
		if err := scan(&odo, &from, &to, &node, &root, &slot, &meter); err != nil {
			return err
		}
		a.link(piece{odo: odo, from: energy.Microjoules(from), to: energy.Microjoules(to)}, slot, node)
		if slot < a.p.from || slot >= a.p.to {
			return nil
		}
		lost := energy.Span(energy.Microjoules(from), energy.Microjoules(to))
		if root {
			a.res.Unbooked += lost
			a.res.Metered += lost
			a.holes[slot] += int64(lost)
		}
		a.find(ledger.Finding{
			Kind: "hole", Node: a.nodes[node], Meter: meter, SlotMS: slot * window.SlotMS, Difference: lost,
			Detail: fmt.Sprintf("[%d, %d) uJ is reserved and not booked", from, to),
		})
		return nil
	}, `SELECT h.odometer_id, h.from_uj, h.to_uj, h.node_id, h.root, h.slot, o.meter FROM hole h JOIN odometer o ON o.id = h.odometer_id
		JOIN node n ON n.id = h.node_id WHERE n.cluster_id = ? AND h.slot >= ? AND h.slot <= ? ORDER BY h.odometer_id, h.from_uj`,
		a.cluster, a.p.from-1, a.p.to)
}

func (a *auditor) quarantined(ctx context.Context) error {
	return each(ctx, a.q, func(scan func(...any) error) error {
		f := ledger.Finding{Kind: "quarantine"}
		var id, slot int64
		err := scan(&id, &f.Node, &slot, &f.Difference, &f.Detail)
		f.SlotMS, f.Detail = slot*window.SlotMS, fmt.Sprintf("entry %d: %s", id, f.Detail)
		a.find(f)
		return err
	}, `SELECT q.id, n.name, q.slot, q.energy_mj, q.reason FROM quarantine q JOIN node n ON n.id = q.node_id
		WHERE n.cluster_id = ? AND q.settled = 0 AND q.slot >= ? AND q.slot < ? ORDER BY q.id`, a.cluster, a.p.from, a.p.to)
}

// slots goes through the slots that any table knows, and those at both sides of
// the period for the chains only.
func (a *auditor) slots(ctx context.Context) error {
	for _, beside := range []int64{a.p.from - 1, a.p.to} {
		if _, err := a.metered(ctx, beside, func(*auditSlot) {}); err != nil {
			return err
		}
	}
	for at := a.p.from; ; at++ {
		var next sql.NullInt64
		err := a.q.QueryRowContext(ctx, `SELECT MIN(s) FROM (SELECT MIN(slot) AS s FROM node_slot WHERE slot >= ?
			UNION ALL SELECT MIN(slot) FROM posting WHERE slot >= ? UNION ALL SELECT MIN(slot) FROM project_slot WHERE slot >= ?
			UNION ALL SELECT MIN(slot) FROM cluster_slot WHERE slot >= ?) t`, at, at, at, at).Scan(&next)
		if err != nil || !next.Valid || next.Int64 >= a.p.to {
			return err
		}
		at = next.Int64
		if err := a.slot(ctx, at); err != nil {
			return err
		}
	}
}

// auditSlot is what a slot of a node says on both sides.
type auditSlot struct {
	node             int64
	spans            int64 // recomputed from the pieces
	metered          int64 // as stored
	device, absent   [energy.NumClasses]int64
	booked           sums
	roots            []int64
	stored, postings bool
}

// metered reads the metered side of a slot.
func (a *auditor) metered(ctx context.Context, slot int64, f func(*auditSlot)) (n int, err error) {
	var pieces []piece
	err = each(ctx, a.q, func(scan func(...any) error) error {
		s := &auditSlot{stored: true}
		var device, packed []byte
		if err := scan(&s.node, &s.metered, &device, &packed); err != nil {
			return err
		}
		if _, ours := a.nodes[s.node]; !ours {
			return nil
		}
		var err error
		if pieces, err = decodePieces(pieces[:0], packed); err == nil {
			err = decodeTimes(device, &s.device, &s.absent)
		}
		if err != nil {
			return fmt.Errorf("slot %d of node %s: %w", slot, a.nodes[s.node], err)
		}
		for _, p := range pieces {
			a.link(p, slot, s.node)
			if p.root {
				s.spans += int64(energy.Span(p.from, p.to))
				s.roots = append(s.roots, p.odo)
			}
		}
		n++
		f(s)
		return nil
	}, "SELECT node_id, metered_mj, device_ms, pieces FROM node_slot WHERE slot = ? ORDER BY node_id", slot)
	return n, err
}

func (a *auditor) slot(ctx context.Context, slot int64) error {
	nodes := map[int64]*auditSlot{}
	var order []int64
	node := func(id int64) *auditSlot {
		if nodes[id] == nil {
			nodes[id] = &auditSlot{node: id}
			order = append(order, id)
		}
		return nodes[id]
	}
	n, err := a.metered(ctx, slot, func(s *auditSlot) { nodes[s.node] = s; order = append(order, s.node) })
	if err != nil {
		return err
	}
	a.res.Slots += n
	projects := map[int64]*sums{}
	if err := a.postings(ctx, slot, node, projects); err != nil {
		return err
	}
	var total clusterSums
	total.unbooked = a.holes[slot]
	for _, id := range order {
		s := nodes[id]
		if err := a.compare(ctx, slot, s); err != nil {
			return err
		}
		a.covered(slot, s)
		total.metered += s.spans
		for c := range s.device {
			total.device += s.device[c]
			total.absent += s.absent[c]
		}
	}
	if err := a.checkSlotRollups(ctx, slot, projects, total); err != nil {
		return err
	}
	return a.checkJobs(ctx, slot)
}

// postings reads the booked side of a slot.
func (a *auditor) postings(ctx context.Context, slot int64, node func(int64) *auditSlot, projects map[int64]*sums) error {
	return each(ctx, a.q, func(scan func(...any) error) error {
		var id, job, project, first, last int64
		var ext string
		var s sums
		if err := scan(s.scan(&id, &job, &project, &first, &last, &ext)...); err != nil {
			return err
		}
		if _, ours := a.nodes[id]; !ours {
			return nil
		}
		n := node(id)
		n.postings = true
		n.booked.add(&s)
		if projects[project] == nil {
			projects[project] = &sums{}
		}
		projects[project].add(&s)
		a.res.Booked += energy.Millijoules(s.energy())
		if ext == "" || first < a.p.from || last >= a.p.to {
			return nil
		}
		if a.jobs[job] == nil {
			a.jobs[job] = map[int64]*sums{}
		}
		if a.jobs[job][id] == nil {
			a.jobs[job][id] = &sums{}
		}
		a.jobs[job][id].add(&s)
		return nil
	}, "SELECT p.node_id, p.job_id, j.project_id, j.first_slot, j.last_slot, j.ext_id, "+cells("p.%")+
		" FROM posting p JOIN job j ON j.id = p.job_id WHERE p.slot = ? ORDER BY p.node_id, p.job_id", slot)
}

// compare holds the two sides of a node's slot against each other.
func (a *auditor) compare(ctx context.Context, slot int64, s *auditSlot) error {
	a.res.Metered += energy.Millijoules(s.spans)
	var found []ledger.Finding
	add := func(kind string, diff int64, format string, args ...any) {
		found = append(found, ledger.Finding{
			Kind: kind, Node: a.nodes[s.node], SlotMS: slot * window.SlotMS,
			Difference: energy.Millijoules(diff), Detail: fmt.Sprintf(format, args...),
		})
	}
	booked := s.booked.energy()
	if s.spans != booked {
		add("difference", s.spans-booked, "ranges give %d mJ, postings %d mJ", s.spans, booked)
	}
	if s.spans != s.metered {
		add("difference", s.spans-s.metered, "ranges give %d mJ, %d mJ are stored as metered", s.spans, s.metered)
	}
	if g := s.booked.grades(); g != booked {
		add("difference", booked-g, "postings are %d mJ by class and %d mJ by grade", booked, g)
	}
	for c := range s.device {
		if have := s.booked.time(c) + s.absent[c]; have != s.device[c] {
			add("device_time", 0, "class %s: uses and missing %d ms, devices x time %d ms", energy.Class(c), have, s.device[c])
		}
	}
	if len(found) == 0 {
		return nil
	}
	meters, err := a.meterNames(ctx, s)
	for _, f := range found {
		f.Meter = meters
		a.find(f)
	}
	return err
}

// meterNames names the root meters of a node's slot: a difference between the
// sides lies on one of them.
func (a *auditor) meterNames(ctx context.Context, s *auditSlot) (string, error) {
	if len(s.roots) == 0 {
		var names []string
		err := each(ctx, a.q, func(scan func(...any) error) error {
			var name string
			err := scan(&name)
			names = append(names, name)
			return err
		}, "SELECT DISTINCT meter FROM odometer WHERE node_id = ? AND root <> 0 ORDER BY meter", s.node)
		return strings.Join(names, ","), err
	}
	var names []string
	for _, odo := range s.roots {
		var name string
		err := a.q.QueryRowContext(ctx, "SELECT meter FROM odometer WHERE id = ?", odo).Scan(&name)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return "", err
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ","), nil
}
