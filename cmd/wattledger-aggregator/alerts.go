package main

import (
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
		ExternalURL: c.ExternalURL, Every: c.Every, Resend: c.Resend, Log: log, Registerer: reg,
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
