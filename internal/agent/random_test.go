package agent_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/agent"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

// walk is a node at which anything may happen in any order.
type walk struct {
	*node
	r    *rand.Rand
	opt  agent.PipelineOptions
	open map[string]bool
	next int
}

func newWalk(t testing.TB, seed uint64) *walk {
	r := rand.New(rand.NewPCG(seed, 9))
	dials := []*dial{gpuDial("gpu0", 300), gpuDial("gpu1", 200), counterDial("package0", "", energy.CPU, 150)}
	dials[2].scope.Modulus, dials[2].scope.Limit = 262_143*energy.Joule, 300*energy.Watt
	if r.IntN(2) == 0 {
		for _, d := range dials {
			d.scope.Parent = "node"
		}
		dials = append(dials, counterDial("node", "", energy.Node, energy.Microwatts(500+r.IntN(400))))
	}
	if r.IntN(3) == 0 {
		dials[0].scope.Kind = collector.Power
	}
	opt := options()
	opt.Grace = time.Duration(r.IntN(4)) * time.Second
	return &walk{node: newNode(t, opt, dials...), r: r, opt: opt, open: map[string]bool{}}
}

// read gives readings with stamps that differ, in any order.
func (w *walk) read(jitter int64) {
	w.Helper()
	var rs []collector.Reading
	for _, m := range w.dials {
		if m.silent {
			continue
		}
		rd := m.reading(w.now)
		if m.scope.Kind != collector.Power && jitter > 0 {
			rd.At = rd.At.Add(-time.Duration(w.r.Int64N(jitter)))
		}
		rs = append(rs, rd)
	}
	w.r.Shuffle(len(rs), func(i, j int) { rs[i], rs[j] = rs[j], rs[i] })
	w.take(w.p.Observe(w.now, rs))
}

func (w *walk) step() {
	w.Helper()
	r := w.r
	for _, m := range w.dials {
		m.watts = energy.Microwatts(50+r.IntN(200)) * energy.Watt
		if m.scope.Class == energy.Node {
			m.watts += energy.Microwatts(r.IntN(600)) * energy.Watt
		}
	}
	w.pass(time.Duration(900+r.IntN(200)) * time.Millisecond)
	switch r.IntN(40) {
	case 0, 1, 2:
		id := fmt.Sprint("j", w.next)
		w.next++
		s := job.Spec{ID: id, CPUs: uint32(r.IntN(64))}
		for g := range 2 {
			if r.IntN(2) == 0 {
				s.GPUs = append(s.GPUs, window.Share{Device: fmt.Sprint("gpu", g), Weight: uint32(1 + r.IntN(job.Whole))})
			}
		}
		at := w.now.Add(-time.Duration(r.Int64N(3e9)) * time.Duration(r.IntN(2))) // told late, now and then
		if err := w.p.Begin(s, at); err != nil {
			w.Fatal(err)
		}
		w.open[id] = true
	case 3, 4, 5:
		for id := range w.open {
			if _, err := w.p.End(id, w.now.Add(-time.Duration(r.Int64N(3e9))*time.Duration(r.IntN(2)))); err != nil {
				w.Fatal(err)
			}
			delete(w.open, id)
			break
		}
	case 6, 7:
		w.dials[r.IntN(len(w.dials))].silent = true
	case 8, 9, 10:
		for _, m := range w.dials {
			m.silent = false
		}
	case 11: // a driver is loaded again
		m := w.dials[r.IntN(len(w.dials))]
		if m.scope.Kind == collector.Counter {
			m.epoch, m.raw = fmt.Sprint("epoch", w.now.UnixMilli()), energy.Microjoules(r.IntN(1000))
		}
	case 12: // nobody looks for a while
		w.pass(time.Duration(1+r.IntN(40)) * time.Second)
	case 13:
		if r.IntN(8) == 0 {
			w.pass(time.Duration(1+r.IntN(40)) * time.Minute)
		}
	case 14: // the agent is started again with its state
		w.flush()
		starts, last := w.p.Ends()
		demoted := w.p.Demoted()
		opt := w.opt
		opt.Demoted = demoted
		w.p = agent.NewPipeline(opt, w.jobs)
		w.p.Resume(starts, last, 0)
		w.lands = 0
		w.pass(time.Duration(r.IntN(100)) * time.Second)
	case 15:
		return // a tick is missed
	}
	w.read(int64(1+r.IntN(150)) * 1e6)
}

// Any order of events: every window closes, the ranges of each odometer adjoin
// (node.take sees to both), and what is booked of it is all that it drew.
func TestRandomOrders(t *testing.T) {
	const base = 100
	closed := 0
	for i := range uint64(150) {
		seed := base + i
		ok := t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			w := newWalk(t, seed)
			w.read(0)
			for range 400 {
				w.step()
			}
			for _, m := range w.dials {
				m.silent = false
			}
			for range 2 { // a meter met with the last reading is booked with the next
				w.pass(time.Second)
				w.read(0)
			}
			w.flush()
			booked, metered := energy.Millijoules(0), energy.Millijoules(0)
			roots, changed := map[string]bool{}, false
			for _, win := range w.ws {
				booked += win.Booked()
				metered += win.Metered()
				for _, m := range win.Catalogue.Meters {
					k := m.Name + "\x00" + m.Epoch
					if was, ok := roots[k]; ok && was != m.Root {
						changed = true // a parent was away at a start: metered and booked are compared alone
					}
					roots[k] = m.Root
				}
			}
			if booked != metered {
				t.Errorf("booked %d mJ, metered %d", booked, metered)
			}
			if len(w.p.Demoted()) == 0 && !changed {
				closed++
				drawn := energy.Millijoules(0)
				for k, first := range w.first {
					if roots[k] {
						drawn += energy.Span(first, w.ends[k])
					}
				}
				if booked != drawn {
					t.Errorf("booked %d mJ, the odometers went %d", booked, drawn)
				}
			}
			// the newest odometer of every counter stands where the counter does
			starts, _ := w.p.Ends()
			for _, m := range w.dials {
				s, ok := starts[m.scope.Name]
				if !ok || m.scope.Kind == collector.Power || len(w.p.Demoted()) > 0 {
					continue
				}
				want := m.raw
				if m.scope.Modulus > 0 {
					want %= m.scope.Modulus
				}
				if s.Raw != want {
					t.Errorf("%s is booked up to a raw reading of %d uJ, it shows %d", m.scope.Name, s.Raw, want)
				}
			}
		})
		if !ok {
			break
		}
	}
	if closed < 20 {
		t.Errorf("in only %d of 150 walks the roots stayed the same", closed)
	}
}
