package accounting

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/ledger"
)

// How a poller reads.
const (
	// overlap is read again with every poll: accounting is written some time after
	// it happens.
	overlap = 10 * time.Minute
	// chunk is the longest span asked for at once, so that catching up after an
	// outage neither asks for weeks in one answer nor starts again from its start.
	chunk = 6 * time.Hour
	// After an outage what lay in it is read once more this much later: a
	// scheduler that could not reach its own database hands its records in when
	// that is back, with the times at which they happened.
	lateAfter = 30 * time.Minute
	// deepEvery the last deep is read again, for what was corrected since.
	deepEvery = 24 * time.Hour
	deep      = 24 * time.Hour
	// projectsEvery the account tree is read.
	projectsEvery = time.Hour
	// longest pause between two tries.
	longestPause = 10 * time.Minute
	// pollWithin bounds one request.
	pollWithin = 5 * time.Minute
)

// Keeper is the part of the ledger that a poller writes to.
type Keeper interface {
	Describe(ctx context.Context, facts []ledger.JobFacts) error
	PutProjects(ctx context.Context, facts []ledger.ProjectFacts) error
	Unmetered(ctx context.Context, cluster string, fromMS, toMS int64) ([]ledger.JobFacts, error)
	Mark(ctx context.Context, name string, atMS int64) error
	LastMark(ctx context.Context, name string) (int64, error)
}

// Options of a poller.
type Options struct {
	Cluster string
	Source  Source // nil: only the projects file is read
	Ledger  Keeper
	// ProjectsFile is a CSV of projects, "" for none; what it says goes before what
	// the source says.
	ProjectsFile string
	Every        time.Duration
	// History is how far back the first poll ever reaches.
	History time.Duration
	Now     func() time.Time
	Metrics *Metrics
	Log     *zap.Logger // nil: discarded
}

// Poller keeps what a source says with the books.
type Poller struct {
	o        Options
	mark     string // its name in the ledger
	failing  string // reason of the last failure, "" while it goes well
	since    time.Time
	pause    time.Duration
	deepAt   time.Time // when older times are read again
	deepFrom time.Time
	projects time.Time // when the account tree is read next
	badTree  string    // last fault of it logged
	notes    string    // last notes logged
	badFile  string    // last fault of the projects file logged
	told     map[silent]bool
}

// New makes a poller.
func New(o Options) (*Poller, error) {
	if o.Ledger == nil || o.Cluster == "" || o.Now == nil || o.Every <= 0 || o.Metrics == nil {
		return nil, errors.New("cannot make a poller: a ledger, a cluster, a clock, a period and metrics are needed")
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	o.Log = o.Log.With(zap.String("cluster", o.Cluster))
	o.Metrics.begin(o.Cluster)
	return &Poller{o: o, mark: "accounting/" + o.Cluster, told: map[silent]bool{}}, nil
}

// Run polls until ctx ends; it fails never, it logs and tries again.
func (p *Poller) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		timer.Reset(p.Poll(ctx))
	}
}

// Poll reads once and says after how long to read again.
func (p *Poller) Poll(ctx context.Context) time.Duration {
	p.readProjectsFile(ctx)
	if p.o.Source == nil {
		return projectsEvery
	}
	err := p.readJobs(ctx)
	if err == nil {
		p.readAccounts(ctx)
	}
	if ctx.Err() != nil {
		return p.o.Every // it is stopping: nobody's fault
	}
	p.o.Metrics.polls.WithLabelValues(p.o.Cluster, reason(err)).Inc()
	p.judge(err)
	if err != nil {
		p.pause = min(max(2*p.pause, p.o.Every), max(longestPause, p.o.Every))
		return p.pause
	}
	p.pause = 0
	p.o.Metrics.success.WithLabelValues(p.o.Cluster).Set(float64(p.o.Now().Unix()))
	if err := p.findUnmetered(ctx); err != nil && ctx.Err() == nil {
		p.o.Log.Error("cannot look for jobs that nothing was booked for", zap.Error(err))
	}
	return p.o.Every
}

// readJobs reads from the mark to now, span by span; what it got is kept and the
// mark moved before it asks for more.
func (p *Poller) readJobs(ctx context.Context) error {
	now := p.o.Now()
	ms, err := p.o.Ledger.LastMark(ctx, p.mark)
	if err != nil {
		return err
	}
	mark := time.UnixMilli(ms)
	if ms == 0 {
		mark = now.Add(-p.o.History)
	}
	if mark.After(now) {
		mark = now // the clock was put back
	}
	from := mark.Add(-overlap)
	first := p.deepAt.IsZero()
	if first { // an aggregator may have been down with the scheduler
		p.deepAt, p.deepFrom = now, mark.Add(-deep)
	}
	goDeep := !now.Before(p.deepAt)
	if goDeep && p.deepFrom.Before(from) {
		from = p.deepFrom
	}
	again := from
	for from.Before(now) {
		to := from.Add(chunk)
		if to.After(now) {
			to = now
		}
		if err := p.readSpan(ctx, from, to); err != nil {
			return err
		}
		if to.After(mark) {
			if err := p.o.Ledger.Mark(ctx, p.mark, to.UnixMilli()); err != nil {
				return err
			}
			p.o.Metrics.until.WithLabelValues(p.o.Cluster).Set(float64(to.Unix()))
		}
		from = to
	}
	switch {
	case first || p.failing != "":
		p.deepAt, p.deepFrom = now.Add(lateAfter), again
	case goDeep:
		p.deepAt, p.deepFrom = now.Add(deepEvery), now.Add(-overlap)
	}
	return nil
}

func (p *Poller) readSpan(ctx context.Context, from, to time.Time) error {
	ask, cancel := context.WithTimeout(ctx, pollWithin)
	defer cancel()
	a, err := p.o.Source.Jobs(ask, from, to)
	if err != nil {
		return err
	}
	seen := p.o.Now().UnixMilli()
	for i := range a.Jobs {
		a.Jobs[i].Cluster, a.Jobs[i].SeenMS = p.o.Cluster, seen
	}
	if err := p.o.Ledger.Describe(ctx, a.Jobs); err != nil {
		return err
	}
	p.o.Metrics.jobs.WithLabelValues(p.o.Cluster).Add(float64(len(a.Jobs)))
	if notes := strings.Join(a.Notes, "; "); notes != p.notes {
		if p.notes = notes; notes != "" {
			p.o.Log.Warn("the accounting was read, but not all is well", zap.String("source", p.o.Source.Name()), zap.String("notes", notes))
		}
	}
	return nil
}

// readAccounts keeps the account tree and the projects file, every hour. Jobs do
// not wait for it.
func (p *Poller) readAccounts(ctx context.Context) {
	now := p.o.Now()
	if now.Before(p.projects) {
		return
	}
	ask, cancel := context.WithTimeout(ctx, pollWithin)
	defer cancel()
	facts, err := p.o.Source.Projects(ask)
	own, fileErr := p.fromFile()
	if fileErr != nil {
		own = nil // it is told where the file is read
	}
	facts = over(facts, own)
	for i := range facts {
		facts[i].Cluster, facts[i].SeenMS = p.o.Cluster, now.UnixMilli()
	}
	if err = errors.Join(err, p.o.Ledger.PutProjects(ctx, facts)); ctx.Err() != nil {
		return
	}
	p.projects = now.Add(projectsEvery)
	fault := ""
	if err != nil {
		p.projects, fault = now.Add(longestPause), err.Error()
	}
	if fault != p.badTree {
		if p.badTree = fault; fault != "" {
			p.o.Log.Warn("cannot read the account tree; what was known stays", zap.String("source", p.o.Source.Name()), zap.Error(err))
		}
	}
}

// judge logs the first of a row of failures, a change of their kind, and the
// end of it.
func (p *Poller) judge(err error) {
	kind := ""
	if err != nil {
		kind = reason(err)
	}
	if kind == p.failing {
		return
	}
	switch kind {
	case "":
		p.o.Log.Info("the accounting is read again; what it told meanwhile is caught up",
			zap.String("source", p.o.Source.Name()), zap.Duration("after", p.o.Now().Sub(p.since).Round(time.Second)))
	default:
		if p.failing == "" {
			p.since = p.o.Now()
		}
		p.o.Log.Warn("cannot read the accounting: what jobs are called comes later, energy is booked as ever; trying on without further lines",
			zap.String("source", p.o.Source.Name()), zap.String("kind", kind), zap.Error(err))
	}
	p.failing = kind
}

// silent names a run that nothing was booked for.
type silent struct {
	id            string
	submit, start int64
}

// findUnmetered shows jobs of the last day whose nodes sent nothing, each once
// in the log.
func (p *Poller) findUnmetered(ctx context.Context) error {
	const grace = 15 * time.Minute // windows come late
	now := p.o.Now()
	from, to := now.Add(-24*time.Hour).UnixMilli(), now.Add(-grace).UnixMilli()
	facts, err := p.o.Ledger.Unmetered(ctx, p.o.Cluster, from, to)
	if err != nil {
		return err
	}
	var jobs, nodeMS int64
	var fresh []ledger.JobFacts
	told := map[silent]bool{}
	for _, f := range facts {
		if f.Job.EndMS > to {
			continue
		}
		jobs++
		nodeMS += f.NodeMS(from, to)
		key := silent{f.Job.ID, f.Job.SubmitMS, f.Job.StartMS}
		told[key] = true
		if !p.told[key] {
			fresh = append(fresh, f)
		}
	}
	p.told = told // those that left the day are forgotten
	p.o.Metrics.unmetered.WithLabelValues(p.o.Cluster).Set(float64(jobs))
	p.o.Metrics.unmeteredNodeTime.WithLabelValues(p.o.Cluster).Set(float64(nodeMS) / 1000)
	if len(fresh) > 0 {
		f := fresh[0]
		p.o.Log.Warn("jobs ran on nodes that sent nothing of them: their energy is missing, not zero; does an agent run there, and does it hear of jobs?",
			zap.Int("jobs", len(fresh)), zap.String("first_job", f.Job.ID), zap.String("its_nodes", some(f.Nodes)))
	}
	return nil
}

// some names a few of many.
func some(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], " "), len(names)-few)
}
