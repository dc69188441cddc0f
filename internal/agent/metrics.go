package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wattledger/wattledger/internal/sample"
)

// Metrics of the agent itself. They say nothing of jobs or projects.
type Metrics struct {
	Windows     prometheus.Counter
	Unbalanced  prometheus.Counter
	SpoolErrors prometheus.Counter
	StateErrors prometheus.Counter
	Stuck       *prometheus.CounterVec
	readSeconds *prometheus.CounterVec
	reads       *prometheus.CounterVec
	readErrors  *prometheus.CounterVec
	bySource    map[string]sourceCounters // looked up once, not each second
	edges       *prometheus.CounterVec
	lastTick    prometheus.Gauge
	lateness    prometheus.Histogram

	realignedWindows prometheus.Counter
}

type sourceCounters struct{ seconds, reads, errors prometheus.Counter }

// NewMetrics registers them; a nil registerer means they go nowhere.
func NewMetrics(r prometheus.Registerer, sources []string) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		bySource:    map[string]sourceCounters{},
		Windows:     counter("wattledger_agent_windows_total", "Windows made durable in the spool."),
		Unbalanced:  counter("wattledger_agent_windows_unbalanced_total", "Windows whose two sides differ: a bug, each is quarantined."),
		SpoolErrors: counter("wattledger_agent_spool_errors_total", "Failed attempts to write windows to the spool; they wait in memory."),
		StateErrors: counter("wattledger_agent_state_errors_total", "Failed attempts to save the state."),
		Stuck:       vec("wattledger_agent_source_stuck_total", "Ticks at which a source had not answered the last one.", "source"),
		readSeconds: vec("wattledger_agent_source_read_seconds_total", "Time spent reading a source.", "source"),
		reads:       vec("wattledger_agent_source_reads_total", "Reads of a source.", "source"),
		readErrors:  vec("wattledger_agent_source_read_errors_total", "Reads of a source in which at least one device failed.", "source"),
		edges:       vec("wattledger_agent_job_edges_total", "Begins and ends told to the agent.", "op", "result"),
		lateness: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "wattledger_agent_tick_lateness_seconds", Help: "How late a tick began, after the second it was meant for.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5},
		}),
		realignedWindows: counter("wattledger_agent_windows_realigned_total", "Spooled windows that were cut or bridged to fit the ledger."),
		lastTick:         prometheus.NewGauge(prometheus.GaugeOpts{Name: "wattledger_agent_last_tick_timestamp_seconds", Help: "When the agent last asked its sources."}),
	}
	for _, s := range sources {
		m.Stuck.WithLabelValues(s)
		m.bySource[s] = sourceCounters{m.readSeconds.WithLabelValues(s), m.reads.WithLabelValues(s), m.readErrors.WithLabelValues(s)}
	}
	for _, op := range []string{"begin", "end"} {
		for _, result := range []string{"kept", "refused"} {
			m.edges.WithLabelValues(op, result)
		}
	}
	if r != nil {
		r.MustRegister(m.Windows, m.Unbalanced, m.SpoolErrors, m.StateErrors, m.Stuck, m.readSeconds, m.reads, m.readErrors, m.edges, m.lastTick, m.lateness, m.realignedWindows)
	}
	return m
}

func (m *Metrics) tick(now time.Time, every time.Duration) {
	m.lastTick.Set(float64(now.UnixMilli()) / 1e3)
	m.lateness.Observe(now.Sub(now.Truncate(every)).Seconds())
}

func (m *Metrics) read(r sample.Result) {
	c, ok := m.bySource[r.Source]
	if !ok {
		c = sourceCounters{m.readSeconds.WithLabelValues(r.Source), m.reads.WithLabelValues(r.Source), m.readErrors.WithLabelValues(r.Source)}
		m.bySource[r.Source] = c
	}
	c.reads.Inc()
	c.seconds.Add(r.Took.Seconds())
	if r.Err != nil {
		c.errors.Inc()
	}
}

func (m *Metrics) edge(op string, err error) {
	result := "kept"
	if err != nil {
		result = "refused"
	}
	m.edges.WithLabelValues(op, result).Inc()
}

func (m *Metrics) realigned(before, after int) {
	m.realignedWindows.Add(float64(max(before, after)))
}
