package main

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/auth"
	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/selfscrape"
	"github.com/wattledger/wattledger/internal/series"
	"github.com/wattledger/wattledger/internal/series/metric"
	"github.com/wattledger/wattledger/internal/series/sums"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// seriesView is the store of series, or none.
type seriesView struct{ *series.Store }

// seriesOf makes the store before anything is booked: its counters start from
// the ledger.
func seriesOf(ctx context.Context, c *config.Aggregator, led ledger.Ledger, out series.Outlet, reg *prometheus.Registry, log *zap.Logger) (seriesView, error) {
	o := c.Series
	s, err := series.New(ctx, series.Options{
		Dir: seriesDir(c), Ledger: led, Outlet: out,
		RetentionTime: o.RetentionTime, RetentionBytes: o.RetentionBytes, OutOfOrder: o.OutOfOrder, Nodes: o.Nodes,
		Limits: series.Limits{Timeout: o.QueryTimeout, Samples: o.MaxSamples, Series: o.MaxSeries, Concurrency: o.Concurrency},
		Sums:   sums.Options{Wait: o.Wait, Jobs: o.Jobs}, Now: time.Now, Log: log, Registerer: reg, Own: reg,
	})
	return seriesView{s}, err
}

// booked tells it of a window.
func (v seriesView) booked(n ledger.Node, w *window.Window) {
	if v.Store != nil {
		v.Booked(n, w)
	}
}

// telemetry is how the store wants it.
func (v seriesView) telemetry() wire.Telemetry {
	if v.Store == nil {
		return wire.Dropped
	}
	return wire.Packed
}

// crowded tells that the store does not keep up.
func (v seriesView) crowded() bool { return v.Store != nil && v.Crowded() }

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

// selfScrape stores the aggregator's own page as series, but for what the store
// has with better stamps; instance is where the page is.
func selfScrape(v seriesView, reg prometheus.Gatherer, instance string, log *zap.Logger) *selfscrape.Scraper {
	skip := map[string]bool{}
	for _, m := range metric.All() {
		skip[m.Name] = true
	}
	return selfscrape.New(selfscrape.Options{
		Gatherer: reg, Store: v.Storage(), Ready: v.Ready, Skip: skip, Instance: instance, Now: time.Now, Log: log,
	})
}
