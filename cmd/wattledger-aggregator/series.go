package main

import (
	"context"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/auth"
	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/series"
	"github.com/wattledger/wattledger/internal/series/sums"
	"github.com/wattledger/wattledger/internal/window"
)

// seriesView is the store of series, or none.
type seriesView struct{ *series.Store }

// seriesOf makes the store before anything is booked: its counters start from
// the ledger.
func seriesOf(ctx context.Context, c *config.Aggregator, led ledger.Ledger, reg *prometheus.Registry, log *zap.Logger) (seriesView, error) {
	o := c.Series
	if !o.Enabled {
		return seriesView{}, nil
	}
	s, err := series.New(ctx, series.Options{
		Dir: filepath.Join(c.DataDir, "series"), Ledger: led,
		RetentionTime: o.RetentionTime, RetentionBytes: o.RetentionBytes, OutOfOrder: o.OutOfOrder,
		Limits: series.Limits{Timeout: o.QueryTimeout, Samples: o.MaxSamples, Series: o.MaxSeries, Concurrency: o.Concurrency},
		Sums:   sums.Options{Wait: o.Wait, Jobs: o.Jobs}, Now: time.Now, Log: log, Registerer: reg,
	})
	return seriesView{s}, err
}

// booked is whom intake tells of windows; nil for nobody.
func (v seriesView) booked() func(ledger.Node, *window.Window) {
	if v.Store == nil {
		return nil
	}
	return v.Booked
}

// register mounts Prometheus' API for those who may read.
func (v seriesView) register(mux *http.ServeMux, guard *auth.Guard) {
	if v.Store != nil {
		v.Register(mux, guard.Reader)
	}
}

// run stores series until ctx ends. The books go on without them.
func (v seriesView) run(ctx context.Context, log *zap.Logger) {
	if v.Store == nil {
		return
	}
	if err := v.Run(ctx); err != nil {
		log.Error("series", zap.Error(err))
	}
}
