package dashboardtest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wattledger/wattledger/exporters"
	"github.com/wattledger/wattledger/internal/accounting"
	"github.com/wattledger/wattledger/internal/intake"
	"github.com/wattledger/wattledger/internal/obs"
	"github.com/wattledger/wattledger/internal/outbox"
	"github.com/wattledger/wattledger/internal/report/reporttest"
	"github.com/wattledger/wattledger/internal/series"
	"github.com/wattledger/wattledger/internal/series/metric"
	"github.com/wattledger/wattledger/internal/watch"
)

// Metric is a series that the aggregator's store holds, as a query may use it.
type Metric struct {
	Labels  []string
	Counter bool
	// Raw is true of what every node or GPU has: 25,000 or 100,000 of them.
	Raw bool
}

// Declared lists, by name, what the store holds before any rule has run: the
// catalogue of series, and what is on the aggregator's own page, with the labels
// that storing it adds. It asks the packages themselves, so that what nobody
// exports is not in it.
func Declared() (map[string]Metric, error) {
	out := map[string]Metric{}
	for _, m := range metric.All() {
		out[m.Name] = Metric{Labels: m.Labels, Counter: m.Type == metric.Counter, Raw: slices.Contains(m.Labels, "node")}
	}
	descs, err := ownPage()
	if err != nil {
		return nil, err
	}
	for _, d := range descs {
		name, labels, err := read(d)
		if err != nil {
			return nil, err
		}
		if _, ok := out[name]; ok {
			continue // the store makes it itself, without the labels of a scrape
		}
		out[name] = Metric{Labels: stored(labels), Counter: strings.HasSuffix(name, "_total")}
	}
	for _, m := range series.Own() {
		out[m.Name] = Metric{Labels: stored(m.Labels), Counter: m.Type == metric.Counter}
	}
	histogram(out, intake.MetricCommit)
	histogram(out, intake.MetricCommitSize)
	for _, m := range []string{
		outbox.MetricSamples, outbox.MetricRequests, outbox.MetricPending, outbox.MetricBufferBytes,
		outbox.MetricBufferLimit, outbox.MetricLastSuccess, outbox.MetricFailingSince,
	} {
		labels := []string{"exporter", "receiver"}
		if m == outbox.MetricSamples || m == outbox.MetricRequests {
			labels = append(labels, "result")
		}
		out[m] = Metric{Labels: stored(labels), Counter: strings.HasSuffix(m, "_total")}
	}
	// What the rules manager writes; the labels are those of any alert.
	out["ALERTS"] = Metric{Labels: []string{"alertname", "alertstate", "severity", "cluster", "node"}}
	return out, nil
}

func histogram(out map[string]Metric, name string) {
	m := out[name]
	delete(out, name)
	out[name+"_bucket"] = Metric{Labels: append(slices.Clone(m.Labels), "le"), Counter: true}
	out[name+"_sum"], out[name+"_count"] = Metric{Labels: m.Labels, Counter: true}, Metric{Labels: m.Labels, Counter: true}
}

// stored are the labels of a metric of the page as it is stored: those of the
// scrape come first.
func stored(labels []string) []string {
	out := []string{"job", "instance"}
	for _, l := range labels {
		if l == "job" || l == "instance" {
			l = "exported_" + l
		}
		out = append(out, l)
	}
	return out
}

// ownPage are the descriptions of what the aggregator registers.
func ownPage() ([]*prometheus.Desc, error) {
	led := &reporttest.Ledger{}
	reg := &recorder{}
	if _, err := intake.New(intake.Options{Ledger: led, Now: reporttest.Now, Registerer: reg}); err != nil {
		return nil, err
	}
	if _, err := accounting.NewMetrics(reg); err != nil {
		return nil, err
	}
	if _, err := exporters.NewFan(nil, reg, nil); err != nil {
		return nil, err
	}
	reg.MustRegister(intake.NewBooks(led, nil), obs.NewRegistry("aggregator"), watch.New(watch.Options{Ledger: led, Now: reporttest.Now}))
	ch := make(chan *prometheus.Desc)
	go func() {
		defer close(ch)
		for _, c := range reg.collectors {
			c.Describe(ch)
		}
	}()
	var out []*prometheus.Desc
	for d := range ch {
		out = append(out, d)
	}
	return out, nil
}

// recorder is a registry that only remembers.
type recorder struct{ collectors []prometheus.Collector }

func (r *recorder) Register(c prometheus.Collector) error {
	r.collectors = append(r.collectors, c)
	return nil
}

func (r *recorder) MustRegister(cs ...prometheus.Collector) {
	r.collectors = append(r.collectors, cs...)
}

func (r *recorder) Unregister(prometheus.Collector) bool { return false }

// read takes name and labels out of the text of a description, which has no
// other way to tell them.
func read(d *prometheus.Desc) (name string, labels []string, err error) {
	m := regexp.MustCompile(`^Desc{fqName: "([^"]+)", help: ".*", constLabels: {(.*)}, variableLabels: {(.*)}}$`).FindStringSubmatch(d.String())
	if m == nil {
		return "", nil, fmt.Errorf("cannot read a description of a metric: %s", d)
	}
	for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(m[2], -1) {
		labels = append(labels, l[1])
	}
	for l := range strings.SplitSeq(m[3], ",") {
		if l != "" {
			labels = append(labels, l)
		}
	}
	return m[1], labels, nil
}
