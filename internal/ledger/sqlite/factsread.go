package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wattledger/wattledger/internal/ledger"
)

// Facts implements ledger.Ledger.
func (l *Ledger) Facts(ctx context.Context, cluster, id string) ([]ledger.JobFacts, error) {
	var out []ledger.JobFacts
	err := l.readTx(ctx, func(q *sql.Tx) error {
		found, err := findFacts(ctx, q, "c.name = ? AND j.ext_id = ? ORDER BY f.start_ms, f.submit_ms, j.id", cluster, id)
		for _, f := range found {
			out = append(out, f.facts)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read what is said of job %q: %w", id, err)
	}
	return out, nil
}

type foundFacts struct {
	job   int64
	facts ledger.JobFacts
}

func findFacts(ctx context.Context, q *sql.Tx, where string, args ...any) ([]foundFacts, error) {
	var out []foundFacts
	err := each(ctx, q, func(scan func(...any) error) error {
		var r foundFacts
		var nodes []byte
		f := &r.facts
		j := &f.Job
		err := scan(&r.job, &f.Cluster, &j.ID, &j.SubmitMS, &j.StartMS, &j.EndMS, &j.Restart, &f.AnyRestart, &j.Project, &j.User, &f.Name,
			&f.Partition, &f.QOS, &f.State, &f.ArrayJob, &f.ArrayTask, &f.HetJob, &f.Requested, &f.Allocated, &f.CPUs, &f.GPUs, &nodes,
			&f.SuspendedMS, &f.ClaimedJoules, &f.SeenMS)
		if err != nil {
			return err
		}
		if j.EndMS == forever {
			j.EndMS = 0
		}
		if f.Nodes, err = unpackNodes(nodes); err != nil {
			return fmt.Errorf("cannot read the nodes of job %s: %w", j.ID, err)
		}
		out = append(out, r)
		return nil
	}, "SELECT f.job_id, c.name, j.ext_id, f."+strings.Join(strings.Fields(factColumns), " f.")+
		" FROM job_fact f JOIN job j ON j.id = f.job_id JOIN cluster c ON c.id = f.cluster_id WHERE "+where, args...)
	return out, err
}

// Unmetered implements ledger.Ledger, by start.
func (l *Ledger) Unmetered(ctx context.Context, cluster string, fromMS, toMS int64) ([]ledger.JobFacts, error) {
	var out []ledger.JobFacts
	err := l.readTx(ctx, func(q *sql.Tx) error {
		found, err := findFacts(ctx, q, `c.name = ? AND f.until_ms > ? AND f.start_ms > 0 AND f.start_ms < ? AND f.start_ms < f.until_ms
			AND f.node_count > (SELECT COUNT(*) FROM job_node k WHERE k.job_id = f.job_id) ORDER BY f.start_ms, f.job_id`, cluster, fromMS, toMS)
		if err != nil {
			return err
		}
		for _, r := range found {
			told, err := nodesOf(ctx, q, r.job)
			if err != nil {
				return err
			}
			f := r.facts
			f.Nodes = slices.DeleteFunc(f.Nodes, func(n string) bool { return told[n] })
			out = append(out, f)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot find the jobs of cluster %q that nothing was booked for: %w", cluster, err)
	}
	return out, nil
}

func nodesOf(ctx context.Context, q *sql.Tx, job int64) (map[string]bool, error) {
	out := map[string]bool{}
	err := each(ctx, q, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		out[name] = true
		return err
	}, "SELECT n.name FROM job_node k JOIN node n ON n.id = k.node_id WHERE k.job_id = ?", job)
	return out, err
}

// ProjectFacts implements ledger.Ledger.
func (l *Ledger) ProjectFacts(ctx context.Context, cluster string) ([]ledger.ProjectFacts, error) {
	var out []ledger.ProjectFacts
	err := l.readTx(ctx, func(q *sql.Tx) error {
		return each(ctx, q, func(scan func(...any) error) error {
			var f ledger.ProjectFacts
			err := scan(&f.Cluster, &f.Name, &f.Parent, &f.Title, &f.Investigator, &f.Organization, &f.StartMS, &f.EndMS, &f.SeenMS)
			out = append(out, f)
			return err
		}, `SELECT c.name, f.name, f.parent, f.title, f.investigator, f.organization, f.start_ms, f.end_ms, f.seen_ms
			FROM project_fact f JOIN cluster c ON c.id = f.cluster_id WHERE c.name = ? ORDER BY f.name`, cluster)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read what is said of the projects of cluster %q: %w", cluster, err)
	}
	return out, nil
}

// LastMark implements ledger.Ledger.
func (l *Ledger) LastMark(ctx context.Context, name string) (int64, error) {
	var at int64
	err := l.readTx(ctx, func(q *sql.Tx) error {
		err := q.QueryRowContext(ctx, "SELECT at_ms FROM mark WHERE name = ?", name).Scan(&at)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("cannot read the mark %q: %w", name, err)
	}
	return at, nil
}
