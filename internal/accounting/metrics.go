package accounting

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Names of the metrics.
const (
	MetricPolls             = "wattledger_accounting_polls_total"
	MetricLastSuccess       = "wattledger_accounting_last_success_timestamp_seconds"
	MetricReadUntil         = "wattledger_accounting_read_until_timestamp_seconds"
	MetricJobs              = "wattledger_accounting_jobs_total"
	MetricUnmeteredJobs     = "wattledger_accounting_unmetered_jobs"
	MetricUnmeteredNodeTime = "wattledger_accounting_unmetered_node_seconds"
)

// Results of a poll.
const (
	resultOK          = "ok"
	resultRefused     = "refused"
	resultUnreachable = "unreachable"
	resultFailed      = "failed"
)

// Metrics are those of all pollers, by cluster.
type Metrics struct {
	polls                                        *prometheus.CounterVec
	jobs                                         *prometheus.CounterVec
	success, until, unmetered, unmeteredNodeTime *prometheus.GaugeVec
}

// NewMetrics makes and registers them.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"cluster"})
	}
	m := &Metrics{
		polls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricPolls,
			Help: "Reads of the workload manager's accounting: ok, refused (a token), unreachable or failed.",
		}, []string{"cluster", "result"}),
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: MetricJobs,
			Help: "Runs of jobs that the workload manager's accounting told of; each as often as it was told.",
		}, []string{"cluster"}),
		success: gauge(MetricLastSuccess, "When the workload manager's accounting was last read."),
		until:   gauge(MetricReadUntil, "Until when the workload manager's accounting is read; it falls behind the clock in an outage."),
		unmetered: gauge(MetricUnmeteredJobs,
			"Jobs of the last 24 hours that ran on nodes whose books hold nothing of them."),
		unmeteredNodeTime: gauge(MetricUnmeteredNodeTime, "Device time of the nodes of those jobs that sent nothing, in the last 24 hours."),
	}
	for _, c := range []prometheus.Collector{m.polls, m.jobs, m.success, m.until, m.unmetered, m.unmeteredNodeTime} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("cannot register metrics of the accounting: %w", err)
		}
	}
	return m, nil
}

// begin makes the series of a cluster, so that a zero is seen before a one.
func (m *Metrics) begin(cluster string) {
	for _, r := range []string{resultOK, resultRefused, resultUnreachable, resultFailed} {
		m.polls.WithLabelValues(cluster, r)
	}
	m.jobs.WithLabelValues(cluster)
	for _, g := range []*prometheus.GaugeVec{m.unmetered, m.unmeteredNodeTime} {
		g.WithLabelValues(cluster).Set(0)
	}
}
