package series

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/wattledger/wattledger/internal/series/metric"
)

// Names of the metrics that the store keeps of itself.
const (
	MetricAppended   = "wattledger_series_appended_samples_total"
	MetricUnmoved    = "wattledger_series_unmoved_samples_total"
	MetricRefused    = "wattledger_series_refused_samples_total"
	MetricDropped    = "wattledger_series_dropped_windows_total"
	MetricQueue      = "wattledger_series_queue_windows"
	MetricQueueBytes = "wattledger_series_queue_bytes"
	MetricLag        = "wattledger_series_append_lag_seconds"
	MetricHead       = "wattledger_series_head_series"
	MetricReady      = "wattledger_series_ready"
	MetricReplay     = "wattledger_series_replay_ratio"
	MetricBytes      = "wattledger_series_storage_bytes"
	MetricErrors     = "wattledger_series_errors_total"
	MetricQueries    = "wattledger_series_queries_total"
	MetricStep       = "wattledger_series_emitted_step_timestamp_seconds"
	MetricLate       = "wattledger_series_late_windows_total"
	MetricLateEnergy = "wattledger_series_late_energy_joules_total"
	MetricLateSecond = "wattledger_series_late_power_seconds_total"
	MetricLost       = "wattledger_series_lost_nodes_total"
	MetricOverflow   = "wattledger_series_refused_windows_total"
)

// Reasons for which a sample is refused.
const (
	refusedOld       = "too_old"
	refusedDuplicate = "duplicate"
	refusedFuture    = "future"
	refusedOutside   = "outside_window"
	refusedUnknown   = "unknown_name"
	refusedLimit     = "series_limit"
	refusedLabel     = "label"
	refusedInvalid   = "invalid"
)

func refusals() []string {
	return []string{refusedOld, refusedDuplicate, refusedFuture, refusedOutside, refusedUnknown, refusedLimit, refusedLabel, refusedInvalid}
}

// What may fail.
const (
	failedOpen   = "open"
	failedAppend = "append"
	failedPanic  = "panic"
	failedState  = "state"
)

// answers are what became of queries.
func answers() []string { return []string{"ok", "failed", "limit", "busy", "not_ready"} }

type metrics struct {
	store                    *Store
	appended, unmoved        prometheus.Counter // samples
	dropped                  prometheus.Counter
	refused, errors, queries *prometheus.CounterVec
	lag                      prometheus.Gauge
	descs                    map[string]*prometheus.Desc // of what is read when it is asked for
}

// Own lists the metrics that the store keeps of itself, for /metrics.
func Own() []metric.Metric {
	g, c := metric.Gauge, metric.Counter
	return []metric.Metric{
		{Name: MetricAppended, Type: c, Help: "Samples that were stored."},
		{Name: MetricUnmoved, Type: c, Help: "Samples of 0 that were not stored because their series has had no other value: absence means 0 there."},
		{Name: MetricRefused, Type: c, Labels: []string{"reason"}, Help: "Samples that were not stored, by reason: beyond what may come late, a second value for one time, in the future, not in their window, of a name that is not listed, beyond the series a node may begin in a day, with a label that is too long, or not to be stored at all."},
		{Name: MetricDropped, Type: c, Help: "Windows whose telemetry was dropped because the queue was full. Their energy and power are in the sums."},
		{Name: MetricQueue, Type: g, Help: "Windows that wait for the store."},
		{Name: MetricQueueBytes, Type: g, Unit: "bytes", Help: "About the memory of windows that wait for the store."},
		{Name: MetricLag, Type: g, Unit: "seconds", Help: "Age of the newest window when it was stored last."},
		{Name: MetricHead, Type: g, Help: "Series in the head of the store; 0 while it is not open."},
		{Name: MetricReady, Type: g, Help: "1 when the store is open and queries are answered."},
		{Name: MetricReplay, Type: g, Unit: "ratio", Help: "How much of the log was replayed after the start."},
		{Name: MetricBytes, Type: g, Unit: "bytes", Labels: []string{"part"}, Help: "Disk that the store takes: blocks, and the head with its log."},
		{Name: MetricErrors, Type: c, Labels: []string{"what"}, Help: "Failures of the store, by what failed. Each is tried again; energy is not touched."},
		{Name: MetricQueries, Type: c, Labels: []string{"result"}, Help: "Queries by what became of them; limit is a limit of series.query."},
		{Name: MetricStep, Type: g, Unit: "seconds", Labels: []string{"cluster"}, Help: "The last step of the cluster's sums that was stored."},
		{Name: MetricLate, Type: c, Help: "Windows that came after their step was emitted: their energy is in a later one."},
		{Name: MetricLateEnergy, Type: c, Unit: "joules", Help: "Energy of these windows."},
		{Name: MetricLateSecond, Type: c, Unit: "seconds", Help: "Seconds of a node's power that came too late to be in a sum."},
		{Name: MetricLost, Type: c, Help: "Times that a node was no longer waited for."},
		{Name: MetricOverflow, Type: c, Labels: []string{"limit"}, Help: "Windows with a cluster, project or job beyond what gets sums of its own."},
	}
}

func newMetrics(s *Store) *metrics {
	find := func(name string) (string, []string) {
		for _, m := range Own() {
			if m.Name == name {
				return m.Help, m.Labels
			}
		}
		panic("BUG: " + name + " is not listed")
	}
	counter := func(name string) prometheus.Counter {
		help, _ := find(name)
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name string, values []string) *prometheus.CounterVec {
		help, names := find(name)
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, names)
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	m := &metrics{
		store: s, appended: counter(MetricAppended), unmoved: counter(MetricUnmoved), dropped: counter(MetricDropped),
		refused: vec(MetricRefused, refusals()), errors: vec(MetricErrors, []string{failedOpen, failedAppend, failedPanic, failedState}),
		queries: vec(MetricQueries, answers()), descs: map[string]*prometheus.Desc{},
	}
	help, _ := find(MetricLag)
	m.lag = prometheus.NewGauge(prometheus.GaugeOpts{Name: MetricLag, Help: help})
	for _, name := range []string{
		MetricQueue, MetricQueueBytes, MetricHead, MetricReady, MetricReplay, MetricBytes, MetricStep,
		MetricLate, MetricLateEnergy, MetricLateSecond, MetricLost, MetricOverflow,
	} {
		help, names := find(name)
		m.descs[name] = prometheus.NewDesc(name, help, names, nil)
	}
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.appended, m.unmoved, m.dropped, m.refused, m.errors, m.queries, m.lag}
}

// Describe says what is collected.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
	for _, d := range m.descs {
		ch <- d
	}
}

// Collect reads what is read when it is asked for.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
	gauge := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(m.descs[name], prometheus.GaugeValue, v, labels...)
	}
	count := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(m.descs[name], prometheus.CounterValue, v, labels...)
	}
	windows, bytes := m.store.queue.size()
	gauge(MetricQueue, float64(windows))
	gauge(MetricQueueBytes, float64(bytes))
	h := m.store.health()
	gauge(MetricReady, h.ready)
	gauge(MetricReplay, h.replayed)
	gauge(MetricHead, h.series)
	gauge(MetricBytes, h.blocks, "blocks")
	gauge(MetricBytes, h.head, "head")
	if standings := m.store.stood.Load(); standings != nil {
		for _, st := range *standings {
			gauge(MetricStep, float64(st.EmittedMS)/1e3, st.Cluster)
		}
	}
	st := m.store.sums.Stats()
	count(MetricLate, float64(st.LateWindows))
	count(MetricLateEnergy, float64(st.LateEnergy.Joules()))
	count(MetricLateSecond, float64(st.LateSeconds))
	count(MetricLost, float64(st.LostNodes))
	count(MetricOverflow, float64(st.RefusedClusters), "clusters")
	count(MetricOverflow, float64(st.RefusedProjects), "projects")
	count(MetricOverflow, float64(st.RefusedJobs), "jobs")
}
