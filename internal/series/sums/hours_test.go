package sums_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/series/metric"
	"github.com/wattledger/wattledger/internal/series/sums"
	"github.com/wattledger/wattledger/internal/window"
)

// arrival is a window and when the aggregator has it.
type arrival struct {
	booked
	at int64
}

// run is a random machine: nodes that send within the time that steps wait,
// aggregators that are killed at any point and come back, minutes later at
// times.
type run struct {
	t       *testing.T
	r       *rand.Rand
	now     int64
	books   books
	stored  stored
	sums    *sums.Sums
	state   []byte
	options sums.Options
}

var projects = []string{"A", "B", "(unassigned)", "D"}

func (x *run) window(start, end int64) *window.Window {
	var jobs []window.Job
	var posts []window.Posting
	for i := range x.r.IntN(3) {
		jobs = append(jobs, window.Job{ID: fmt.Sprint(i), Project: projects[x.r.IntN(len(projects))]})
		posts = append(posts,
			window.Posting{Job: i, Class: energy.GPU, Use: energy.Busy, Energy: energy.Millijoules(x.r.IntN(9_000_000))},
			window.Posting{Job: i, Class: energy.CPU, Use: energy.Held, Energy: energy.Millijoules(x.r.IntN(100_000))})
	}
	posts = append(posts, window.Posting{Job: -1, Class: energy.GPU, Use: energy.Idle, Energy: energy.Millijoules(x.r.IntN(1_000_000))})
	return gpuNode(start, end, nil, jobs, posts...)
}

// arrivals of a node: windows of 10 s, at times longer ones, within slots.
func (x *run) arrivals(n ledger.Node, from, to int64) (out []arrival) {
	lag := int64(x.r.IntN(5_000))
	for start := from; start < to; {
		end := start + 10_000*int64(1+x.r.IntN(2)*x.r.IntN(3))
		end = min(end, (window.Slot(start)+1)*window.SlotMS)
		at := end + lag + int64(x.r.IntN(3_000))
		if k := len(out); k > 0 {
			at = max(at, out[k-1].at)
		}
		out = append(out, arrival{booked{n, x.window(start, end)}, at})
		start = end
	}
	return out
}

func (x *run) start() {
	var err error
	if x.sums, err = sums.Recover(x.t.Context(), &x.books, x.state, x.options, x.now); err != nil {
		x.t.Fatal(err)
	}
}

// advance stores what is due; a kill may come before the samples are stored, or
// before the state is.
func (x *run) advance(kill bool) {
	for {
		samples, more := x.sums.Advance(x.now, nil)
		if kill && x.r.IntN(2) == 0 {
			return
		}
		x.stored.put(samples)
		if kill && x.r.IntN(2) == 0 {
			return
		}
		var err error
		if x.state, err = x.sums.State(); err != nil {
			x.t.Fatal(err)
		}
		if !more {
			return
		}
	}
}

func TestHoursOfTheCountersAreHoursOfTheBooks(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			x := &run{t: t, r: rand.New(rand.NewPCG(seed, 7)), stored: stored{}, now: begin, options: sums.Options{Wait: time.Minute}}
			var all []arrival
			first, last := begin+int64(x.r.IntN(2))*890_000, begin+3*3_600_000
			for i := range 1 + x.r.IntN(5) {
				all = append(all, x.arrivals(ledger.Node{Cluster: "c", Name: fmt.Sprint(i)}, first, last)...)
			}
			slices.SortStableFunc(all, func(a, b arrival) int { return int(a.at - b.at) })
			x.play(all)
			x.check(last)
			if s := x.sums.Stats(); s.ForcedSteps != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// play lets windows arrive; after an outage what waited comes at once, each
// node's in order.
func (x *run) play(all []arrival) {
	x.start()
	for len(all) > 0 {
		x.now = max(x.now, all[0].at)
		kill := x.r.IntN(400) == 0
		for n := 1 + x.r.IntN(4); n > 0 && len(all) > 0 && all[0].at <= x.now; n-- {
			x.books.book(all[0].node, all[0].w)
			if !kill || x.r.IntN(2) == 0 {
				x.sums.Fold(all[0].node, all[0].w, x.now)
			}
			all = all[1:]
		}
		if x.r.IntN(3) == 0 || kill {
			x.advance(kill)
		}
		if kill {
			if x.r.IntN(2) == 0 {
				x.now += int64(x.r.IntN(4_000_000)) // nobody was there
			}
			x.start()
		}
	}
	x.now += 120_000
	x.advance(false)
}

func (x *run) check(last int64) {
	x.t.Helper()
	compared := 0
	for _, name := range projects {
		for from := begin; from < last; from += 900_000 {
			for _, to := range []int64{from + 900_000, from + 3_600_000} {
				if to > last {
					continue
				}
				all, held := x.books.span(x.t, "c", name, from, to)
				compared += x.differ(metric.ProjectEnergy, name, from, to, all)
				compared += x.differ(metric.ProjectHeldEnergy, name, from, to, held)
			}
		}
	}
	if compared < 20 {
		x.t.Errorf("only %d differences could be compared", compared)
	}
}

func (x *run) differ(name, project string, from, to, want int64) int {
	x.t.Helper()
	key := sums.Key{Metric: name, Cluster: "c", Project: project}
	a, ok1 := x.stored.at(key, from)
	b, ok2 := x.stored.at(key, to)
	if !ok2 && want != 0 {
		x.t.Errorf("%s of %s has no value at %d, %d s after the start", name, project, to, (to-begin)/1000)
	}
	if !ok1 || !ok2 {
		return 0
	}
	if got := int64(math.Round((b - a) * 1000)); got != want {
		x.t.Errorf("%s of %s from %d s to %d s: %d mJ; the books have %d", name, project, (from-begin)/1000, (to-begin)/1000, got, want)
	}
	return 1
}
