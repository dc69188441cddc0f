package series

import (
	"context"
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

// source is a family with what to take of a window.
type source struct {
	name         string
	take         metric.Take
	label, value string
}

type sourceKey struct {
	scope metric.Scope
	wire  string
}

func sources() map[sourceKey]*source {
	out := map[sourceKey]*source{}
	for _, s := range metric.Sources() {
		out[sourceKey{s.Scope, s.Wire}] = &source{name: s.Metric, take: s.Take, label: s.Label, value: s.Value}
	}
	return out
}

// serie is one series of a node: where it is stored, or why it is not.
type serie struct {
	ref     storage.SeriesRef
	source  *source
	scope   metric.Scope
	of      string // name of the GPU or meter, "" for the node
	refused string
	out     any   // of the outlet
	last    int64 // stamp of its newest sample, so that none has two values
}

// place is what stood at a position of the telemetry of the window before.
type place struct {
	meter int
	name  string
	s     *serie
}

type serieKey struct{ of, wire string }

// nodeSeries are the series of a node.
type nodeSeries struct {
	name   ledger.Node
	cat    uint64
	places []place
	all    map[serieKey]*serie
	power  serie
	day    int64
	begun  int   // series begun on that day
	seen   int64 // when it last sent
}

// writer appends windows with one appender.
type writer struct {
	store   *Store
	app     storage.Appender
	now     int64
	stored  int64
	refused map[string]int64
}

func (s *Store) writer(db storage.Appendable) *writer {
	s.handed = s.handed[:0]
	return &writer{store: s, app: db.Appender(context.Background()), now: s.o.Now().UnixMilli(), refused: map[string]int64{}}
}

func (x *writer) refuse(reason string, n int) { x.refused[reason] += int64(n) }

// window appends what a window tells of a node.
func (x *writer) window(e entry) {
	n := x.store.nodes[e.node]
	if n == nil {
		n = &nodeSeries{name: e.node, all: map[serieKey]*serie{}}
		n.power = serie{source: &source{name: metric.NodePower}, scope: metric.OfNode}
		n.power.refused = n.labelsRefused("")
		x.store.nodes[e.node] = n
	}
	w := e.w
	if n.cat != w.Catalogue.ID || len(n.places) != len(w.Telemetry) {
		n.cat, n.places = w.Catalogue.ID, make([]place, len(w.Telemetry))
	}
	n.seen = x.now
	x.nodePower(n, w)
	for i := range w.Telemetry {
		r := &w.Telemetry[i]
		p := &n.places[i]
		if p.s == nil || p.meter != r.Meter || p.name != r.Name {
			*p = place{r.Meter, r.Name, x.find(n, w, r)}
		}
		x.series(n, p.s, w, r)
	}
}

// find gives the series that a gauge of a window goes to.
func (x *writer) find(n *nodeSeries, w *window.Window, r *window.Series) *serie {
	scope, of := metric.OfNode, ""
	if r.Meter >= 0 {
		m := &w.Catalogue.Meters[r.Meter]
		switch {
		case m.Class == energy.GPU:
			scope, of = metric.OfGPU, m.Name
		case m.Class == energy.CPU || m.Class == energy.Memory || m.Parent != "":
			scope, of = metric.OfMeter, m.Name
		}
	}
	wire := r.Name
	if sums.IsPower(r) {
		wire = "1s/" + wire // a gauge may have the same name
	}
	key := serieKey{of, wire}
	s := n.all[key]
	if s != nil {
		return s
	}
	s = &serie{scope: scope, of: of, source: x.store.sources[sourceKey{scope, r.Name}]}
	if sums.IsPower(r) {
		if s.source = nil; scope == metric.OfGPU {
			s.source = &source{name: metric.GPUPower}
		} else {
			s.refused = partOfNode
		}
	}
	switch {
	case s.refused != "":
	case s.source == nil:
		s.refused = refusedUnknown
	default:
		s.refused = n.labelsRefused(of)
	}
	if len(n.all) < 4*x.store.o.NewSeries { // else it is looked at every time
		n.all[key] = s
	}
	return s
}

// partOfNode is why the 1-second power of a meter that is no GPU has no series:
// it is in the node's.
const partOfNode = "part of the node's power"

func (n *nodeSeries) labelsRefused(of string) string {
	for _, v := range []string{n.name.Cluster, n.name.Name, of} {
		if len(v) > maxLabel || !utf8.ValidString(v) {
			return refusedLabel
		}
	}
	return ""
}

func (n *nodeSeries) labels(s *serie) labels.Labels {
	pairs := []string{model.MetricNameLabel, s.source.name, "cluster", n.name.Cluster, "node", n.name.Name}
	if l := s.scope.Label(); l != "" {
		pairs = append(pairs, l, s.of)
	}
	if s.source.label != "" {
		pairs = append(pairs, s.source.label, s.source.value)
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
	every := 1
	if !detailed && len(watts) > 2*flatStepMS/1000 {
		every = flatStepMS / 1000
	}
	for i := every - 1; i < len(watts); i += every {
		x.add(n, &n.power, w, w.StartMS+int64(i+1)*1000, watts[i])
	}
}

// series appends the points of one series of a window.
func (x *writer) series(n *nodeSeries, s *serie, w *window.Window, r *window.Series) {
	switch {
	case s.refused == partOfNode || len(r.Milli) == 0:
		return
	case s.refused != "":
		x.refuse(s.refused, len(r.Milli))
		return
	}
	if s.source.name == metric.GPUPower {
		for i, milli := range r.Milli {
			x.add(n, s, w, r.StartMS+int64(i+1)*1000, float64(milli)/1000)
		}
		return
	}
	v := r.Milli[0]
	switch s.source.take {
	case metric.Most:
		v = r.Max
	case metric.Last:
		v = r.Last
	default:
	}
	x.add(n, s, w, w.EndMS, float64(v)/1000)
}

// add appends one sample, if its time and its series may be taken.
func (x *writer) add(n *nodeSeries, s *serie, w *window.Window, at int64, v float64) {
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
	case at == s.last:
		x.refuse(refusedDuplicate, 1)
		return
	case s.refused != "":
		x.refuse(s.refused, 1)
		return
	}
	s.last = at
	if s.ref != 0 {
		_, err := x.app.Append(s.ref, labels.EmptyLabels(), at, v)
		if x.took(err) {
			x.hand(s.out, at, v)
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
	l := n.labels(s)
	ref, err := x.app.Append(0, l, at, v)
	if x.took(err) {
		s.ref, s.out = ref, x.store.begin(l)
		x.hand(s.out, at, v)
		n.begun++
		return
	}
	if unknownRef(err) {
		x.refuse(refusedInvalid, 1)
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
