package main

import (
	"crypto/tls"
	"io"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/obs"
	"github.com/wattledger/wattledger/internal/web"
)

// handler is everything that can be asked of the aggregator.
func (s *site) handler() http.Handler {
	mux := http.NewServeMux()
	s.in.Register(mux)
	s.view.register(mux, s.guard)
	mux.Handle("GET /metrics", s.guard.Reader(obs.Metrics(s.reg, s.log)))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "alive\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.ready.Load() {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
	// The page and the JSON API: readers read, administrators change.
	pages := web.Handler(web.Deps{Ledger: s.led, Zone: s.c.ZoneOf, Now: time.Now, Log: s.log})
	read, change := s.guard.Reader(pages), s.guard.Admin(pages)
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
