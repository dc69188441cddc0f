// Package intaketest has a ledger in memory, for tests of both ends of the link:
// it joins ranges, knows duplicates, fences, and fails when told to. It adds up
// nothing and audits nothing.
package intaketest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// ErrFailed is what Book and Open return while Fail is set.
var ErrFailed = errors.New("disk full")

// Ledger is a ledger in memory. Methods it does not need panic.
type Ledger struct {
	total energy.Millijoules
	ledger.Ledger

	mu         sync.Mutex
	nodes      map[ledger.Node]*node
	commits    []int // windows of each call of Book
	failing    int   // calls of Book that will fail, -1 for all
	answers    []ledger.Result
	poison     func(ledger.Submission) bool
	catalogues int // calls of Catalogue
}

type node struct {
	incarnation uint64
	nonce       string
	session     string
	ends        map[string]ledger.End
	seen        map[uint64]int // windows by hash: how often booked
	starts      map[int64]uint64
	catalogues  map[uint64]*window.Catalogue
	lastMS      int64
	energy      energy.Millijoules
}

// New makes an empty ledger.
func New() *Ledger { return &Ledger{nodes: map[ledger.Node]*node{}} }

// Fail makes the next n calls of Book fail; all of them if n is negative.
func (l *Ledger) Fail(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = n
}

// Poison makes every call of Book fail that holds such a submission.
func (l *Ledger) Poison(f func(ledger.Submission) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.poison = f
}

// Answer makes the next windows get these results, without being booked.
func (l *Ledger) Answer(r ...ledger.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = r
}

// Commits gives the sizes of the commits so far.
func (l *Ledger) Commits() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]int(nil), l.commits...)
}

// Lookups is how often a catalogue was asked for.
func (l *Ledger) Lookups() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.catalogues
}

// Booked is how many windows of a node are booked, and their energy; most is how
// often the same one was.
func (l *Ledger) Booked(n ledger.Node) (windows, most int, mj energy.Millijoules) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.nodes[n]
	if x == nil {
		return 0, 0, 0
	}
	for _, times := range x.seen {
		most = max(most, times)
	}
	return len(x.seen), most, x.energy
}

// Forget lets a node's session be unknown, as after a restored backup.
func (l *Ledger) Forget(n ledger.Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes[n].session = ""
}

// Open makes the caller the one that may write for a node.
func (l *Ledger) Open(_ context.Context, r ledger.OpenRequest) (ledger.Opening, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing != 0 {
		return ledger.Opening{}, false, ErrFailed
	}
	x := l.nodes[r.Node]
	if x == nil {
		x = &node{
			ends: map[string]ledger.End{}, seen: map[uint64]int{}, starts: map[int64]uint64{}, catalogues: map[uint64]*window.Catalogue{},
		}
		l.nodes[r.Node] = x
	}
	if r.Incarnation != 0 && r.Incarnation != x.incarnation {
		return ledger.Opening{}, false, nil
	}
	if r.Incarnation == 0 && r.Nonce != x.nonce {
		x.incarnation++
		x.nonce = r.Nonce
	}
	x.session = r.Session
	o := ledger.Opening{Incarnation: x.incarnation, LastMS: x.lastMS}
	for _, e := range x.ends {
		o.Ends = append(o.Ends, e)
	}
	return o, true, nil
}

// Book books windows that join.
func (l *Ledger) Book(_ context.Context, s []ledger.Submission) ([]ledger.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing != 0 {
		l.failing = max(l.failing-1, -1)
		return nil, ErrFailed
	}
	for _, x := range s {
		if l.poison != nil && l.poison(x) {
			return nil, fmt.Errorf("constraint: %w", ErrFailed)
		}
	}
	l.commits = append(l.commits, len(s))
	out := make([]ledger.Result, len(s))
	for i := range s {
		if len(l.answers) > 0 {
			out[i], l.answers = l.answers[0], l.answers[1:]
			continue
		}
		out[i] = l.book(&s[i])
	}
	return out, nil
}

func (l *Ledger) book(s *ledger.Submission) ledger.Result {
	x := l.nodes[s.Node]
	switch {
	case x == nil || x.session == "":
		return ledger.Result{Status: ledger.Reopen}
	case s.Incarnation != x.incarnation || s.Session != x.session:
		return ledger.Result{Status: ledger.Fenced}
	case x.seen[s.Hash] > 0:
		return ledger.Result{Status: ledger.Duplicate}
	}
	if h, ok := x.starts[s.Window.StartMS]; ok && h != s.Hash {
		return ledger.Result{Status: ledger.Conflict, Reason: "booked with other content"}
	}
	for _, r := range s.Window.Ranges {
		m := s.Window.Catalogue.Meters[r.Meter]
		if e, ok := x.ends[m.Name]; ok && e.UJ != r.From {
			return ledger.Result{Status: ledger.Apart, Ends: []ledger.End{e}}
		}
	}
	for _, r := range s.Window.Ranges {
		m := s.Window.Catalogue.Meters[r.Meter]
		x.ends[m.Name] = ledger.End{Meter: m.Name, Epoch: m.Epoch, UJ: r.To, Raw: r.Raw, AtMS: r.ToMS, Root: m.Root}
	}
	x.seen[s.Hash]++
	x.starts[s.Window.StartMS] = s.Hash
	x.catalogues[s.Window.Catalogue.ID] = s.Window.Catalogue
	x.lastMS = s.Window.EndMS
	x.energy += s.Window.Metered()
	return ledger.Result{Status: ledger.Booked}
}

// Catalogue gives a catalogue of a booked window.
func (l *Ledger) Catalogue(_ context.Context, n ledger.Node, id uint64) (*window.Catalogue, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.catalogues++
	if l.nodes[n] == nil {
		return nil, false, nil
	}
	c, ok := l.nodes[n].catalogues[id]
	return c, ok, nil
}

// SetTotal says what Totals has booked to project p.
func (l *Ledger) SetTotal(mj energy.Millijoules) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total = mj
}

// Totals has one project, so that there is something to show.
func (l *Ledger) Totals(context.Context) ([]ledger.ProjectTotal, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing != 0 {
		return nil, ErrFailed
	}
	t := ledger.ProjectTotal{Cluster: "c", Project: "p"}
	t.Amounts.Energy[energy.GPU][energy.Busy] = 1500 + l.total
	return []ledger.ProjectTotal{t}, nil
}

// Nodes lists who has opened.
func (l *Ledger) Nodes(context.Context) (out []ledger.NodeStatus, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n, x := range l.nodes {
		out = append(out, ledger.NodeStatus{Node: n, Incarnation: x.incarnation, LastMS: x.lastMS})
	}
	return out, nil
}

// Windows makes n windows of 10 s that join, of a node with so many counters.
func Windows(n, meters int) (*window.Catalogue, []*window.Window) {
	c := &window.Catalogue{Policy: "allocation/v1"}
	for i := range meters {
		c.Meters = append(c.Meters, window.Meter{Name: fmt.Sprintf("gpu%d", i), Epoch: "boot", Class: energy.GPU, Root: true, Leaf: true})
	}
	c.ID = wire.CatalogueID(c)
	out := make([]*window.Window, n)
	for i := range out {
		w := &window.Window{Catalogue: c, StartMS: 1_790_000_000_000 + int64(i)*10_000}
		w.EndMS = w.StartMS + 10_000
		for m := range meters {
			from := energy.Microjoules(i) * 4_000_000_000
			w.Ranges = append(w.Ranges, window.Range{
				Meter: m, From: from, To: from + 4_000_000_000, Raw: from + 4_000_000_000, FromMS: w.StartMS, ToMS: w.EndMS,
			})
		}
		w.Postings = []window.Posting{{
			Job: -1, Use: energy.Idle, Energy: energy.Millijoules(meters) * 4_000_000, DeviceMS: int64(meters) * 10_000,
		}}
		out[i] = w
	}
	return c, out
}
