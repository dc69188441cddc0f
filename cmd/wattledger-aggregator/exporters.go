package main

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/exporters"
	"github.com/wattledger/wattledger/exporters/influxdb"
	"github.com/wattledger/wattledger/exporters/remotewrite"
	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/outbox"
)

// openExporters opens the buffers of all receivers. Of one that cannot be
// opened none is: a wrong setting is told at the start. Without receivers there
// is nothing, and the store of series hands nothing out.
func openExporters(c config.Exporters, reg prometheus.Registerer, log *zap.Logger) (*exporters.Fan, error) {
	if len(c.RemoteWrite)+len(c.InfluxDB) == 0 {
		return nil, nil
	}
	var sinks []exporters.Sink
	var errs []error
	add := func(s exporters.Sink, err error) {
		if err != nil {
			errs = append(errs, err)
			return
		}
		sinks = append(sinks, s)
	}
	for _, r := range c.RemoteWrite {
		e, err := remotewrite.New(remotewrite.Options{
			Name: r.Name, Endpoint: endpoint(r), Labels: r.Labels, Only: r.Only, Buffer: buffer(r, reg, log),
		})
		add(e, err)
	}
	for _, r := range c.InfluxDB {
		e, err := influxdb.New(influxdb.Options{
			Name: r.Name, Endpoint: endpoint(r), Org: r.Org, Bucket: r.Bucket, Labels: r.Labels, Only: r.Only, Buffer: buffer(r, reg, log),
		})
		add(e, err)
	}
	if err := errors.Join(errs...); err != nil {
		for _, s := range sinks {
			err = errors.Join(err, s.Close())
		}
		return nil, err
	}
	return exporters.NewFan(sinks, reg, log)
}

func endpoint(r config.Receiver) exporters.Endpoint {
	return exporters.Endpoint{
		URL: r.URL, Headers: r.Headers, TokenFile: r.TokenFile, User: r.User, PasswordFile: r.PasswordFile,
		CAFile: r.CAFile, CertFile: r.CertFile, KeyFile: r.KeyFile, ServerName: r.ServerName,
	}
}

func buffer(r config.Receiver, reg prometheus.Registerer, log *zap.Logger) outbox.Options {
	return outbox.Options{
		Dir: r.BufferDir, Limit: r.BufferBytes, MaxValues: r.Samples, Linger: r.Linger, Timeout: r.Timeout, Rewind: r.Rewind,
		Now: time.Now, Log: log, Registerer: reg,
	}
}
