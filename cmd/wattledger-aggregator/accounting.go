package main

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/accounting"
	"github.com/wattledger/wattledger/internal/accounting/slurm"
	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/ledger"
)

// pollers makes one reader for each cluster whose accounting is configured.
func pollers(c *config.Aggregator, led ledger.Ledger, reg prometheus.Registerer, log *zap.Logger) ([]*accounting.Poller, error) {
	if len(c.Accounting) == 0 {
		return nil, nil
	}
	metrics, err := accounting.NewMetrics(reg)
	if err != nil {
		return nil, err
	}
	var out []*accounting.Poller
	for _, cluster := range slices.Sorted(maps.Keys(c.Accounting)) {
		a := c.Accounting[cluster]
		source, err := sourceOf(a)
		if err != nil {
			return nil, err
		}
		p, err := accounting.New(accounting.Options{
			Cluster: cluster, Source: source, Ledger: led, ProjectsFile: a.ProjectsFile,
			Every: a.Every, History: a.History, Now: time.Now, Metrics: metrics, Log: log,
		})
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// sourceOf is nil where only a file of projects is configured.
func sourceOf(a config.Accounting) (accounting.Source, error) {
	if a.Address == "" && a.Sacct == "" {
		return nil, nil
	}
	s := &slurm.Source{Cluster: a.Cluster}
	if a.Address != "" {
		auth := slurm.NewAuth(a.User, a.TokenFile, a.TokenCommand, time.Now)
		rest, err := slurm.NewRest(a.Address, auth)
		if err != nil {
			return nil, err
		}
		s.Rest = rest
	}
	if a.Sacct != "" {
		s.Commands = &slurm.Commands{Sacct: a.Sacct, Sacctmgr: a.Sacctmgr}
		if a.SlurmConf != "" {
			s.Commands.Env = []string{"SLURM_CONF=" + a.SlurmConf}
		}
	}
	return s, nil
}
