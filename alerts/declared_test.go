package alerts_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	promql "github.com/prometheus/prometheus/promql/parser"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/alerts"
	"github.com/wattledger/wattledger/internal/obs"
	"github.com/wattledger/wattledger/internal/series"
	"github.com/wattledger/wattledger/internal/series/metric"
)

// rule is a rule and the file that it stands in.
type rule struct {
	rulefmt.Rule
	file string
}

func ruleFiles(t *testing.T) []rule {
	t.Helper()
	names, err := filepath.Glob("*.rules.yml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no rules: %v", err)
	}
	var out []rule
	for _, name := range names {
		groups, errs := rulefmt.ParseFile(name, false, model.UTF8Validation, promql.NewParser(promql.Options{}), obs.Slog(zap.NewNop(), ""))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		for _, g := range groups.Groups {
			for _, r := range g.Rules {
				out = append(out, rule{r, name})
			}
		}
	}
	return out
}

// elsewhere are metrics whose packages do not list them: where they are written,
// and their labels.
func elsewhere() map[string]struct{ file, labels string } {
	return map[string]struct{ file, labels string }{
		"wattledger_nodes":                                    {"internal/intake/books.go", "cluster"},
		"wattledger_intake_commit_errors_total":               {"internal/intake/metrics.go", ""},
		"wattledger_intake_last_commit_timestamp_seconds":     {"internal/intake/metrics.go", ""},
		"wattledger_intake_queue_windows":                     {"internal/intake/metrics.go", ""},
		"wattledger_intake_requests_total":                    {"internal/intake/metrics.go", "code"},
		"wattledger_intake_decode_errors_total":               {"internal/intake/metrics.go", "reason"},
		"wattledger_accounting_unmetered_jobs":                {"internal/accounting/metrics.go", "cluster"},
		"wattledger_accounting_polls_total":                   {"internal/accounting/metrics.go", "cluster result"},
		"wattledger_exporter_samples_total":                   {"internal/outbox/metrics.go", "exporter receiver result"},
		"wattledger_exporter_failing_since_timestamp_seconds": {"internal/outbox/metrics.go", "exporter receiver"},
		"wattledger_exporter_buffer_bytes":                    {"internal/outbox/metrics.go", "exporter receiver"},
		"wattledger_exporter_buffer_limit_bytes":              {"internal/outbox/metrics.go", "exporter receiver"},
		"wattledger_exporter_overrun_samples_total":           {"exporters/fan.go", "receiver"},
		"wattledger_watch_errors_total":                       {"internal/watch/watch.go", ""},
	}
}

// declared gives the labels of every metric that rules may ask for. Those of the
// aggregator's own page have job and instance beside their own.
func declared(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{"process_start_time_seconds": {"job", "instance"}}
	for _, m := range metric.All() {
		out[m.Name] = m.Labels
	}
	page := func(name string, of []string) {
		own := []string{"job", "instance"}
		for _, l := range of {
			if l == "job" {
				l = "exported_job"
			}
			own = append(own, l)
		}
		out[name] = own
	}
	for _, m := range append(series.Own(), alerts.Own()...) {
		page(m.Name, m.Labels)
	}
	for name, of := range watched(t) {
		page(name, of)
	}
	for name, m := range elsewhere() {
		text, err := os.ReadFile(filepath.Join("..", m.file))
		if err != nil || !strings.Contains(string(text), strconv.Quote(name)) {
			t.Errorf("%s is not in %s: %v", name, m.file, err)
		}
		page(name, strings.Fields(m.labels))
	}
	return out
}

// watched reads the names and labels that internal/watch makes with d(name,
// help, labels...).
func watched(t *testing.T) map[string][]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../internal/watch/watch.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if f, ok := call.Fun.(*ast.Ident); !ok || f.Name != "d" {
			return true
		}
		var words []string
		for _, a := range call.Args {
			lit, ok := a.(*ast.BasicLit)
			if !ok {
				return true
			}
			word, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			words = append(words, word)
		}
		out["wattledger_"+words[0]] = words[2:]
		return true
	})
	if len(out) < 15 {
		t.Fatalf("only %d metrics of internal/watch are found: %v", len(out), out)
	}
	return out
}

// selectors are the selectors of an expression: a name, and the labels that are
// asked for.
func selectors(t *testing.T, expr string) map[string][]string {
	t.Helper()
	e, err := promql.NewParser(promql.Options{}).ParseExpr(expr)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	promql.Inspect(e, func(n promql.Node, _ []promql.Node) error {
		v, ok := n.(*promql.VectorSelector)
		if !ok {
			return nil
		}
		var of []string
		for _, m := range v.LabelMatchers {
			if m.Name != model.MetricNameLabel {
				of = append(of, m.Name)
			}
		}
		out[v.Name] = append(out[v.Name], of...)
		return nil
	})
	return out
}

// TestEveryMetricIsDeclared, and has the labels that rules ask for.
func TestEveryMetricIsDeclared(t *testing.T) {
	known := declared(t)
	recorded := map[string]bool{}
	list := ruleFiles(t)
	for _, r := range list {
		if r.Record != "" {
			recorded[r.Record] = true
		}
	}
	for _, r := range list {
		for name, of := range selectors(t, r.Expr) {
			have, ok := known[name]
			if !ok && !recorded[name] {
				t.Errorf("%s: %s%s asks for %q, which nobody declares", r.file, r.Alert, r.Record, name)
			}
			for _, l := range of {
				if ok && !slices.Contains(have, l) {
					t.Errorf("%s: %s%s asks for the label %q of %s, which has %q", r.file, r.Alert, r.Record, l, name, have)
				}
			}
		}
	}
}

var groupingLabels = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)

// TestGroupingLabelsAreThere: "by (jop)" is no error, it just groups by nothing.
func TestGroupingLabelsAreThere(t *testing.T) {
	known := declared(t)
	for _, r := range ruleFiles(t) {
		all := []string{}
		for name := range selectors(t, r.Expr) {
			all = append(all, known[name]...)
			if strings.HasPrefix(name, "wattledger:") {
				all = append(all, "cluster", "node", "gpu", "reason")
			}
		}
		for _, m := range groupingLabels.FindAllStringSubmatch(r.Expr, -1) {
			for l := range strings.SplitSeq(m[1], ",") {
				if l = strings.TrimSpace(l); l != "" && !slices.Contains(all, l) {
					t.Errorf("%s: %s%s groups by %q, which nothing in it has: %q", r.file, r.Alert, r.Record, l, all)
				}
			}
		}
	}
}

// TestEventKindsAreReal: what rules look for in the events of nodes is what
// sources and agents say.
func TestEventKindsAreReal(t *testing.T) {
	said := ""
	for _, dir := range []string{"../collector", "../internal/agent", "../internal/energy", "../internal/sample"} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			said += string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for _, r := range ruleFiles(t) {
		for _, m := range regexp.MustCompile(`wattledger_node_recent_events\{kind=~?"([^"]*)"`).FindAllStringSubmatch(r.Expr, -1) {
			for kind := range strings.SplitSeq(m[1], "|") {
				if n++; !strings.Contains(said, strconv.Quote(kind)) {
					t.Errorf("%s: %s looks for events of kind %q, and nobody says that", r.file, r.Alert, kind)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("%d kinds are looked for: the pattern of this test is wrong", n)
	}
}

// TestRunbooks: every alert has its words and a page; every page belongs to an
// alert, and speaks of metrics and alerts that there are.
func TestRunbooks(t *testing.T) {
	const dir = "docs/runbooks/"
	referenced, alertNames := map[string][]string{}, map[string]bool{}
	for _, r := range ruleFiles(t) {
		if r.Alert == "" {
			continue
		}
		alertNames[r.Alert] = true
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: %s has severity %q", r.file, r.Alert, r.Labels["severity"])
		}
		for _, a := range []string{"summary", "description", "runbook"} {
			if r.Annotations[a] == "" {
				t.Errorf("%s: %s has no %s", r.file, r.Alert, a)
			}
		}
		page, ok := strings.CutPrefix(r.Annotations["runbook"], dir)
		if !ok {
			t.Errorf("%s: %s has its runbook in %q; want %s", r.file, r.Alert, r.Annotations["runbook"], dir)
		}
		referenced[page] = append(referenced[page], r.Alert)
	}
	known := declared(t)
	pages, err := filepath.Glob("../" + dir + "*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pages {
		page := filepath.Base(path)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, alert := range referenced[page] {
			if !strings.Contains(string(text), "`"+alert+"`") {
				t.Errorf("%s does not name the alert %s that leads to it", page, alert)
			}
		}
		if page != "README.md" && referenced[page] == nil {
			t.Errorf("%s is no alert's page", page)
		}
		delete(referenced, page)
		for _, name := range regexp.MustCompile(`\bwattledger_[a-z0-9_]+`).FindAllString(string(text), -1) {
			if _, ok := known[name]; !ok && !strings.HasPrefix(name, "wattledger_agent_") {
				t.Errorf("%s speaks of %s, which nobody declares", page, name)
			}
		}
	}
	for page, by := range referenced {
		t.Errorf("%s%s is the page of %v and does not exist", dir, page, by)
	}
	index, err := os.ReadFile("../" + dir + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range alertNames {
		if !strings.Contains(string(index), "`"+name+"`") {
			t.Errorf("the index of runbooks lacks %s", name)
		}
	}
}
