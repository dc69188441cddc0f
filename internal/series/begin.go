package series

import (
	"context"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/wattledger/wattledger/internal/series/metric"
)

// The first sources of the table.
const (
	ofNodePower int16 = iota
	ofGPUPower
)

// sources are the families that nodes have series of.
type sources struct {
	list   []metric.Source
	byWire map[wireKey]int16
	byName map[string][]int16 // by family
}

// wireKey is what a window calls a series; power is that at 1 s, since a gauge
// may have the same name.
type wireKey struct {
	scope metric.Scope
	power bool
	wire  string
}

func newSources() *sources {
	t := &sources{byWire: map[wireKey]int16{}, byName: map[string][]int16{}}
	t.list = append([]metric.Source{
		{Scope: metric.OfNode, Metric: metric.NodePower},
		{Scope: metric.OfGPU, Wire: metric.WirePower, Metric: metric.GPUPower},
	}, metric.Sources()...)
	for i, src := range t.list {
		t.byName[src.Metric] = append(t.byName[src.Metric], int16(i))
		if i != int(ofNodePower) {
			t.byWire[wireKey{src.Scope, i == int(ofGPUPower), src.Wire}] = int16(i)
		}
	}
	return t
}

// place names a series within its node.
type place struct{ source, of int16 }

// ahead is how far a series may be from where it is expected to be found at
// once.
const ahead = 8

// find gives where a series of a window is among the node's, or why it is not
// stored. Windows tell the same in the same order, as a rule, so that it is the
// next one; where it is not it is moved there.
func (x *writer) find(n *nodeSeries, m meter, wire string, power bool) (i int, refused string) {
	list := x.store.sources.list
	for i := x.next; i < min(x.next+ahead, len(n.series)); i++ {
		s := &n.series[i]
		src := &list[s.source]
		if s.of == m.of && src.Scope == m.scope && src.Wire == wire && (s.source == ofGPUPower) == power {
			return x.seat(n, i), ""
		}
	}
	source, known := x.store.sources.byWire[wireKey{m.scope, power, wire}]
	switch {
	case n.unfit || m.of == unfit:
		return 0, refusedLabel
	case !known:
		return 0, refusedUnknown
	case m.of == beyond:
		return 0, refusedLimit
	}
	i, ok := x.search(n, place{source, m.of})
	switch {
	case ok && i < x.next:
		return i, "" // told twice
	case ok:
	case n.full(x.store.o.NewSeries):
		return 0, refusedLimit
	default:
		x.store.places[place{source, m.of}] = i
		x.grow(n, serie{source: source, of: m.of, quiet: list[source].Quiet}, nil)
	}
	return x.seat(n, i), ""
}

// search finds a series wherever it is; where a new one would be, if there is
// none.
func (x *writer) search(n *nodeSeries, p place) (i int, ok bool) {
	if !x.placed {
		x.placed = true
		clear(x.store.places)
		for i := range n.series {
			x.store.places[n.series[i].place()] = i
		}
	}
	if i, ok = x.store.places[p]; !ok {
		i = len(n.series)
	}
	return i, ok
}

func (s *serie) place() place { return place{s.source, s.of} }

// seat moves a series to where it was expected.
func (x *writer) seat(n *nodeSeries, i int) int {
	k := x.next
	x.next++
	if k == i {
		return k
	}
	n.series[k], n.series[i] = n.series[i], n.series[k]
	if n.outs != nil {
		n.outs[k], n.outs[i] = n.outs[i], n.outs[k]
	}
	if x.placed {
		x.store.places[n.series[k].place()], x.store.places[n.series[i].place()] = k, i
	}
	return k
}

func (x *writer) grow(n *nodeSeries, s serie, out any) {
	n.series = append(n.series, s)
	if x.store.o.Outlet != nil {
		n.outs = append(n.outs, out)
	}
}

// recall takes up the series that the storage has of a node that is not known
// yet: after a start, or a day of silence. They go on, also at 0.
func (x *writer) recall(n *nodeSeries) {
	x.grow(n, serie{source: ofNodePower, of: itself}, nil)
	db := x.store.db.Load()
	if db == nil || n.unfit {
		return
	}
	head, err := db.Head().Index()
	if err != nil {
		return // it has no series then, as far as we know; they are found by their labels
	}
	defer func() { _ = head.Close() }()
	list, err := head.Postings(context.Background(), "node", n.name.Name)
	if err != nil {
		return
	}
	var b labels.ScratchBuilder
	for list.Next() {
		if head.Series(list.At(), &b, nil) != nil {
			continue // has left meanwhile
		}
		l := b.Labels()
		s := serie{ref: list.At()}
		if !x.store.sources.of(n, &s, l, x.store.o.NewSeries) || n.full(x.store.o.NewSeries) {
			continue
		}
		if s.source == ofNodePower {
			n.series[0].ref = s.ref
			if n.outs != nil {
				n.outs[0] = x.store.begin(l)
			}
			continue
		}
		x.grow(n, s, x.store.begin(l))
	}
}

// of finds what labels are a series of; false if they are none of the node's.
func (t *sources) of(n *nodeSeries, s *serie, l labels.Labels, newSeries int) bool {
	if l.Get("cluster") != n.name.Cluster {
		return false
	}
	for _, s.source = range t.byName[l.Get(model.MetricNameLabel)] {
		src := &t.list[s.source]
		if src.Label != "" && l.Get(src.Label) != src.Value {
			continue
		}
		s.of = itself
		if name := src.Scope.Label(); name != "" {
			if s.of = n.named(l.Get(name), newSeries); s.of < 0 {
				return false
			}
		}
		return labels.Equal(l, n.labels(s, t))
	}
	return false
}

// begin appends the first sample of a series.
func (x *writer) begin(n *nodeSeries, i int, at int64, v float64) error {
	s := &n.series[i]
	l := n.labels(s, x.store.sources)
	ref, err := x.app.Append(0, l, at, v)
	if err != nil {
		return err
	}
	s.ref = ref
	n.begun++
	if n.outs != nil {
		n.outs[i] = x.store.begin(l)
	}
	return nil
}

// moved is a series that left 0 in what the appender holds.
type moved struct {
	n    *nodeSeries
	p    place
	last int64 // stamp of the last 0
}

// move begins a series that has stood at 0 until now, with that 0 where it may
// still be taken: so its first movement is seen.
func (x *writer) move(n *nodeSeries, i int, at int64) {
	s := &n.series[i]
	zero := s.last
	x.moved = append(x.moved, moved{n, s.place(), zero})
	s.quiet, s.last = false, 0
	if zero == 0 || zero >= at || !n.mayBegin(x.now, x.store.o.NewSeries) {
		return
	}
	if x.begin(n, i, zero, 0) == nil {
		x.stored++
		x.handTo(n, i, zero, 0)
	}
}

// unbegin lets the series that left 0 stand there again: nothing of what the
// appender held was stored.
func (x *writer) unbegin() {
	for _, m := range x.moved {
		for i := range m.n.series {
			if s := &m.n.series[i]; s.place() == m.p {
				if s.ref != 0 && m.n.begun > 0 { // it was begun for nothing
					m.n.begun--
				}
				s.ref, s.quiet, s.last = 0, true, m.last
			}
		}
	}
}
