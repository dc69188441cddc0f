package main

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/alerts"
	"github.com/wattledger/wattledger/internal/config"
)

// rulesOf makes what evaluates alert rules over the series; nil without rules.
func rulesOf(c config.Alerts, view seriesView, reg prometheus.Registerer, log *zap.Logger) (*alerts.Manager, error) {
	if !c.Builtin && len(c.RuleFiles) == 0 {
		return nil, nil
	}
	o := alerts.Options{
		Storage: view.Storage(), Engine: view.Engine(), Ready: view.Ready, Builtin: c.Builtin, Files: c.RuleFiles,
		ExternalURL: c.ExternalURL, Every: c.Every, Resend: c.Resend, Log: log, Registerer: clean{reg},
	}
	for _, m := range c.Alertmanagers {
		o.Alertmanagers = append(o.Alertmanagers, alerts.Alertmanager{URL: m.URL, TokenFile: m.TokenFile, CAFile: m.CAFile})
	}
	m, err := alerts.New(o)
	if err != nil {
		return nil, err
	}
	view.SetRules(m.Rules())
	return m, nil
}

// rulesAreFine names the faults of rule files with those of the configuration.
func rulesAreFine(c *config.Aggregator) error {
	if !c.Series.Enabled {
		return nil
	}
	return alerts.Check(c.Alerts.RuleFiles)
}

// clean is a registry without the metrics of Prometheus' packages that have a
// type in their name: `promtool check metrics` finds fault with them, and each is
// there as a summary, too.
type clean struct{ prometheus.Registerer }

// Register takes a collector, or leaves it out.
func (r clean) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 100)
	go func() { c.Describe(descs); close(descs) }()
	typed := false
	for d := range descs {
		typed = typed || strings.Contains(d.String(), `_histogram_seconds", help`)
	}
	if typed {
		return nil
	}
	return r.Registerer.Register(c)
}

// MustRegister does so for several, and panics on an error.
func (r clean) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}
