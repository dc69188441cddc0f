package kubernetes

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Names of the metrics. They say nothing of pods and projects.
const (
	MetricPods        = "wattledger_kubernetes_pods"
	MetricPolls       = "wattledger_kubernetes_polls_total"
	MetricLastSuccess = "wattledger_kubernetes_last_success_timestamp_seconds"
	MetricMetadata    = "wattledger_kubernetes_metadata_requests_total"
	MetricEdges       = "wattledger_kubernetes_edges_total"
	MetricNotPlaced   = "wattledger_kubernetes_devices_not_understood_total"
	MetricSkipped     = "wattledger_kubernetes_pods_skipped_total"
	MetricBadProject  = "wattledger_kubernetes_projects_refused_total"
)

type metrics struct {
	pods, last             prometheus.Gauge
	polls, metadata, edges *prometheus.CounterVec
	skipped                *prometheus.CounterVec
	notPlaced, badProject  prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		pods:       prometheus.NewGauge(prometheus.GaugeOpts{Name: MetricPods, Help: "Pods that hold devices or CPUs of their own."}),
		last:       prometheus.NewGauge(prometheus.GaugeOpts{Name: MetricLastSuccess, Help: "When the kubelet last told who holds what."}),
		polls:      vec(MetricPolls, "Questions to the kubelet's pod-resources socket.", "result"),
		metadata:   vec(MetricMetadata, "Questions to the kubelet's list of pods.", "result"),
		edges:      vec(MetricEdges, "Begins and ends of pods told to the agent.", "op", "result"),
		skipped:    vec(MetricSkipped, "Pods that are not followed: their energy has no owner.", "reason"),
		notPlaced:  prometheus.NewCounter(prometheus.CounterOpts{Name: MetricNotPlaced, Help: "Device ids of GPUs that are of no known form."}),
		badProject: prometheus.NewCounter(prometheus.CounterOpts{Name: MetricBadProject, Help: "Labels or annotations that cannot name a project; the pod has none."}),
	}
	for _, result := range []string{"ok", "failed"} {
		m.polls.WithLabelValues(result)
		m.metadata.WithLabelValues(result)
	}
	for _, op := range []string{"begin", "end"} {
		for _, result := range []string{"kept", "refused"} {
			m.edges.WithLabelValues(op, result)
		}
	}
	for _, reason := range []string{"malformed", "too_many"} {
		m.skipped.WithLabelValues(reason)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.pods, m.last, m.polls, m.metadata, m.edges, m.skipped, m.notPlaced, m.badProject} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("cannot register metrics of the pods: %w", err)
		}
	}
	return m, nil
}
