package series

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/series/sums"
)

// Limits bound what reading may cost; settings are below series.query. Zero
// values are the defaults.
type Limits struct {
	// Timeout ends a query (30 s).
	Timeout time.Duration
	// Samples in memory at a time, per query (20 million, some 320 MB).
	Samples int
	// Series that one query, or one listing, may touch (300,000).
	Series int
	// Concurrency is how many queries run at a time (4); others wait, up to
	// their timeout.
	Concurrency int
}

// Options say how a Store works. Dir, Ledger and Now are needed.
type Options struct {
	// Dir is the store's own folder; it is made if absent.
	Dir string
	// Ledger is what the counters start from.
	Ledger sums.Ledger
	// RetentionTime and RetentionBytes bound what is kept, whichever is reached
	// first; zero for a year, and for no bound.
	RetentionTime  time.Duration
	RetentionBytes int64
	// OutOfOrder is how late samples may come (default 26 h).
	OutOfOrder time.Duration
	Limits     Limits
	Sums       sums.Options
	// Nodes that the store is laid out for, at least: it looks as well at how many
	// the books know when it is opened, and takes 6,000 at least. More nodes than
	// that cost a quarter more CPU until the next start, fewer some memory.
	Nodes int
	// QueueBytes of windows may wait for the store (default 128 MiB).
	QueueBytes int64
	// Future is how far ahead of the clock a sample may lie (default 1 minute).
	Future time.Duration
	// NewSeries is how many series a node may begin in a day (default 2000).
	NewSeries int
	// Every is how often what has gathered is stored (default 1 s).
	Every time.Duration
	// Outlet takes what is stored, for whoever sends it on; nil for nobody.
	Outlet     Outlet
	Now        func() time.Time
	Log        *zap.Logger
	Registerer prometheus.Registerer
	// Own is the page that is stored beside, for what /metadata says of it; nil
	// for none.
	Own prometheus.Gatherer
}

func (o *Options) setDefaults() error {
	if o.Dir == "" || o.Ledger == nil || o.Now == nil {
		return errors.New("cannot make a store of series: it needs a folder, a ledger and a clock")
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	o.RetentionTime = def(o.RetentionTime, 366*24*time.Hour)
	o.OutOfOrder = def(o.OutOfOrder, 26*time.Hour)
	o.QueueBytes = def(o.QueueBytes, 128<<20)
	o.Future = def(o.Future, time.Minute)
	o.NewSeries = def(o.NewSeries, 2000)
	o.Every = def(o.Every, time.Second)
	o.Limits.Timeout = def(o.Limits.Timeout, 30*time.Second)
	o.Limits.Samples = def(o.Limits.Samples, 20_000_000)
	o.Limits.Series = def(o.Limits.Series, 300_000)
	o.Limits.Concurrency = def(o.Limits.Concurrency, 4)
	return nil
}

func def[T int | int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}
