package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// jobOn brings a job of a window up to date and gives its part on the node; the
// window ends at untilMS.
func (t *tx) jobOn(n *nodeState, w *window.Job, untilMS int64) (*jobNode, error) {
	of := idKey{n.cluster.id, w.ID}
	runs, err := t.c.runs(of)
	if err != nil {
		return nil, err
	}
	j := runOfWindow(runs, w, untilMS)
	if j == nil {
		j = t.c.newRun(of, jobKey{w.Restart, w.SubmitMS})
		if err := t.describeNew(j, w); err != nil {
			return nil, err
		}
	}
	if j.told == nil {
		j.told = &jobKey{w.Restart, w.SubmitMS}
		if j.fact != nil && j.fact.any { // the node knows what the accounting did not say
			j.key.restart, j.fact.any = w.Restart, false
			if err := t.w.exec("UPDATE job_fact SET any_restart = 0 WHERE job_id = ?", j.id); err != nil {
				return nil, err
			}
		}
		t.touchJob(j)
	}
	if w.Project != "" {
		if err := t.lateProject(j, w.Project); err != nil {
			return nil, err
		}
	}
	if j.user == "" && w.User != "" {
		j.user = w.User
		t.touchJob(j)
	}
	jn := n.jobs[j]
	if jn == nil {
		if jn, err = t.loadJobNode(n, j, w); err != nil {
			return nil, err
		}
	}
	t.runs(jn, w)
	return jn, nil
}

func (t *tx) describeNew(j *jobState, w *window.Job) (err error) {
	project := w.Project
	if project == "" {
		project = ledger.Unassigned
	}
	if j.project, err = t.c.project(j.of.cluster, project, 0); err != nil {
		return err
	}
	j.user = w.User
	t.touchJob(j)
	return nil
}

func (t *tx) loadJobNode(n *nodeState, j *jobState, w *window.Job) (*jobNode, error) {
	row, err := t.w.first("SELECT start_ms, end_ms FROM job_node WHERE job_id = ? AND node_id = ?", j.id, n.id)
	if err != nil {
		return nil, err
	}
	jn := &jobNode{job: j, node: n.id}
	if row != nil {
		jn.start, jn.end = number(row[0]), number(row[1])
	} else {
		jn.start, jn.end = w.StartMS, w.EndMS
		j.end = max(j.end, w.EndMS)
		if w.EndMS == 0 {
			j.open++
		}
		t.touchJob(j)
		t.touchJobNode(jn)
	}
	if n.jobs == nil {
		n.jobs = map[*jobState]*jobNode{}
	}
	n.jobs[j] = jn
	return jn, nil
}

// runs keeps when a job ran: the earliest start, and the latest end once it has
// ended on every node. On a node that saw its end it stays ended.
func (t *tx) runs(jn *jobNode, w *window.Job) {
	j := jn.job
	if w.StartMS != 0 && (jn.start == 0 || w.StartMS < jn.start) {
		jn.start = w.StartMS
		t.touchJobNode(jn)
	}
	if jn.start != 0 && (j.start == 0 || jn.start < j.start) {
		j.start = jn.start
		t.touchJob(j)
	}
	if w.EndMS > jn.end {
		if jn.end == 0 {
			j.open--
		}
		jn.end, j.end = w.EndMS, max(j.end, w.EndMS)
		t.touchJobNode(jn)
		t.touchJob(j)
	}
}

func (t *tx) touchJobNode(jn *jobNode) {
	if !jn.dirty {
		jn.dirty = true
		t.rows++
		t.jobNodes = append(t.jobNodes, jn)
	}
	if !jn.fresh {
		jn.fresh = true
		t.entry.jobNodes = append(t.entry.jobNodes, jn)
	}
}

// jobPosted notes that a job has a posting in a slot.
func (t *tx) jobPosted(jn *jobNode, slot int64) error {
	t.touchJobNode(jn)
	j := jn.job
	switch {
	case j.last < j.first:
		j.first, j.last = slot, slot
	case slot < j.first:
		j.first = slot
	case slot > j.last:
		j.last = slot
	case j.lastDay == day(slot):
		return nil
	}
	t.touchJob(j)
	return t.jobDay(j, day(slot))
}

// jobDay counts the job on a day, between its days before and after.
func (t *tx) jobDay(j *jobState, d int64) error {
	if j.lastDay == d {
		return nil
	}
	row, err := t.w.first(`SELECT (SELECT MAX(day) FROM job_day WHERE job_id = ? AND day <= ?),
		(SELECT MIN(day) FROM job_day WHERE job_id = ? AND day > ?)`, j.id, d, j.id, d)
	if err != nil {
		return err
	}
	j.lastDay = d
	prev := int64(-1)
	if row[0] != nil {
		prev = number(row[0])
	}
	if prev == d {
		return nil
	}
	if err := t.w.exec("INSERT INTO job_day(job_id, day) VALUES (?, ?)", j.id, d); err != nil {
		return err
	}
	err = t.countJob(j.project, d, prev, 1)
	if next := number(row[1]); err == nil && row[1] != nil {
		err = errors.Join(t.countJob(j.project, next, prev, -1), t.countJob(j.project, next, d, 1))
	}
	return err
}

func (t *tx) countJob(project, d, prev, add int64) error {
	return t.w.exec(`INSERT INTO project_jobs(day, project_id, prev_day, jobs) VALUES (?, ?, ?, ?)
		ON CONFLICT(day, project_id, prev_day) DO UPDATE SET jobs = project_jobs.jobs + excluded.jobs`, d, project, prev, add)
}

// lateProject gives a job without a project the first one that is named.
func (t *tx) lateProject(j *jobState, name string) error {
	none, err := t.c.project(j.of.cluster, ledger.Unassigned, 0)
	if err != nil || j.project != none || name == ledger.Unassigned {
		return err
	}
	return t.moveJob(j, name)
}

// moveJob moves a job and all that was ever posted to it to another project.
func (t *tx) moveJob(j *jobState, name string) error {
	to, err := t.c.project(j.of.cluster, name, 0)
	if err != nil || to == j.project {
		return err
	}
	from := j.project
	j.project = to
	t.touchJob(j)
	if j.last < j.first {
		return nil
	}
	// What is booked must be in the tables first.
	t.whole = true
	if err := errors.Join(t.flushPostings(), t.flushRollups()); err != nil {
		return err
	}
	for slot := j.first; slot <= j.last; slot++ {
		err := t.w.query("SELECT "+cells("p.%")+` FROM job_node n JOIN posting p
			ON p.slot = ? AND p.node_id = n.node_id AND p.job_id = n.job_id WHERE n.job_id = ?`, func(row []driver.Value) error {
			var s sums
			for i := range s {
				s[i] = number(row[i])
			}
			t.toProject(slot, from).sub(&s)
			t.toProject(slot, to).add(&s)
			return nil
		}, slot, j.id)
		if err != nil {
			return err
		}
	}
	var days []int64
	err = t.w.query("SELECT day FROM job_day WHERE job_id = ? ORDER BY day", func(row []driver.Value) error {
		days = append(days, number(row[0]))
		return nil
	}, j.id)
	prev := int64(-1)
	for _, d := range days {
		err = errors.Join(err, t.countJob(from, d, prev, -1), t.countJob(to, d, prev, 1))
		prev = d
	}
	return err
}

// Assign implements ledger.Ledger. A job that no window named yet is noted, so
// that its postings go to the project from the first on.
func (l *Ledger) Assign(ctx context.Context, cluster string, job window.Job, project string) error {
	if project == "" {
		project = ledger.Unassigned
	}
	if job.ID == "" || len(job.ID) > window.MaxName || len(project) > window.MaxName || len(job.User) > window.MaxName {
		return fmt.Errorf("cannot assign job %.40q to %.40q: an id is needed, and no name may be longer than %d bytes", job.ID, project, window.MaxName)
	}
	err := l.update(ctx, func(t *tx) error {
		cl, err := t.c.cluster(cluster, false)
		if err != nil {
			return err
		}
		if cl == nil {
			return fmt.Errorf("cluster %q is not known", cluster)
		}
		of := idKey{cl.id, job.ID}
		runs, err := t.c.runs(of)
		if err != nil {
			return err
		}
		j := runOfKey(runs, job)
		if j == nil {
			j = t.c.newRun(of, jobKey{job.Restart, job.SubmitMS})
			if err := t.describeNew(j, &window.Job{Project: project, User: job.User}); err != nil {
				return err
			}
		}
		j.assigned = true
		t.touchJob(j)
		return t.moveJob(j, project)
	})
	if err != nil {
		return fmt.Errorf("cannot assign job %q to project %q: %w", job.ID, project, err)
	}
	return nil
}

// projectUse is the use a row of project stands for: busy for projects.
func projectUse(useOf int64) energy.Use {
	if useOf <= 0 || useOf >= energy.NumUses {
		return energy.Busy
	}
	return energy.Use(useOf)
}
