package main

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/collector/nvml"
	metrics "github.com/wattledger/wattledger/exporters/prometheus"
	"github.com/wattledger/wattledger/internal/agent"
	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/footprint"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/job/hook"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/obs"
	"github.com/wattledger/wattledger/internal/sender"
	"github.com/wattledger/wattledger/internal/spool"
)

// flushFor is how long a stopping agent waits for its last window's
// acknowledgement; the spool keeps what is not delivered by then.
const flushFor = 5 * time.Second

func daemonCommand(ctx context.Context, args []string) error {
	image, modestErr := modest()
	cfg, err := loadConfig("wattledger-agent", args)
	if err != nil {
		return err
	}
	reg := obs.NewRegistry("agent")
	log, err := obs.NewLogger(cfg.LogLevel, os.Stderr, reg)
	if err != nil {
		return err
	}
	if modestErr != nil {
		log.Debug("the process takes a little more of the node than it needs", zap.Error(modestErr))
	}
	d := &daemon{cfg: cfg, log: log, reg: reg, image: image}
	if err := d.open(); err != nil {
		return err
	}
	defer d.spool.Close()
	return d.run(ctx)
}

// daemon is what the agent is made of.
type daemon struct {
	cfg     *config.Agent
	log     *zap.Logger
	reg     *prometheus.Registry
	image   *footprint.Image // nil where it cannot be told
	sources []collector.Source
	spool   *spool.Spool
	core    *agent.Agent
	link    *sender.Sender
	told    *witnesses // who tells of jobs besides the socket; nil before run
}

// open makes the parts, from the disk to the link.
func (d *daemon) open() (err error) {
	sources, err := sourcesOf(d.cfg)
	if err != nil {
		return err
	}
	d.sources = sources
	if err := registerDriver(d.reg, sources); err != nil {
		return fmt.Errorf("cannot register metrics of the GPU driver: %w", err)
	}
	names := make([]string, len(sources))
	for i, s := range sources {
		names[i] = s.Name()
	}
	page := metrics.NewNode(now, d.cfg.MetricsJobs)
	if err := d.reg.Register(page); err != nil {
		return fmt.Errorf("cannot register metrics of the meters: %w", err)
	}
	d.spool, err = spool.Open(spool.Options{
		Dir: filepath.Join(d.cfg.StateDir, "spool"), MaxBytes: d.cfg.SpoolBytes, Merge: agent.Merge, Report: d.spoolEvent,
	})
	if err != nil {
		return err
	}
	d.core, err = agent.New(agent.Options{
		Pipeline: agent.PipelineOptions{
			Window: d.cfg.Window, MaxGap: d.cfg.MaxGap, Grace: 3 * d.cfg.Every, CPUs: cpusOf(d.cfg),
			MemoryBytes: memoryOf(d.cfg.Procfs), Utilisation: d.cfg.Jobs.Utilisation, Told: page.Event,
		},
		StateDir: d.cfg.StateDir, Every: d.cfg.Every, Sources: sources, Spool: d.spool, SpoolBytes: d.cfg.SpoolBytes,
		Now: now, Offset: d.offset, BootID: bootID(d.cfg.Procfs),
		Seen: func(rs []collector.Reading, odometer func(string) (energy.Microjoules, bool), jobs func() []job.Allocation) {
			page.Observe(metrics.Look{Readings: rs, Odometer: odometer, Jobs: jobs})
		},
		Owner: d.owner,
		Fatal: func(err error) bool { return errors.Is(err, nvml.ErrRestart) }, Log: d.log, Metrics: agent.NewMetrics(d.reg, names),
	})
	if err != nil {
		d.spool.Close()
		return err
	}
	client, err := httpClient(d.cfg)
	if err != nil {
		d.spool.Close()
		return err
	}
	nonce, incarnation := d.core.Identity()
	session, err := agent.NewSession()
	if err != nil {
		return err
	}
	d.link, err = sender.New(sender.Options{
		Spool: d.spool, Client: client, URL: d.cfg.AggregatorURL, Token: func() string { return d.cfg.Token },
		Node:        ledger.Node{Cluster: d.cfg.Cluster, Name: d.cfg.Node},
		Incarnation: incarnation, Nonce: nonce, Session: session,
		OnOpen: d.core.HandleOpen, OnApart: d.core.HandleApart,
		OnConflict: func(hash uint64, _ ledger.Result) error { return d.core.DropConflict(hash) },
		OnRefused:  d.keepAside, Now: now, Log: d.log, Registerer: d.reg,
	})
	return err
}

// run serves until ctx ends; then the open window is closed and delivered.
func (d *daemon) run(ctx context.Context) error {
	socket, err := hook.Listen(d.cfg.Socket, d.cfg.SocketGroup)
	if err != nil {
		return err
	}
	var page net.Listener
	if d.cfg.Listen != "" {
		if page, err = net.Listen("tcp", d.cfg.Listen); err != nil {
			socket.Close()
			return fmt.Errorf("cannot listen on %s for metrics: %w", d.cfg.Listen, err)
		}
	}
	if d.told, err = newWitnesses(d); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	lctx, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	g.Go(func() error { return d.sendUntil(lctx) })
	g.Go(func() error { return d.settle(gctx) })
	g.Go(func() error {
		err := d.core.Run(gctx)
		d.flush(lctx)
		cut()
		return err
	})
	hooks := &hook.Server{Allow: d.cfg.AllowUIDs, Handle: d.told.handle, Refused: func(uid uint32, reason string) {
		d.log.Warn("a job edge was turned away", zap.Uint32("uid", uid), zap.String("reason", reason))
	}}
	g.Go(func() error { return hooks.Serve(gctx, socket) })
	g.Go(func() error { <-gctx.Done(); return socket.Close() })
	d.told.run(gctx, g)
	if page != nil {
		d.servePage(gctx, g, page)
	}
	d.log.Info("metering", zap.String("cluster", d.cfg.Cluster), zap.String("node", d.cfg.Node), zap.String("aggregator", d.cfg.AggregatorURL))
	obs.Ready("metering " + d.cfg.Cluster + "/" + d.cfg.Node)
	err = g.Wait()
	obs.Stopping()
	cctx, done := context.WithTimeout(context.WithoutCancel(ctx), flushFor)
	defer done()
	if cerr := closeSources(cctx, d.sources); cerr != nil {
		d.log.Warn("a source did not let go of its hardware", zap.Error(cerr))
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// owner gives the job of a process, for GPUs that jobs share.
func (d *daemon) owner(pid int) (string, bool) {
	if d.told == nil || d.told.watcher == nil {
		return "", false
	}
	return d.told.watcher.JobOf(pid)
}

// sendUntil delivers until it is cut; an agent whose name was taken over ends.
func (d *daemon) sendUntil(ctx context.Context) error {
	err := d.link.Run(ctx)
	if errors.Is(err, sender.ErrFenced) {
		d.core.HandleFenced()
		return agent.ErrFenced
	}
	return err
}

// flush waits a little for the acknowledgement of what is spooled.
func (d *daemon) flush(ctx context.Context) {
	fctx, cancel := context.WithTimeout(ctx, flushFor)
	defer cancel()
	if err := d.link.Flush(fctx); err != nil {
		d.log.Info("stopping with windows in the spool; they are sent at the next start", zap.Int("records", d.spool.Len()))
	}
}

func (d *daemon) servePage(ctx context.Context, g *errgroup.Group, l net.Listener) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", d.guarded(obs.Metrics(d.reg, d.log)))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("cannot serve metrics: %w", err)
		}
		return nil
	})
	g.Go(func() error { <-ctx.Done(); return srv.Close() })
}

// guarded asks for the token, where one is set.
func (d *daemon) guarded(h http.Handler) http.Handler {
	if d.cfg.MetricsToken == "" {
		return h
	}
	want := []byte("Bearer " + d.cfg.MetricsToken)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "send Authorization: Bearer TOKEN", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (d *daemon) spoolEvent(e spool.Event) {
	d.log.Warn("spool", zap.Stringer("event", e.Kind), zap.String("file", e.File), zap.Int("records", e.Records), zap.Error(e.Err))
}

// keepAside writes a record that the aggregator cannot read next to the spool.
func (d *daemon) keepAside(record []byte, reason string) error {
	name := filepath.Join(d.cfg.StateDir, fmt.Sprintf("refused-%d.bin", now().UnixNano()))
	d.log.Error("the aggregator cannot read a record: it is kept aside", zap.String("file", name), zap.String("reason", reason))
	if err := os.WriteFile(name, record, 0o600); err != nil {
		return fmt.Errorf("cannot keep a refused record: %w", err)
	}
	return nil
}

func httpClient(cfg *config.Agent) (*http.Client, error) {
	if cfg.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read the certificate authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("cannot use %s: it holds no certificate", cfg.CAFile)
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 1, IdleConnTimeout: 5 * time.Minute,
	}}, nil
}

// offset is how far the aggregator's clock is ahead of ours.
func (d *daemon) offset() (time.Duration, bool) {
	if d.link == nil {
		return 0, false
	}
	return d.link.Offset()
}

// bootID names the life of the machine (proc(5), random/boot_id); "" where the
// kernel does not say.
func bootID(procfs string) string {
	b, err := os.ReadFile(filepath.Join(procfs, "sys/kernel/random/boot_id"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func now() time.Time { return time.Now() }

// memoryOf is the node's memory in bytes (proc(5), meminfo), 0 where the kernel
// does not say.
func memoryOf(procfs string) uint64 {
	b, err := os.ReadFile(filepath.Join(procfs, "meminfo"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if kib, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(kib), " kB"), 10, 54)
			if err != nil {
				return 0
			}
			return n << 10
		}
	}
	return 0
}
