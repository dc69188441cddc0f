package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/wattledger/wattledger/internal/accounting"
	"github.com/wattledger/wattledger/internal/auth"
	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/intake"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/ledger/sqlite"
	"github.com/wattledger/wattledger/internal/obs"
	"github.com/wattledger/wattledger/internal/web"
)

// stopWithin is how long requests may take to end when the aggregator stops.
const stopWithin = 30 * time.Second

// serve wires the aggregator and runs it until ctx ends:
//
//	listener ─▶ intake ─▶ ledger ◀─ web, metrics
//	              │         ▲
//	              ▼    accounting (Slurm)
//	            series ◀─ PromQL
//
// It stops in the order of the arrows: no new requests, those under way are
// committed and answered, then the ledger is closed.
func serve(ctx context.Context, c *config.Aggregator, stdout io.Writer) (err error) {
	reg := obs.NewRegistry("aggregator")
	log, err := obs.NewLogger(c.LogLevel, os.Stderr, reg)
	if err != nil {
		return err
	}
	guard, err := guardOf(c)
	if err != nil {
		return err
	}
	led, err := sqlite.Open(c.DataDir, sqlite.Options{Future: c.Future})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, led.Close()) }()
	books := intake.NewBooks(led, log)
	if err := reg.Register(books); err != nil {
		return fmt.Errorf("cannot register metrics of the books: %w", err)
	}
	view, err := seriesOf(ctx, c, led, reg, log)
	if err != nil {
		return err
	}
	in, err := intake.New(intake.Options{
		Ledger: led, Guard: guard, CommitEvery: c.CommitEvery, Now: time.Now, Log: log, Registerer: reg,
		Booked: view.booked(),
	})
	if err != nil {
		return err
	}
	polls, err := pollers(c, led, reg, log)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	cert, err := certificateOf(c)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	var ready atomic.Bool
	srv := server(handler(c, led, in, view, guard, reg, &ready, log), cert, log)
	return runAll(ctx, srv, listener, in, view, polls, &ready, log, func() {
		url := cert.scheme() + "://" + listener.Addr().String()
		_, _ = fmt.Fprintln(stdout, "wattledger-aggregator listens on", url)
		obs.Ready("listening on " + url)
	}, func() error { return errors.Join(guard.Reload(), cert.reload()) })
}

// handler is everything that can be asked of the aggregator.
func handler(c *config.Aggregator, led ledger.Ledger, in *intake.Intake, view seriesView, guard *auth.Guard,
	reg *prometheus.Registry, ready *atomic.Bool, log *zap.Logger,
) http.Handler {
	mux := http.NewServeMux()
	in.Register(mux)
	view.register(mux, guard)
	mux.Handle("GET /metrics", guard.Reader(obs.Metrics(reg, log)))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "alive\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
	// The page and the JSON API: readers read, administrators change.
	pages := web.Handler(web.Deps{Ledger: led, Zone: c.ZoneOf, Now: time.Now, Log: log})
	read, change := guard.Reader(pages), guard.Admin(pages)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			read.ServeHTTP(w, r)
			return
		}
		change.ServeHTTP(w, r)
	})
	return mux
}

// server bounds what a connection may cost. It speaks HTTP/1.1 alone: a kept
// connection costs half of what HTTP/2 does, and an agent has one request under
// way at a time.
func server(h http.Handler, cert *certificate, log *zap.Logger) *http.Server {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 2 * time.Minute, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: zap.NewStdLog(log), Protocols: new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	if cert != nil {
		srv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get}
	}
	return srv
}

// runAll runs server, intake and pollers until ctx ends, and stops them in order.
// reload is called on SIGHUP.
func runAll(ctx context.Context, srv *http.Server, l net.Listener, in *intake.Intake, view seriesView, polls []*accounting.Poller,
	ready *atomic.Bool, log *zap.Logger, started func(), reload func() error,
) error {
	booking, stopBooking := context.WithCancel(context.Background())
	defer stopBooking()
	tasks, failed := errgroup.WithContext(context.Background())
	storing, stopStoring := context.WithCancel(context.Background())
	defer stopStoring()
	tasks.Go(func() error {
		defer stopStoring() // nothing is booked any more
		return in.Run(booking)
	})
	tasks.Go(func() error {
		view.run(storing, log)
		return nil
	})
	for _, p := range polls {
		tasks.Go(func() error { return p.Run(booking) })
	}
	tasks.Go(func() error {
		err := serveOn(srv, l)
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("cannot serve: %w", err)
	})
	tasks.Go(func() error {
		defer stopBooking()
		waitFor(ctx, failed, log, reload)
		obs.Stopping()
		ready.Store(false)
		deadline, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		if err := srv.Shutdown(deadline); err != nil {
			log.Warn("some requests did not end in time; their agents send again", zap.Error(err))
			return srv.Close()
		}
		return nil
	})
	ready.Store(true)
	started()
	return tasks.Wait()
}

func serveOn(srv *http.Server, l net.Listener) error {
	if srv.TLSConfig != nil {
		return srv.ServeTLS(l, "", "")
	}
	return srv.Serve(l)
}

// waitFor returns when the aggregator is to stop, and reloads until then.
func waitFor(ctx, failed context.Context, log *zap.Logger, reload func() error) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-failed.Done():
			return
		case <-hup:
			if err := reload(); err != nil {
				log.Error("cannot reload; what was in force stays", zap.Error(err))
				continue
			}
			log.Info("tokens and certificate are read again")
		}
	}
}
