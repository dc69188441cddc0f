package series

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// LimitError says that a question would cost more than is allowed.
type LimitError struct {
	Setting string // its key in the configuration
	Limit   string
	Mend    string // what the asker can do
}

// Error names the limit.
func (e *LimitError) Error() string {
	return fmt.Sprintf("this would read more than is allowed: the limit %s is %s; %s", e.Setting, e.Limit, e.Mend)
}

const mend = "ask for less time, fewer nodes or a series that is summed already (wattledger_project_power_watts, wattledger_cluster_power_watts)"

// limited bounds the series that one query may touch.
type limited struct {
	storage.Querier
	most, read int
}

// Select gives the series; beyond the limit the set ends with a LimitError.
func (l *limited) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, m ...*labels.Matcher) storage.SeriesSet {
	// The engine sorts and merges before the first Next: bound that, too.
	bounded := storage.SelectHints{Start: 0, End: 0}
	if hints != nil {
		bounded = *hints
	}
	if bounded.Limit == 0 || bounded.Limit > l.most+1 {
		bounded.Limit = l.most + 1
	}
	if hints == nil {
		return &limitedSet{SeriesSet: l.Querier.Select(ctx, sorted, nil, m...), of: l}
	}
	return &limitedSet{SeriesSet: l.Querier.Select(ctx, sorted, &bounded, m...), of: l}
}

type limitedSet struct {
	storage.SeriesSet
	of  *limited
	err error
}

// Next goes on as long as the limit allows.
func (s *limitedSet) Next() bool {
	if s.err != nil || !s.SeriesSet.Next() {
		return false
	}
	if s.of.read++; s.of.read > s.of.most {
		s.err = &LimitError{"series.query.max_series", fmt.Sprintf("%d series", s.of.most), mend}
		return false
	}
	return true
}

// Err is the limit, or what went wrong below.
func (s *limitedSet) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.SeriesSet.Err()
}

// Engine is the query engine: bounded in samples and time, not in how many
// queries run at a time. Rules use it.
func (s *Store) Engine() *promql.Engine { return s.engine }

// busyWithin is how long a query waits for a place.
const busyWithin = 10 * time.Second

// place waits for one of the places that queries have; done gives it back.
func (s *Store) place(ctx context.Context) (done func(), err error) {
	done = func() { <-s.running }
	select {
	case s.running <- struct{}{}:
		return done, nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, min(busyWithin, s.o.Limits.Timeout))
	defer cancel()
	select {
	case s.running <- struct{}{}:
		return done, nil
	case <-ctx.Done():
		return nil, &LimitError{
			"series.query.concurrency", fmt.Sprintf("%d queries at a time", s.o.Limits.Concurrency), "come again in a moment",
		}
	}
}

// bounded is the engine as people reach it.
type bounded struct{ s *Store }

func (b bounded) NewInstantQuery(ctx context.Context, q storage.Queryable, o promql.QueryOpts, text string, at time.Time) (promql.Query, error) {
	query, err := b.s.engine.NewInstantQuery(ctx, q, o, text, at)
	if err != nil {
		return nil, err
	}
	return &boundedQuery{query, b.s}, nil
}

func (b bounded) NewRangeQuery(ctx context.Context, q storage.Queryable, o promql.QueryOpts, text string, from, to time.Time, step time.Duration) (promql.Query, error) {
	query, err := b.s.engine.NewRangeQuery(ctx, q, o, text, from, to, step)
	if err != nil {
		return nil, err
	}
	return &boundedQuery{query, b.s}, nil
}

type boundedQuery struct {
	promql.Query
	s *Store
}

// Exec runs the query; an error of a limit names it.
func (q *boundedQuery) Exec(ctx context.Context) (r *promql.Result) {
	done, err := q.s.place(ctx)
	if err != nil {
		q.s.metrics.queries.WithLabelValues("busy").Inc()
		return &promql.Result{Err: err}
	}
	defer done()
	r = q.Query.Exec(ctx)
	r.Err = q.s.explain(r.Err)
	q.s.metrics.queries.WithLabelValues(answerOf(r.Err)).Inc()
	return r
}

// explain adds to an error which setting was behind it.
func (s *Store) explain(err error) error {
	var samples promql.ErrTooManySamples
	var timeout promql.ErrQueryTimeout
	limit, isLimit := errors.AsType[*LimitError](err)
	switch {
	case isLimit:
		return limit // not an error of the storage
	case errors.As(err, &samples):
		return &LimitError{"series.query.max_samples", fmt.Sprintf("%d samples", s.o.Limits.Samples), mend}
	case errors.As(err, &timeout):
		return fmt.Errorf("the limit series.query.timeout is %s; %s: %w", s.o.Limits.Timeout, mend, err)
	}
	return err
}

func answerOf(err error) string {
	_, limit := errors.AsType[*LimitError](err)
	var timeout promql.ErrQueryTimeout
	switch {
	case err == nil:
		return "ok"
	case limit, errors.As(err, &timeout):
		return "limit"
	case errors.Is(err, tsdb.ErrNotReady):
		return "not_ready"
	}
	return "failed"
}
