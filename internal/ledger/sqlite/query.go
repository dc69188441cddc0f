package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// Catalogue implements ledger.Ledger.
func (l *Ledger) Catalogue(ctx context.Context, n ledger.Node, id uint64) (*window.Catalogue, bool, error) {
	var c *window.Catalogue
	err := l.recordsTx(ctx, func(q *sql.Tx) error {
		var body []byte
		err := q.QueryRowContext(ctx, `SELECT k.body FROM catalogue k JOIN node n ON n.id = k.node_id JOIN cluster c ON c.id = n.cluster_id
			WHERE c.name = ? AND n.name = ? AND k.id = ?`, n.Cluster, n.Name, int64(id)).Scan(&body)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		c = &window.Catalogue{}
		return json.Unmarshal(body, c)
	})
	if err != nil {
		return nil, false, fmt.Errorf("cannot read a catalogue of node %q: %w", n.Name, err)
	}
	return c, c != nil, nil
}

// Clusters implements ledger.Ledger.
func (l *Ledger) Clusters(ctx context.Context) ([]string, error) {
	var out []string
	err := l.recordsTx(ctx, func(q *sql.Tx) error {
		return each(ctx, q, func(scan func(...any) error) error {
			var name string
			err := scan(&name)
			out = append(out, name)
			return err
		}, "SELECT name FROM cluster ORDER BY name")
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list clusters: %w", err)
	}
	return out, nil
}

// Job implements ledger.Ledger; runs of one id come in the order they were
// first seen.
func (l *Ledger) Job(ctx context.Context, cluster, id string) ([]ledger.JobBooks, error) {
	var out []ledger.JobBooks
	err := l.readTx(ctx, func(q *sql.Tx) error {
		found, err := findJobs(ctx, q, "c.name = ? AND j.ext_id = ? AND j.ext_id <> '' ORDER BY j.id", cluster, id)
		if err != nil {
			return err
		}
		for _, f := range found {
			if err := jobNodes(ctx, q, f); err != nil {
				return err
			}
			out = append(out, f.books)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read job %q: %w", id, err)
	}
	return out, nil
}

type foundJob struct {
	id    int64
	books ledger.JobBooks
}

func findJobs(ctx context.Context, q *sql.Tx, where string, args ...any) ([]*foundJob, error) {
	var out []*foundJob
	err := each(ctx, q, func(scan func(...any) error) error {
		f, open := &foundJob{}, 0
		j := &f.books.Job
		var saidStart, saidUntil int64
		err := scan(&f.id, &f.books.Cluster, &j.ID, &j.Restart, &j.SubmitMS, &j.Project, &j.User, &j.StartMS, &j.EndMS, &open, &saidStart, &saidUntil)
		if open > 0 {
			j.EndMS = 0
		}
		if saidStart > 0 {
			j.StartMS = saidStart
		}
		if saidUntil > 0 && saidUntil != forever {
			j.EndMS = saidUntil
		}
		out = append(out, f)
		return err
	}, `SELECT j.id, c.name, j.ext_id, j.restart, j.submit_ms, p.name, j.user_name, j.start_ms, j.end_ms, j.open_nodes,
			COALESCE(f.start_ms, 0), COALESCE(f.until_ms, 0)
		FROM job j JOIN cluster c ON c.id = j.cluster_id JOIN project p ON p.id = j.project_id LEFT JOIN job_fact f ON f.job_id = j.id WHERE `+where, args...)
	return out, err
}

func jobNodes(ctx context.Context, q *sql.Tx, f *foundJob) error {
	return each(ctx, q, func(scan func(...any) error) error {
		var n ledger.NodeAmounts
		var s sums
		if err := scan(s.scan(&n.Node)...); err != nil {
			return err
		}
		s.into(&n.Amounts, energy.Busy)
		s.into(&f.books.Amounts, energy.Busy)
		f.books.Nodes = append(f.books.Nodes, n)
		return nil
	}, "SELECT n.name, "+cells("k.%")+" FROM job_node k JOIN node n ON n.id = k.node_id WHERE k.job_id = ? ORDER BY n.name", f.id)
}

// Jobs implements ledger.Ledger, newest first. A job overlaps a span if its
// postings do.
func (l *Ledger) Jobs(ctx context.Context, f ledger.JobFilter) ([]ledger.JobBooks, error) {
	where, args := []string{"j.ext_id <> ''"}, []any{}
	add := func(on bool, cond string, arg any) {
		if on {
			where, args = append(where, cond), append(args, arg)
		}
	}
	add(f.Cluster != "", "c.name = ?", f.Cluster)
	add(f.ID != "", "j.ext_id = ?", f.ID)
	add(f.Project != "", "p.name = ?", f.Project)
	add(f.User != "", "j.user_name = ?", f.User)
	add(f.FromMS != 0, "j.last_slot >= ? AND j.last_slot >= j.first_slot", window.Slot(f.FromMS))
	add(f.ToMS != 0, "j.first_slot <= ? AND j.last_slot >= j.first_slot", window.Slot(f.ToMS-1))
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	args = append(args, f.Limit)
	var out []ledger.JobBooks
	err := l.readTx(ctx, func(q *sql.Tx) error {
		found, err := findJobs(ctx, q, strings.Join(where, " AND ")+" ORDER BY j.id DESC LIMIT ?", args...)
		if err != nil {
			return err
		}
		for _, j := range found {
			var s sums
			err := q.QueryRowContext(ctx, "SELECT "+cells("COALESCE(SUM(%), 0)")+" FROM job_node WHERE job_id = ?", j.id).Scan(s.scan()...)
			if err != nil {
				return err
			}
			s.into(&j.books.Amounts, energy.Busy)
			out = append(out, j.books)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list jobs: %w", err)
	}
	return out, nil
}

// Totals implements ledger.Ledger, by cluster and project. It is read all the time:
// what waits is added here, and posted another time.
func (l *Ledger) Totals(ctx context.Context) ([]ledger.ProjectTotal, error) {
	var out []ledger.ProjectTotal
	var waiting map[int64]*sums
	err := l.waitingTx(ctx, func(t *tx) { waiting = t.waitingTotals() }, func(q *sql.Tx) error {
		return each(ctx, q, func(scan func(...any) error) error {
			var t ledger.ProjectTotal
			var s sums
			var id, use int64
			var posted bool
			if err := scan(s.scan(&id, &posted, &t.Cluster, &t.Project, &use)...); err != nil {
				return err
			}
			if add := waiting[id]; add != nil {
				s.add(add)
			} else if !posted {
				return nil
			}
			s.into(&t.Amounts, projectUse(use))
			if n := len(out); n > 0 && out[n-1].Cluster == t.Cluster && out[n-1].Project == t.Project {
				out[n-1].Amounts.Add(&t.Amounts)
				return nil
			}
			out = append(out, t)
			return nil
		}, "SELECT p.id, t.project_id IS NOT NULL, c.name, p.name, p.use_of, "+cells("COALESCE(t.%, 0)")+` FROM project p LEFT JOIN project_total t ON t.project_id = p.id
			JOIN cluster c ON c.id = p.cluster_id ORDER BY c.name, p.name, p.use_of`)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read totals: %w", err)
	}
	return out, nil
}

// Nodes implements ledger.Ledger, by cluster and name. It posts nothing, as Totals.
func (l *Ledger) Nodes(ctx context.Context) ([]ledger.NodeStatus, error) {
	var out []ledger.NodeStatus
	var waiting map[int64]int64
	err := l.waitingTx(ctx, func(t *tx) { waiting = t.waitingEnds() }, func(q *sql.Tx) error {
		return each(ctx, q, func(scan func(...any) error) error {
			var n ledger.NodeStatus
			var id int64
			err := scan(&id, &n.Node.Cluster, &n.Node.Name, &n.Incarnation, &n.LastMS, &n.Left, &n.Fenced, &n.Conflicts)
			if last, ok := waiting[id]; ok {
				n.LastMS = last
			}
			out = append(out, n)
			return err
		}, `SELECT n.id, c.name, n.name, n.incarnation, e.last_ms,
				EXISTS (SELECT 1 FROM presence p WHERE p.node_id = n.id) AND NOT EXISTS (SELECT 1 FROM presence p WHERE p.node_id = n.id AND p.to_ms = ?),
				n.fenced, n.conflicts FROM node n
			JOIN cluster c ON c.id = n.cluster_id JOIN node_end e ON e.node_id = n.id ORDER BY c.name, n.name`, forever)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list nodes: %w", err)
	}
	return out, nil
}

// Events implements ledger.Ledger.
func (l *Ledger) Events(ctx context.Context, f ledger.EventFilter) ([]ledger.EventRow, error) {
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	if f.ToMS == 0 {
		f.ToMS = forever
	}
	var out []ledger.EventRow
	err := l.recordsTx(ctx, func(q *sql.Tx) error {
		return each(ctx, q, func(scan func(...any) error) error {
			var e ledger.EventRow
			err := scan(&e.Node.Cluster, &e.Node.Name, &e.Event.AtMS, &e.Event.Kind, &e.Event.Meter, &e.Event.Detail)
			out = append(out, e)
			return err
		}, `SELECT c.name, n.name, e.at_ms, e.kind, e.meter, e.detail FROM event e JOIN node n ON n.id = e.node_id
			JOIN cluster c ON c.id = n.cluster_id WHERE e.at_ms >= ? AND e.at_ms < ?
				AND (? = '' OR c.name = ?) AND (? = '' OR n.name = ?) AND (? = '' OR e.kind = ?)
			ORDER BY e.at_ms DESC, e.id DESC LIMIT ?`, f.FromMS, f.ToMS, f.Cluster, f.Cluster, f.Node, f.Node, f.Kind, f.Kind, f.Limit)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read events: %w", err)
	}
	return out, nil
}

// Quarantine implements ledger.Ledger, oldest first.
func (l *Ledger) Quarantine(ctx context.Context) ([]ledger.QuarantineEntry, error) {
	var out []ledger.QuarantineEntry
	err := l.recordsTx(ctx, func(q *sql.Tx) error {
		return each(ctx, q, func(scan func(...any) error) error {
			var e ledger.QuarantineEntry
			err := scan(&e.ID, &e.Node.Cluster, &e.Node.Name, &e.AtMS, &e.StartMS, &e.EndMS, &e.Reason, &e.Energy, &e.Settled)
			out = append(out, e)
			return err
		}, `SELECT q.id, c.name, n.name, q.at_ms, q.start_ms, q.end_ms, q.reason, q.energy_mj, q.settled FROM quarantine q
			JOIN node n ON n.id = q.node_id JOIN cluster c ON c.id = n.cluster_id ORDER BY q.id`)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the quarantine: %w", err)
	}
	return out, nil
}
