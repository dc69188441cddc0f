//go:build peers

package peers_test

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/wattledger/wattledger/internal/outbox"
)

// gauges is a registry that reads how much waits.
type gauges struct{ *prometheus.Registry }

func newGauges() gauges { return gauges{prometheus.NewRegistry()} }

func (g gauges) pending() uint64 {
	families, err := g.Gather()
	if err != nil {
		return 1
	}
	for _, f := range families {
		if f.GetName() == outbox.MetricPending {
			return uint64(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	return 1
}
