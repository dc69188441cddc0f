package dashboards_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/wattledger/wattledger/dashboards/dashboardtest"
)

// known is every series that a query may ask for: what is declared, and what the
// rules record, whose labels follow from their expressions.
type known map[string]dashboardtest.Metric

func series(t *testing.T) known {
	t.Helper()
	k, err := dashboardtest.Declared()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../alerts/*.rules.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no rules: %v", err)
	}
	records, extra := map[string]parser.Expr{}, map[string][]string{}
	for _, file := range files {
		groups, errs := rulefmt.ParseFile(file, false, model.UTF8Validation, parse, nil)
		if len(errs) > 0 {
			t.Fatal(file, errs)
		}
		for _, g := range groups.Groups {
			for _, r := range g.Rules {
				if r.Record != "" {
					records[r.Record] = expr(t, r.Expr)
					extra[r.Record] = slices.Collect(maps.Keys(r.Labels))
				}
			}
		}
	}
	for range records { // one may stand on another
		for name, e := range records {
			if have, err := known(k).labels(e); err == nil {
				k[name] = dashboardtest.Metric{Labels: union(have, extra[name])}
			}
		}
	}
	for name := range records {
		if _, ok := k[name]; !ok {
			_, err := known(k).labels(records[name])
			t.Errorf("%s: %v", name, err)
		}
	}
	return k
}

// labels are those that the result of an expression may have, without its name.
// An error is a metric or a label that is not there, or a counter that is used
// as a gauge, or the reverse.
func (k known) labels(e parser.Expr) ([]string, error) {
	switch e := e.(type) {
	case *parser.VectorSelector:
		return k.selected(e, false)
	case *parser.Call:
		return k.call(e)
	case *parser.AggregateExpr:
		have, err := k.labels(e.Expr)
		if err != nil {
			return nil, err
		}
		for _, l := range e.Grouping {
			if !slices.Contains(have, l) {
				return nil, fmt.Errorf("%s groups by %s; there are %v", e, l, have)
			}
		}
		switch {
		case e.Op == parser.TOPK || e.Op == parser.BOTTOMK:
			return have, nil
		case e.Without:
			return slices.DeleteFunc(slices.Clone(have), func(l string) bool { return slices.Contains(e.Grouping, l) }), nil
		}
		return e.Grouping, nil
	case *parser.BinaryExpr:
		return k.binary(e)
	case *parser.ParenExpr:
		return k.labels(e.Expr)
	case *parser.UnaryExpr:
		return k.labels(e.Expr)
	case *parser.SubqueryExpr:
		return k.labels(e.Expr)
	case *parser.NumberLiteral, *parser.StringLiteral:
		return nil, nil
	}
	return nil, fmt.Errorf("%s: a %T is not known here", e, e)
}

func (k known) selected(e *parser.VectorSelector, asCounter bool) ([]string, error) {
	m, ok := k[e.Name]
	if !ok {
		return nil, fmt.Errorf("%s: nobody exports %q", e, e.Name)
	}
	if m.Counter != asCounter {
		return nil, fmt.Errorf("%s: counters, and only they, go into rate or increase", e)
	}
	for _, match := range e.LabelMatchers {
		if match.Name != model.MetricNameLabel && !slices.Contains(m.Labels, match.Name) {
			return nil, fmt.Errorf("%s has labels %v, not %s", e, m.Labels, match.Name)
		}
	}
	return m.Labels, nil
}

func (k known) call(e *parser.Call) ([]string, error) {
	switch e.Func.Name {
	case "vector", "time":
		return nil, nil
	case "rate", "increase":
		return k.selected(e.Args[0].(*parser.MatrixSelector).VectorSelector.(*parser.VectorSelector), true)
	case "label_replace":
		have, err := k.labels(e.Args[0])
		return append(slices.Clone(have), e.Args[1].(*parser.StringLiteral).Val), err
	case "histogram_quantile":
		have, err := k.labels(e.Args[1])
		if err == nil && !slices.Contains(have, "le") {
			err = fmt.Errorf("%s: there is no le", e)
		}
		return slices.DeleteFunc(slices.Clone(have), func(l string) bool { return l == "le" }), err
	}
	for _, a := range e.Args {
		switch a := a.(type) {
		case *parser.MatrixSelector:
			return k.selected(a.VectorSelector.(*parser.VectorSelector), false)
		case *parser.NumberLiteral:
		default:
			return k.labels(a)
		}
	}
	return nil, fmt.Errorf("%s: nothing in it", e)
}

func (k known) binary(e *parser.BinaryExpr) ([]string, error) {
	left, err := k.labels(e.LHS)
	if err != nil {
		return nil, err
	}
	right, err := k.labels(e.RHS)
	if err != nil || e.VectorMatching == nil {
		return union(left, right), err
	}
	on := e.VectorMatching
	switch {
	case e.Op == parser.LOR: // what either has
		return union(left, right), nil
	case on.On:
		for _, l := range on.MatchingLabels {
			if !slices.Contains(left, l) || !slices.Contains(right, l) {
				return nil, fmt.Errorf("%s: on %s: one side has %v, the other %v", e, l, left, right)
			}
		}
	case !slices.Equal(union(left, nil), union(right, nil)):
		return nil, fmt.Errorf("%s: one side has %v, the other %v", e, left, right)
	}
	if on.On && on.Card == parser.CardOneToOne && !e.Op.IsSetOperator() {
		return on.MatchingLabels, nil
	}
	return left, nil
}

// TestWhatIsWrongIsSeen keeps the rules above honest.
func TestWhatIsWrongIsSeen(t *testing.T) {
	k := series(t)
	for _, text := range []string{
		`wattledger_cluster_powr_watts`,
		`wattledger_cluster_power_watts{node="n"}`,
		`sum by (project) (wattledger_cluster_power_watts)`,
		`rate(wattledger_cluster_power_watts[5m])`,
		`sum by (use) (wattledger_cluster_energy_joules_total)`,
		`increase(wattledger_project_energy_joules_total{use="held"}[5m])`,
		`delta(wattledger_project_energy_joules_total[5m])`,
		`histogram_quantile(0.9, sum(rate(wattledger_intake_commit_seconds_bucket[5m])))`,
		`wattledger_cluster_power_watts / wattledger_nodes`,
		`wattledger_cluster_power_watts / on (node) wattledger_nodes`,
		`wattledger_job_held_energy_joules{exported_instance="1"}`,
		`max(wattledger:gpu_temperature_celsius:max{node="n"})`,
	} {
		if have, err := k.labels(expr(t, text)); err == nil {
			t.Errorf("%s passes, with labels %v", text, have)
		}
	}
}

func union(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}
