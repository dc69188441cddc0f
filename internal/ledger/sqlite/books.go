package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sort"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// span is a period split into whole UTC days and the slots at both ends.
type span struct {
	from, to             int64 // slots
	firstDay, lastDay    int64 // whole days [firstDay, lastDay)
	headEnd, tailStart   int64 // slots [from, headEnd) and [tailStart, to)
	touchFirst, touchEnd int64 // days touched [touchFirst, touchEnd)
}

func newSpan(fromMS, toMS int64) (span, error) {
	if fromMS%window.SlotMS != 0 || toMS%window.SlotMS != 0 || toMS < fromMS {
		return span{}, fmt.Errorf("period [%d, %d) ms is not one of whole slots", fromMS, toMS)
	}
	p := span{from: window.Slot(fromMS), to: window.Slot(toMS)}
	p.firstDay, p.lastDay = day(p.from+slotsPerDay-1), day(p.to)
	p.headEnd, p.tailStart = p.firstDay*slotsPerDay, p.lastDay*slotsPerDay
	if p.firstDay >= p.lastDay {
		p.firstDay, p.lastDay, p.headEnd, p.tailStart = 0, 0, p.to, p.to
	}
	p.touchFirst, p.touchEnd = day(p.from), day(p.to+slotsPerDay-1)
	return p, nil
}

// readTx runs f in one read transaction: it sees one state of the books, with all
// that was booked before.
func (l *Ledger) readTx(ctx context.Context, f func(q *sql.Tx) error) error {
	return l.view(ctx, l.posted, f)
}

// waitingTx is readTx for those who add what waits themselves: they take it from
// the transaction to come, and read the tables of the same moment.
func (l *Ledger) waitingTx(ctx context.Context, take func(t *tx), f func(q *sql.Tx) error) error {
	ready := func() error {
		if l.tx == nil { // what waits is in the journal alone
			if err := l.load(); err != nil {
				return err
			}
		}
		take(l.tx)
		return nil
	}
	return l.view(ctx, ready, f)
}

// recordsTx is readTx for tables that the journal has nothing for.
func (l *Ledger) recordsTx(ctx context.Context, f func(q *sql.Tx) error) error {
	return l.view(ctx, func() error { return nil }, f)
}

// view runs f in a read transaction whose view of the tables begins when ready has
// run, before anybody else writes.
func (l *Ledger) view(ctx context.Context, ready func() error, f func(q *sql.Tx) error) error {
	q, err := l.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // it may have to wait for a connection
	if err != nil {
		return l.orClosed(err)
	}
	if err = l.begin(ctx, q, ready); err == nil {
		err = f(q)
	}
	return errors.Join(err, q.Rollback())
}

func (l *Ledger) begin(ctx context.Context, q *sql.Tx, ready func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if err := errors.Join(ctx.Err(), ready()); err != nil {
		return err
	}
	var version int64 // SQLite's view begins with the first row that is read
	return q.QueryRowContext(ctx, "SELECT version FROM schema_version").Scan(&version)
}

// orClosed is ErrClosed where the ledger is.
func (l *Ledger) orClosed(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	return err
}

// each calls f for each row of a query.
func each(ctx context.Context, q *sql.Tx, f func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("cannot run %q: %w", brief(query), err)
	}
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return errors.Join(fmt.Errorf("cannot read %q: %w", brief(query), err), rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// clusterID finds a cluster; ok is false if there is none of that name.
func clusterID(ctx context.Context, q *sql.Tx, name string) (id int64, ok bool, err error) {
	err = q.QueryRowContext(ctx, "SELECT id FROM cluster WHERE name = ?", name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return id, err == nil, err
}

// Books implements ledger.Ledger. A project's jobs are those with postings on a
// day of the period whose span of postings overlaps the period.
func (l *Ledger) Books(ctx context.Context, cluster string, fromMS, toMS, nowMS int64) (ledger.Books, error) {
	b := ledger.Books{Cluster: cluster, FromMS: fromMS, ToMS: toMS}
	p, err := newSpan(fromMS, toMS)
	if err == nil {
		err = l.readTx(ctx, func(q *sql.Tx) error {
			id, ok, err := clusterID(ctx, q, cluster)
			if err != nil || !ok {
				return err
			}
			return readBooks(ctx, q, &b, id, p, nowMS)
		})
	}
	if err != nil {
		return ledger.Books{}, fmt.Errorf("cannot read the books of %q: %w", cluster, err)
	}
	return b, nil
}

func readBooks(ctx context.Context, q *sql.Tx, b *ledger.Books, cluster int64, p span, nowMS int64) error {
	metered, err := meteredIn(ctx, q, cluster, p)
	if err != nil {
		return err
	}
	b.Metered = energy.Millijoules(metered.metered + metered.unbooked)
	b.Unbooked = energy.Millijoules(metered.unbooked)
	lines, err := projectsIn(ctx, q, cluster, p)
	if err != nil {
		return err
	}
	jobs, err := jobsIn(ctx, q, cluster, p)
	if err != nil {
		return err
	}
	var covered int64
	for id, line := range lines {
		covered += line.sums.times()
		if line.use != energy.Busy {
			line.sums.into(&b.Nobody, line.use)
			continue
		}
		if line.sums == (sums{}) {
			continue
		}
		pr := ledger.Project{Name: line.name, Jobs: jobs[id]}
		line.sums.into(&pr.Amounts, energy.Busy)
		b.Projects = append(b.Projects, pr)
	}
	sort.Slice(b.Projects, func(i, j int) bool { return b.Projects[i].Name < b.Projects[j].Name })
	known, err := knownIn(ctx, q, cluster, b.FromMS, min(b.ToMS, nowMS))
	if err != nil {
		return err
	}
	b.MissingMS = max(0, known-covered)
	return each(ctx, q, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		b.Policies = append(b.Policies, name)
		return err
	}, "SELECT name FROM policy WHERE cluster_id = ? ORDER BY name", cluster)
}

// parts gives the tables and bounds a period is read from: days, then slots.
func (p span) parts(table string) []struct {
	table, column string
	from, to      int64
} {
	return []struct {
		table, column string
		from, to      int64
	}{
		{table + "_day", "day", p.firstDay, p.lastDay},
		{table + "_slot", "slot", p.from, p.headEnd},
		{table + "_slot", "slot", p.tailStart, p.to},
	}
}

func meteredIn(ctx context.Context, q *sql.Tx, cluster int64, p span) (clusterSums, error) {
	var sum clusterSums
	for _, part := range p.parts("cluster") {
		err := each(ctx, q, func(scan func(...any) error) error {
			var s clusterSums
			err := scan(&s.metered, &s.unbooked, &s.device, &s.absent)
			sum.add(s)
			return err
		}, "SELECT metered_mj, unbooked_mj, device_ms, absent_ms FROM "+part.table+" WHERE "+
			part.column+" >= ? AND "+part.column+" < ? AND cluster_id = ?", part.from, part.to, cluster)
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// line is what a project, or one of nobody's uses, has in a period.
type line struct {
	name string
	use  energy.Use
	sums sums
}

func projectsIn(ctx context.Context, q *sql.Tx, cluster int64, p span) (map[int64]*line, error) {
	out := map[int64]*line{}
	err := each(ctx, q, func(scan func(...any) error) error {
		var id, use int64
		var name string
		err := scan(&id, &name, &use)
		out[id] = &line{name: name, use: projectUse(use)}
		return err
	}, "SELECT id, name, use_of FROM project WHERE cluster_id = ?", cluster)
	if err != nil {
		return nil, err
	}
	for _, part := range p.parts("project") {
		if part.from >= part.to {
			continue
		}
		err := each(ctx, q, func(scan func(...any) error) error {
			var id int64
			var s sums
			if err := scan(s.scan(&id)...); err != nil {
				return err
			}
			if l := out[id]; l != nil {
				l.sums.add(&s)
			}
			return nil
		}, "SELECT project_id, "+cells("SUM(%)")+" FROM "+part.table+" WHERE "+part.column+" >= ? AND "+
			part.column+" < ? GROUP BY project_id", part.from, part.to)
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// jobsIn counts jobs per project: those of the days touched, less those that
// ended before the period on its first day or began after it on its last.
func jobsIn(ctx context.Context, q *sql.Tx, cluster int64, p span) (map[int64]int, error) {
	out := map[int64]int{}
	count := func(sign int, query string, args ...any) error {
		return each(ctx, q, func(scan func(...any) error) error {
			var id int64
			var n int
			err := scan(&id, &n)
			out[id] += sign * n
			return err
		}, query, args...)
	}
	if p.from == p.to {
		return out, nil
	}
	return out, errors.Join(
		count(1, "SELECT project_id, SUM(jobs) FROM project_jobs WHERE day >= ? AND day < ? AND prev_day < ? GROUP BY project_id",
			p.touchFirst, p.touchEnd, p.touchFirst),
		count(-1, `SELECT project_id, COUNT(*) FROM job WHERE cluster_id = ? AND last_slot >= ? AND last_slot < ?
			AND first_slot <= last_slot AND ext_id <> '' GROUP BY project_id`, cluster, p.touchFirst*slotsPerDay, p.from),
		count(-1, `SELECT project_id, COUNT(*) FROM job WHERE cluster_id = ? AND first_slot >= ? AND first_slot < ?
			AND first_slot <= last_slot AND ext_id <> '' GROUP BY project_id`, cluster, p.to, p.touchEnd*slotsPerDay))
}

// knownIn is the device time of known devices in [from, to) ms.
func knownIn(ctx context.Context, q *sql.Tx, cluster, from, to int64) (int64, error) {
	var known int64
	if to <= from {
		return 0, nil
	}
	err := each(ctx, q, func(scan func(...any) error) error {
		var a, b, devices int64
		err := scan(&a, &b, &devices)
		known += (min(b, to) - max(a, from)) * devices
		return err
	}, "SELECT from_ms, to_ms, gpu + cpu + memory + other + node FROM presence WHERE cluster_id = ? AND to_ms > ? AND from_ms < ?",
		cluster, from, to)
	return known, err
}
