package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/failpoint"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/sample"
	"github.com/wattledger/wattledger/internal/spool"
	"github.com/wattledger/wattledger/internal/window"
)

// Times of the daemon's loop.
const (
	collectFor   = 200 * time.Millisecond // how long a tick waits for its sources
	edgeDeadline = 80 * time.Millisecond  // a begin or end is answered by then
	edgeShare    = 50 * time.Millisecond  // edges this near share a reading
	clockOff     = 5 * time.Minute        // a clock further off the aggregator's is not believed
	clockStep    = 250 * time.Millisecond // a smaller jump of the clock is jitter
)

// Options of the daemon's core.
type Options struct {
	Pipeline PipelineOptions
	StateDir string
	Every    time.Duration // between ticks; 1 s
	Sources  []collector.Source
	Spool    *spool.Spool
	// SpoolBytes is how much the spool may hold, for its fill level; 0: not told.
	SpoolBytes int64
	Now        func() time.Time
	// Offset is how far the aggregator's clock is ahead of ours; nil or false
	// where it is not known.
	Offset func() (time.Duration, bool)
	// Seen is shown every round of readings, from the loop, and must not keep its
	// slices; nil: nobody looks.
	Seen func(readings []collector.Reading, odometer func(meter string) (energy.Microjoules, bool), jobs func() []job.Allocation)
	// Owner gives the job that a process is in, by its cgroup; nil: not known.
	Owner func(pid int) (id string, ok bool)
	// Fatal tells of an error of a source that only a new process mends; nil: none.
	Fatal func(error) bool
	// BootID names the life of the machine; jobs do not outlive it. "" if it is
	// not known.
	BootID  string
	Log     *zap.Logger
	Metrics *Metrics
}

// Agent is the daemon's core: one loop owns the pipeline, the state and the
// order of things.
type Agent struct {
	opt     Options
	state   *State
	pipe    *Pipeline
	loops   []*sample.Loop
	results chan sample.Result
	calls   chan func()
	done    chan struct{}

	batch    []collector.Reading
	waitFor  int       // results of this round that are still out
	since    time.Time // when the round began
	lastRead time.Time // when the last complete round began
	waiting  []*waiter
	pending  []*window.Window // the spool would not take them yet
	deferred []func()         // wait for the first readings
	prev     time.Time        // of the last tick, for clock steps
	skew     time.Duration    // what is added to a clock that is not believed
	opened   bool             // the aggregator has answered this process
	rolledTo int64            // the state's books at the start of this process, ms
	stuck    map[string]bool
	said     map[string]map[string]string // by source: what it lacked last
	fatal    error
	measured time.Time // when the use of shared GPUs was last asked for
	selfTold time.Time // when it last told of itself
	early    bool      // jobs were told of before the first readings
	onDisk   onDisk
}

// waiter is a begin or end that waits for the reading of its edge.
type waiter struct {
	at     time.Time
	until  time.Time
	answer chan job.Answer
	told   string // what to say besides
}

// New makes the core from a state folder that the caller has locked (the spool
// inside it is locked as long as it is open).
func New(opt Options) (*Agent, error) {
	st, fresh, err := LoadState(opt.StateDir)
	if err != nil {
		return nil, err
	}
	if st.Fenced {
		return nil, ErrFenced
	}
	opt.Pipeline.PowerEpoch = st.Nonce
	opt.Pipeline.Demoted = st.Demoted
	a := &Agent{
		opt: opt, state: st,
		pipe:    NewPipeline(opt.Pipeline, st.Jobs),
		results: make(chan sample.Result, len(opt.Sources)),
		calls:   make(chan func()),
		done:    make(chan struct{}),
		stuck:   map[string]bool{},
		said:    map[string]map[string]string{},
	}
	if st.Births == nil {
		st.Births = map[string]Birth{}
	}
	if fresh {
		if err := st.Save(opt.StateDir); err != nil {
			return nil, err
		}
	}
	if !fresh || opt.Spool.Len() > 0 { // what was booked of a state that is lost is the aggregator's to tell
		if err := st.catchUp(opt.Spool); err != nil {
			return nil, err
		}
	}
	a.rolledTo = st.LastMS
	a.pipe.Resume(st.Starts, st.LastMS, 0)
	a.pipe.Doubt(st.Doubt)
	a.endJobsOfEarlierBoot()
	for _, s := range opt.Sources {
		a.loops = append(a.loops, sample.NewLoop(s, opt.Every, opt.Now, a.results))
	}
	return a, nil
}

// ErrFenced says that another agent took this node's name over.
var ErrFenced = errors.New("fenced: another agent has taken over this node's name in the books; " +
	"if this machine is the right one, stop the other, remove this agent's state folder and start it again")

// Identity is what the link needs to introduce the agent.
func (a *Agent) Identity() (nonce string, incarnation uint64) {
	return a.state.Nonce, a.state.Incarnation
}

// Run ticks until ctx ends, then closes the open window at a last reading.
func (a *Agent) Run(ctx context.Context) error {
	defer close(a.done)
	rctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	for _, l := range a.loops {
		go l.Run(rctx)
	}
	tick := time.NewTimer(a.untilTick())
	defer tick.Stop()
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	a.round()
	for {
		if d := a.untilAlarm(); d < time.Hour {
			alarm.Reset(d)
		} else {
			alarm.Stop() // one that is put off instead still wakes the process once
		}
		select {
		case <-ctx.Done():
			a.stop()
			return nil
		case <-tick.C:
			a.tick()
			tick.Reset(a.untilTick())
		case r := <-a.results:
			a.result(r)
		case f := <-a.calls:
			f()
		case <-alarm.C:
		}
		a.gather()
		a.settle()
		if a.fatal != nil {
			a.stop()
			return a.fatal
		}
	}
}

// gather takes the results of the sources that answer at once: no timer is set for
// them, which would wake the process once more, long after.
func (a *Agent) gather() {
	for a.waitFor > 0 {
		runtime.Gosched()
		select {
		case r := <-a.results:
			a.result(r)
		default:
			return
		}
	}
}

func (a *Agent) untilTick() time.Duration {
	now := a.opt.Now()
	return now.Truncate(a.opt.Every).Add(a.opt.Every).Sub(now)
}

// untilAlarm is when a round or a waiter must be settled.
func (a *Agent) untilAlarm() time.Duration {
	now := a.opt.Now()
	next := now.Add(time.Hour)
	if a.waitFor > 0 {
		next = a.since.Add(collectFor)
	}
	for _, w := range a.waiting {
		if w.until.Before(next) {
			next = w.until
		}
	}
	return max(next.Sub(now), 0)
}

func (a *Agent) tick() {
	a.watchClock()
	a.believeClock()
	now := a.opt.Now()
	a.opt.Metrics.tick(now, a.opt.Every)
	a.measure(now)
	a.tellOfItself(now)
	a.round()
}

// round asks every source for a reading.
func (a *Agent) round() {
	if a.waitFor > 0 {
		return
	}
	a.since = a.opt.Now()
	for _, l := range a.loops {
		if l.Trigger() {
			a.waitFor++
			a.stuck[l.Source.Name()] = false
			continue
		}
		a.opt.Metrics.Stuck.WithLabelValues(l.Source.Name()).Inc()
		if !a.stuck[l.Source.Name()] {
			a.stuck[l.Source.Name()] = true
			a.opt.Log.Warn("a source does not answer; it is not asked again before it has", zap.String("source", l.Source.Name()), zap.Duration("for", l.Busy()))
			a.pipe.Note(a.now(), "source_stuck", "source "+l.Source.Name()+" did not answer in time")
		}
	}
	if len(a.loops) == 0 {
		a.observe()
	}
}

func (a *Agent) result(r sample.Result) {
	a.waitFor = max(a.waitFor-1, 0)
	for _, reading := range r.Readings {
		reading.At = reading.At.Add(a.skew)
		a.batch = append(a.batch, reading)
	}
	a.opt.Metrics.read(r)
	a.sourceEvents(r.Source)
	a.complain(r.Source, deviceErrors(r.Err))
	if a.opt.Fatal != nil && a.opt.Fatal(r.Err) {
		a.fatal = r.Err
	}
}

// complain says what a source lacks when that changes, not each second. A source
// that has nothing to read says so once, and no meter is missing for it: most
// nodes have not the hardware of every source.
func (a *Agent) complain(source string, errs []error) {
	if len(errs) == 0 && len(a.said[source]) == 0 {
		return
	}
	said := make(map[string]string, len(errs))
	for _, err := range errs {
		text, meter := err.Error(), ""
		key, kind := "source", "no_source"
		if de, ok := errors.AsType[*collector.DeviceError](err); ok {
			meter, key, kind = de.Device, text, "no_reading"
		}
		said[key] = text
		if _, known := a.said[source][key]; known {
			continue
		}
		a.opt.Log.Warn("no reading", zap.String("source", source), zap.String("meter", meter), zap.Error(err))
		a.pipe.Tell(collector.Event{At: a.now(), Kind: kind, Meter: meter, Detail: text})
	}
	for key, text := range a.said[source] {
		if _, still := said[key]; !still {
			a.opt.Log.Info("it reads again", zap.String("source", source), zap.String("was", text))
		}
	}
	a.said[source] = said
}

// sourceEvents passes on what a source saw besides its readings.
func (a *Agent) sourceEvents(name string) {
	for _, l := range a.loops {
		es, ok := l.Source.(collector.EventSource)
		if !ok || l.Source.Name() != name {
			continue
		}
		for _, e := range es.Events() {
			a.opt.Log.Warn("source event", zap.String("source", name), zap.String("kind", e.Kind), zap.String("meter", e.Meter), zap.String("detail", e.Detail))
			a.pipe.Tell(e)
		}
	}
}

// settle ends a round that is complete or too late, and answers who waited.
func (a *Agent) settle() {
	now := a.opt.Now()
	if !a.since.IsZero() && (a.waitFor == 0 || now.Sub(a.since) >= collectFor) {
		complete := a.waitFor == 0
		began := a.since
		a.since, a.waitFor = time.Time{}, 0
		failpoint.Hit(failpoint.AgentAfterReading)
		a.observe()
		if complete {
			a.lastRead = began
		}
	}
	a.answer(now)
	if len(a.waiting) > 0 && a.since.IsZero() {
		a.round() // an edge came while the last round was out
	}
}

func (a *Agent) answer(now time.Time) {
	left := a.waiting[:0]
	for _, w := range a.waiting {
		switch {
		case !a.lastRead.Before(w.at.Add(-edgeShare)) && a.since.IsZero():
			w.answer <- job.Answer{OK: true, Message: w.told}
		case !now.Before(w.until):
			a.pipe.Note(w.at.Add(a.skew), "late_edge", "no reading within 80 ms of a job's begin or end: it is placed by time")
			w.answer <- job.Answer{OK: true, Bridged: true, Message: w.told}
		default:
			left = append(left, w)
		}
	}
	a.waiting = left
}

// observe feeds what was read to the pipeline and books what it closes.
func (a *Agent) observe() {
	a.placeLate()
	batch := a.batch
	a.batch = make([]collector.Reading, 0, len(batch))
	a.book(a.pipe.Observe(a.now(), batch))
	if a.opt.Seen != nil {
		a.opt.Seen(batch, a.pipe.Odometer, a.state.Jobs.Open)
	}
	if a.pipe.Tree() == nil || len(a.pipe.Tree().Nodes) == 0 {
		return
	}
	a.births(batch)
	for _, f := range a.deferred {
		f()
	}
	a.deferred = nil
}

// births notes where this state's own books of a meter begin, before anything
// is sent that rests on it.
func (a *Agent) births(batch []collector.Reading) {
	added := false
	for _, r := range batch {
		if r.Scope.Kind == collector.Gauges || r.Scope.Witness {
			continue
		}
		if _, known := a.state.Births[r.Scope.Name]; known || a.state.Incarnation != 0 {
			continue
		}
		a.state.Births[r.Scope.Name] = Birth{Epoch: r.Epoch, Raw: uint64(r.Counter), AtMS: r.At.UnixMilli(), SkewMS: a.skew.Milliseconds()}
		added = true
	}
	if added {
		a.save()
	}
}

// book makes windows durable. What the spool does not take stays pending and is
// joined, so that a full disk costs detail and no energy.
func (a *Agent) book(ws []*window.Window) {
	for _, w := range ws {
		if err := window.Check(w); err != nil {
			a.opt.Log.Error("BUG: a window does not close; it is sent and will be quarantined", zap.Error(err))
			a.opt.Metrics.Unbalanced.Inc()
		}
		if n := len(a.pending); n > 0 {
			if j, ok := window.Join(a.pending[n-1], w); ok {
				thin(j, 2)
				a.pending[n-1] = j
				continue
			}
		}
		a.pending = append(a.pending, w)
	}
	if len(a.pending) == 0 {
		return
	}
	if err := a.append(a.pending); err != nil {
		a.opt.Metrics.SpoolErrors.Inc()
		a.opt.Log.Error("windows wait in memory: the spool did not take them", zap.Error(err), zap.Int("windows", len(a.pending)))
		return
	}
	a.opt.Metrics.Windows.Add(float64(len(a.pending)))
	booked := a.pending
	a.pending = nil
	a.saveAfter(booked)
}

func (a *Agent) append(ws []*window.Window) error {
	recs, err := encodeRecords(ws)
	if err != nil { // what cannot be written costs words and curves, not energy
		a.opt.Log.Error("BUG: a window cannot be written: its events and its telemetry are left out", zap.Error(err))
		for _, w := range ws {
			w.Events, w.Telemetry = nil, nil
		}
		if recs, err = encodeRecords(ws); err != nil {
			return err
		}
	}
	failpoint.Hit(failpoint.AgentBeforeSpool)
	for i, rec := range recs {
		if _, err := a.opt.Spool.Append(rec); err != nil {
			return fmt.Errorf("record %d of %d: %w", i+1, len(recs), err)
		}
	}
	return nil
}

// stop takes a last reading, closes the open window and saves the state.
func (a *Agent) stop() {
	if a.waitFor == 0 {
		a.round()
	}
	late := time.After(collectFor)
	for a.waitFor > 0 {
		select {
		case r := <-a.results:
			a.result(r)
		case <-late:
			a.waitFor = 0
		}
	}
	a.observe()
	a.book(a.pipe.Flush())
	a.save()
	for _, w := range a.waiting {
		w.answer <- job.Answer{OK: true, Bridged: true, Message: "the agent is stopping; the edge is kept"}
	}
	a.waiting = nil
}

// do runs f in the loop and waits for it; false if the loop has ended.
func (a *Agent) do(f func()) bool {
	done := make(chan struct{})
	select {
	case a.calls <- func() { f(); close(done) }:
	case <-a.done:
		return false
	}
	select {
	case <-done:
		return true
	case <-a.done:
		return false
	}
}
