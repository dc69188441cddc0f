// Package selfscrape stores the aggregator's own page of metrics as series, as
// a Prometheus that scraped it would: so that rules and dashboards see it with
// nothing installed beside the aggregator.
package selfscrape

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"go.uber.org/zap"
)

// Options say what is stored where.
type Options struct {
	Gatherer prometheus.Gatherer
	Store    storage.Appendable
	// Ready says why the store cannot take samples; nil if it can.
	Ready func() error
	// Skip are families that the store has from elsewhere.
	Skip map[string]bool
	// Every is how far apart samples are (15 s).
	Every    time.Duration
	Instance string // label, beside job="wattledger-aggregator"
	Now      func() time.Time
	Log      *zap.Logger
}

// Scraper stores a page again and again.
type Scraper struct {
	o      Options
	last   map[string]labels.Labels // what was there the last time, by its text
	failed bool
}

// New makes a Scraper.
func New(o Options) *Scraper {
	if o.Every == 0 {
		o.Every = 15 * time.Second
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Scraper{o: o, last: map[string]labels.Labels{}}
}

// readyEvery is how often a store is asked that cannot take samples yet.
const readyEvery = time.Second

// Run stores until ctx ends, at once when the store can take samples. A failure
// costs one sample of each series.
func (s *Scraper) Run(ctx context.Context) error {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		if s.o.Ready != nil && s.o.Ready() != nil {
			next.Reset(readyEvery)
			continue
		}
		next.Reset(s.o.Every)
		err := s.Once(ctx)
		if err != nil && !s.failed {
			s.o.Log.Warn("the aggregator's own metrics are not stored as series; the page /metrics has them", zap.Error(err))
		}
		s.failed = err != nil
	}
}

// Once stores the page as it is now. Series that have gone are marked stale.
func (s *Scraper) Once(ctx context.Context) (err error) {
	families, err := s.o.Gatherer.Gather()
	if err != nil && len(families) == 0 {
		return fmt.Errorf("cannot gather the aggregator's own metrics: %w", err)
	}
	app := s.o.Store.Appender(ctx)
	p := page{s: s, app: app, at: s.o.Now().UnixMilli(), seen: make(map[string]labels.Labels, len(s.last))}
	for _, f := range families {
		if !s.o.Skip[f.GetName()] {
			p.family(f)
		}
	}
	for name, l := range s.last {
		if _, still := p.seen[name]; !still {
			p.append(l, math.Float64frombits(value.StaleNaN))
		}
	}
	s.last = p.seen
	if p.err != nil {
		return errors.Join(p.err, app.Rollback())
	}
	if err := app.Commit(); err != nil {
		return fmt.Errorf("cannot store the aggregator's own metrics: %w", err)
	}
	return nil
}

// page is one scrape in the making.
type page struct {
	s    *Scraper
	app  storage.Appender
	at   int64
	seen map[string]labels.Labels
	err  error
}

func (p *page) family(f *dto.MetricFamily) {
	name := f.GetName()
	for _, m := range f.GetMetric() {
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			p.sample(name, m, m.GetCounter().GetValue())
		case dto.MetricType_GAUGE:
			p.sample(name, m, m.GetGauge().GetValue())
		case dto.MetricType_UNTYPED:
			p.sample(name, m, m.GetUntyped().GetValue())
		case dto.MetricType_SUMMARY:
			for _, q := range m.GetSummary().GetQuantile() {
				p.sample(name, m, q.GetValue(), "quantile", number(q.GetQuantile()))
			}
			p.sample(name+"_sum", m, m.GetSummary().GetSampleSum())
			p.sample(name+"_count", m, float64(m.GetSummary().GetSampleCount()))
		case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
			p.histogram(name, m)
		}
	}
}

func (p *page) histogram(name string, m *dto.Metric) {
	h := m.GetHistogram()
	for _, b := range h.GetBucket() {
		p.sample(name+"_bucket", m, float64(b.GetCumulativeCount()), "le", number(b.GetUpperBound()))
	}
	p.sample(name+"_bucket", m, float64(h.GetSampleCount()), "le", "+Inf")
	p.sample(name+"_sum", m, h.GetSampleSum())
	p.sample(name+"_count", m, float64(h.GetSampleCount()))
}

func number(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	return strings.TrimSuffix(strconv.FormatFloat(v, 'g', -1, 64), ".0")
}

func (p *page) sample(name string, m *dto.Metric, v float64, more ...string) {
	b := labels.NewBuilder(labels.EmptyLabels())
	b.Set(model.MetricNameLabel, name).Set("job", "wattledger-aggregator").Set("instance", p.s.o.Instance)
	for _, l := range m.GetLabel() {
		b.Set(target(l.GetName()), l.GetValue())
	}
	for i := 0; i+1 < len(more); i += 2 {
		b.Set(more[i], more[i+1])
	}
	l := b.Labels()
	p.append(l, v)
	p.seen[l.String()] = l
}

// target keeps the labels of the scrape apart from labels of the same name, as
// Prometheus does.
func target(name string) string {
	if name == "job" || name == "instance" {
		return "exported_" + name
	}
	return name
}

func (p *page) append(l labels.Labels, v float64) {
	if p.err != nil {
		return
	}
	if _, err := p.app.Append(0, l, p.at, v); err != nil && !errors.Is(err, storage.ErrOutOfOrderSample) && !errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
		p.err = fmt.Errorf("cannot store %s: %w", l, err)
	}
}
