// Package dashboardtest asks a Prometheus API every query of every dashboard, as
// Grafana would, and says which panels are empty and how long each took. It also
// lists what queries may ask for.
package dashboardtest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wattledger/wattledger/dashboards"
)

// Options say whom to ask, and for what.
type Options struct {
	// URL has Prometheus' API below /api/v1.
	URL string
	// Token of a reader; "" where none is wanted.
	Token string
	// Client is for TLS and timeouts; nil for http.DefaultClient.
	Client *http.Client
	// Now is the time that dashboards call "now".
	Now time.Time
	// Range is how much time graphs show; zero for what each dashboard says.
	Range time.Duration
	// Vars are values of variables, regular expressions where several may be
	// chosen. The others are as Grafana has them at first: All where there is
	// All, else the first value.
	Vars map[string]string
}

// MayBeEmpty lists the panels ("dashboard: panel") that show nothing in quiet
// times: what they list is trouble, or has to be switched on.
func MayBeEmpty() []string {
	return []string{
		"fleet-now: Firing alerts",
		"fleet-now: Silent nodes",
		"gpu-health: Xid errors by GPU", // the driver told of no error
		"jobs: Jobs by energy",          // no job wastes, and series.jobs is off
		"jobs: Power by job",            // series.jobs is off
	}
}

// Kind is what asks.
type Kind string

// Kinds. Marks are annotations; none at all is usual.
const (
	Panel    Kind = "panel"
	Variable Kind = "variable"
	Mark     Kind = "annotation"
)

// Result is what a panel, a variable or an annotation got.
type Result struct {
	Kind      Kind
	Dashboard string // file name without .json
	Title     string
	Queries   []Query
}

// Query is one of its queries.
type Query struct {
	Expr string // with the values of variables
	// Series have at least one value that is a number; of a variable, its values.
	Series int
	Took   time.Duration
	Err    error
}

// Name names the panel as MayBeEmpty does.
func (r Result) Name() string { return r.Dashboard + ": " + r.Title }

// Took is the time of all its queries, one after the other.
func (r Result) Took() time.Duration {
	var sum time.Duration
	for _, q := range r.Queries {
		sum += q.Took
	}
	return sum
}

// Empty tells whether it has nothing to show.
func (r Result) Empty() bool {
	return !slices.ContainsFunc(r.Queries, func(q Query) bool { return q.Series > 0 })
}

// Run asks everything, one query after the other. Failures of queries are in
// the results; an error is one of the dashboards themselves, or that ctx ended.
func Run(ctx context.Context, o Options) ([]Result, error) {
	files, err := dashboards.Files()
	if err != nil {
		return nil, err
	}
	c := client{o: o}
	var out []Result
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var p page
		if err := json.Unmarshal(files[name], &p); err != nil {
			return nil, fmt.Errorf("cannot read dashboard %s: %w", name, err)
		}
		results, err := c.page(ctx, strings.TrimSuffix(name, ".json"), &p)
		if err != nil {
			return nil, err
		}
		out = append(out, results...)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("cannot ask all of %s: %w", name, err)
		}
	}
	return out, nil
}

// Faults tells what is wrong: queries that failed, panels that are empty and may
// not be, variables without values, and what took longer than most (zero for any
// time).
func Faults(results []Result, most time.Duration) []string {
	var out []string
	for _, r := range results {
		for _, q := range r.Queries {
			if q.Err != nil {
				out = append(out, fmt.Sprintf("%s %q fails: %s: %v", r.Kind, r.Name(), q.Expr, q.Err))
			}
		}
		if r.Empty() && r.Kind != Mark && !slices.Contains(MayBeEmpty(), r.Name()) {
			out = append(out, fmt.Sprintf("%s %q is empty: %s", r.Kind, r.Name(), r.Queries[0].Expr))
		}
		if most > 0 && r.Took() > most {
			out = append(out, fmt.Sprintf("%s %q took %s, more than %s", r.Kind, r.Name(), r.Took().Round(time.Millisecond), most))
		}
	}
	return out
}

// Empty names the panels that show nothing, those that may do so included.
func Empty(results []Result) []string {
	var out []string
	for _, r := range results {
		if r.Kind == Panel && r.Empty() {
			out = append(out, r.Name())
		}
	}
	return out
}

// Slowest is a table of the n that took longest.
func Slowest(results []Result, n int) string {
	sorted := slices.SortedFunc(slices.Values(results), func(a, b Result) int { return cmp.Compare(b.Took(), a.Took()) })
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "took\tkind\tdashboard: panel\tqueries\tseries")
	for _, r := range sorted[:min(n, len(sorted))] {
		series := 0
		for _, q := range r.Queries {
			series += q.Series
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\n", r.Took().Round(100*time.Microsecond), r.Kind, r.Name(), len(r.Queries), series)
	}
	_ = w.Flush()
	return b.String()
}
