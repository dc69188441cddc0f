package agent_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/agent"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

// dial is a meter of the test: what it has drawn is known.
type dial struct {
	scope  collector.Scope
	epoch  string
	raw    energy.Microjoules // unwrapped, since the epoch began
	watts  energy.Microwatts
	silent bool
	rests  bool
}

func counterDial(name, parent string, c energy.Class, w energy.Microwatts) *dial {
	return &dial{
		scope: collector.Scope{Name: name, Parent: parent, Class: c, Limit: 5_000 * energy.Watt},
		epoch: "boot", raw: 1_234_567_890, watts: w * energy.Watt,
	}
}

// node drives a pipeline and checks all that it books: each window by
// window.Check, and that the ranges of each odometer adjoin.
type node struct {
	testing.TB
	p     *agent.Pipeline
	jobs  *job.Table
	now   time.Time
	dials []*dial
	ws    []*window.Window
	ends  map[string]energy.Microjoules // of each odometer
	first map[string]energy.Microjoules
	lands int64 // end of the last window, ms
	loose bool  // the clock is stepped, or windows need not adjoin
}

func newNode(t testing.TB, opt agent.PipelineOptions, dials ...*dial) *node {
	n := &node{
		TB: t, jobs: &job.Table{}, now: time.Unix(1_790_000_000, 0), dials: dials,
		ends: map[string]energy.Microjoules{}, first: map[string]energy.Microjoules{},
	}
	n.p = agent.NewPipeline(opt, n.jobs)
	return n
}

func options() agent.PipelineOptions {
	return agent.PipelineOptions{Window: 10 * time.Second, MaxGap: 30 * time.Second, Grace: 3 * time.Second, CPUs: 64, PowerEpoch: "state"}
}

// pass lets time go by: every dial draws.
func (n *node) pass(d time.Duration) {
	n.now = n.now.Add(d)
	for _, m := range n.dials {
		m.raw += energy.Most(m.watts, d.Nanoseconds(), 0)
	}
}

func (m *dial) reading(at time.Time) collector.Reading {
	r := collector.Reading{Scope: m.scope, At: at, Epoch: m.epoch, Counter: m.raw, Power: m.watts, Activity: collector.Working}
	if m.scope.Modulus > 0 {
		r.Counter %= m.scope.Modulus
	}
	if m.rests {
		r.Activity = collector.Resting
	}
	return r
}

// read gives the pipeline a reading of every dial that is not silent.
func (n *node) read() {
	n.Helper()
	var rs []collector.Reading
	for _, m := range n.dials {
		if !m.silent {
			rs = append(rs, m.reading(n.now))
		}
	}
	n.take(n.p.Observe(n.now, rs))
}

func (n *node) ticks(count int) {
	n.Helper()
	for range count {
		n.pass(time.Second)
		n.read()
	}
}

func (n *node) begin(id string, gpus ...string) {
	n.Helper()
	s := job.Spec{ID: id, Project: "P" + id}
	for _, g := range gpus {
		s.GPUs = append(s.GPUs, window.Share{Device: g, Weight: job.Whole})
	}
	if err := n.p.Begin(s, n.now); err != nil {
		n.Fatal(err)
	}
	n.read()
}

func (n *node) end(id string) {
	n.Helper()
	if _, err := n.p.End(id, n.now); err != nil {
		n.Fatal(err)
	}
	n.read()
}

func (n *node) flush() {
	n.Helper()
	n.take(n.p.Flush())
}

func (n *node) take(ws []*window.Window) {
	n.Helper()
	for _, w := range ws {
		if err := window.Check(w); err != nil {
			n.Fatalf("window [%d, %d): %v\n%+v", w.StartMS, w.EndMS, err, w)
		}
		if !n.loose && n.lands != 0 && w.StartMS != n.lands {
			n.Fatalf("window [%d, %d) does not follow the last, which ended at %d", w.StartMS, w.EndMS, n.lands)
		}
		n.lands = w.EndMS
		for _, r := range w.Ranges {
			m := w.Catalogue.Meters[r.Meter]
			k := m.Name + "\x00" + m.Epoch
			if end, ok := n.ends[k]; ok && end != r.From {
				n.Fatalf("window [%d, %d): the range of %s (%s) begins at %d uJ, the last ended at %d", w.StartMS, w.EndMS, m.Name, m.Epoch, r.From, end)
			}
			if _, ok := n.first[k]; !ok {
				n.first[k] = r.From
			}
			n.ends[k] = r.To
		}
	}
	n.ws = append(n.ws, ws...)
}

// books sums what the windows book, by "job class use" and by "class use" for
// nobody, as sums of books_test do by kind.
func (n *node) books() map[string]energy.Millijoules {
	b := map[string]energy.Millijoules{}
	for _, w := range n.ws {
		for _, p := range w.Postings {
			b["total"] += p.Energy
			b["use "+p.Use.String()] += p.Energy
			b["grade "+p.Grade.String()] += p.Energy
			b["class "+p.Class.String()] += p.Energy
			if p.Job >= 0 {
				j := w.Jobs[p.Job]
				b[fmt.Sprintf("job %s/%d", j.ID, j.Restart)] += p.Energy
			}
		}
		for _, a := range w.Absences {
			b["missing ms "+a.Class.String()] += energy.Millijoules(a.DeviceMS)
		}
	}
	return b
}

func (n *node) events(kind string) int {
	count := 0
	for _, w := range n.ws {
		for _, e := range w.Events {
			if e.Kind == kind {
				count++
			}
		}
	}
	return count
}

// want compares sums that the windows book.
func (n *node) want(what string, want map[string]energy.Millijoules) {
	n.Helper()
	got := n.books()
	for k, v := range want {
		if got[k] != v {
			n.Errorf("%s: %s is %d, want %d", what, k, got[k], v)
		}
	}
}
