// Package intake is the aggregator's end of the link: it takes openings and
// windows of agents over HTTP, gathers what arrives within a moment into one
// commit of the ledger, and acknowledges only what is committed.
//
// It checks who sends and whether the bytes can be read; whether a window may be
// booked, and where, is the ledger's decision alone. Status codes:
//
//	200  every window booked, known already or quarantined
//	400  the body is malformed, cut off or of an unknown version
//	401  no token or an unknown one; 403 a token of another node
//	409  a window is apart from what is booked, or conflicts with it
//	410  another agent has taken over this node
//	413  more than 4 MiB; 415 another content type or encoding
//	424  catalogues are missing; send them along
//	428  the session is not known; open again
//	503  not now: the queue is full, or the ledger failed. Nothing was booked
//	     that was not booked before
//
// 200, 409, 410, 424 and 428 carry a BatchResponse; results end with the first
// window that was refused.
package intake

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/wattledger/wattledger/internal/auth"
	"github.com/wattledger/wattledger/internal/kept"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/obs"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// Options say how an Intake works. Ledger and Now are needed.
type Options struct {
	Ledger ledger.Ledger
	Guard  *auth.Guard // nil: everybody may send
	// CommitEvery is how long the first window of a commit waits for others
	// (default 150 ms); CommitWindows do not wait (default 2048).
	CommitEvery   time.Duration
	CommitWindows int
	// QueueWindows may wait (default 65536), half of them of backlogs; beyond,
	// agents are asked to come again. MemoryBytes bounds the bodies being worked
	// on (default 128 MiB); a quarter of it is for small ones alone.
	QueueWindows int
	MemoryBytes  int64
	// Crowded tells that whoever is told of windows does not keep up: backlogs
	// then wait, but for a share every ten seconds, and what is live goes on. nil
	// for never.
	Crowded func() bool
	// Booked is told of each window that was booked now, after the commit and
	// after its sender was answered; not of duplicates. Projects of the window's
	// jobs are those that the ledger posted to. It must return at once and keep
	// the window for itself; nil for nobody.
	Booked func(node ledger.Node, w *window.Window)
	// Telemetry is how Booked wants the telemetry of windows.
	Telemetry wire.Telemetry
	// Patience is the longest an agent waits for its answer (default 25 s).
	Patience   time.Duration
	Now        func() time.Time
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

func (o *Options) setDefaults() error {
	if o.Ledger == nil || o.Now == nil {
		return errors.New("cannot make an intake: it needs a ledger and a clock")
	}
	if o.Guard == nil {
		o.Guard = auth.Everybody()
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	o.CommitEvery = def(o.CommitEvery, 150*time.Millisecond)
	o.CommitWindows = def(o.CommitWindows, 2048)
	o.QueueWindows = def(o.QueueWindows, 65_536)
	o.MemoryBytes = max(def(o.MemoryBytes, 128<<20), wire.MaxBody)
	o.Patience = def(o.Patience, 25*time.Second)
	return nil
}

func def[T int | int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// Intake takes openings and windows. Run must be running for windows to be
// answered.
type Intake struct {
	opts       Options
	metrics    *metrics
	catalogues *catalogues
	large      *semaphore.Weighted // memory of bodies
	small      *semaphore.Weighted // memory of small ones alone
	unpack     *zstd.Decoder
	live       lane      // what agents tell as it happens
	bulk       lane      // backlogs
	heldSince  time.Time // of Run's goroutine: since when backlogs wait
	closed     atomic.Bool
	// contentType is a header's value that all answers share.
	contentType []string
	kept        *kept.Conns
	forbidden   *obs.Limit
}

// New makes an Intake and registers its metrics.
func New(o Options) (*Intake, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("cannot register metrics of intake: %w", err)
	}
	unpack, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(wire.MaxBody), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(0))
	if err != nil {
		return nil, fmt.Errorf("cannot make a zstd decoder: %w", err)
	}
	return &Intake{
		opts: o, metrics: m, catalogues: newCatalogues(o.Ledger, maxCachedMeters),
		large: semaphore.NewWeighted(max(o.MemoryBytes/4*3, wire.MaxBody)), small: semaphore.NewWeighted(o.MemoryBytes / 4), unpack: unpack,
		live: lane{queue: make(chan *request, 16_384), most: int64(o.QueueWindows)},
		bulk: lane{queue: make(chan *request, 4096), most: int64(o.QueueWindows / 2)},
		kept: &kept.Conns{Log: o.Log}, contentType: []string{wire.ContentType},
		forbidden: &obs.Limit{Every: time.Minute, Now: o.Now},
	}, nil
}

// Register puts the two paths of the link into a mux.
func (in *Intake) Register(mux *http.ServeMux) {
	mux.Handle("POST "+wire.PathOpen, in.counted(in.open))
	mux.Handle("POST "+wire.PathWindows, in.kept.Handler(in.counted(in.windows)))
}

// Shutdown lets the connections go that agents keep, which the HTTP server does not
// know: call it after the server's own Shutdown and before the end of Run.
func (in *Intake) Shutdown(ctx context.Context) error { return in.kept.Shutdown(ctx) }

// Run books what arrives until ctx ends; then it books what still waits, answers
// it, and returns. End the HTTP server first, so that nothing more arrives.
func (in *Intake) Run(ctx context.Context) error {
	for {
		group := in.gather(ctx)
		if len(group) == 0 {
			in.closed.Store(true)
			in.turnAway()
			return nil
		}
		in.commit(group)
	}
}

// turnAway answers what came when Run was about to end.
func (in *Intake) turnAway() {
	for {
		var r *request
		select {
		case r = <-in.live.queue:
		case r = <-in.bulk.queue:
		default:
			return
		}
		in.leave(r)
		r.finish(nil, errClosed)
	}
}
