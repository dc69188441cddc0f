package outbox

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/obs"
)

// Names of the metrics. Whoever opens a box adds labels that name the receiver.
const (
	MetricSamples      = "wattledger_exporter_samples_total"
	MetricRequests     = "wattledger_exporter_requests_total"
	MetricPending      = "wattledger_exporter_pending_samples"
	MetricBufferBytes  = "wattledger_exporter_buffer_bytes"
	MetricBufferLimit  = "wattledger_exporter_buffer_limit_bytes"
	MetricLastSuccess  = "wattledger_exporter_last_success_timestamp_seconds"
	MetricFailingSince = "wattledger_exporter_failing_since_timestamp_seconds"
)

// Results of MetricSamples: what became of a sample in the end.
const (
	ResultDelivered  = "delivered"
	ResultRefused    = "refused"    // the receiver finds fault with it; also with one that it has
	ResultDropped    = "dropped"    // the buffer was full
	ResultDamaged    = "damaged"    // the buffer's files were
	ResultUnbuffered = "unbuffered" // it could not be written to the buffer
	ResultUnfit      = "unfit"      // the receiver's format cannot hold it
)

// Results of MetricRequests.
const (
	requestOK       = "ok"
	requestDeclined = "refused"
	requestFailed   = "failed"
)

type metrics struct {
	delivered, refused, dropped, damaged, unbuffered, unfit prometheus.Counter

	ok, declined, failed      prometheus.Counter
	lastSuccess, failingSince prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, b *Box) (*metrics, error) {
	samples := prometheus.NewCounterVec(prometheus.CounterOpts{Name: MetricSamples, Help: "Samples for a receiver by what became of them."}, []string{"result"})
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: MetricRequests, Help: "Requests to a receiver by result."}, []string{"result"})
	m := &metrics{
		delivered: samples.WithLabelValues(ResultDelivered), refused: samples.WithLabelValues(ResultRefused),
		dropped: samples.WithLabelValues(ResultDropped), damaged: samples.WithLabelValues(ResultDamaged),
		unbuffered: samples.WithLabelValues(ResultUnbuffered), unfit: samples.WithLabelValues(ResultUnfit),
		ok: requests.WithLabelValues(requestOK), declined: requests.WithLabelValues(requestDeclined), failed: requests.WithLabelValues(requestFailed),
		lastSuccess:  prometheus.NewGauge(prometheus.GaugeOpts{Name: MetricLastSuccess, Help: "When a receiver last took something, 0 for never."}),
		failingSince: prometheus.NewGauge(prometheus.GaugeOpts{Name: MetricFailingSince, Help: "Since when a receiver has taken nothing that it was sent, 0 while it does."}),
	}
	if reg == nil {
		return m, nil
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	for _, c := range []prometheus.Collector{
		samples, requests, m.lastSuccess, m.failingSince,
		gauge(MetricPending, "Samples that wait for a receiver.", func() float64 { return float64(b.Values()) }),
		gauge(MetricBufferBytes, "Size of a receiver's buffer on disk.", func() float64 { return float64(b.Bytes()) }),
		gauge(MetricBufferLimit, "Size at which a receiver's buffer gives up its oldest samples.", func() float64 { return float64(b.opts.Limit) }),
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("cannot register metrics of an exporter: %w", err)
		}
	}
	return m, nil
}

// Unfit counts values that the receiver's format cannot hold.
func (b *Box) Unfit(values int) { b.metrics.unfit.Add(float64(values)) }

// remindEvery is how often a state that lasts is logged.
const remindEvery = 10 * time.Minute

// remarks are the lines of the log: one when something begins, few while it
// lasts, one when it ends.
type remarks struct {
	log                                   *zap.Logger
	now                                   func() time.Time
	since                                 time.Time // the receiver fails; zero if it does not
	reminded                              time.Time
	diskLimit, fullLimit, refusalsInLimit *obs.Limit
}

func newRemarks(o Options) remarks {
	limit := func() *obs.Limit { return &obs.Limit{Every: remindEvery, Now: o.Now} }
	return remarks{log: o.Log, now: o.Now, diskLimit: limit(), fullLimit: limit(), refusalsInLimit: limit()}
}

func (r *remarks) failing(err error, pending uint64) {
	now := r.now()
	if r.since.IsZero() {
		r.since = now
	} else if now.Sub(r.reminded) < remindEvery {
		return
	}
	r.reminded = now
	r.log.Warn("cannot deliver; trying again", zap.Error(err), zap.Duration("for", now.Sub(r.since)), zap.Uint64("waiting", pending))
}

func (r *remarks) working(pending uint64) {
	if !r.since.IsZero() {
		r.log.Info("delivering again", zap.Duration("after", r.now().Sub(r.since)), zap.Uint64("waiting", pending))
		r.since = time.Time{}
	}
}

func (r *remarks) refused(err error, values int) {
	if ok, skipped := r.refusalsInLimit.Allow(); ok {
		r.log.Error("the receiver refuses samples; they are given up", zap.Error(err), zap.Int("samples", values), zap.Int("times_before", skipped))
	}
}

func (r *remarks) disk(err error) {
	if ok, skipped := r.diskLimit.Allow(); ok {
		r.log.Error("the buffer of an exporter does not work", zap.Error(err), zap.Int("times_before", skipped))
	}
}

func (r *remarks) full(values uint64) {
	if ok, skipped := r.fullLimit.Allow(); ok {
		r.log.Error("the buffer of an exporter is full; its oldest samples are given up", zap.Uint64("samples", values), zap.Int("times_before", skipped))
	}
}
