// Package exporters holds what those share who send series to other systems:
// the form of what is sent, who it is sent to, and a fan that keeps receivers
// from disturbing each other or whoever sends.
//
// Its sub-packages are formats and clients only. None of them touches energy
// that is booked: whatever happens to a receiver, the books go on.
package exporters

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/outbox"
)

// Point is a value at a time. A time without a value has no point: missing is
// not zero.
type Point struct {
	MS int64 // since 1970, in milliseconds
	V  float64
}

// Label is a name and its value.
type Label struct{ Name, Value string }

// Series are points of one name and set of labels, oldest first. Names and
// units are those of docs/metrics.md.
type Series struct {
	Name   string
	Labels []Label // without __name__, in any order
	Points []Point
}

// Batch is a set of series. Whoever hands one on does not change it any more.
type Batch struct{ Series []Series }

// Len is the number of points.
func (b Batch) Len() int {
	n := 0
	for _, s := range b.Series {
		n += len(s.Points)
	}
	return n
}

// Sink sends batches to one receiver.
type Sink interface {
	// Name tells receivers apart in metrics and logs.
	Name() string
	// Write returns when the batch is in the buffer, which survives this process.
	// What an error speaks of is counted and lost; there is no use in writing it
	// again.
	Write(Batch) error
	// Run delivers what is in the buffer until ctx ends.
	Run(ctx context.Context)
	// Close lets go of the buffer. Run must have ended.
	Close() error
}

// OpenBox opens the buffer of a sink, with labels and fields that tell it apart.
func OpenBox(kind, name string, o outbox.Options) (*outbox.Box, error) {
	if name == "" {
		return nil, errors.New("cannot open an exporter without a name")
	}
	if o.Registerer != nil {
		o.Registerer = prometheus.WrapRegistererWith(prometheus.Labels{"exporter": kind, "receiver": name}, o.Registerer)
	}
	if o.Log != nil {
		o.Log = o.Log.With(zap.String("exporter", kind), zap.String("receiver", name))
	}
	return outbox.Open(o)
}

// Only chooses series by name. The zero value chooses all.
type Only struct {
	patterns []string
}

// NewOnly takes patterns like wattledger_project_*; none chooses all.
func NewOnly(patterns []string) (Only, error) {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return Only{}, fmt.Errorf("%q is not a pattern like wattledger_project_*", p)
		}
	}
	return Only{patterns: patterns}, nil
}

// Has tells whether a name is chosen.
func (o Only) Has(name string) bool {
	for _, p := range o.patterns {
		if ok, _ := path.Match(p, name); ok {
			return true
		}
	}
	return len(o.patterns) == 0
}
