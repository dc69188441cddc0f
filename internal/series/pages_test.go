package series_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wattledger/wattledger/alerts"
	"github.com/wattledger/wattledger/exporters"
	page "github.com/wattledger/wattledger/exporters/prometheus"
	"github.com/wattledger/wattledger/exporters/remotewrite"
	"github.com/wattledger/wattledger/internal/accounting"
	"github.com/wattledger/wattledger/internal/agent"
	"github.com/wattledger/wattledger/internal/intake"
	"github.com/wattledger/wattledger/internal/job/kubernetes"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/obs"
	"github.com/wattledger/wattledger/internal/outbox"
	"github.com/wattledger/wattledger/internal/report/reporttest"
	"github.com/wattledger/wattledger/internal/sender"
	"github.com/wattledger/wattledger/internal/series"
	"github.com/wattledger/wattledger/internal/series/metric"
	"github.com/wattledger/wattledger/internal/spool"
	"github.com/wattledger/wattledger/internal/watch"
)

// lister is a registerer that lists what it is given.
type lister struct {
	t    *testing.T
	list []metric.Metric
}

func (l *lister) Unregister(prometheus.Collector) bool { return false }

func (l *lister) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		_ = l.Register(c)
	}
}

// described is a Desc as it spells itself; nothing else tells what is in it.
var described = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"),(?: unit: "[^"]*",)? constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

func (l *lister) Register(c prometheus.Collector) error {
	kind := metric.Gauge
	switch c.(type) {
	case prometheus.Histogram, *prometheus.HistogramVec:
		kind = "histogram"
	}
	ch := make(chan *prometheus.Desc, 1000)
	c.Describe(ch)
	close(ch)
	for d := range ch {
		m := described.FindStringSubmatch(d.String())
		if m == nil {
			l.t.Fatalf("a Desc is spelt in another way now: %s", d)
		}
		name, err1 := strconv.Unquote(m[1])
		help, err2 := strconv.Unquote(m[2])
		if err1 != nil || err2 != nil {
			l.t.Fatalf("%s: %v %v", d, err1, err2)
		}
		var labels []string
		for pair := range strings.SplitSeq(m[3], ",") {
			if name, _, ok := strings.Cut(pair, "="); ok {
				labels = append(labels, name)
			}
		}
		if m[4] != "" {
			labels = append(labels, strings.Split(m[4], ",")...)
		}
		l.add(metric.Metric{Name: name, Type: kind, Labels: labels, Help: help})
	}
	return nil
}

func (l *lister) add(m metric.Metric) {
	if strings.HasSuffix(m.Name, "_total") {
		m.Type = metric.Counter
	}
	stem := strings.TrimSuffix(m.Name, "_total")
	for _, unit := range []string{"joules", "watts", "seconds", "bytes", "ratio", "celsius", "hertz"} {
		if m.Unit == "" && strings.HasSuffix(stem, "_"+unit) {
			m.Unit = unit
		}
	}
	if !slices.ContainsFunc(l.list, func(o metric.Metric) bool { return o.Name == m.Name }) {
		l.list = append(l.list, m)
	}
}

// of gives the list by name.
func (l *lister) of() []metric.Metric {
	slices.SortFunc(l.list, func(a, b metric.Metric) int { return strings.Compare(a.Name, b.Name) })
	return l.list
}

// must ends the test if a part cannot be made.
func (l *lister) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// process lists what every program of ours has.
func (l *lister) process(component string) {
	l.t.Helper()
	_, err := obs.NewLogger("info", os.Stderr, l)
	l.must(err)
	families, err := obs.NewRegistry(component).Gather()
	l.must(err)
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "wattledger_") {
			var labels []string
			for _, p := range f.GetMetric()[0].GetLabel() {
				labels = append(labels, p.GetName())
			}
			l.add(metric.Metric{Name: f.GetName(), Type: metric.Gauge, Labels: labels, Help: f.GetHelp()})
		}
	}
}

// aggregatorPage is what is on the aggregator's page.
func aggregatorPage(t *testing.T) series.Page {
	t.Helper()
	l := &lister{t: t}
	l.process("aggregator")
	led := &reporttest.Ledger{}
	l.MustRegister(intake.NewBooks(led, nil), watch.New(watch.Options{Ledger: led, Now: time.Now}))
	_, err := intake.New(intake.Options{Ledger: led, Now: time.Now, Registerer: l})
	l.must(err)
	_, err = accounting.NewMetrics(l)
	l.must(err)
	_, err = exporters.NewFan(nil, l, nil)
	l.must(err)
	e, err := remotewrite.New(remotewrite.Options{
		Name: "r", Endpoint: exporters.Endpoint{URL: "http://127.0.0.1:1"}, Buffer: outbox.Options{Dir: t.TempDir(), Now: time.Now, Registerer: l},
	})
	l.must(err)
	l.must(e.Close())
	for _, m := range append(series.Own(), alerts.Own()...) {
		l.add(m)
	}
	return series.Page{
		Title: "The aggregator's page",
		Text: "On the aggregator's `/metrics`, for those who may read. All of it is also stored as series, every 15 s, with `job=\"wattledger-aggregator\"` and\n" +
			"`instance` (the address it listens on); a label `job` of its own is `exported_job` there. Families that are in the first table are stored from there alone.\n" +
			"Beside these there are `go_*` and `process_*` of the runtime, and what Prometheus' packages of rules and notifications tell of themselves (`prometheus_*`).",
		Metrics: l.of(),
	}
}

// agentPage is what is on an agent's page.
func agentPage(t *testing.T) series.Page {
	t.Helper()
	l := &lister{t: t}
	l.process("agent")
	agent.NewMetrics(l, nil)
	l.MustRegister(page.NewNode(time.Now, true))
	sp, err := spool.Open(spool.Options{Dir: t.TempDir()})
	l.must(err)
	defer sp.Close()
	_, err = sender.New(sender.Options{
		Spool: sp, URL: "http://127.0.0.1:1", Node: ledger.Node{Cluster: "c", Name: "n"}, Nonce: "n", Session: "s", Now: time.Now, Registerer: l,
		OnRefused: func([]byte, string) error { return nil },
	})
	l.must(err)
	_, err = kubernetes.New(kubernetes.Options{Registerer: l, Now: time.Now})
	l.must(err)
	for _, m := range driverMetrics(t) {
		l.add(m)
	}
	return series.Page{
		Title: "An agent's page",
		Text: "On an agent's `/metrics` (its `listen`), useful without an aggregator. What it says of GPUs and other meters has the names of the first table, without `cluster`\n" +
			"and `node`: the scrape names the node. Which of them are there depends on the node's hardware. `job` and `project` are only in `wattledger_gpu_job_share`,\n" +
			"and only where the configuration asks for it. Beside these there are `go_*` and `process_*` of the runtime.",
		Metrics: l.of(),
	}
}

// driverMetrics reads what cmd/wattledger-agent makes with desc(name, help,
// labels...): nothing can import a command.
func driverMetrics(t *testing.T) []metric.Metric {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../cmd/wattledger-agent/metrics.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []metric.Metric
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if f, ok := call.Fun.(*ast.Ident); !ok || f.Name != "desc" {
			return true
		}
		var words []string
		for _, a := range call.Args {
			if lit, ok := a.(*ast.BasicLit); ok {
				s, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				words = append(words, s)
			}
		}
		out = append(out, metric.Metric{Name: "wattledger_nvml_" + words[0], Type: metric.Gauge, Help: words[1], Labels: words[2:]})
		return true
	})
	if len(out) < 5 {
		t.Fatalf("only %d metrics of the GPU driver: they are made in another way now", len(out))
	}
	return out
}
