package series

import "github.com/prometheus/prometheus/model/labels"

// Outlet takes the samples that windows and sums bring into the store. What
// rules record and what the aggregator tells of itself does not go through it.
// Both methods are called from the goroutine of Run alone.
type Outlet interface {
	// Series is asked about each series before its first sample, and again after
	// a start or a day of silence. The answer comes with its samples; nil: nobody
	// wants them.
	Series(l labels.Labels) any
	// Take is given samples that the storage has accepted, of one commit, in the
	// order they came, before they are committed: what it has made durable when it
	// returns is not missing elsewhere, whenever the process dies. A commit that
	// fails is tried again, and its samples then come a second time. The slice is
	// the store's.
	Take([]Handed)
}

// Handed is a sample on its way out.
type Handed struct {
	Of any   // what Series answered
	MS int64 // stamp
	V  float64
}

// begin asks whether somebody wants a series.
func (s *Store) begin(l labels.Labels) any {
	if s.o.Outlet == nil {
		return nil
	}
	return s.o.Outlet.Series(l)
}

// hand notes a sample that was accepted.
func (x *writer) hand(of any, ms int64, v float64) {
	if of != nil {
		x.store.handed = append(x.store.handed, Handed{of, ms, v})
	}
}

// handOut gives away what was accepted since the last time.
func (x *writer) handOut() {
	h := x.store.handed
	if len(h) == 0 {
		return
	}
	defer func() {
		clear(h)
		x.store.handed = h[:0]
	}()
	defer x.store.survive("samples could not be sent on")
	x.store.o.Outlet.Take(h)
}
