package intake

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/wire"
)

// Names of the metrics.
const (
	MetricRequests     = "wattledger_intake_requests_total"
	MetricWindows      = "wattledger_intake_windows_total"
	MetricBytes        = "wattledger_intake_body_bytes_total"
	MetricOpens        = "wattledger_intake_opens_total"
	MetricDecodeErrors = "wattledger_intake_decode_errors_total"
	MetricForbidden    = "wattledger_intake_forbidden_total"
	MetricCommit       = "wattledger_intake_commit_seconds"
	MetricCommitSize   = "wattledger_intake_commit_windows"
	MetricCommitErrors = "wattledger_intake_commit_errors_total"
	MetricLastCommit   = "wattledger_intake_last_commit_timestamp_seconds"
	MetricQueue        = "wattledger_intake_queue_windows"
)

type metrics struct {
	requests, windows, opens, decodeErrors *prometheus.CounterVec
	bytes, forbidden, commitErrors         prometheus.Counter
	commit, commitSize                     prometheus.Histogram
	lastCommit, queue                      prometheus.Gauge

	// What is counted with every request, found once.
	fine   prometheus.Counter // requests answered 200
	status [ledger.Reopen + 1]prometheus.Counter
}

// request counts a request.
func (m *metrics) request(code int) {
	if code == http.StatusOK {
		m.fine.Inc()
		return
	}
	m.requests.WithLabelValues(strconv.Itoa(code)).Inc()
}

// window counts what became of a window.
func (m *metrics) window(s ledger.Status) {
	if int(s) < len(m.status) {
		m.status[s].Inc()
	}
}

func codes() []int { return []int{200, 400, 401, 403, 409, 410, 413, 415, 424, 428, 503} }

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		requests:     vec(MetricRequests, "Requests of agents by status code.", "code"),
		windows:      vec(MetricWindows, "Windows by what became of them.", "status"),
		opens:        vec(MetricOpens, "Agents that introduced themselves, by answer.", "result"),
		decodeErrors: vec(MetricDecodeErrors, "Bodies that could not be read, by reason.", "reason"),
		bytes:        counter(MetricBytes, "Bytes of bodies as they came, compressed ones compressed."),
		forbidden:    counter(MetricForbidden, "Requests for a node that the token is not for."),
		commitErrors: counter(MetricCommitErrors, "Commits that the ledger refused as a whole; nothing of them was acknowledged."),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: MetricCommit, Help: "Time the ledger takes to book what has gathered.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		commitSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: MetricCommitSize, Help: "Windows that share a commit.", Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}),
		lastCommit: prometheus.NewGauge(prometheus.GaugeOpts{Name: MetricLastCommit, Help: "When the ledger last booked, 0 for never."}),
		queue:      prometheus.NewGauge(prometheus.GaugeOpts{Name: MetricQueue, Help: "Windows that wait for the next commit."}),
	}
	for _, c := range codes() {
		m.requests.WithLabelValues(strconv.Itoa(c))
	}
	m.fine = m.requests.WithLabelValues(strconv.Itoa(http.StatusOK))
	for s := range m.status {
		m.status[s] = m.windows.WithLabelValues(ledger.Status(s).String())
	}
	for _, r := range []string{"opened", "fenced"} {
		m.opens.WithLabelValues(r)
	}
	for _, r := range []string{wire.ReasonMalformed, wire.ReasonVersion, wire.ReasonTooLarge, wire.ReasonEncoding, wire.ReasonBody} {
		m.decodeErrors.WithLabelValues(r)
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.requests, m.windows, m.opens, m.decodeErrors, m.bytes, m.forbidden, m.commitErrors,
		m.commit, m.commitSize, m.lastCommit, m.queue,
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
