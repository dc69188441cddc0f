package series

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/series/sums"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

const (
	// batchWindows share an appender and a commit.
	batchWindows = 512
	// closeWithin is how long a stop waits for a store that is being opened.
	closeWithin = 20 * time.Second
	// stateFile holds what the sums have emitted, tsdbDir the storage.
	stateFile, tsdbDir = "sums.json", "tsdb"
)

// Store is the store of series. Booked and what reads may be called from any
// goroutine, Run once.
type Store struct {
	o       Options
	log     *zap.Logger
	metrics *metrics
	queue   *queue
	sums    *sums.Sums
	engine  *promql.Engine
	running chan struct{} // a place per query
	rules   atomic.Pointer[rulesOf]

	db      atomic.Pointer[tsdb.DB]
	replay  *tsdb.DBStats
	trouble atomic.Pointer[string]          // why it is not open
	stood   atomic.Pointer[[]sums.Standing] // when a step was stored last
	ill     atomic.Bool                     // nothing could be stored the last time

	// Of Run's goroutine alone.
	nodes    map[ledger.Node]*nodeSeries
	sources  *sources
	places   map[place]int // where series of a node are, while they are looked for
	summed   map[sums.Key]*sumSeries
	watts    []float64
	unpacker wire.Unpacker
	handed   []Handed      // accepted, and not given to the outlet yet
	pending  []sums.Sample // emitted and not stored yet
	unsaved  bool
	tidied   int64
	after    time.Time // not before
	backoff  time.Duration
	through  func(storage.Appendable) storage.Appendable // for tests; nil for none
}

// New makes a store: it reads from the ledger what the counters start from, so
// nothing may be booked before it returns. The storage is opened by Run.
func New(ctx context.Context, o Options) (*Store, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	s := &Store{
		o: o, log: o.Log, queue: newQueue(o.QueueBytes), replay: tsdb.NewDBStats(),
		nodes: map[ledger.Node]*nodeSeries{}, sources: newSources(), places: map[place]int{}, summed: map[sums.Key]*sumSeries{},
		running: make(chan struct{}, o.Limits.Concurrency),
	}
	s.metrics = newMetrics(s)
	if o.Registerer != nil {
		if err := o.Registerer.Register(s.metrics); err != nil {
			return nil, fmt.Errorf("cannot register metrics of the series: %w", err)
		}
	}
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("cannot make the folder of the series: %w", err)
	}
	if err := s.recoverSums(ctx); err != nil {
		return nil, err
	}
	s.engine = promql.NewEngine(promql.EngineOpts{
		Logger: bridge(o.Log), MaxSamples: o.Limits.Samples, Timeout: o.Limits.Timeout, EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() }, Parser: parser.NewParser(parser.Options{}),
	})
	return s, nil
}

// recoverSums makes the sums go on where they were. A state that cannot be read
// is moved aside: the counters then start from the ledger.
func (s *Store) recoverSums(ctx context.Context) error {
	path := filepath.Join(s.o.Dir, stateFile)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot read the state of the series: %w", err)
	}
	now := s.o.Now().UnixMilli()
	s.sums, err = sums.Recover(ctx, s.o.Ledger, old, s.o.Sums, now)
	if bad, ok := errors.AsType[*sums.StateError](err); ok {
		s.failed(failedState, "the state of the series cannot be read; it is moved aside and the counters start from the books", bad)
		if err := os.Rename(path, path+".damaged"); err != nil {
			return fmt.Errorf("cannot move the state of the series aside: %w", err)
		}
		s.sums, err = sums.Recover(ctx, s.o.Ledger, nil, s.o.Sums, now)
	}
	return err
}

// Booked takes over a window that was booked now, its telemetry packed or not. It
// returns at once.
func (s *Store) Booked(n ledger.Node, w *window.Window) {
	dropped, fresh := s.queue.put(entry{node: n, w: w, cost: cost(w)})
	var u wire.Unpacker
	for i := range fresh {
		s.fold(&fresh[i], &u)
	}
	s.drop(dropped + len(fresh))
}

// Crowded tells that the store does not keep up with what is booked: windows that
// are late anyway had better wait. While the store is not open, or ill, it is
// false: the books do not wait for somebody to mend it.
func (s *Store) Crowded() bool { return s.db.Load() != nil && !s.ill.Load() && s.queue.crowded() }

func (s *Store) drop(windows int) {
	if windows > 0 {
		s.metrics.dropped.Add(float64(windows))
	}
}

// fold adds a window to the sums.
func (s *Store) fold(e *entry, u *wire.Unpacker) {
	defer s.survive("a window could not be summed")
	defer s.unpack(e.w, u)()
	s.add(e)
}

// add adds a window that is unpacked. One that cannot be added costs itself.
func (s *Store) add(e *entry) {
	defer s.survive("a window could not be summed")
	e.sum = true
	s.sums.Fold(e.node, e.w, s.o.Now().UnixMilli())
}

// unpack reads the telemetry of a window that came packed; what it gives lets go
// of it again. Telemetry that cannot be read is refused; the window's energy and
// mean power are as good as before.
func (s *Store) unpack(w *window.Window, u *wire.Unpacker) func() {
	if len(w.Packed) == 0 {
		return func() {}
	}
	if u.Unpack(w) != nil {
		w.Packed, w.Telemetry = nil, nil
		s.metrics.refused.WithLabelValues(refusedInvalid).Inc()
	}
	return func() { w.Telemetry = nil }
}

// survive keeps a panic where it is: the books do not need the series.
func (s *Store) survive(what string) {
	if p := recover(); p != nil {
		s.failed(failedPanic, what, fmt.Errorf("BUG: %v", p), zap.StackSkip("stack", 2))
	}
}

func (s *Store) failed(what, words string, err error, more ...zap.Field) {
	s.metrics.errors.WithLabelValues(what).Inc()
	s.log.Error(words, append(more, zap.Error(err))...) // the log says it ten times a minute at most
}

// Run opens the storage and stores what is booked until ctx ends; then it stores
// what still waits and closes the storage. Its error is that of closing: what
// goes wrong before is counted, logged and tried again.
func (s *Store) Run(ctx context.Context) error {
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		s.open(ctx)
	}()
	tick := time.NewTicker(s.o.Every)
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case <-tick.C:
		case <-s.queue.wake:
		}
		s.turn()
	}
	select {
	case <-opened:
	case <-time.After(closeWithin):
		s.log.Warn("the store of series is still being opened; it is left to itself")
		return nil
	}
	s.turn()
	s.save()
	if db := s.db.Swap(nil); db != nil {
		if err := db.Close(); err != nil {
			return fmt.Errorf("cannot close the store of series: %w", err)
		}
	}
	return nil
}

// turn is one round: what came goes into the sums and into the store; while that
// is not open, or ill, into the sums alone.
func (s *Store) turn() {
	defer s.survive("a round of storing series failed")
	db := s.db.Load()
	if db == nil || s.o.Now().Before(s.after) {
		s.foldFresh()
		return
	}
	var to storage.Appendable = db
	if s.through != nil {
		to = s.through(db)
	}
	if err := s.store(to); err != nil {
		s.ill.Store(true)
		s.foldFresh()
		s.failed(failedAppend, "series cannot be stored; they wait and it is tried again", err)
		s.backoff = min(max(2*s.backoff, time.Second), 30*time.Second)
		s.after = s.o.Now().Add(s.backoff)
		return
	}
	s.ill.Store(false)
	s.backoff = 0
}

// foldFresh lets windows wait for the store, in the sums.
func (s *Store) foldFresh() {
	fresh := s.queue.takeFresh()
	for i := range fresh {
		s.fold(&fresh[i], &s.unpacker)
	}
	s.drop(s.queue.giveBack(fresh, false))
}

// store appends the windows that are there, then the steps that are complete.
func (s *Store) store(db storage.Appendable) error {
	for left, _ := s.queue.size(); left > 0; {
		batch := s.queue.take(batchWindows)
		if len(batch) == 0 {
			break
		}
		left -= len(batch)
		if err := s.append(db, batch); err != nil {
			s.drop(s.queue.giveBack(batch, true))
			return err
		}
		clear(batch) // the queue has the array of it, and would hold the windows
	}
	return s.emit(db)
}

// append stores a batch: all of it, or none and an error. What makes the storage
// panic is dropped, since it would do so again.
func (s *Store) append(db storage.Appendable, batch []entry) (err error) {
	x := s.writer(db)
	defer func() {
		if p := recover(); p != nil {
			s.failed(failedPanic, "windows could not be stored and are dropped", fmt.Errorf("BUG: %v", p), zap.StackSkip("stack", 2))
			s.drop(len(batch))
			x.unbegin()
			err = x.app.Rollback()
		}
	}()
	newest := int64(0)
	for i := range batch {
		x.one(&batch[i])
		newest = max(newest, batch[i].w.EndMS)
	}
	x.handOut()
	if err := x.app.Commit(); err != nil { // and is rolled back
		for i := range batch {
			s.nodes[batch[i].node].forget()
		}
		x.unbegin()
		return err
	}
	for i := range batch {
		if batch[i].w.Final {
			delete(s.nodes, batch[i].node)
		}
	}
	x.count()
	s.metrics.lag.Set(float64(x.now-newest) / 1e3)
	s.tidy(x.now)
	return nil
}

// one appends one window, and adds it to the sums if it is not in them yet; one
// that cannot be is dropped alone.
func (x *writer) one(e *entry) {
	defer x.store.survive("a window's telemetry could not be stored")
	defer x.store.unpack(e.w, &x.store.unpacker)()
	if !e.sum {
		x.store.add(e)
	}
	x.window(e)
}

// count moves what was counted into the metrics.
func (x *writer) count() {
	m := x.store.metrics
	m.appended.Add(float64(x.stored))
	m.unmoved.Add(float64(x.unmoved))
	for reason, n := range x.refused {
		m.refused.WithLabelValues(reason).Add(float64(n))
	}
}

// forget lets the same samples be appended again. What has stood at 0 keeps when
// it was last seen there.
func (n *nodeSeries) forget() {
	if n == nil {
		return
	}
	for i := range n.series {
		if s := &n.series[i]; !s.quiet {
			s.last = 0
		}
	}
}

// tidy drops what is known of nodes that have sent nothing for a day, and what
// has no end: what a node has of it in the head is found there again.
func (s *Store) tidy(now int64) {
	if now-s.tidied < dayMS/24 {
		return
	}
	s.tidied = now
	for name, n := range s.nodes {
		if n.seen < now-dayMS {
			delete(s.nodes, name)
		} else if n.full(s.o.NewSeries) {
			n.empty()
		}
	}
}
