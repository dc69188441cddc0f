package series

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/series/metric"
	"github.com/wattledger/wattledger/internal/series/sums"
	"github.com/wattledger/wattledger/internal/window"
)

const (
	dayMS = 86_400_000
	// maxLabel is the longest value of a label, in bytes: as long as a name in
	// the books may be.
	maxLabel = window.MaxName
	// flatStepMS is how far apart samples are of a node whose power is known
	// only as a mean over more than two steps.
	flatStepMS = sums.StepMS
)

// serie is one series of a node. There are millions: it is small, holds no
// pointer, and lies beside its neighbours.
type serie struct {
	ref    storage.SeriesRef // 0 where it has none
	last   int64             // stamp of its newest sample, so that none has two values
	source int16             // of the table of sources
	of     int16             // of the node's names, or itself
	quiet  bool              // has stood at 0 since the node is known; last is the stamp of the last 0
}

// What a serie or a meter is of, if it has no name of its own.
const (
	itself int16 = -1 - iota // the node as a whole
	unfit                    // a name that is no label
	beyond                   // a name beyond what a node may have
)

// meter is what a meter of the catalogue is in the store.
type meter struct {
	of    int16
	scope metric.Scope
}

// nodeSeries are the series of a node.
type nodeSeries struct {
	name   ledger.Node
	unfit  bool // its name is no label
	cat    uint64
	meters []meter  // of the catalogue
	names  []string // of GPUs and meters, as they came
	series []serie  // the node's power, then in about the order they come in
	outs   []any    // of the outlet, beside series; nil without one
	day    int64
	begun  int   // series begun on that day
	seen   int64 // when it last sent
}

// writer appends windows with one appender.
type writer struct {
	store           *Store
	app             storage.Appender
	now             int64
	stored, unmoved int64
	refused         map[string]int64
	moved           []moved
	next            int  // where the next series of the window is expected
	placed          bool // places are those of the node
}

func (s *Store) writer(db storage.Appendable) *writer {
	s.handed = s.handed[:0]
	return &writer{store: s, app: db.Appender(context.Background()), now: s.o.Now().UnixMilli(), refused: map[string]int64{}}
}

func (x *writer) refuse(reason string, n int) { x.refused[reason] += int64(n) }

// window appends what a window tells of a node.
func (x *writer) window(e *entry) {
	n := x.store.nodes[e.node]
	if n == nil {
		n = &nodeSeries{name: e.node, unfit: !fit(e.node.Cluster) || !fit(e.node.Name)}
		x.store.nodes[e.node] = n
	}
	if n.series == nil {
		x.recall(n)
	}
	w := e.w
	if n.cat != w.Catalogue.ID || len(n.meters) != len(w.Catalogue.Meters) {
		n.follow(w.Catalogue, x.store.o.NewSeries)
	}
	n.seen = x.now
	x.nodePower(n, w)
	x.next, x.placed = 1, false
	for i := range w.Telemetry {
		x.series(n, w, &w.Telemetry[i])
	}
}

// follow finds the meters of a catalogue among the names of the node.
func (n *nodeSeries) follow(c *window.Catalogue, newSeries int) {
	n.cat, n.meters = c.ID, make([]meter, len(c.Meters))
	for i := range c.Meters {
		m := &c.Meters[i]
		switch {
		case m.Class == energy.GPU:
			n.meters[i] = meter{n.named(m.Name, newSeries), metric.OfGPU}
		case m.Class == energy.CPU || m.Class == energy.Memory || m.Parent != "":
			n.meters[i] = meter{n.named(m.Name, newSeries), metric.OfMeter}
		default:
			n.meters[i] = meter{itself, metric.OfNode}
		}
	}
}

func (n *nodeSeries) named(name string, newSeries int) int16 {
	if !fit(name) {
		return unfit
	}
	i := slices.Index(n.names, name)
	if i < 0 {
		if len(n.names) >= most(newSeries) {
			return beyond
		}
		i = len(n.names)
		n.names = append(n.names, name)
	}
	return int16(i)
}

// most bounds what is kept of a node: of names, and of series.
func most(newSeries int) int { return min(4*newSeries, 1<<15-1) }

func (n *nodeSeries) full(newSeries int) bool {
	return max(len(n.series), len(n.names)) >= most(newSeries)
}

// empty drops what is kept of the node's series.
func (n *nodeSeries) empty() { n.cat, n.meters, n.names, n.series, n.outs = 0, nil, nil, nil, nil }

func fit(v string) bool { return len(v) <= maxLabel && utf8.ValidString(v) }

func (n *nodeSeries) labels(s *serie, table *sources) labels.Labels {
	src := &table.list[s.source]
	pairs := []string{model.MetricNameLabel, src.Metric, "cluster", n.name.Cluster, "node", n.name.Name}
	if l := src.Scope.Label(); l != "" {
		pairs = append(pairs, l, n.names[s.of])
	}
	if src.Label != "" {
		pairs = append(pairs, src.Label, src.Value)
	}
	return labels.FromStrings(pairs...)
}

// nodePower appends the power of the node as a whole.
func (x *writer) nodePower(n *nodeSeries, w *window.Window) {
	watts, detailed, ok := sums.NodePower(w, x.store.watts[:0])
	x.store.watts = watts[:0]
	if !ok {
		return
	}
	if n.unfit {
		x.refuse(refusedLabel, len(watts))
		return
	}
	every := 1
	if !detailed && len(watts) > 2*flatStepMS/1000 {
		every = flatStepMS / 1000
	}
	for i := every - 1; i < len(watts); i += every {
		x.add(n, 0, w, w.StartMS+int64(i+1)*1000, watts[i])
	}
}

// series appends the points of one series of a window.
func (x *writer) series(n *nodeSeries, w *window.Window, r *window.Series) {
	m, power := meter{itself, metric.OfNode}, sums.IsPower(r)
	if r.Meter >= 0 {
		m = n.meters[r.Meter]
	}
	if len(r.Milli) == 0 || power && m.scope != metric.OfGPU {
		return // the power of a meter that is no GPU is in the node's
	}
	i, why := x.find(n, m, r.Name, power)
	if why != "" {
		x.refuse(why, len(r.Milli))
		return
	}
	if power {
		for k, milli := range r.Milli {
			x.add(n, i, w, r.StartMS+int64(k+1)*1000, float64(milli)/1000)
		}
		return
	}
	v := r.Milli[0]
	switch x.store.sources.list[n.series[i].source].Take {
	case metric.Most:
		v = r.Max
	case metric.Last:
		v = r.Last
	default:
	}
	x.add(n, i, w, w.EndMS, float64(v)/1000)
}

// add appends one sample, if its time and its series may be taken.
func (x *writer) add(n *nodeSeries, i int, w *window.Window, at int64, v float64) {
	s := &n.series[i]
	switch {
	case at <= w.StartMS || at > w.EndMS:
		x.refuse(refusedOutside, 1)
		return
	case at > x.now+x.store.o.Future.Milliseconds():
		x.refuse(refusedFuture, 1)
		return
	case at < x.now-x.store.o.RetentionTime.Milliseconds():
		x.refuse(refusedOld, 1)
		return
	case s.quiet && v == 0:
		s.last = max(s.last, at)
		x.unmoved++
		return
	case at == s.last:
		x.refuse(refusedDuplicate, 1)
		return
	case s.quiet:
		x.move(n, i, at)
	}
	s.last = at
	if s.ref != 0 {
		_, err := x.app.Append(s.ref, labels.EmptyLabels(), at, v)
		if x.took(err) {
			x.handTo(n, i, at, v)
			return
		}
		if !unknownRef(err) {
			return
		}
		s.ref = 0
	}
	if !n.mayBegin(x.now, x.store.o.NewSeries) {
		x.refuse(refusedLimit, 1)
		return
	}
	switch err := x.begin(n, i, at, v); {
	case x.took(err):
		x.handTo(n, i, at, v)
	case unknownRef(err):
		x.refuse(refusedInvalid, 1)
	}
}

func (x *writer) handTo(n *nodeSeries, i int, at int64, v float64) {
	if n.outs != nil {
		x.hand(n.outs[i], at, v)
	}
}

// mayBegin tells whether a node may begin one more series today.
func (n *nodeSeries) mayBegin(now int64, most int) bool {
	if day := now / dayMS; day != n.day {
		n.day, n.begun = day, 0
	}
	return n.begun < most
}

// valid makes a label value of a name from the books.
func valid(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > maxLabel {
		s = strings.ToValidUTF8(s[:maxLabel], "")
	}
	return s
}
