package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/collector/nvml"
)

// driverMetrics shows what reading GPUs costs the driver: the agent must never
// hurt a job, and this is where one sees whether it does.
type driverMetrics struct {
	source                      *nvml.Source
	calls, failed, seconds, max *prometheus.Desc
	late, refused, hung, lost   *prometheus.Desc
}

// registerDriver adds them where GPUs are read.
func registerDriver(reg prometheus.Registerer, sources []collector.Source) error {
	for _, s := range sources {
		n, ok := s.(*nvml.Source)
		if !ok {
			continue
		}
		desc := func(name, help string, labels ...string) *prometheus.Desc {
			return prometheus.NewDesc("wattledger_nvml_"+name, help, labels, nil)
		}
		return reg.Register(&driverMetrics{
			source:  n,
			calls:   desc("calls_total", "Calls into the driver's library.", "function"),
			failed:  desc("calls_failed_total", "Calls that did not succeed.", "function"),
			seconds: desc("call_seconds_total", "Time spent in calls.", "function"),
			max:     desc("call_slowest_seconds", "The slowest call so far.", "function"),
			late:    desc("reads_late_total", "Reads of one GPU that missed the tick's deadline."),
			refused: desc("values_refused_total", "Values that were blank, of a wrong type or absurd."),
			hung:    desc("gpus_hung", "GPUs in a call that does not return."),
			lost:    desc("gpus_lost", "GPUs that are off the bus or need a reset."),
		})
	}
	return nil
}

// Describe says what is collected.
func (m *driverMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.calls, m.failed, m.seconds, m.max, m.late, m.refused, m.hung, m.lost} {
		ch <- d
	}
}

// Collect reads the counts.
func (m *driverMetrics) Collect(ch chan<- prometheus.Metric) {
	st := m.source.Stats()
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, c := range st.Calls {
		counter(m.calls, float64(c.Calls), c.Function)
		counter(m.failed, float64(c.Failed), c.Function)
		counter(m.seconds, c.Seconds, c.Function)
		gauge(m.max, c.Slowest, c.Function)
	}
	counter(m.late, float64(st.Late))
	counter(m.refused, float64(st.Refused))
	gauge(m.hung, float64(st.Hung))
	gauge(m.lost, float64(st.Lost))
}
