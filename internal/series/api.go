package series

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"runtime"
	"strings"

	"github.com/grafana/regexp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/notifications"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/wattledger/wattledger/internal/version"
)

// All that touches web/api/v1 is in this file: the signature of NewAPI changes
// between releases of Prometheus, and what we have not (targets, remote write,
// administration) is stubbed here and not routed.

// apiPrefix is where Prometheus has its API; the same API is below
// PrometheusPrefix, for data sources that are given a path of their own.
const (
	apiPrefix        = "/api/v1"
	PrometheusPrefix = "/prometheus"
)

// libraryVersion is the release of Prometheus that the pinned module is; data
// sources decide by it what they may ask.
const libraryVersion = "3.15.0"

// maxForm bounds the body of a query that is posted.
const maxForm = 1 << 20

// Rules is what the rules manager tells of itself (rules.Manager has it).
type Rules interface {
	RuleGroups() []*rules.Group
	AlertingRules() []*rules.AlertingRule
}

type rulesOf struct{ Rules }

// SetRules lets /rules and /alerts show the rules of a manager.
func (s *Store) SetRules(r Rules) { s.rules.Store(&rulesOf{r}) }

// paths lists what the API answers, below /api/v1, by method and pattern of
// net/http.
func paths() []string {
	both := []string{"/query", "/query_range", "/query_exemplars", "/labels", "/series", "/format_query", "/parse_query"}
	out := []string{
		"GET /label/{name}/values", "GET /metadata", "GET /rules", "GET /alerts", "GET /status/buildinfo", "GET /status/walreplay",
	}
	for _, p := range both {
		out = append(out, "GET "+p, "POST "+p)
	}
	return out
}

// Register puts Prometheus' API into a mux, at /api/v1/... and at
// /prometheus/api/v1/...; guard decides who may read.
func (s *Store) Register(mux *http.ServeMux, guard func(http.Handler) http.Handler) {
	h := guard(s.Handler())
	for _, p := range paths() {
		method, path, _ := strings.Cut(p, " ")
		mux.Handle(method+" "+apiPrefix+path, h)
	}
	mux.Handle(PrometheusPrefix+"/", http.StripPrefix(PrometheusPrefix, h))
}

// Handler is Prometheus' HTTP API below /api/v1, as far as there is something
// behind it; anything else is 404.
func (s *Store) Handler() http.Handler {
	router := route.New().WithPrefix(apiPrefix)
	s.api().Register(router)
	mux := http.NewServeMux()
	for _, p := range paths() {
		method, path, _ := strings.Cut(p, " ")
		h := http.Handler(router)
		switch path {
		case "/metadata":
			h = http.HandlerFunc(s.metadata)
		case "/labels", "/series", "/label/{name}/values": // queries bound themselves
			h = s.listing(router)
		}
		mux.Handle(method+" "+apiPrefix+path, h)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answerError(w, http.StatusNotFound, "not_found", "there is no "+r.Method+" "+r.URL.Path+" here: this is Prometheus' API for queries, without targets, writing and administration")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

// listing bounds what lists series and labels, as queries are.
func (s *Store) listing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		done, err := s.place(r.Context())
		if err != nil {
			s.metrics.queries.WithLabelValues("busy").Inc()
			answerError(w, http.StatusServiceUnavailable, "unavailable", err.Error())
			return
		}
		defer done()
		ctx, cancel := context.WithTimeout(r.Context(), s.o.Limits.Timeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// whenReady answers 503, with the reason, while the store is not open.
func (s *Store) whenReady(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := s.Ready(); err != nil {
			s.metrics.queries.WithLabelValues("not_ready").Inc()
			w.Header().Set("Retry-After", "5")
			answerError(w, http.StatusServiceUnavailable, "unavailable", err.Error())
			return
		}
		next(w, r)
	}
}

// answerError answers as Prometheus does.
func answerError(w http.ResponseWriter, code int, kind, words string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": kind, "error": words})
}

// api wires Prometheus' own handlers to the store.
func (s *Store) api() *v1.API {
	none := stubs{s}
	build := &v1.PrometheusVersion{Version: libraryVersion, Revision: version.String(), Branch: "wattledger", GoVersion: runtime.Version()}
	return v1.NewAPI(
		bounded{s}, s.Storage(), nil, nil, none,
		func(context.Context) v1.ScrapePoolsRetriever { return none },
		func(context.Context) v1.TargetRetriever { return none },
		func(context.Context) v1.AlertmanagerRetriever { return none },
		func() config.Config { return config.Config{} },
		nil, v1.GlobalURLOptions{}, s.whenReady, none, "", false, false, 0, bridge(s.log),
		func(context.Context) v1.RulesRetriever { return none },
		0, 1, 0, false, regexp.MustCompile("^$"),
		func() (v1.RuntimeInfo, error) { return v1.RuntimeInfo{}, nil }, build,
		func() []notifications.Notification { return nil },
		func() (<-chan notifications.Notification, func(), bool) { return nil, func() {}, false },
		prometheus.NewRegistry(), nil, nil, false, nil, false, false, false, false, 0, false, false, nil,
		features.NewRegistry(), v1.OpenAPIOptions{}, parser.NewParser(parser.Options{}),
	)
}

// stubs are what the API asks for and we do not have; none of it is routed but
// exemplars, which are empty, rules, and how far the replay is.
type stubs struct{ s *Store }

func (stubs) ScrapePools() []string                       { return nil }
func (stubs) TargetsActive() map[string][]*scrape.Target  { return nil }
func (stubs) TargetsDropped() map[string][]*scrape.Target { return nil }
func (stubs) TargetsDroppedCounts() map[string]int        { return nil }
func (stubs) Alertmanagers() []*url.URL                   { return nil }
func (stubs) DroppedAlertmanagers() []*url.URL            { return nil }
func (stubs) CleanTombstones() error                      { return nil }
func (stubs) Snapshot(string, bool) error                 { return nil }
func (stubs) Stats(string, int) (*tsdb.Stats, error)      { return nil, tsdb.ErrNotReady }
func (stubs) BlockMetas() ([]tsdb.BlockMeta, error)       { return nil, nil }
func (p stubs) WALReplayStatus() (tsdb.WALReplayStatus, error) {
	return p.s.replay.Head.WALReplayStatus.GetWALReplayStatus(), nil
}

func (stubs) ScrapePoolConfig(string) (*config.ScrapeConfig, error) { return nil, nil }

func (stubs) Delete(context.Context, int64, int64, ...*labels.Matcher) error { return nil }

func (stubs) ExemplarQuerier(context.Context) (storage.ExemplarQuerier, error) {
	return stubs{}, nil
}

func (stubs) Select(int64, int64, ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	return nil, nil
}

func (p stubs) RuleGroups() []*rules.Group {
	if r := p.s.rules.Load(); r != nil {
		return r.RuleGroups()
	}
	return nil
}

func (p stubs) AlertingRules() []*rules.AlertingRule {
	if r := p.s.rules.Load(); r != nil {
		return r.AlertingRules()
	}
	return nil
}
