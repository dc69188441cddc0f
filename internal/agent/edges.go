package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/failpoint"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

// Handle takes a begin or end: it is kept in the state, a reading is taken at
// the edge, and the answer follows that reading, at 80 ms at the latest.
func (a *Agent) Handle(ctx context.Context, r job.Edge) job.Answer {
	answer := make(chan job.Answer, 1)
	if !a.do(func() { a.edge(r, answer) }) {
		return job.Answer{Again: true, Message: "the agent is stopping: nothing was kept, tell it again when it is back"}
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

// Take takes an edge before Run: one that was kept in a file while no agent
// ran, or a job that was found running. What it says of the time before the
// first reading is then known when that time is booked.
func (a *Agent) Take(r job.Edge) job.Answer {
	told, err := a.keep(r)
	if err != nil {
		return job.Answer{Message: err.Error()}
	}
	return job.Answer{OK: true, Bridged: true, Message: told}
}

func (a *Agent) edge(r job.Edge, answer chan job.Answer) {
	a.watchClock() // a reading of a stepped clock must not come before the step
	now := a.opt.Now()
	told, err := a.keep(r)
	if err != nil {
		answer <- job.Answer{Message: err.Error()}
		return
	}
	if r.AtNS != 0 && now.UnixNano()-r.AtNS > edgeShare.Nanoseconds() { // no reading is nearer than those there are
		answer <- job.Answer{OK: true, Bridged: true, Message: told}
		return
	}
	a.waiting = append(a.waiting, &waiter{at: now, until: now.Add(edgeDeadline), answer: answer, told: told})
	if a.since.IsZero() {
		a.round()
	}
}

// keep puts an edge into the pipeline and the state. A witness that tells what
// is known already is right, and changes nothing.
func (a *Agent) keep(r job.Edge) (told string, err error) {
	stamp := a.stampOf(r)
	switch r.Op {
	case "begin":
		r.Job.Found, r.Job.Teller = r.Witness == "cgroup", r.Witness
		told = a.place(&r.Job)
		err = a.pipe.Begin(r.Job, stamp)
		if (errors.Is(err, job.ErrRunning) || errors.Is(err, job.ErrEnded)) && r.Witness != "" {
			a.opt.Metrics.edge(r.Op, nil)
			return "the job is known", nil
		}
	default:
		if err = a.pipe.endedSince(r.Job.ID, stamp); err == nil {
			_, err = a.pipe.End(r.Job.ID, stamp)
		}
		again := r.Witness != "epilog" || (r.AtNS != 0 && a.state.Jobs.Ended(r.Job.ID, stamp.UnixNano())) // it was told and kept
		if errors.Is(err, job.ErrNotRunning) && r.Witness != "" && again {
			a.opt.Metrics.edge(r.Op, nil)
			return "its end is known", nil
		}
	}
	a.opt.Metrics.edge(r.Op, err)
	if err != nil {
		a.pipe.Note(stamp, refusalKind(err), err.Error())
		a.opt.Log.Warn("a job edge was refused", zap.String("op", r.Op), zap.String("witness", r.Witness), zap.Error(err))
		return "", err
	}
	if r.Note != "" {
		a.pipe.Note(stamp, "job_note", r.Note)
	}
	if told != "" {
		a.pipe.Note(stamp, "unknown_gpu", told)
		a.opt.Log.Warn("a job holds a GPU that no meter answers to", zap.String("job", r.Job.ID), zap.Strings("gpus", r.Job.Unplaced))
	}
	failpoint.Hit(failpoint.JobBeforeState)
	a.save()
	failpoint.Hit(failpoint.JobAfterState)
	return told, nil
}

// stampOf is when an edge happened, on the clock of the books; never in the
// future.
func (a *Agent) stampOf(r job.Edge) time.Time {
	now := a.now()
	if r.AtNS <= 0 {
		return now
	}
	if at := time.Unix(0, r.AtNS).Add(a.skew); at.Before(now) {
		return at
	}
	return now
}

// place puts the names of meters where the job's workload manager uses its own
// names of devices, and says which of them no meter answers to.
//
// Before the first reading a source does not know its devices: references stay
// as they are until placeLate.
func (a *Agent) place(s *job.Spec) string {
	if a.pipe.Tree() == nil {
		a.early = true
		return ""
	}
	return a.placeNow(s)
}

func (a *Agent) placeNow(s *job.Spec) string {
	sums := map[string]uint32{}
	var placed []window.Share
	lost := s.Unplaced
	for _, g := range s.GPUs {
		p, ok := a.locate(g.Device)
		if !ok {
			lost = append(lost, g.Device)
			continue
		}
		if _, seen := sums[p.Meter]; !seen {
			placed = append(placed, window.Share{Device: p.Meter})
		}
		part := uint64(g.Weight) * uint64(p.Weight) / job.Whole
		sums[p.Meter] = uint32(min(uint64(sums[p.Meter])+max(part, 1), job.Whole))
	}
	for i := range placed {
		placed[i].Weight = sums[placed[i].Device]
	}
	s.GPUs, s.Unplaced = placed, lost
	if len(lost) == 0 {
		return ""
	}
	return fmt.Sprintf("job %s holds %s, which this agent does not meter (it meters: %s): while it runs, GPUs that nobody holds are unknown",
		s.ID, strings.Join(lost, ", "), strings.Join(a.gpus(), ", "))
}

// placeLate does so for what was told before the first readings, which are at
// hand now and not booked yet.
func (a *Agent) placeLate() {
	if !a.early || len(a.batch) == 0 {
		return
	}
	a.early = false
	a.state.Jobs.Edit(func(s *job.Spec) {
		if told := a.placeNow(s); told != "" {
			a.pipe.Note(a.now(), "unknown_gpu", told)
		}
	})
}

// locate finds the meter of a device: by its own name, or as a source knows it.
func (a *Agent) locate(ref string) (collector.Place, bool) {
	if !isReference(ref) {
		known := a.gpus()
		if a.pipe.Tree() == nil || slices.Contains(known, ref) { // before the first reading nothing is known better
			return collector.Place{Meter: ref, Weight: job.Whole}, true
		}
		return collector.Place{}, false
	}
	for _, src := range a.opt.Sources {
		if l, ok := src.(collector.Locator); ok {
			if p, ok := l.Locate(ref); ok {
				return p, true
			}
		}
	}
	return collector.Place{}, false
}

func isReference(ref string) bool {
	return strings.Contains(ref, ":") || strings.HasPrefix(ref, "GPU-") || strings.HasPrefix(ref, "MIG-")
}

// gpus are the GPUs of the node as jobs name them.
func (a *Agent) gpus() []string {
	t := a.pipe.Tree()
	if t == nil {
		return nil
	}
	var out []string
	for i := range t.Nodes {
		if name := t.GPU(i); name != "" {
			out = append(out, name)
		}
	}
	return out
}

func refusalKind(err error) string {
	switch {
	case errors.Is(err, job.ErrRunning), errors.Is(err, job.ErrEnded):
		return "begin_twice"
	case errors.Is(err, job.ErrNotRunning):
		return "end_without_begin"
	default:
		return "bad_job"
	}
}
