// Package replay drives the agent's own pipeline, one instance per node, under
// a virtual clock: what a recording or a simulation feeds becomes windows, goes
// through a spool and over the wire, as an agent's would. It computes no energy
// itself, and the aggregator has no code for it.
//
// A replay is deterministic: the same feed under the same name gives the same
// windows to the byte, so that running it again, or from the start after a kill,
// books nothing twice.
package replay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/agent"
	"github.com/wattledger/wattledger/internal/fleet"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/sample"
	"github.com/wattledger/wattledger/internal/sender"
	"github.com/wattledger/wattledger/internal/spool"
	"github.com/wattledger/wattledger/internal/window"
)

// Options of a replay.
type Options struct {
	Cluster    string
	URL, Token string
	Client     *http.Client
	// Name tells this feed from others: a digest of its files, or a seed. With
	// cluster and node it names the incarnation.
	Name string
	// SpoolDir keeps the spools; "" for a temporary folder.
	SpoolDir string
	// Speed is how many times faster than it happened; 0 for as fast as it goes.
	Speed float64
	CPUs  uint32
	Grace time.Duration // how long a window waits for readings
	// Recorded: the meters are integrated, so an end in another epoch is of
	// another recording.
	Recorded bool
	// Final: the nodes leave the books when their feed ends.
	Final bool
	Now   func() time.Time
	Log   *zap.Logger
}

// Progress is how far a replay is.
type Progress struct {
	Nodes, Fed, Done int64 // nodes in all, fed to their end, delivered
	Windows          int64
	Sent             int64 // windows acknowledged
}

// Replay is a run over many nodes.
type Replay struct {
	opt     Options
	windows atomic.Int64
	sent    atomic.Int64
	fed     atomic.Int64

	quarantined atomic.Int64
	reason      atomic.Pointer[string] // of the first that was quarantined
	done        atomic.Int64
	nodes       int64
	stop        context.CancelCauseFunc
}

// New prepares a replay.
func New(o Options) *Replay {
	if o.Grace == 0 {
		o.Grace = 30 * time.Second
	}
	return &Replay{opt: o}
}

// Progress may be asked at any time.
func (r *Replay) Progress() Progress {
	return Progress{Nodes: r.nodes, Fed: r.fed.Load(), Done: r.done.Load(), Windows: r.windows.Load(), Sent: r.sent.Load()}
}

// Run replays the feeds, many at once, until all of it is acknowledged.
func (r *Replay) Run(ctx context.Context, feeds []fleet.Feed) error {
	r.nodes = int64(len(feeds))
	dir := r.opt.SpoolDir
	if dir == "" {
		tmp, err := os.MkdirTemp("", "wattledger-replay-")
		if err != nil {
			return fmt.Errorf("cannot make a folder for the spools: %w", err)
		}
		defer os.RemoveAll(tmp)
		dir = tmp
	}
	ctx, r.stop = context.WithCancelCause(ctx)
	defer r.stop(nil)
	var wg sync.WaitGroup
	began := r.opt.Now()
	for _, f := range feeds {
		wg.Go(func() {
			if err := r.node(ctx, f, filepath.Join(dir, r.incarnation(f.Node())), began); err != nil {
				r.stop(fmt.Errorf("node %s: %w", f.Node(), err))
				return
			}
			r.done.Add(1)
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if n := r.quarantined.Load(); n > 0 {
		return fmt.Errorf("%d windows were quarantined, not booked; the first because: %s", n, *r.reason.Load())
	}
	return nil
}

// node replays one feed.
func (r *Replay) node(ctx context.Context, f fleet.Feed, dir string, began time.Time) error {
	sp, err := spool.Open(spool.Options{Dir: dir, MaxBytes: 256 << 20, NoSync: r.opt.SpoolDir == ""})
	if err != nil {
		return err
	}
	defer sp.Close()
	name := r.incarnation(f.Node())
	link, err := r.link(sp, f.Node(), name)
	if err != nil {
		return err
	}
	lctx, cut := context.WithCancel(ctx)
	defer cut()
	ended := make(chan error, 1)
	go func() { ended <- link.Run(lctx) }()
	if err := r.feed(ctx, f, sp, name, began); err != nil {
		return err
	}
	r.fed.Add(1)
	flushed := make(chan error, 1)
	go func() { flushed <- link.Flush(lctx) }()
	select {
	case err := <-ended:
		return fmt.Errorf("the link ended before all was delivered: %w", err)
	case err := <-flushed:
		return err
	}
}

// incarnation is a function of cluster, node and what is fed.
func (r *Replay) incarnation(node string) string {
	h := sha256.Sum256([]byte(r.opt.Cluster + "\x00" + node + "\x00" + r.opt.Name))
	return hex.EncodeToString(h[:8])
}

func (r *Replay) link(sp *spool.Spool, node, name string) (*sender.Sender, error) {
	return sender.New(sender.Options{
		Spool: counted{Spool: sp, r: r}, Client: r.opt.Client, URL: r.opt.URL,
		Token: func() string { return r.opt.Token },
		Node:  ledger.Node{Cluster: r.opt.Cluster, Name: node}, Nonce: name, Session: name,
		// The windows of a replay are what they are: where the ledger has others
		// in their place, the replay ends and says so.
		OnOpen: func(o ledger.Opening) error { return r.free(node, name, o) },
		OnQuarantined: func(res ledger.Result) {
			r.quarantined.Add(1)
			r.reason.CompareAndSwap(nil, &res.Reason)
		},
		OnApart:    func([]ledger.End) error { return r.differ(node, "its odometers stand elsewhere") },
		OnConflict: func(uint64, ledger.Result) error { return r.differ(node, "other windows are booked in their place") },
		OnRefused: func(_ []byte, reason string) error {
			r.stop(fmt.Errorf("node %s: the aggregator refused a window: %s", node, reason))
			return nil
		},
		Now: r.opt.Now, Log: r.opt.Log,
	})
}

// free makes sure that no other recording is in the books under this name: its
// time would be booked twice.
func (r *Replay) free(node, name string, o ledger.Opening) error {
	for _, e := range o.Ends {
		if r.opt.Recorded && sample.EpochSource(e.Epoch) != name {
			return r.differ(node, "they are of another recording or shift")
		}
	}
	return nil
}

// differ ends the replay: the books hold something else.
func (r *Replay) differ(node, how string) error {
	err := fmt.Errorf("node %s: the books already hold this node at these times, and %s: replay it as another cluster", node, how)
	r.stop(err)
	return err
}

// counted counts what is acknowledged.
type counted struct {
	*spool.Spool
	r *Replay
}

// Commit forgets and counts records.
func (c counted) Commit(through spool.Seq) error {
	before := c.Len()
	err := c.Spool.Commit(through)
	c.r.sent.Add(int64(before - c.Len()))
	return err
}

// feed drives the pipeline through the feed.
func (r *Replay) feed(ctx context.Context, f fleet.Feed, sp *spool.Spool, name string, began time.Time) error {
	p := agent.NewPipeline(agent.PipelineOptions{
		Window: 10 * time.Second, MaxGap: 30 * time.Second, Grace: r.opt.Grace,
		CPUs: r.opt.CPUs, PowerEpoch: name,
	}, &job.Table{})
	var first time.Time
	var held []*window.Window // the newest, which may turn out to be the last
	for ctx.Err() == nil {
		st, err := f.Next()
		if errors.Is(err, io.EOF) {
			held = append(held, p.Flush()...)
			if n := len(held); n > 0 {
				held[n-1].Final = r.opt.Final
			}
			return r.keep(ctx, sp, held)
		}
		if err != nil {
			return fmt.Errorf("cannot go on with the feed: %w", err)
		}
		if first.IsZero() {
			first = st.At
		}
		if err := r.pace(ctx, began, first, st.At); err != nil {
			return err
		}
		r.edges(p, st, f.Node())
		held = append(held, p.Observe(st.At, st.Readings)...)
		if n := len(held) - 1; n > 0 {
			if err := r.keep(ctx, sp, held[:n]); err != nil {
				return err
			}
			held = held[n:]
		}
	}
	return context.Cause(ctx)
}

func (r *Replay) edges(p *agent.Pipeline, st fleet.Step, node string) {
	for _, id := range st.Ends {
		if _, err := p.End(id, st.At); err != nil {
			r.opt.Log.Warn("a job's end was passed over", zap.String("node", node), zap.Error(err))
		}
	}
	for _, b := range st.Begins {
		if err := p.Begin(b, st.At); err != nil {
			r.opt.Log.Warn("a job's begin was passed over", zap.String("node", node), zap.Error(err))
		}
	}
}

// pace waits until a step's time has come.
func (r *Replay) pace(ctx context.Context, began, first, at time.Time) error {
	if r.opt.Speed <= 0 {
		return nil
	}
	due := began.Add(time.Duration(float64(at.Sub(first)) / r.opt.Speed))
	return sleep(ctx, due.Sub(r.opt.Now()))
}

// keep spools windows; where the spool is full it waits for the link.
func (r *Replay) keep(ctx context.Context, sp *spool.Spool, ws []*window.Window) error {
	for _, w := range ws {
		rec, err := agent.EncodeRecord([]*window.Window{w})
		if err != nil {
			return err
		}
		if err := r.append(ctx, sp, rec); err != nil {
			return err
		}
	}
	return nil
}

func (r *Replay) append(ctx context.Context, sp *spool.Spool, rec []byte) error {
	for {
		_, err := sp.Append(rec)
		if err == nil {
			r.windows.Add(1)
			return nil
		}
		if !errors.Is(err, spool.ErrFull) {
			return err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
