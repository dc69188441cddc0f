package sqlite

import (
	"database/sql/driver"

	"github.com/wattledger/wattledger/internal/window"
)

// Schedulers use an id again, at the latest when their numbers have gone round.
// A node seldom knows when a job was submitted, so runs that it tells with one
// key are told apart by the time between them.
const (
	// reuseMS after the end of a run, the same key is another run.
	reuseMS = 24 * 3_600_000
	// reuseOpenMS after the last sign of a run whose end nobody told.
	reuseOpenMS = 30 * 24 * 3_600_000
)

// How far the times of a scheduler and of a node may be apart: clocks within
// what the intake lets pass, where the restart count says the rest; else the
// time that a prolog takes.
const (
	slackMS    = 5 * 60_000
	slackAnyMS = 10_000
)

// sameSubmitMS: schedulers tell whole seconds.
const sameSubmitMS = 1000

// factState is what is needed of a row of job_fact to find its run.
type factState struct {
	submit, start, until int64 // until is forever while it runs
	any                  bool  // the restart count is not known
	hash                 int64
}

// runs gives all runs of an id.
func (c *cache) runs(of idKey) ([]*jobState, error) {
	if runs, ok := c.jobs[of]; ok {
		return runs, nil
	}
	var runs []*jobState
	err := c.w.query(`SELECT j.id, j.restart, j.submit_ms, j.project_id, j.user_name, j.start_ms, j.end_ms, j.open_nodes, j.first_slot, j.last_slot,
			j.told, j.told_restart, j.told_submit_ms, j.assigned, f.submit_ms, f.start_ms, f.until_ms, f.any_restart, f.hash
		FROM job j LEFT JOIN job_fact f ON f.job_id = j.id WHERE j.cluster_id = ? AND j.ext_id = ? ORDER BY j.id`, func(row []driver.Value) error {
		j := &jobState{
			id: number(row[0]), of: of, key: jobKey{uint32(number(row[1])), number(row[2])}, project: number(row[3]), user: text(row[4]),
			start: number(row[5]), end: number(row[6]), open: number(row[7]), first: number(row[8]), last: number(row[9]),
			assigned: number(row[13]) != 0, lastDay: -1,
		}
		if number(row[10]) != 0 {
			j.told = &jobKey{uint32(number(row[11])), number(row[12])}
		}
		if row[14] != nil {
			j.fact = &factState{number(row[14]), number(row[15]), number(row[16]), number(row[17]) != 0, number(row[18])}
		}
		runs = append(runs, j)
		return nil
	}, of.cluster, of.id)
	if err != nil {
		return nil, err
	}
	c.jobs[of] = runs
	return runs, nil
}

// newRun adds a run to those of an id, which were read before.
func (c *cache) newRun(of idKey, key jobKey) *jobState {
	j := &jobState{id: c.id("job"), of: of, key: key, last: -1, lastDay: -1}
	c.jobs[of] = append(c.jobs[of], j)
	return j
}

// runOfKey finds the run that a person names: by its key, or as nodes tell it;
// the newest where there are several.
func runOfKey(runs []*jobState, w window.Job) *jobState {
	key := jobKey{w.Restart, w.SubmitMS}
	var found *jobState
	for _, j := range runs {
		if j.key == key {
			found = j
		}
	}
	if found != nil {
		return found
	}
	for _, j := range runs {
		if j.told != nil && *j.told == key {
			found = j
		}
	}
	return found
}

// runOfWindow finds the run that a window of a node names; nil: it is new. The
// window ends at untilMS. Of several that it may be, it is the one that began
// nearest to it.
func runOfWindow(runs []*jobState, w *window.Job, untilMS int64) *jobState {
	var best *jobState
	for _, j := range runs {
		if !j.mayBe(w, untilMS) {
			continue
		}
		if best == nil || distance(j.began(), w.StartMS) < distance(best.began(), w.StartMS) {
			best = j
		}
	}
	return best
}

func (j *jobState) mayBe(w *window.Job, untilMS int64) bool {
	key := jobKey{w.Restart, w.SubmitMS}
	switch {
	case j.told != nil:
		return *j.told == key && (w.SubmitMS != 0 || !j.longApart(w, untilMS))
	case j.fact == nil:
		return j.key == key
	case w.SubmitMS != 0 && distance(w.SubmitMS, j.fact.submit) >= sameSubmitMS:
		return false
	case !j.fact.any && j.key.restart != w.Restart:
		return false
	case w.StartMS == 0:
		return true
	case j.fact.start == 0:
		return false
	}
	slack := int64(slackMS)
	if j.fact.any {
		slack = slackAnyMS
	}
	return w.StartMS >= j.fact.start-slack && (j.fact.until == forever || w.StartMS <= j.fact.until+slack)
}

// longApart tells whether a job of that key and time must be another run.
func (j *jobState) longApart(w *window.Job, untilMS int64) bool {
	if w.StartMS == 0 || j.began() == 0 {
		return false
	}
	gap := int64(reuseMS)
	last, ended := j.seenLast()
	if !ended {
		gap = reuseOpenMS
	}
	return w.StartMS-last > gap || j.began()-untilMS > reuseMS
}

// began is when it began, by nodes or, where none told, by the scheduler.
func (j *jobState) began() int64 {
	if j.start == 0 && j.fact != nil {
		return j.fact.start
	}
	return j.start
}

// seenLast is its end, or the last sign of it.
func (j *jobState) seenLast() (atMS int64, ended bool) {
	switch {
	case j.fact != nil && j.fact.until != forever:
		return max(j.end, j.fact.until), true
	case j.open == 0 && j.end != 0:
		return j.end, true
	case j.last >= j.first:
		return max(j.start, (j.last+1)*window.SlotMS), false
	}
	return max(j.start, j.end), false
}

func distance(a, b int64) int64 { return max(a-b, b-a) }
