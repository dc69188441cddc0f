package dashboards_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
)

var parse = parser.NewParser(parser.Options{})

// intervals are the words that Grafana puts a duration for.
var intervals = strings.NewReplacer("$__rate_interval", "4m", "$__interval", "1m", "$__range", "6h")

func expr(t *testing.T, text string) parser.Expr {
	t.Helper()
	e, err := parse.ParseExpr(intervals.Replace(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return e
}

// asked is a query, and where it is.
type asked struct {
	where  string // dashboard: panel
	page   string
	panel  panel
	target target
}

func queries(t *testing.T) []asked {
	t.Helper()
	var out []asked
	for name, d := range all(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				out = append(out, asked{name + ": " + p.Title, name, p, q})
			}
		}
		for _, a := range d.Annotations.List {
			out = append(out, asked{name + ": annotation " + a.Name, name, panel{}, a.Target})
		}
	}
	if len(out) < 100 {
		t.Fatalf("only %d queries", len(out))
	}
	return out
}

// TestEveryQueryAsksForWhatThereIs: it parses, its metrics and labels are
// declared, counters are counters, and what its legend and its links name is in
// the result.
func TestEveryQueryAsksForWhatThereIs(t *testing.T) {
	k := series(t)
	word := regexp.MustCompile(`\{\{(\w+)\}\}`)
	carries := regexp.MustCompile(`\$\{__(?:field\.labels|data\.fields)\.(\w+)\}`)
	for _, q := range queries(t) {
		have, err := k.labels(expr(t, q.target.Expr))
		if err != nil {
			t.Errorf("%s: %v", q.where, err)
			continue
		}
		for _, m := range word.FindAllStringSubmatch(q.target.LegendFormat, -1) {
			if !slices.Contains(have, m[1]) {
				t.Errorf("%s: the legend has %s, the result %v", q.where, m[1], have)
			}
		}
		for _, l := range q.panel.FieldConfig.Defaults.Links {
			for _, m := range carries.FindAllStringSubmatch(l.URL, -1) {
				if !slices.Contains(have, m[1]) {
					t.Errorf("%s: the link %q carries %s, the result has %v", q.where, l.Title, m[1], have)
				}
			}
		}
	}
}

// TestVariablesAreListsOfLabels that there are, and each that a query names is
// the dashboard's own.
func TestVariablesAreListsOfLabels(t *testing.T) {
	k := series(t)
	values := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	used := regexp.MustCompile(`\$\{?([a-z]\w*)`)
	for name, d := range all(t) {
		own := map[string]bool{}
		for _, v := range d.Templating.List {
			own[v.Name] = true
			if v.Type != "query" {
				continue
			}
			m := values.FindStringSubmatch(v.Query)
			if m == nil {
				t.Errorf("%s: variable %s asks %s", name, v.Name, v.Query)
				continue
			}
			s, ok := expr(t, m[1]).(*parser.VectorSelector)
			if !ok {
				t.Errorf("%s: variable %s: %s is not a selector", name, v.Name, m[1])
				continue
			}
			have, err := k.selected(s, k[s.Name].Counter)
			if err != nil || !slices.Contains(have, m[2]) {
				t.Errorf("%s: variable %s: %s of %v: %v", name, v.Name, m[2], have, err)
			}
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				for _, m := range used.FindAllStringSubmatch(q.Expr, -1) {
					if !own[m[1]] {
						t.Errorf("%s: %q uses $%s, which the page has not", name, p.Title, m[1])
					}
				}
			}
		}
	}
}

// TestWindowsFitTheSteps: in a graph, rates reach over $__rate_interval, so that
// no sample falls between two steps; a fixed window has a step of its own. What
// is asked once has neither.
func TestWindowsFitTheSteps(t *testing.T) {
	rates := regexp.MustCompile(`\b(rate|increase)\([^()\[\]]*\[([^\]]+)\]`)
	over := regexp.MustCompile(`\b(\w+)\([^()\[\]]*\[\$__interval\]`)
	for _, q := range queries(t) {
		x := q.target.Expr
		if q.target.Instant == q.target.Range {
			t.Errorf("%s is asked once, and for a range: %s", q.where, x)
		}
		if q.target.Instant && (strings.Contains(x, "$__rate_interval") || strings.Contains(x, "$__interval")) {
			t.Errorf("%s: asked once, there is no step: %s", q.where, x)
		}
		for _, m := range over.FindAllStringSubmatch(x, -1) {
			if !strings.HasSuffix(m[1], "_over_time") {
				t.Errorf("%s: %s over $__interval loses what is between two steps: %s", q.where, m[1], x)
			}
		}
		if !q.target.Range {
			continue
		}
		for _, m := range rates.FindAllStringSubmatch(x, -1) {
			if m[2] != "$__rate_interval" && q.target.Interval == "" {
				t.Errorf("%s: %s over %s without a step: %s", q.where, m[1], m[2], x)
			}
			// Counters of energy stand still for a minute where nothing moves.
			if strings.Contains(m[0], "_energy_joules_total") && !slices.Contains([]string{"30s", "60s", "1h"}, q.target.Interval) {
				t.Errorf("%s: the step %q is too short for a counter of energy: %s", q.where, q.target.Interval, x)
			}
		}
	}
}

// TestFleetsAreNotReadRaw: a page over a fleet asks for no series of which every
// node or GPU has one; that is what sums at intake and recorded rules are for.
func TestFleetsAreNotReadRaw(t *testing.T) {
	k := series(t)
	for _, q := range queries(t) {
		parser.Inspect(expr(t, q.target.Expr), func(n parser.Node, _ []parser.Node) error {
			s, ok := n.(*parser.VectorSelector)
			if !ok || !k[s.Name].Raw {
				return nil
			}
			if q.page != "node" || !strings.Contains(q.target.Expr, `node="$node"`) {
				t.Errorf("%s reads %s of the whole fleet", q.where, s.Name)
			}
			return nil
		})
	}
}
