package alerts_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v3"

	"github.com/wattledger/wattledger/alerts"
)

// unitTests is a file of promtool's unit tests, as far as ours use it.
type unitTests struct {
	RuleFiles []string       `yaml:"rule_files"`
	Every     model.Duration `yaml:"evaluation_interval"`
	Tests     []unitTest     `yaml:"tests"`
}

type unitTest struct {
	Name     string         `yaml:"name"`
	Interval model.Duration `yaml:"interval"`
	Input    []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	Alerts []alertTest `yaml:"alert_rule_test"`
}

type alertTest struct {
	At    model.Duration `yaml:"eval_time"`
	Alert string         `yaml:"alertname"`
	Want  []fired        `yaml:"exp_alerts"`
}

// fired is an alert that fires.
type fired struct {
	Labels      map[string]string `yaml:"exp_labels"`
	Annotations map[string]string `yaml:"exp_annotations"`
}

func testFiles(t *testing.T) map[string]unitTests {
	t.Helper()
	names, err := filepath.Glob("*.test.yml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no tests of rules: %v", err)
	}
	out := map[string]unitTests{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var u unitTests
		if err := yaml.Unmarshal(text, &u); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name] = u
	}
	return out
}

// TestRules evaluates the files of promtool's tests as the aggregator evaluates:
// the embedded rules, through this package, with an engine like the store's.
func TestRules(t *testing.T) {
	for name, file := range testFiles(t) {
		for _, u := range file.Tests {
			t.Run(strings.TrimSuffix(name, ".test.yml")+"/"+u.Name, func(t *testing.T) {
				t.Parallel()
				u.run(t, file)
			})
		}
	}
}

// run steps through the time of a test and compares what fires.
func (u *unitTest) run(t *testing.T, file unitTests) {
	input := fmt.Sprintf("load %s\n", time.Duration(u.Interval))
	for _, s := range u.Input {
		input += "  " + s.Series + " " + s.Values + "\n"
	}
	data, err := promqltest.NewLazyLoader(input, promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := data.Close(); err != nil {
			t.Error(err)
		}
	}()
	groups := u.groups(t, data, file.RuleFiles)
	begin := time.Unix(0, 0).UTC()
	last := slices.MaxFunc(u.Alerts, func(a, b alertTest) int { return int(a.At - b.At) })
	for at := begin; !at.After(begin.Add(time.Duration(last.At))); at = at.Add(time.Duration(file.Every)) {
		data.WithSamplesTill(at, func(err error) {
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range groups {
				g.Eval(context.Background(), at)
				for _, r := range g.Rules() {
					if r.LastError() != nil {
						t.Fatalf("%s at %s: %v", r.Name(), at.Sub(begin), r.LastError())
					}
				}
			}
		})
		for _, a := range u.Alerts {
			if begin.Add(time.Duration(a.At)).Equal(at) {
				if diff := cmp.Diff(a.Want, firing(groups, a.Alert)); diff != "" && len(a.Want)+len(firing(groups, a.Alert)) > 0 {
					t.Errorf("%s at %s, -want +got:\n%s", a.Alert, a.At, diff)
				}
			}
		}
	}
}

// groups loads the built-in groups over the test's data.
func (u *unitTest) groups(t *testing.T, data *promqltest.LazyLoader, files []string) []*rules.Group {
	m, err := alerts.New(alerts.Options{Storage: data.Storage(), Engine: engine(), Builtin: true})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, "built-in/"+f)
	}
	loaded, errs := m.Rules().LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, names...)
	if errs != nil {
		t.Fatal(errs)
	}
	var out []*rules.Group
	for _, key := range slices.Sorted(maps.Keys(loaded)) {
		for _, r := range loaded[key].Rules() {
			if a, ok := r.(*rules.AlertingRule); ok {
				a.SetRestored(true)
			}
		}
		out = append(out, loaded[key])
	}
	return out
}

// engine is one like that of the store of series.
func engine() *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{
		MaxSamples: 20_000_000, Timeout: time.Minute, EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() }, Parser: parser.NewParser(parser.Options{}),
	})
}

func firing(groups []*rules.Group, name string) []fired {
	var out []fired
	for _, g := range groups {
		for _, r := range g.AlertingRules() {
			if r.Name() != name {
				continue
			}
			for _, a := range r.ActiveAlerts() {
				if a.State == rules.StateFiring {
					l := a.Labels.Map()
					delete(l, labels.AlertName)
					out = append(out, fired{Labels: l, Annotations: a.Annotations.Map()})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b fired) int { return strings.Compare(fmt.Sprint(a.Labels), fmt.Sprint(b.Labels)) })
	return out
}

// TestEveryAlertIsTested: there is a test where it fires and one, without any
// firing of it, where it stays quiet.
func TestEveryAlertIsTested(t *testing.T) {
	type seen struct{ fires, quiet bool }
	tested := map[string]seen{}
	for _, file := range testFiles(t) {
		for _, u := range file.Tests {
			fires := map[string]bool{}
			for _, a := range u.Alerts {
				fires[a.Alert] = fires[a.Alert] || len(a.Want) > 0
			}
			for name, yes := range fires {
				s := tested[name]
				tested[name] = seen{s.fires || yes, s.quiet || !yes}
			}
		}
	}
	known := map[string]bool{}
	for _, r := range ruleFiles(t) {
		if r.Alert == "" {
			continue
		}
		if known[r.Alert] {
			t.Errorf("%s: %s is there twice; one name, one meaning", r.file, r.Alert)
		}
		known[r.Alert] = true
		if s := tested[r.Alert]; !s.fires || !s.quiet {
			t.Errorf("%s: %s has a test where it fires: %v; one where it stays quiet: %v", r.file, r.Alert, s.fires, s.quiet)
		}
	}
	for name := range tested {
		if !known[name] {
			t.Errorf("%s is tested and no rule", name)
		}
	}
}
