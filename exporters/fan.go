package exporters

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// MetricOverrun counts what a fan could not hand on.
const MetricOverrun = "wattledger_exporter_overrun_samples_total"

// Fan hands batches to several sinks. Each has a goroutine and a queue of its
// own, so that one whose disk hangs costs itself.
type Fan struct {
	lanes []*lane
	log   *zap.Logger
}

// lane is one sink of a fan.
type lane struct {
	sink    Sink
	queue   chan item
	waiting atomic.Int64 // points in the queue
	overrun prometheus.Counter
	behind  chan struct{} // what Buffered waited for in vain; of its caller alone
}

// item is a batch, or somebody who waits until all before it is buffered.
type item struct {
	batch Batch
	kept  chan struct{} // nil for a batch
}

const (
	// laneBatches and lanePoints are what waits for a sink's disk, at most.
	laneBatches = 1024
	lanePoints  = 1_000_000
	// mergeUpTo is how many points are written to a buffer at once: many small
	// batches are dear.
	mergeUpTo = 5000
)

// NewFan makes a fan, which owns the sinks from now on. reg and log may be nil.
func NewFan(sinks []Sink, reg prometheus.Registerer, log *zap.Logger) (*Fan, error) {
	if log == nil {
		log = zap.NewNop()
	}
	overrun := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: MetricOverrun, Help: "Samples that were not buffered for a receiver because its buffer's disk is too slow.",
	}, []string{"receiver"})
	if reg != nil {
		if err := reg.Register(overrun); err != nil {
			return nil, fmt.Errorf("cannot register metrics of exporters: %w", err)
		}
	}
	f := &Fan{log: log}
	for _, s := range sinks {
		f.lanes = append(f.lanes, &lane{sink: s, queue: make(chan item, laneBatches), overrun: overrun.WithLabelValues(s.Name())})
	}
	return f, nil
}

// Offer hands a batch to all sinks. It never waits. The batch must not be
// changed any more.
func (f *Fan) Offer(b Batch) {
	n := b.Len()
	for _, l := range f.lanes {
		if !l.put(item{batch: b}, n) {
			l.overrun.Add(float64(n))
		}
	}
}

func (l *lane) put(it item, points int) bool {
	if l.waiting.Load() > lanePoints {
		return false
	}
	l.waiting.Add(int64(points))
	select {
	case l.queue <- it:
		return true
	default:
		l.waiting.Add(-int64(points))
		return false
	}
}

// Buffered waits until what was offered before is in the buffers of all sinks,
// or given up there; false if that took longer. A sink that was too slow is not
// waited for again until it has caught up. One goroutine calls it.
func (f *Fan) Buffered(within time.Duration) bool {
	all := true
	var asked []*lane
	for _, l := range f.lanes {
		if l.behind != nil {
			select {
			case <-l.behind:
				l.behind = nil
			default:
				all = false
				continue
			}
		}
		kept := make(chan struct{})
		if !l.put(item{kept: kept}, 0) {
			all = false
			continue
		}
		l.behind = kept
		asked = append(asked, l)
	}
	late := time.NewTimer(within)
	defer late.Stop()
	for _, l := range asked {
		select {
		case <-l.behind:
			l.behind = nil
		case <-late.C:
			return false
		}
	}
	return all
}

// Run works until ctx ends, then buffers what is queued and closes the sinks.
// Nothing may be offered any more when ctx ends.
func (f *Fan) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(f.lanes))
	for i, l := range f.lanes {
		wg.Go(func() {
			var inner sync.WaitGroup
			inner.Go(func() { l.sink.Run(ctx) })
			l.feed(ctx, f.log)
			inner.Wait()
			errs[i] = l.sink.Close()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// feed writes what is queued to the sink's buffer.
func (l *lane) feed(ctx context.Context, log *zap.Logger) {
	for {
		var it item
		select {
		case it = <-l.queue:
		default:
			select {
			case it = <-l.queue:
			case <-ctx.Done():
				return // and the queue is empty
			}
		}
		b, kept := l.merge(it)
		if n := b.Len(); n > 0 {
			if err := l.sink.Write(b); err != nil {
				log.Debug("samples are not buffered", zap.String("receiver", l.sink.Name()), zap.Error(err)) // counted, and told by the buffer
			}
			l.waiting.Add(-int64(n))
		}
		if kept != nil {
			close(kept)
		}
	}
}

// merge joins what else is queued to a batch, up to somebody who waits for it.
func (l *lane) merge(first item) (b Batch, kept chan struct{}) {
	b, kept = first.batch, first.kept
	for n, own := b.Len(), false; n < mergeUpTo && kept == nil; {
		select {
		case more := <-l.queue:
			if kept = more.kept; kept != nil {
				break
			}
			if !own { // others may hold the first one's slice
				b.Series = append(make([]Series, 0, len(b.Series)+len(more.batch.Series)), b.Series...)
				own = true
			}
			b.Series = append(b.Series, more.batch.Series...)
			n += more.batch.Len()
		default:
			return b, nil
		}
	}
	return b, kept
}
