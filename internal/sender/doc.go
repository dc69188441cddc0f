// Package sender is the agent's end of the link: it introduces the agent to the
// aggregator once per process, then delivers the records of the spool in order,
// for as long as it takes, and lets go of a record only when every window in it
// is booked, known or quarantined.
//
// One request is under way at a time. Whatever goes wrong on the way costs
// repetition, never a window: the aggregator knows what it has. What the answers
// mean is listed in package intake; here is what is done about them:
//
//	409  the agent fits its spool to the ledger's ends (OnApart), or decides
//	     about a conflict (OnConflict); then it is sent again
//	410  Run returns ErrFenced
//	424  the catalogues go along
//	428  the agent opens again
//	400, 413, 415
//	     half as many records; a single record that the aggregator itself calls
//	     malformed is handed to OnRefused, which keeps it aside
//	anything else, and no answer: again, after a pause that grows to 30 s
package sender

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/spool"
)

// ErrFenced says that another agent has taken over this node.
var ErrFenced = errors.New("another agent has taken over this node")

// Spool is what the sender needs of a spool.Spool.
type Spool interface {
	Next(maxBytes, maxRecords int) (first, last spool.Seq, records [][]byte, err error)
	Release()
	Commit(through spool.Seq) error
	Wait(ctx context.Context) error
	Len() int
	Bytes() int64
}

// Options say what is sent where. Spool, URL, Node, Nonce, Session and Now are
// needed. No callback is called while records are claimed; each may block.
type Options struct {
	Spool  Spool
	Client *http.Client // nil: one with TLS of the system and one kept connection
	URL    string       // of the aggregator, without a path
	Token  func() string

	Node        ledger.Node
	Incarnation uint64 // 0 where the state is new
	Nonce       string
	Session     string

	// OnOpen takes where the books stand, before any window is sent. An error is
	// logged and the agent opens again after a pause.
	OnOpen func(ledger.Opening) error
	// OnApart fits the spool to the ledger's ends. After an error, or when the
	// same windows are apart three times running, there is a pause.
	OnApart func(ends []ledger.End) error
	// OnConflict is told that the ranges of the window with this hash (wire.Hash)
	// are booked with other content. It may take it out of the spool; until it
	// does, it is sent again after pauses.
	OnConflict func(hash uint64, r ledger.Result) error
	// OnQuarantined is told of windows that the aggregator keeps and has not
	// booked. It may be nil.
	OnQuarantined func(r ledger.Result)
	// OnRefused keeps aside a record that the aggregator cannot read. The record
	// leaves the spool when OnRefused has returned nil; it is needed.
	OnRefused func(record []byte, reason string) error

	MaxRecords int           // of a request (default 512)
	MaxBytes   int           // of a request, uncompressed (default 1 MiB)
	Timeout    time.Duration // of a request (default 30 s)

	Now        func() time.Time
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

func (o *Options) setDefaults() error {
	switch {
	case o.Spool == nil || o.Now == nil:
		return errors.New("cannot make a sender: it needs a spool and a clock")
	case o.URL == "" || o.Node.Cluster == "" || o.Node.Name == "" || o.Nonce == "" || o.Session == "":
		return errors.New("cannot make a sender: URL, cluster, node, nonce or session is empty")
	case o.OnRefused == nil:
		return errors.New("cannot make a sender: nobody keeps what is refused (OnRefused)")
	}
	if o.OnOpen == nil {
		o.OnOpen = func(ledger.Opening) error { return nil }
	}
	if o.OnApart == nil {
		o.OnApart = func([]ledger.End) error { return nil }
	}
	if o.OnQuarantined == nil {
		o.OnQuarantined = func(ledger.Result) {}
	}
	if o.OnConflict == nil {
		o.OnConflict = func(uint64, ledger.Result) error { return nil }
	}
	if o.Token == nil {
		o.Token = func() string { return "" }
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.MaxRecords <= 0 {
		o.MaxRecords = 512
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 1 << 20
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	return nil
}

// Sender delivers a spool. Run is called once; the other methods may be called
// from any goroutine.
type Sender struct {
	opts    Options
	client  *http.Client
	metrics *metrics
	pack    *zstd.Encoder // made when first needed

	incarnation uint64
	confirmed   map[uint64]bool // catalogues that the aggregator has from this session
	limit       int             // records of the next request
	pause       pause
	reopening   pause
	apart       int  // times running that the head was apart
	lacking     bool // the last answer asked for catalogues
	plain       bool // zstd was refused

	offset   atomic.Pointer[time.Duration]
	mu       sync.Mutex
	progress chan struct{} // closed at the next commit
	kick     chan struct{} // ends a pause
}

// New makes a sender and registers its metrics.
func New(o Options) (*Sender, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer, o.Spool)
	if err != nil {
		return nil, fmt.Errorf("cannot register metrics of the sender: %w", err)
	}
	s := &Sender{
		opts: o, metrics: m, incarnation: o.Incarnation, limit: o.MaxRecords, confirmed: map[uint64]bool{},
		progress: make(chan struct{}), kick: make(chan struct{}, 1),
	}
	client := http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1, IdleConnTimeout: 5 * time.Minute,
		TLSHandshakeTimeout: 10 * time.Second, ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10,
	}}
	if o.Client != nil {
		client = *o.Client
	}
	// A redirected POST would lose its body, or show the token to another host.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s.client = &client
	return s, nil
}

// Offset is how far the aggregator's clock was ahead of ours at its last answer,
// to within the time an answer travels. ok is false before the first.
func (s *Sender) Offset() (d time.Duration, ok bool) {
	p := s.offset.Load()
	if p == nil {
		return 0, false
	}
	return *p, true
}

// Flush returns nil as soon as the spool is empty, or the error of ctx. It ends
// a pause that Run may be in.
func (s *Sender) Flush(ctx context.Context) error {
	select {
	case s.kick <- struct{}{}:
	default:
	}
	for {
		s.mu.Lock()
		progress := s.progress
		s.mu.Unlock()
		if s.opts.Spool.Len() == 0 {
			return nil
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return fmt.Errorf("cannot deliver what is spooled: %w", ctx.Err())
		}
	}
}

// commit lets go of records and wakes Flush.
func (s *Sender) commit(through spool.Seq) error {
	err := s.opts.Spool.Commit(through)
	s.mu.Lock()
	close(s.progress)
	s.progress = make(chan struct{})
	s.mu.Unlock()
	return err
}
