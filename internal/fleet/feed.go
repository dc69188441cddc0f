package fleet

import (
	"cmp"
	"slices"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/job"
)

// Step is one instant of a node: the job edges that happen at At, then the
// readings taken at At. A step has at least one of them.
type Step struct {
	At       time.Time
	Ends     []string   // ids of jobs that end at At; they end before others begin
	Begins   []job.Spec // jobs that begin at At
	Readings []collector.Reading
}

// Feed gives the steps of one node in time order, no two at the same time;
// io.EOF ends it. What a step points to is the caller's.
type Feed interface {
	Node() string
	Next() (Step, error)
}

// edge is what happens to jobs on one node at one instant.
type edge struct {
	ms     int64 // since the origin of its feed
	ends   []string
	begins []job.Spec
}

// edges collects the job edges of a node. Jobs of one instant keep the order in
// which they were added.
type edges []edge

func (es *edges) at(ms int64) *edge {
	i, found := slices.BinarySearchFunc(*es, ms, func(e edge, ms int64) int { return cmp.Compare(e.ms, ms) })
	if !found {
		*es = slices.Insert(*es, i, edge{ms: ms})
	}
	return &(*es)[i]
}

func (es *edges) begin(ms int64, s job.Spec) { e := es.at(ms); e.begins = append(e.begins, s) }

func (es *edges) end(ms int64, id string) { e := es.at(ms); e.ends = append(e.ends, id) }
