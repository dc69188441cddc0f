package series

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"
	"go.uber.org/zap"
)

// open opens the storage, however often it takes.
func (s *Store) open(ctx context.Context) {
	for wait := time.Second; ; wait = min(2*wait, 5*time.Minute) {
		db, err := s.openOnce()
		if err == nil {
			s.db.Store(db)
			s.trouble.Store(nil)
			s.log.Info("the store of series is open", zap.Uint64("head_series", db.Head().NumSeries()))
			return
		}
		words := err.Error()
		s.trouble.Store(&words)
		s.failed(failedOpen, "the store of series cannot be opened; energy is booked all the same, and it is tried again", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (s *Store) openOnce() (db *tsdb.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("BUG: %v", p)
		}
	}()
	o := tsdb.DefaultOptions()
	o.RetentionDuration = s.o.RetentionTime.Milliseconds()
	o.MaxBytes = s.o.RetentionBytes
	o.MaxBlockDuration = max(o.MinBlockDuration, min(o.RetentionDuration/10, (31*24*time.Hour).Milliseconds()))
	o.OutOfOrderTimeWindow = s.o.OutOfOrder.Milliseconds()
	o.WALCompression = compression.Snappy
	o.EnableMemorySnapshotOnShutdown = true
	o.StripeSize = s.stripes()
	o.IsolationDisabled = true // readers may see part of a commit; the sums come after what they are of
	return tsdb.Open(filepath.Join(s.o.Dir, tsdbDir), bridge(s.log), nil, o, s.replay)
}

// stripes is over how many maps the head spreads its series. With a few series in
// each, finding one by its reference costs half of what it costs in large maps;
// an empty one takes some 200 bytes.
func (s *Store) stripes() int {
	nodes := 0
	for _, st := range s.sums.Standings() {
		nodes += st.Nodes
	}
	n := 1 << 16
	for n < 10*max(nodes, s.o.Nodes) && n < 1<<19 {
		n *= 2
	}
	return n
}

// health is what there is to say of the storage.
type health struct{ ready, replayed, series, blocks, head float64 }

func (s *Store) health() health {
	var h health
	st := s.replay.Head.WALReplayStatus.GetWALReplayStatus()
	if st.Max > st.Min {
		h.replayed = float64(st.Current-st.Min) / float64(st.Max-st.Min)
	}
	db := s.db.Load()
	if db == nil {
		return h
	}
	h.ready, h.replayed = 1, 1
	h.series, h.head = float64(db.Head().NumSeries()), float64(db.Head().Size())
	for _, b := range db.Blocks() {
		h.blocks += float64(b.Size())
	}
	return h
}

// errNotOpen is wrapped by Ready.
var errNotOpen = errors.New("the store of series is not open")

// Ready says why queries cannot be answered, nil if they can.
func (s *Store) Ready() error {
	if s.db.Load() != nil {
		return nil
	}
	if why := s.trouble.Load(); why != nil {
		return fmt.Errorf("%w: %s; energy is booked meanwhile, and opening is tried again", errNotOpen, *why)
	}
	return fmt.Errorf("%w: its log is being replayed (%.0f %% done); energy is booked meanwhile, come again", errNotOpen, 100*s.health().replayed)
}

// access is the storage as far as it is open.
type access struct{ s *Store }

// Storage gives reading and writing of the store for what works beside it: rules
// read and write their results, exporters read. While the store is not open every
// call fails with Prometheus' tsdb.ErrNotReady. Reads are bounded in series.
func (s *Store) Storage() interface {
	storage.SampleAndChunkQueryable
	storage.Appendable
} {
	return access{s}
}

// Querier reads samples of [mint, maxt] (Unix ms).
func (a access) Querier(mint, maxt int64) (storage.Querier, error) {
	db := a.s.db.Load()
	if db == nil {
		return nil, tsdb.ErrNotReady
	}
	q, err := db.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return &limited{Querier: q, most: a.s.o.Limits.Series}, nil
}

// ChunkQuerier reads chunks of [mint, maxt] (Unix ms).
func (a access) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	if db := a.s.db.Load(); db != nil {
		return db.ChunkQuerier(mint, maxt)
	}
	return nil, tsdb.ErrNotReady
}

// Appender appends; all of it fails while the store is not open.
func (a access) Appender(ctx context.Context) storage.Appender {
	if db := a.s.db.Load(); db != nil {
		return db.Appender(ctx)
	}
	return closedAppender{}
}

// closedAppender refuses all.
type closedAppender struct{ storage.Appender }

func (closedAppender) Append(storage.SeriesRef, labels.Labels, int64, float64) (storage.SeriesRef, error) {
	return 0, tsdb.ErrNotReady
}
func (closedAppender) SetOptions(*storage.AppendOptions) {}
func (closedAppender) Commit() error                     { return tsdb.ErrNotReady }
func (closedAppender) Rollback() error                   { return tsdb.ErrNotReady }
