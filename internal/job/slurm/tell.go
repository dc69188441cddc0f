package slurm

import (
	"context"
	"errors"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/job"
)

// tellBegin tells of a job that nobody told of: at once, or when Slurm has said
// what its cgroup does not show.
func (w *Watcher) tellBegin(ctx context.Context, s *seen, now time.Time) {
	ready := s.since
	if first := w.started.Add(settle); ready.Before(first) {
		ready = first
	}
	if now.Before(ready) {
		return
	}
	if s.gone == 0 && !populated(s.dir) { // what is left of a job, or not yet one
		s.again = now.Add(rescan / 2)
		return
	}
	if w.opt.Ask != nil && s.asked == nil && s.askErr == nil && now.Sub(ready) < patient {
		w.ask(s)
		return
	}
	if s.asked != nil && !s.asked.Here && s.gone == 0 {
		w.opt.Log.Info("a job's cgroup is left over: Slurm says that the job is not here", zap.String("job", s.id))
		s.told, s.ended, s.endedAt = true, true, now
		return
	}
	w.tellFound(ctx, s)
}

func (w *Watcher) tellFound(ctx context.Context, s *seen) {
	dir, asked, id, at := s.dir, s.asked, s.id, s.began
	w.tell(ctx, s, func() job.Edge { return w.found(id, dir, at, asked) })
}

func (w *Watcher) tellEnd(ctx context.Context, s *seen) {
	e := job.Edge{Op: "end", Witness: "cgroup", AtNS: s.gone, Job: job.Spec{ID: s.id}}
	w.tell(ctx, s, func() job.Edge { return e })
}

// found is the begin of a job from what its cgroup shows, and from what Slurm
// said where it was asked.
func (w *Watcher) found(id string, dir jobDir, at int64, asked *Asked) job.Edge {
	e := job.Edge{Op: "begin", Witness: "cgroup", AtNS: at}
	spec, uid, hasUID, gpusKnown := w.opt.Tree.look(dir, w.opt.Procfs)
	if hasUID {
		spec.User = w.userName(uid)
	}
	if asked != nil && asked.Here {
		e.Witness = "slurm"
		seen := spec
		spec = asked.Job
		if gpusKnown { // the kernel's list is what the job can use
			spec.GPUs, spec.Unplaced = seen.GPUs, nil
		}
		gpusKnown = true
	} else if asked != nil { // it has just ended: whose it was is still known
		spec.Project, spec.Partition, spec.Restart, spec.User = asked.Job.Project, asked.Job.Partition, asked.Job.Restart, asked.Job.User
	}
	spec.ID = id
	if idOf(dir.name) == "" {
		spec.SLUID = dir.name
	}
	if !gpusKnown {
		spec.Unplaced = append(spec.Unplaced, "GPUs of job "+id+": not known")
	}
	e.Job = spec
	return e
}

func (w *Watcher) userName(uid uint32) string {
	if w.opt.UserName != nil {
		if name := w.opt.UserName(uid); name != "" {
			return name
		}
	}
	return strconv.FormatUint(uint64(uid), 10)
}

// tell hands an edge over; the answer comes to hear.
func (w *Watcher) tell(ctx context.Context, s *seen, edge func() job.Edge) {
	s.busy = true
	w.wg.Go(func() {
		a, e := job.Answer{Again: true}, job.Edge{}
		select {
		case w.slots <- struct{}{}:
			e = edge()
			a = w.opt.Handle(ctx, e)
			<-w.slots
		case <-ctx.Done():
		}
		w.mu.Lock()
		w.hear(s, e, a)
		w.mu.Unlock()
		w.wake()
	})
}

func (w *Watcher) hear(s *seen, e job.Edge, a job.Answer) {
	now := w.opt.Now()
	s.busy = false
	if a.Again {
		s.again = now.Add(rescan)
		return
	}
	if !a.OK {
		w.opt.Log.Warn("the agent refused what a job's cgroup shows", zap.String("job", s.id), zap.String("op", e.Op), zap.String("answer", a.Message))
	}
	if e.Op == "end" {
		s.ended, s.over, s.endedAt = true, true, now
		return
	}
	s.told = true
	s.sparse = w.opt.Ask != nil && e.Witness == "cgroup"
}

// wake makes Run look again soon.
func (w *Watcher) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// ask queues a question to Slurm.
func (w *Watcher) ask(s *seen) {
	if s.asking {
		return
	}
	select {
	case w.asks <- s.id:
		s.asking = true
	default: // the queue is full: a later look asks
	}
}

var errSilent = errors.New("slurmctld did not answer others a moment ago")

// answerAsks puts the questions to Slurm, one by one and not often: a fleet of
// agents must be no load to it. One that does not answer is left alone for a
// while.
func (w *Watcher) answerAsks(ctx context.Context) {
	var quiet time.Time
	var wait time.Duration
	for {
		var id string
		select {
		case <-ctx.Done():
			return
		case id = <-w.asks:
		}
		a, err := Asked{}, errSilent
		if !w.opt.Now().Before(quiet) {
			a, err = w.opt.Ask(ctx, id)
			if err != nil && !errors.Is(err, ErrNoJob) {
				wait = min(max(2*wait, time.Second), time.Minute)
				quiet = w.opt.Now().Add(wait)
				w.opt.Log.Warn("Slurm was asked in vain", zap.Error(err), zap.Duration("next", wait))
			} else {
				wait = 0
			}
		}
		w.answered(id, a, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(askGap):
		}
	}
}

func (w *Watcher) answered(id string, a Asked, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.jobs[id]
	if s == nil {
		return
	}
	s.asking = false
	s.askErr = err
	if err == nil {
		s.asked = &a
		s.again = time.Time{}
	}
	w.wake()
}
