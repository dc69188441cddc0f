package agent

import (
	"fmt"
	"strings"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

// How a witness is held against what is booked of its scope.
const (
	witnessSpan  = 60e9 // ns that are compared at a time
	witnessGap   = 30e9 // a longer silence begins anew
	witnessTenth = 10   // apart by more than a tenth is told
	witnessLeast = 600 * energy.Joule
)

// witness compares a meter that is never booked with the books of its scope. A
// witness of the node where the node itself is not booked sees more than the
// meters inside it (fans, losses), so only less is odd there.
type witness struct {
	power   energy.Integral
	counter energy.Microjoules
	booked  energy.Microjoules // odometers of the scope when the span began
	epoch   string
	began   int64
	last    int64
	tree    string // what the odometers were of
	whole   bool   // the books hold the same scope
	differ  bool
}

// testify takes a witness's reading.
func (p *Pipeline) testify(r collector.Reading) {
	if !r.Scope.Witness || p.tree == nil {
		return
	}
	scope, of, _ := strings.Cut(r.Scope.Name, "-")
	if scope == "node" && (r.HasPower || r.Scope.Kind == collector.Power) {
		p.gauge(collector.Reading{Scope: r.Scope, Gauges: []collector.Gauge{{Name: of + "_power_watts", Value: float64(r.Power) / 1e6}}})
	}
	at := r.At.UnixNano()
	booked, tree, whole, ok := p.odometers(scope, at)
	w := p.witnesses[r.Scope.Name]
	if w == nil {
		w = &witness{}
		p.witnesses[r.Scope.Name] = w
	}
	if !ok || w.began == 0 || w.tree != tree || w.epoch != r.Epoch || at-w.last > witnessGap || at <= w.last {
		*w = witness{differ: w.differ}
		if ok {
			w.begin(r, at, booked, tree, whole)
		}
		return
	}
	if r.Scope.Kind == collector.Power {
		w.power.Add(at, r.Power)
	}
	w.last = at
	if at-w.began < witnessSpan {
		return
	}
	seen := w.power.Odometer()
	if r.Scope.Kind == collector.Counter {
		var v energy.Verdict
		if seen, v = energy.Delta(w.counter, r.Counter, r.Scope.Modulus, energy.MaxOdometer); !v.Energy() {
			w.begin(r, at, booked, tree, whole)
			return
		}
	}
	p.compare(r, w, seen, booked-min(w.booked, booked))
	w.begin(r, at, booked, tree, whole)
}

func (w *witness) begin(r collector.Reading, at int64, booked energy.Microjoules, tree string, whole bool) {
	*w = witness{counter: r.Counter, epoch: r.Epoch, booked: booked, began: at, last: at, tree: tree, whole: whole, differ: w.differ}
	if r.Scope.Kind == collector.Power {
		w.power.Add(at, r.Power)
	}
}

func (p *Pipeline) compare(r collector.Reading, w *witness, seen, booked energy.Microjoules) {
	more, less := max(seen, booked), min(seen, booked)
	differ := more >= witnessLeast && more-less > more/100*witnessTenth && (w.whole || seen < booked)
	if differ == w.differ {
		return
	}
	w.differ = differ
	kind, words := "witness_over", "the witness and the books agree again"
	if differ {
		kind = "witness"
	}
	switch {
	case differ && w.whole:
		words = "the witness and the books of its scope disagree: one of the meters is wrong"
	case differ:
		words = "the witness of the whole node saw less than the meters inside it: one of them is wrong"
	}
	p.event(r.At.UnixMilli(), kind, r.Scope.Name,
		fmt.Sprintf("%s (%.0f J seen, %.0f J booked, in a minute)", words, float64(seen.Joules()), float64(booked.Joules())))
}

// odometers sums what is booked of a scope: its own meter, or for the node all
// roots. The name says of which odometers it is.
func (p *Pipeline) odometers(scope string, ns int64) (sum energy.Microjoules, names string, whole, ok bool) {
	var b strings.Builder
	for i, n := range p.tree.Nodes {
		if n.Name != scope && (scope != "node" || !n.Root()) {
			continue
		}
		uj, _ := p.tracks[i].At(ns)
		sum += uj
		b.WriteString(n.Name + "\x00" + p.tracks[i].Epoch() + "\x00")
		whole = whole || n.Name == scope
	}
	return sum, b.String(), whole, b.Len() > 0
}
