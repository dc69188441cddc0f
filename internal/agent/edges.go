package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/failpoint"
	"github.com/wattledger/wattledger/internal/job"
)

// Handle takes a begin or end: it is kept in the state, a reading is taken at
// the edge, and the answer follows that reading, at 80 ms at the latest.
func (a *Agent) Handle(ctx context.Context, r job.Edge) job.Answer {
	answer := make(chan job.Answer, 1)
	if !a.do(func() { a.edge(r, answer) }) {
		return job.Answer{Message: "the agent is stopping: nothing was kept, tell it again when it is back"}
	}
	select {
	case ans := <-answer:
		return ans
	case <-ctx.Done():
		return job.Answer{OK: true, Bridged: true, Message: "the agent is stopping; the edge is kept"}
	case <-a.done:
		select {
		case ans := <-answer:
			return ans
		default:
			return job.Answer{OK: true, Bridged: true, Message: "the agent is stopping; the edge is kept"}
		}
	}
}

func (a *Agent) edge(r job.Edge, answer chan job.Answer) {
	a.watchClock() // a reading of a stepped clock must not come before the step
	now := a.opt.Now()
	stamp := a.now()
	var err error
	told := ""
	switch r.Op {
	case "begin":
		told = a.unmetered(r.Job)
		err = a.pipe.Begin(r.Job, stamp)
	default:
		_, err = a.pipe.End(r.Job.ID, stamp)
	}
	a.opt.Metrics.edge(r.Op, err)
	if err != nil {
		a.pipe.Note(stamp, refusalKind(err), err.Error())
		a.opt.Log.Warn("a job edge was refused", zap.String("op", r.Op), zap.Error(err))
		answer <- job.Answer{Message: err.Error()}
		return
	}
	if told != "" {
		a.pipe.Note(stamp, "unknown_gpu", told)
	}
	failpoint.Hit(failpoint.JobBeforeState)
	a.save()
	failpoint.Hit(failpoint.JobAfterState)
	a.waiting = append(a.waiting, &waiter{at: now, until: now.Add(edgeDeadline), answer: answer, told: told})
	if a.since.IsZero() {
		a.round()
	}
}

// unmetered says which GPUs of a job this agent does not meter. The job keeps
// them: their energy, if there is any, is in no meter that could be split wrong.
func (a *Agent) unmetered(s job.Spec) string {
	t := a.pipe.Tree()
	if t == nil || len(s.GPUs) == 0 {
		return ""
	}
	var have, lack []string
	for _, n := range t.Nodes {
		if n.Class == energy.GPU {
			have = append(have, n.Name)
		}
	}
	for _, g := range s.GPUs {
		if !slices.Contains(have, g.Device) {
			lack = append(lack, g.Device)
		}
	}
	if len(lack) == 0 {
		return ""
	}
	return fmt.Sprintf("job %s holds %s, which this agent does not meter (it meters: %s)",
		s.ID, strings.Join(lack, ", "), strings.Join(have, ", "))
}

func refusalKind(err error) string {
	switch {
	case errors.Is(err, job.ErrRunning):
		return "begin_twice"
	case errors.Is(err, job.ErrNotRunning):
		return "end_without_begin"
	default:
		return "bad_job"
	}
}
