package site

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// worker stands for the agents of some nodes. They share its connection.
type worker struct {
	s     *Site
	b     *builder
	nodes []*node
	conn  *conn
	until context.Context // ends when nothing more is to begin
	send  context.Context // ends some seconds later
	drop  context.CancelFunc
	round *round
	body  []byte
	zip   *zstd.Encoder
	enc   encoder
}

// grace is how long what was begun may take when all is to end.
const grace = 5 * time.Second

func newWorker(run context.Context, s *Site, i int) *worker {
	w := &worker{s: s, b: newBuilder(s), until: run}
	w.send, w.drop = context.WithCancel(context.WithoutCancel(run))
	context.AfterFunc(run, func() { time.AfterFunc(grace, w.drop) })
	for k := i; k < len(s.nodes); k += s.o.Connections {
		w.nodes = append(w.nodes, s.nodes[k])
	}
	if s.o.URL != "" {
		u, err := url.Parse(s.o.URL)
		if err == nil {
			w.conn = &conn{host: u.Host, tls: u.Scheme == "https", token: s.o.Token, base: strings.TrimSuffix(u.Path, "/"), now: s.o.Now}
		}
	}
	return w
}

func (w *worker) close() {
	w.drop()
	if w.conn != nil {
		w.conn.close()
	}
	for _, n := range w.nodes {
		w.s.undelivered.Add(int64(len(n.link.pending)))
	}
}

// run takes the nodes through every round.
func (w *worker) run(rounds <-chan *round) error {
	for r := range rounds {
		w.round = r
		for k, n := range w.nodes {
			if w.until.Err() == nil {
				w.pace(r, k)
			}
			w.b.run(n, r, w.keep)
			if f := n.faults[faultLate]; f != nil && f.from <= r.to && r.to < f.to && !r.last {
				continue
			}
			if err := w.deliver(n); err != nil {
				return w.stopped(err)
			}
		}
		w.s.done(r)
	}
	for _, n := range w.nodes {
		if err := w.deliver(n); err != nil {
			return w.stopped(err)
		}
		if n.link.past && n.link.boot == n.boots {
			return fmt.Errorf("node %s: another agent has taken it over, and what was simulated was not booked", n.name)
		}
	}
	return nil
}

// stopped makes nothing of an error that comes of being told to end.
func (w *worker) stopped(err error) error {
	if w.send.Err() != nil {
		return nil
	}
	return err
}

// spread is the time over which the windows of a round are sent: four fifths of
// a window's, as their clocks and networks do.
func (s *Site) spread() time.Duration {
	return time.Duration(0.8 * stepMS * 1e6 / s.o.Speed)
}

// pace waits for the k-th node's turn.
func (w *worker) pace(r *round, k int) {
	if r.due.IsZero() {
		return
	}
	part := (float64(k) + float64(w.nodes[0].index)/float64(w.s.o.Connections)) / float64(len(w.nodes))
	_ = sleep(w.until, r.due.Add(time.Duration(part*float64(w.s.spread()))).Sub(w.s.o.Now()))
}

// built is a window that waits for its acknowledgement.
type built struct {
	bytes  []byte
	cat    *window.Catalogue
	boot   int
	endMS  int64
	lines  []line
	meters []energy.Millijoules
}

// line is what a window books to one job, or to nobody.
type line struct {
	job *Job
	mj  energy.Millijoules
}

// keep encodes a window and remembers what it books.
func (w *worker) keep(n *node, win *window.Window) {
	win.Final = w.s.o.Final && w.round.last && win.EndMS-n.skew == w.round.to
	bytes, err := w.enc.window(win)
	if err != nil {
		w.s.fail(fmt.Errorf("cannot encode a window of %s: %w", n.name, err))
		return
	}
	b := built{bytes: bytes, cat: n.cat, boot: n.boots, endMS: win.EndMS}
	if w.s.o.Truth {
		b.lines = make([]line, len(win.Postings))
		for i, p := range win.Postings {
			b.lines[i] = line{mj: p.Energy}
			if p.Job >= 0 {
				b.lines[i].job = n.held[p.Job].job
			}
		}
		b.meters = make([]energy.Millijoules, len(w.s.m.defs))
		for _, r := range win.Ranges {
			b.meters[r.Meter] = r.Energy()
		}
	}
	n.link.pending = append(n.link.pending, b)
}

// What a request carries at most, and from when on it is compressed.
const (
	maxRequest  = 1 << 20
	compressAt  = 64 << 10
	maxInFlight = 1024
)

// deliver sends what a node has, in order, until all is acknowledged.
func (w *worker) deliver(n *node) error {
	for len(n.link.pending) > 0 {
		if w.conn == nil {
			w.booked(n, len(n.link.pending))
			return nil
		}
		if n.link.boot != n.link.pending[0].boot || !n.link.open {
			if err := w.open(n); err != nil {
				return err
			}
			continue
		}
		if n.link.past || n.link.pending[0].endMS <= n.link.resumeMS {
			w.booked(n, 1)
			continue
		}
		count, err := w.load(n)
		if err != nil {
			return err
		}
		if err := w.exchange(n, count); err != nil {
			return err
		}
	}
	return nil
}

// load makes the next request of a node.
func (w *worker) load(n *node) (count int, err error) {
	l := &n.link
	w.body, err = wire.AppendHead(w.body[:0], wire.Head{
		Node: ledger.Node{Cluster: w.s.o.Cluster, Name: n.name}, Incarnation: l.incarnation, Session: l.nonce(w.s, n),
		NowMS: w.s.o.Now().UnixMilli() + n.skew,
	})
	if err != nil {
		return 0, err
	}
	known := l.known
	for i := range l.pending {
		b := &l.pending[i]
		if b.boot != l.boot || i >= maxInFlight || len(w.body)+len(b.bytes) > maxRequest && i > 0 {
			break
		}
		if b.cat.ID != known {
			cat, err := wire.EncodeFragment([]*window.Catalogue{b.cat}, nil)
			if err != nil {
				return 0, err
			}
			w.body = append(w.body, cat...)
			known = b.cat.ID
		}
		w.body = append(w.body, b.bytes...)
		count++
	}
	l.knows = known
	return count, nil
}

// booked lets go of the first windows of a node.
func (w *worker) booked(n *node, count int) {
	for i := range count {
		w.s.account(n, &n.link.pending[i])
	}
	rest := copy(n.link.pending, n.link.pending[count:])
	clear(n.link.pending[rest:])
	n.link.pending = n.link.pending[:rest]
	if rest == 0 && cap(n.link.pending) > 64 {
		n.link.pending = nil
	}
}
