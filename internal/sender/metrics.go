package sender

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Names of the metrics.
const (
	MetricWindows     = "wattledger_sender_windows_total"
	MetricBytes       = "wattledger_sender_body_bytes_total"
	MetricRequests    = "wattledger_sender_requests_total"
	MetricLastSuccess = "wattledger_sender_last_success_timestamp_seconds"
	MetricRecords     = "wattledger_spool_records"
	MetricSpoolBytes  = "wattledger_spool_bytes"
)

// Results of MetricRequests.
const (
	resultOK      = "ok"
	resultRefused = "refused" // 4xx: something is done about it
	resultRetry   = "retry"   // no answer, or not now
)

type metrics struct {
	windows, bytes prometheus.Counter
	requests       *prometheus.CounterVec
	lastSuccess    prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, s Spool) (*metrics, error) {
	m := &metrics{
		windows:  prometheus.NewCounter(prometheus.CounterOpts{Name: MetricWindows, Help: "Windows that the aggregator has taken."}),
		bytes:    prometheus.NewCounter(prometheus.CounterOpts{Name: MetricBytes, Help: "Bytes of bodies sent, as they travel."}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: MetricRequests, Help: "Requests by result."}, []string{"result"}),
		lastSuccess: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: MetricLastSuccess, Help: "When the aggregator last took something, 0 for never.",
		}),
	}
	for _, r := range []string{resultOK, resultRefused, resultRetry} {
		m.requests.WithLabelValues(r)
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.windows, m.bytes, m.requests, m.lastSuccess,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: MetricRecords, Help: "Records that the aggregator has not acknowledged."},
			func() float64 { return float64(s.Len()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: MetricSpoolBytes, Help: "Size of the spool on disk."},
			func() float64 { return float64(s.Bytes()) }),
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
