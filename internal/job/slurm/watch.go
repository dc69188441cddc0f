package slurm

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/job"
)

// Options of a Watcher.
type Options struct {
	Tree   Tree
	Procfs string // /proc
	// Handle takes what was found.
	Handle func(ctx context.Context, e job.Edge) job.Answer
	// Running are the jobs that the agent holds when the Watcher starts.
	Running []job.Allocation
	// Ask asks Slurm itself about a job whose prolog was not heard; nil: nobody
	// is asked, and what the cgroups do not show is not known.
	Ask func(ctx context.Context, id string) (Asked, error)
	// UserName gives the name of a user, "" if there is none; nil: numbers.
	UserName func(uid uint32) string
	Now      func() time.Time
	Log      *zap.Logger
}

// Times of the Watcher.
const (
	rescan  = time.Second            // what no event told is found by then
	pause   = 10 * time.Millisecond  // what happens within it is one look
	settle  = 2 * time.Second        // jobs found at the start: their prolog's edge may lie in a file
	patient = 3 * time.Second        // a begin waits so long for Slurm's answer
	keep    = 10 * time.Minute       // an epilog may come so much later than the end
	askGap  = 200 * time.Millisecond // between two questions to Slurm
	// A job ends when its cgroup has been gone for so long: at once where
	// nothing but its cgroup told of it; later where an epilog should still come;
	// much later where the cgroup comes and goes with the job's steps.
	graceFound = 3 * time.Second
	graceTold  = 30 * time.Second
	graceSteps = 10 * time.Minute
	askAgain   = time.Minute
	roundUp    = 10 * time.Second // between two looks for a job's processes
)

// Watcher follows the cgroups of the jobs on this node. Its own small table
// says what the agent was told and by whom; Through keeps that up to date.
type Watcher struct {
	opt   Options
	kick  chan struct{}
	asks  chan string
	slots chan struct{} // edges that are on their way

	mu      sync.Mutex
	jobs    map[string]*seen
	sluids  map[string]string // SLUID to job id
	paths   map[string]string // cgroup to job id
	parents []string
	rest    rest
	started time.Time
	said    string // the last complaint, to say it once
	wg      sync.WaitGroup
}

// seen is a job on this node.
type seen struct {
	id   string
	dir  jobDir // "" path: no cgroup so far
	hook bool   // the prolog told
	told bool   // the agent knows
	busy bool   // an edge is on its way
	// ended: the agent knows that it ended; over: and from us.
	ended, over bool
	endedAt     time.Time
	lasts       bool
	since       time.Time // when it was found
	began, gone int64     // Unix ns; gone 0: it is there
	again       time.Time // not to be told, or asked for, before
	asking      bool
	asked       *Asked
	askErr      error
	restored    bool // the agent knew of it from before
	sparse      bool // told without Slurm's answer
	inspected   time.Time
	empty       int64 // since when nobody is in it, Unix ns
}

// NewWatcher makes a Watcher; Run starts it.
func NewWatcher(opt Options) *Watcher {
	if opt.Log == nil {
		opt.Log = zap.NewNop()
	}
	w := &Watcher{
		opt: opt, kick: make(chan struct{}, 1), asks: make(chan string, 1024), slots: make(chan struct{}, 16),
		jobs: map[string]*seen{}, sluids: map[string]string{}, paths: map[string]string{}, started: opt.Now(),
	}
	for _, a := range opt.Running {
		if !slices.Contains([]string{"prolog", "cgroup", "slurm"}, a.Teller) {
			continue // another workload manager's: no cgroup of slurmd's tells of it
		}
		w.jobs[a.ID] = &seen{id: a.ID, hook: !a.Found, told: true, restored: true, since: w.started, began: a.From}
		if a.SLUID != "" {
			w.sluids[a.SLUID] = a.ID
		}
	}
	return w
}

// Through notes the edges that other witnesses tell on their way to the agent.
// What they say counts; the Watcher is silent about such jobs, but for the end
// of one whose epilog does not come.
func (w *Watcher) Through(next func(context.Context, job.Edge) job.Answer) func(context.Context, job.Edge) job.Answer {
	return func(ctx context.Context, e job.Edge) job.Answer {
		if e.Job.ID == "" {
			return next(ctx, e)
		}
		if e.Op == "begin" {
			undo := w.begun(e)
			a := next(ctx, e)
			if !a.OK {
				undo()
			}
			return a
		}
		if w.isOver(e.Job.ID) {
			return job.Answer{OK: true, Message: "the end of job " + e.Job.ID + " is known: its cgroup was gone before"}
		}
		a := next(ctx, e)
		if a.OK || !a.Again {
			w.mu.Lock()
			if s := w.jobs[e.Job.ID]; s != nil {
				s.ended, s.endedAt = true, w.opt.Now()
			}
			w.mu.Unlock()
		}
		return a
	}
}

func (w *Watcher) begun(e job.Edge) (undo func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Job.SLUID != "" {
		w.sluids[e.Job.SLUID] = e.Job.ID
	}
	old := w.jobs[e.Job.ID]
	s := &seen{id: e.Job.ID, hook: true, told: true, since: w.opt.Now(), began: e.AtNS}
	if old != nil {
		s.dir, s.lasts, s.gone = old.dir, old.lasts, old.gone
		if old.ended { // another run: its cgroup is yet to come
			s.dir, s.lasts, s.gone = jobDir{}, false, 0
			delete(w.paths, old.dir.path)
		}
	}
	w.jobs[e.Job.ID] = s
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case w.jobs[e.Job.ID] != s:
		case old == nil:
			delete(w.jobs, e.Job.ID)
		default:
			w.jobs[e.Job.ID] = old
		}
	}
}

func (w *Watcher) isOver(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.jobs[id]
	return s != nil && s.over
}

// JobOf gives the job that a process belongs to, by the cgroup that the kernel
// says it is in.
func (w *Watcher) JobOf(pid int) (id string, ok bool) {
	b, err := os.ReadFile(filepath.Join(w.opt.Procfs, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return "", false
	}
	name, ok := w.opt.Tree.nameIn(string(b))
	if !ok {
		return "", false
	}
	if id := idOf(name); id != "" {
		return id, true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	id, ok = w.sluids[name]
	return id, ok
}

// scan looks at the tree once and tells what is to be told.
func (w *Watcher) scan(ctx context.Context) {
	now := w.opt.Now()
	l, err := w.look(now)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.complain(err)
	w.parents = l.parents
	slices.SortFunc(l.jobs, compareJobs)
	there := make(map[string]bool, len(l.jobs))
	for _, d := range l.jobs {
		there[d.path] = true
		if w.paths[d.path] == "" {
			w.meet(d, now)
		}
	}
	for path, id := range w.paths {
		if !there[path] && err == nil {
			w.lose(path, id, now)
		}
	}
	for _, s := range w.jobs {
		w.act(ctx, s, now)
	}
}

// complain says once what went wrong.
func (w *Watcher) complain(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != w.said && text != "" {
		w.opt.Log.Warn("not every job's cgroup can be seen", zap.Error(err))
	}
	w.said = text
}

// meet takes a cgroup that was not there before.
func (w *Watcher) meet(d jobDir, now time.Time) {
	id := cmp.Or(idOf(d.name), w.sluids[d.name])
	if id == "" {
		if id = jobOfSLUID(d, w.opt.Procfs); id == "" {
			return // its slurmstepd is not there yet: the next look finds it
		}
		w.sluids[d.name] = id
	}
	w.paths[d.path] = id
	s := w.jobs[id]
	if s == nil || s.ended {
		s = &seen{id: id, since: now}
		w.jobs[id] = s
	}
	s.dir, s.gone = d, 0
	if s.began == 0 {
		if at := born(d); at > 0 && at < now.UnixNano() {
			s.began = at
		} else {
			s.began = now.UnixNano()
		}
	}
}

func (w *Watcher) lose(path, id string, now time.Time) {
	delete(w.paths, path)
	s := w.jobs[id]
	if s == nil || s.dir.path != path {
		return
	}
	s.gone = now.UnixNano()
	s.again = time.Time{}
}

// act tells what is due of one job.
func (w *Watcher) act(ctx context.Context, s *seen, now time.Time) {
	if s.dir.path != "" && s.gone == 0 {
		w.inspect(s, now)
	}
	switch {
	case s.ended:
		if now.Sub(s.endedAt) > keep && (s.dir.path == "" || s.gone != 0) {
			w.forget(s)
		}
	case s.busy || now.Before(s.again):
	case !s.told:
		w.tellBegin(ctx, s, now)
	case s.sparse && s.gone == 0:
		w.complete(ctx, s, now)
	case w.due(s, now):
		w.tellEnd(ctx, s)
	}
}

// inspect looks into a job's cgroup: whether it will last as long as the job,
// and now and then whether anybody is still in it. slurmd can leave one behind.
func (w *Watcher) inspect(s *seen, now time.Time) {
	if !s.lasts {
		s.lasts = lasts(s.dir)
	}
	if !s.told || now.Sub(s.inspected) < roundUp {
		return
	}
	if !s.inspected.IsZero() && !populated(s.dir) {
		if s.empty == 0 {
			s.empty = now.UnixNano()
		} else {
			s.gone = s.empty
		}
	} else {
		s.empty = 0
	}
	s.inspected = now
}

// complete asks Slurm again about a job that was told with its GPUs unknown,
// and tells it once more when the answer is there.
func (w *Watcher) complete(ctx context.Context, s *seen, now time.Time) {
	switch {
	case s.asked != nil && s.asked.Here:
		w.tellFound(ctx, s)
	case s.askErr != nil || s.asked != nil:
		s.asked, s.askErr = nil, nil
		s.again = now.Add(askAgain)
	default:
		w.ask(s)
	}
}

func (w *Watcher) forget(s *seen) {
	delete(w.jobs, s.id)
	for sluid, id := range w.sluids {
		if id == s.id {
			delete(w.sluids, sluid)
		}
	}
}

// due tells whether a job that is known ended with its cgroup.
func (w *Watcher) due(s *seen, now time.Time) bool {
	if s.restored && s.dir.path == "" && s.gone == 0 { // it may have gone while no agent ran
		if len(w.parents) == 0 && w.opt.Ask == nil {
			return false // slurmd makes no cgroups here
		}
		s.gone = w.started.UnixNano()
	}
	if s.gone == 0 {
		return false
	}
	away := now.Sub(time.Unix(0, s.gone))
	switch {
	case s.lasts && s.hook:
		return away >= graceTold
	case s.lasts:
		return away >= graceFound
	case w.opt.Ask == nil && s.hook:
		return away >= graceSteps
	case w.opt.Ask == nil:
		return away >= graceFound
	}
	return w.slurmSaysGone(s, now, away)
}

// slurmSaysGone asks whether a job of steps alone still holds this node.
func (w *Watcher) slurmSaysGone(s *seen, now time.Time, gone time.Duration) bool {
	least := graceFound
	if s.hook {
		least = graceTold
	}
	if gone < least {
		s.asked, s.askErr = nil, nil
		return false
	}
	switch {
	case s.askErr != nil && errors.Is(s.askErr, ErrNoJob), s.asked != nil && !s.asked.Here:
		return true
	case s.askErr != nil:
		s.askErr = nil
		s.again = now.Add(askAgain)
		return !s.hook || gone >= graceSteps
	case s.asked != nil: // it does: a step may come
		s.asked = nil
		s.again = now.Add(askAgain / 6)
		return false
	}
	w.ask(s)
	return false
}
