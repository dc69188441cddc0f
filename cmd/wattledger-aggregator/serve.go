package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/footprint"
	"github.com/wattledger/wattledger/internal/obs"
)

// stopWithin is how long requests may take to end when the aggregator stops.
const stopWithin = 30 * time.Second

// lateBy is how late timers may be. Between two windows of a fleet the process
// sleeps, 2,500 times a second; the runtime need not be woken as often besides.
const lateBy = time.Millisecond

// serve wires the aggregator and runs it until ctx ends:
//
//	listener ─▶ intake ─▶ ledger ◀─ web, metrics, watch
//	              │         ▲
//	              │    accounting (Slurm)
//	              ▼
//	            series ◀─ PromQL, alert rules, own metrics
//	              │
//	              ▼
//	          exporters ─▶ Prometheus, VictoriaMetrics, InfluxDB
//
// It stops in the order of the arrows: no new requests, those under way are
// committed and answered; what is left goes into the series, from there into the
// exporters' buffers; then the ledger is closed.
func serve(ctx context.Context, c *config.Aggregator, stdout io.Writer) (err error) {
	if os.Getenv("GOGC") == "" {
		patient()
	}
	hasty := footprint.Unhurried(lateBy)
	s, err := openSite(ctx, c)
	if err != nil {
		return err
	}
	if hasty != nil {
		s.log.Debug("timers stay precise, and take their share of a core", zap.Error(hasty))
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("cannot listen: %w", err), s.abandon())
	}
	hup := make(chan os.Signal, 1) // from now on it does not end the program
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	srv := server(s.handler(), s.cert, s.log)
	s.ready.Store(true)
	url := s.cert.scheme() + "://" + listener.Addr().String()
	_, _ = fmt.Fprintln(stdout, "wattledger-aggregator listens on", url)
	obs.Ready("listening on " + url)
	err = inStages(
		ctx,
		[]task{s.serving(srv, listener), s.answering(srv, hup)},
		s.booking(listener.Addr().String()),
		[]task{func(ctx context.Context) error { s.view.run(ctx, s.log); return nil }},
		s.sending(),
	)
	return errors.Join(err, s.led.Close())
}

// serving takes requests until the server is shut down.
func (s *site) serving(srv *http.Server, l net.Listener) task {
	return func(context.Context) error {
		var err error
		if srv.TLSConfig != nil {
			err = srv.ServeTLS(l, "", "")
		} else {
			err = srv.Serve(l)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("cannot serve: %w", err)
	}
}

// answering reloads on SIGHUP until ctx ends; then it lets requests under way
// end, and takes no more.
func (s *site) answering(srv *http.Server, hup <-chan os.Signal) task {
	return func(ctx context.Context) error {
		s.reloadOnSignal(ctx, hup)
		obs.Stopping()
		s.ready.Store(false)
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		if err := errors.Join(srv.Shutdown(deadline), s.in.Shutdown(deadline)); err != nil {
			s.log.Warn("some requests did not end in time; their agents send again", zap.Error(err))
			return srv.Close()
		}
		return nil
	}
}

func (s *site) reloadOnSignal(ctx context.Context, hup <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		if err := s.reload(); err != nil {
			s.log.Error("not all could be reloaded; what is wrong stays as it was", zap.Error(err))
			continue
		}
		s.log.Info("tokens, certificate and alert rules are read again")
	}
}

// booking is what writes into the ledger and the series.
func (s *site) booking(instance string) []task {
	tasks := []task{s.in.Run, s.watch.Run}
	for _, p := range s.polls {
		tasks = append(tasks, p.Run)
	}
	if s.view.Store != nil {
		tasks = append(tasks, selfScrape(s.view, s.reg, instance, s.log).Run)
	}
	if s.rules != nil {
		tasks = append(tasks, s.rules.Run)
	}
	return tasks
}

// sending is what hands series to other systems.
func (s *site) sending() []task {
	if s.fan == nil {
		return nil
	}
	return []task{s.fan.Run}
}
