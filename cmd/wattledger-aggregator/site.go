package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/wattledger/wattledger/alerts"
	"github.com/wattledger/wattledger/exporters"
	"github.com/wattledger/wattledger/internal/accounting"
	"github.com/wattledger/wattledger/internal/auth"
	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/intake"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/ledger/sqlite"
	"github.com/wattledger/wattledger/internal/obs"
	"github.com/wattledger/wattledger/internal/watch"
	"github.com/wattledger/wattledger/internal/window"
)

// site is what the aggregator is made of. A part that is turned off is nil.
type site struct {
	c     *config.Aggregator
	reg   *prometheus.Registry
	log   *zap.Logger
	guard *auth.Guard
	cert  *certificate
	led   ledger.Ledger
	in    *intake.Intake
	polls []*accounting.Poller
	watch *watch.Watch
	fan   *exporters.Fan
	view  seriesView
	rules *alerts.Manager
	ready atomic.Bool
}

// openSite opens the parts in the order in which they stand on each other. After
// an error nothing is left open.
func openSite(ctx context.Context, c *config.Aggregator) (s *site, err error) {
	s = &site{c: c, reg: obs.NewRegistry("aggregator")}
	if s.log, err = obs.NewLogger(c.LogLevel, os.Stderr, s.reg); err != nil {
		return nil, err
	}
	if s.guard, err = guardOf(c); err != nil {
		return nil, err
	}
	if s.cert, err = certificateOf(c); err != nil {
		return nil, err
	}
	if s.led, err = sqlite.Open(c.DataDir, sqlite.Options{Future: c.Future}); err != nil {
		return nil, err
	}
	if err = s.openBooks(); err == nil {
		err = s.openSeries(ctx)
	}
	if err == nil {
		err = s.openIntake()
	}
	if err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	return s, nil
}

// openBooks makes what reads the ledger for operators.
func (s *site) openBooks() error {
	s.watch = watch.New(watch.Options{Ledger: s.led, DataDir: s.c.DataDir, Contract: s.c.Contract, Now: time.Now, Log: s.log})
	for _, c := range []prometheus.Collector{intake.NewBooks(s.led, s.log), s.watch} {
		if err := s.reg.Register(c); err != nil {
			return fmt.Errorf("cannot register metrics of the books: %w", err)
		}
	}
	return nil
}

// openSeries makes the store of series and what hangs on it.
func (s *site) openSeries(ctx context.Context) (err error) {
	if !s.c.Series.Enabled {
		return nil
	}
	if s.fan, err = openExporters(s.c.Exporters, s.reg, s.log); err != nil {
		return err
	}
	out, err := handoutOf(s.fan, s.c.Exporters)
	if err != nil {
		return err
	}
	if s.view, err = seriesOf(ctx, s.c, s.led, out, s.reg, s.log); err != nil {
		return err
	}
	s.rules, err = rulesOf(s.c.Alerts, s.view, s.reg, s.log)
	return err
}

// openIntake makes what books. It comes last: the counters of the series start
// from books that stand still.
func (s *site) openIntake() (err error) {
	s.in, err = intake.New(intake.Options{
		Ledger: s.led, Guard: s.guard, CommitEvery: s.c.CommitEvery, Now: time.Now, Log: s.log, Registerer: s.reg, Booked: s.booked,
		Telemetry: s.view.telemetry(), Crowded: s.view.crowded,
	})
	if err != nil {
		return err
	}
	s.polls, err = pollers(s.c, s.led, s.reg, s.log)
	return err
}

// booked tells those who look at windows. It returns at once.
func (s *site) booked(n ledger.Node, w *window.Window) {
	s.watch.Booked(n, w)
	s.view.booked(n, w)
}

// abandon closes what was opened and never ran.
func (s *site) abandon() error {
	var err error
	if s.fan != nil {
		over, cancel := context.WithCancel(context.Background())
		cancel()
		err = s.fan.Run(over)
	}
	return errors.Join(err, s.led.Close())
}

// reload reads again what may change while connections are served. What cannot
// be read stays as it was; the rest is taken all the same.
func (s *site) reload() error {
	errs := []error{s.guard.Reload(), s.cert.reload()}
	if s.rules != nil {
		errs = append(errs, s.rules.Reload())
	}
	return errors.Join(errs...)
}

func seriesDir(c *config.Aggregator) string { return filepath.Join(c.DataDir, "series") }
