package sqlite

import (
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strings"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// describeAtOnce bounds how many facts are kept in one transaction: windows wait
// for its end.
const describeAtOnce = 500

// requeued is the state of a run that another run of its id came after, where
// nothing else says how it ended.
const requeued = "REQUEUED"

// Describe implements ledger.Ledger. An account whose name is too long for the
// books is left out: the run keeps the project that its node told. A run without
// an end has ended when a later one of its id is known.
func (l *Ledger) Describe(ctx context.Context, facts []ledger.JobFacts) error {
	for i := range facts {
		if f := &facts[i]; f.Cluster == "" || f.Job.ID == "" || len(f.Cluster) > window.MaxName || len(f.Job.ID) > window.MaxName {
			return fmt.Errorf("cannot describe job %.40q: a cluster and an id are needed, neither longer than %d bytes", f.Job.ID, window.MaxName)
		}
	}
	facts = slices.Clone(facts)
	slices.SortStableFunc(facts, func(a, b ledger.JobFacts) int {
		return cmp.Or(cmp.Compare(a.Job.ID, b.Job.ID), cmp.Compare(a.Job.SubmitMS, b.Job.SubmitMS), cmp.Compare(a.Job.StartMS, b.Job.StartMS))
	})
	for part := range slices.Chunk(facts, describeAtOnce) {
		err := l.change(ctx, false, func(t *tx) error {
			for i := range part {
				if err := t.describeRun(&part[i]); err != nil {
					return fmt.Errorf("job %s: %w", part[i].Job.ID, err)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("cannot keep what is said of %d jobs: %w", len(part), err)
		}
	}
	return nil
}

func (t *tx) describeRun(said *ledger.JobFacts) error {
	f := tidy(*said)
	cl, err := t.c.cluster(f.Cluster, true)
	if err != nil {
		return err
	}
	of := idKey{cl.id, f.Job.ID}
	runs, err := t.c.runs(of)
	if err != nil {
		return err
	}
	h, err := hashFacts(f)
	if err != nil {
		return err
	}
	j := runOfFacts(runs, &f)
	switch {
	case j == nil:
		j = t.c.newRun(of, jobKey{f.Job.Restart, f.Job.SubmitMS})
		if err := t.describeNew(j, &f.Job); err != nil {
			return err
		}
	case j.fact != nil && j.fact.hash == h:
		return nil
	}
	if j.fact != nil && !j.fact.any && f.AnyRestart { // what was known stays known
		f.AnyRestart, f.Job.Restart = false, j.key.restart
	}
	if err := t.correct(j, &f); err != nil {
		return err
	}
	j.fact = &factState{f.Job.SubmitMS, f.Job.StartMS, until(f.Job.EndMS), f.AnyRestart, h}
	if err := t.putFact(j, &f, h); err != nil {
		return err
	}
	return t.endEarlier(of)
}

// correct brings the run itself to what is said: its key, user and project.
// Where it ran and what it took is the nodes' to say.
func (t *tx) correct(j *jobState, f *ledger.JobFacts) error {
	if f.Job.SubmitMS != 0 {
		j.key.submit = f.Job.SubmitMS
	}
	if !f.AnyRestart {
		j.key.restart = f.Job.Restart
	}
	if f.Job.User != "" {
		j.user = f.Job.User
	}
	t.touchJob(j)
	if f.Job.Project == "" || j.assigned {
		return nil
	}
	return t.moveJob(j, f.Job.Project)
}

// endEarlier ends the runs of an id that have no end, though a later run is
// known: some sources tell the last run of a requeued job alone.
func (t *tx) endEarlier(of idKey) error {
	runs, err := t.c.runs(of)
	if err != nil {
		return err
	}
	for _, j := range runs {
		if j.fact == nil || j.fact.until != forever || j.fact.start == 0 {
			continue
		}
		next := forever // when the next run was put into the queue
		for _, k := range runs {
			if k.fact != nil && k.fact.start > j.fact.start {
				next = min(next, max(k.fact.submit, j.fact.start))
			}
		}
		if next == forever {
			continue
		}
		if end, ended := j.seenLast(); ended && end > j.fact.start && end < next {
			next = end
		}
		j.fact.until = next
		err := t.w.exec("UPDATE job_fact SET until_ms = ?, state = ? WHERE job_id = ?", next, requeued, j.id)
		if err != nil {
			return err
		}
	}
	return nil
}

// runOfFacts finds the run that facts are of; nil: no node told of it yet.
func runOfFacts(runs []*jobState, f *ledger.JobFacts) *jobState {
	var best *jobState
	var most int64
	for _, j := range runs {
		if s := j.likeness(f); s > most {
			best, most = j, s
		}
	}
	return best
}

// likeness tells how likely facts are of this run; 0: they are not.
func (j *jobState) likeness(f *ledger.JobFacts) int64 {
	const sure, key, times = int64(1) << 62, int64(1) << 61, int64(1) << 60 // of several by times, the one that began nearest
	sameSubmit := f.Job.SubmitMS != 0 && distance(j.key.submit, f.Job.SubmitMS) < sameSubmitMS
	sameRestart := !f.AnyRestart && j.key.restart == f.Job.Restart
	if j.fact != nil {
		started := j.fact.start != 0 && f.Job.StartMS != 0
		if started && j.fact.start == f.Job.StartMS || !started && sameSubmit && (sameRestart || f.AnyRestart || j.fact.any) {
			return sure
		}
		return 0
	}
	if j.told == nil { // a person named it
		if sameRestart && (sameSubmit || j.key.submit == 0) {
			return key
		}
		return 0
	}
	if f.Job.StartMS == 0 || j.key.submit != 0 && f.Job.SubmitMS != 0 && !sameSubmit {
		return 0
	}
	together, near := j.overlap(f)
	switch {
	case sameRestart && near:
		return key
	case !f.AnyRestart && !sameRestart && (j.key.restart != 0 || !together):
		return 0 // a node that found the run by its cgroup alone tells restart 0
	case near:
		return times - distance(j.start, f.Job.StartMS)
	}
	return 0
}

// overlap tells whether the run was there when the facts say that it ran, and
// whether it may have been by other clocks.
func (j *jobState) overlap(f *ledger.JobFacts) (together, near bool) {
	if j.start == 0 {
		return false, true
	}
	slack := int64(slackMS)
	if f.AnyRestart {
		slack = slackAnyMS
	}
	end, ended := j.seenLast()
	if !ended {
		end = max(end, j.start+reuseOpenMS)
	}
	stop := until(f.Job.EndMS)
	near = (stop == forever || j.start <= stop+slack) && end >= f.Job.StartMS-slack
	return min(end, stop) > max(j.start, f.Job.StartMS), near
}

func until(endMS int64) int64 {
	if endMS == 0 {
		return forever
	}
	return endMS
}

// tidy bounds what came from outside.
func tidy(f ledger.JobFacts) ledger.JobFacts {
	if len(f.Job.Project) > window.MaxName {
		f.Job.Project = ""
	}
	if f.AnyRestart {
		f.Job.Restart = 0
	}
	if f.Job.EndMS != 0 && f.Job.StartMS != 0 {
		f.Job.EndMS = max(f.Job.EndMS, f.Job.StartMS)
	}
	for _, s := range []*string{
		&f.Job.Project, &f.Job.User, &f.Name, &f.Partition, &f.QOS, &f.State, &f.ArrayJob, &f.ArrayTask, &f.HetJob, &f.Requested, &f.Allocated,
	} {
		*s = cut(*s)
	}
	return f
}

// hashFacts is of what is said, not of when.
func hashFacts(f ledger.JobFacts) (int64, error) {
	f.SeenMS = 0
	b, err := json.Marshal(f)
	if err != nil {
		return 0, err
	}
	h := fnv.New64a()
	_, _ = h.Write(b) // never fails
	return int64(h.Sum64()), nil
}

func (t *tx) putFact(j *jobState, f *ledger.JobFacts, hash int64) error {
	nodes, err := packNodes(f.Nodes)
	if err != nil {
		return err
	}
	return t.w.exec("INSERT OR REPLACE INTO job_fact("+factColumns+", job_id, cluster_id, node_count, hash) VALUES (?"+strings.Repeat(", ?", 25)+")",
		f.Job.SubmitMS, f.Job.StartMS, until(f.Job.EndMS), int64(j.key.restart), flag(f.AnyRestart), f.Job.Project, f.Job.User, f.Name,
		f.Partition, f.QOS, f.State, f.ArrayJob, f.ArrayTask, f.HetJob, f.Requested, f.Allocated, int64(f.CPUs), int64(f.GPUs), nodes,
		f.SuspendedMS, f.ClaimedJoules, f.SeenMS, j.id, j.of.cluster, int64(len(f.Nodes)), hash)
}

const factColumns = `submit_ms, start_ms, until_ms, restart, any_restart, account, user_name, name,
	partition_name, qos, state, array_job, array_task, het_job, requested, allocated, cpus, gpus, nodes, suspended_ms, claimed_j, seen_ms`

// Forms of a list of nodes.
const (
	nodesPlain    = 1
	nodesDeflated = 2
)

// packNodes keeps names by line; those of a large job are much alike.
func packNodes(names []string) ([]byte, error) {
	plain := strings.Join(names, "\n")
	if len(plain) < 256 {
		return append([]byte{nodesPlain}, plain...), nil
	}
	b := bytes.NewBuffer([]byte{nodesDeflated})
	w, err := flate.NewWriter(b, flate.DefaultCompression)
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(w, plain)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func unpackNodes(b []byte) ([]string, error) {
	switch {
	case len(b) == 0 || b[0] != nodesPlain && b[0] != nodesDeflated:
		return nil, errBlob
	case b[0] == nodesDeflated:
		plain, err := io.ReadAll(flate.NewReader(bytes.NewReader(b[1:])))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBlob, err)
		}
		return strings.Split(string(plain), "\n"), nil
	case len(b) == 1:
		return nil, nil
	}
	return strings.Split(string(b[1:]), "\n"), nil
}

// Mark implements ledger.Ledger.
func (l *Ledger) Mark(ctx context.Context, name string, atMS int64) error {
	err := l.change(ctx, false, func(t *tx) error {
		return t.w.exec("INSERT INTO mark(name, at_ms) VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET at_ms = excluded.at_ms", name, atMS)
	})
	if err != nil {
		return fmt.Errorf("cannot keep the mark %q: %w", name, err)
	}
	return nil
}

// PutProjects implements ledger.Ledger.
func (l *Ledger) PutProjects(ctx context.Context, facts []ledger.ProjectFacts) error {
	for _, f := range facts {
		if f.Cluster == "" || f.Name == "" || len(f.Cluster) > window.MaxName || len(f.Name) > window.MaxName {
			return fmt.Errorf("cannot keep project %.40q: a cluster and a name are needed, neither longer than %d bytes", f.Name, window.MaxName)
		}
	}
	err := l.change(ctx, false, func(t *tx) error {
		for _, f := range facts {
			cl, err := t.c.cluster(f.Cluster, true)
			if err != nil {
				return err
			}
			args := []driver.Value{cl.id, f.Name, cut(f.Parent), cut(f.Title), cut(f.Investigator), cut(f.Organization), f.StartMS, f.EndMS, f.SeenMS}
			if err := t.w.exec(putProject, args...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot keep what is said of %d projects: %w", len(facts), err)
	}
	return nil
}

const putProject = `INSERT INTO project_fact(cluster_id, name, parent, title, investigator, organization, start_ms, end_ms, seen_ms)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(cluster_id, name) DO UPDATE SET
	parent = CASE WHEN excluded.parent = '' THEN project_fact.parent ELSE excluded.parent END,
	title = CASE WHEN excluded.title = '' THEN project_fact.title ELSE excluded.title END,
	investigator = CASE WHEN excluded.investigator = '' THEN project_fact.investigator ELSE excluded.investigator END,
	organization = CASE WHEN excluded.organization = '' THEN project_fact.organization ELSE excluded.organization END,
	start_ms = CASE WHEN excluded.start_ms = 0 THEN project_fact.start_ms ELSE excluded.start_ms END,
	end_ms = CASE WHEN excluded.end_ms = 0 THEN project_fact.end_ms ELSE excluded.end_ms END, seen_ms = excluded.seen_ms`
