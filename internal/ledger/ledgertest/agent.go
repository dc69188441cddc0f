// Package ledgertest holds what every implementation of ledger.Ledger must pass,
// and a small builder of windows to pass it with.
package ledgertest

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"math/rand/v2"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// Start is when the tests begin: 1 October 2026, 00:00 UTC.
const Start = int64(1_790_812_800_000)

// Agent makes windows that join one after the other, as a node's agent does.
// Its node has gpu0, gpu1 and package0, by default inside the meter node, whose
// remainder is of class other. Job i of Jobs holds gpu i; what is shared is split
// evenly; what nobody holds is idle (GPUs) or system.
type Agent struct {
	Node        ledger.Node
	Session     string
	Nonce       string
	Incarnation uint64
	Catalogue   *window.Catalogue
	At          int64 // start of the next window
	UJ          []energy.Microjoules
	Jobs        []window.Job
	Rand        *rand.Rand
}

// NewAgent makes the agent of a node; all it draws comes from the seed.
func NewAgent(cluster, node string, seed uint64) *Agent {
	a := &Agent{
		Node: ledger.Node{Cluster: cluster, Name: node}, Session: "session-1", Nonce: "nonce-1", At: Start,
		Rand: rand.New(rand.NewPCG(seed, 1)),
	}
	a.Boot("boot-1", true)
	return a
}

// Boot begins new epochs of all meters. With parent they lie inside one meter of
// the node, else they are roots.
func (a *Agent) Boot(epoch string, parent bool) {
	in := ""
	if parent {
		in = "node"
	}
	meters := []window.Meter{
		{Name: "gpu0", Epoch: epoch, Parent: in, Class: energy.GPU, Root: !parent, Leaf: true},
		{Name: "gpu1", Epoch: epoch, Parent: in, Class: energy.GPU, Root: !parent, Leaf: true},
		{Name: "package0", Epoch: epoch, Parent: in, Class: energy.CPU, Root: !parent, Leaf: true, Modulus: 262_143_328_850},
	}
	if parent {
		meters = append(meters, window.Meter{Name: "node", Epoch: epoch, Class: energy.Other, Root: true, Integrated: true})
	}
	a.Catalogue = catalogue(meters)
	a.UJ = make([]energy.Microjoules, len(meters))
	for i := range a.UJ {
		a.UJ[i] = energy.Microjoules(a.Rand.Uint64N(1 << 33))
	}
}

func catalogue(meters []window.Meter) *window.Catalogue {
	c := &window.Catalogue{Meters: meters, Policy: "allocation/v1"}
	c.ID = hash(c)
	return c
}

func hash(v any) uint64 {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	h := fnv.New64a()
	_, _ = h.Write(b)
	return h.Sum64()
}

// OpenRequest is what the agent introduces itself with.
func (a *Agent) OpenRequest() ledger.OpenRequest {
	return ledger.OpenRequest{Node: a.Node, Incarnation: a.Incarnation, Nonce: a.Nonce, Session: a.Session, NowMS: a.At}
}

// Open opens the node and takes the incarnation over.
func (a *Agent) Open(t testing.TB, l ledger.Ledger) ledger.Opening {
	t.Helper()
	o, ok, err := l.Open(context.Background(), a.OpenRequest())
	if err != nil || !ok {
		t.Fatalf("Open(%v) = %v, %v; want true", a.Node, ok, err)
	}
	a.Incarnation = o.Incarnation
	return o
}

// Next makes the window of the next ms milliseconds.
func (a *Agent) Next(ms int64) *window.Window {
	w := &window.Window{Catalogue: a.Catalogue, StartMS: a.At, EndMS: a.At + ms, Jobs: append([]window.Job(nil), a.Jobs...)}
	a.At += ms
	var inner energy.Microjoules
	own := make([]energy.Millijoules, len(a.UJ))
	var children energy.Millijoules
	for i, m := range a.Catalogue.Meters {
		add := energy.Microjoules(a.Rand.Uint64N(400_000)) * energy.Microjoules(ms)
		if m.Parent == "" && !m.Leaf {
			if add = inner + add/4; a.Rand.IntN(8) == 0 {
				add = inner / 10 * 9 // a parent that reads less than its parts
			}
		}
		inner += add
		r := window.Range{Meter: i, From: a.UJ[i], To: a.UJ[i] + add, FromMS: w.StartMS, ToMS: w.EndMS, Raw: a.UJ[i] + add}
		if m.Modulus > 0 {
			r.Raw %= m.Modulus
		}
		if m.Integrated {
			r.Raw = 0
		}
		a.UJ[i] = r.To
		w.Ranges = append(w.Ranges, r)
		if own[i] = r.Energy(); m.Parent != "" {
			children += own[i]
		} else if !m.Leaf {
			own[i] -= children // a remainder, now and then negative
		}
	}
	for i, m := range a.Catalogue.Meters {
		a.post(w, i, m, own[i], ms)
	}
	for i := range w.Jobs {
		w.Holdings = append(w.Holdings, window.Holding{Job: i, Devices: []window.Share{{Device: "gpu0", Weight: 1_000_000}}})
	}
	return w
}

func (a *Agent) post(w *window.Window, i int, m window.Meter, own energy.Millijoules, ms int64) {
	var length int64
	if m.Leaf {
		length = ms
	}
	p := window.Posting{Job: -1, Class: m.Class, Use: energy.System, Energy: own, DeviceMS: length}
	if m.Integrated {
		p.Grade = energy.Sampled
	}
	switch {
	case m.Class == energy.GPU && i < len(w.Jobs):
		p.Job, p.Use = i, energy.Busy
		if a.Rand.IntN(4) == 0 {
			p.Use = energy.Held
		}
	case m.Class == energy.GPU:
		p.Use = energy.Idle
	case len(w.Jobs) > 0:
		weights := make([]uint64, len(w.Jobs))
		for j := range weights {
			weights[j] = 1
		}
		parts, _ := energy.Split(nil, own, weights)
		for j, e := range parts {
			q := p
			q.Job, q.Use, q.Energy = j, energy.Busy, e
			if j > 0 {
				q.DeviceMS = 0
			}
			w.Postings = append(w.Postings, q)
		}
		return
	}
	w.Postings = append(w.Postings, p)
}

// Submit makes the submission of a window; it arrives as it ends.
func (a *Agent) Submit(w *window.Window) ledger.Submission {
	return ledger.Submission{
		Node: a.Node, Incarnation: a.Incarnation, Session: a.Session, Window: w, Hash: hash(w), Raw: []byte("raw"), NowMS: w.EndMS,
	}
}

// Book offers windows and gives the statuses.
func Book(t testing.TB, l ledger.Ledger, subs ...ledger.Submission) []ledger.Result {
	t.Helper()
	rs, err := l.Book(context.Background(), subs)
	if err != nil {
		t.Fatalf("Book: %v", err)
	}
	if len(rs) != len(subs) {
		t.Fatalf("Book gave %d results for %d windows", len(rs), len(subs))
	}
	return rs
}

// Want books windows and fails unless they become what is wanted.
func Want(t testing.TB, l ledger.Ledger, want ledger.Status, subs ...ledger.Submission) []ledger.Result {
	t.Helper()
	rs := Book(t, l, subs...)
	for i, r := range rs {
		if r.Status != want {
			t.Fatalf("window %d was %s (%s); want %s", i, r.Status, r.Reason, want)
		}
	}
	return rs
}

// Copy is a window that can be changed without changing w.
func Copy(w *window.Window) *window.Window {
	c := *w
	c.Ranges = append([]window.Range(nil), w.Ranges...)
	c.Postings = append([]window.Posting(nil), w.Postings...)
	c.Jobs = append([]window.Job(nil), w.Jobs...)
	return &c
}
