// Package web is what people and programs see of the books: a page with the
// last month's statement of each cluster, and a JSON API. It reads the ledger,
// and writes only where a quarantined window is posted again.
//
// Who may call is decided by whoever mounts the handler. The handler itself
// sees to it that no other site's page can make a browser post, that nothing a
// user named is run by a browser, and that a question it does not understand is
// refused and never half answered.
package web

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/report"
)

// Deps is what the handler needs.
type Deps struct {
	Ledger ledger.Ledger
	// Zone gives the zone whose midnight begins a month of a cluster; nil, or a
	// nil answer, is UTC.
	Zone func(cluster string) *time.Location
	Now  func() time.Time
	Log  *zap.Logger // nil discards
}

type site struct {
	Deps
	page  *template.Template
	style template.HTML
}

//go:embed page.gohtml
var pageText string

//go:embed style.css
var styleText string

// Handler serves the page at / and the API below /api/v1/.
func Handler(d Deps) http.Handler {
	if d.Log == nil {
		d.Log = zap.NewNop()
	}
	s := &site{
		Deps:  d,
		page:  template.Must(template.New("page").Parse(pageText)),
		style: template.HTML("<style>" + styleText + "</style>"), // our own file
	}
	mux := http.NewServeMux()
	for pattern, answer := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /api/v1/report":                  s.getReport,
		"GET /api/v1/job/{id}":                s.getJob,
		"GET /api/v1/jobs":                    s.getJobs,
		"GET /api/v1/jobs/unmetered":          s.getUnmetered,
		"GET /api/v1/audit":                   s.getAudit,
		"GET /api/v1/nodes":                   s.getNodes,
		"GET /api/v1/events":                  s.getEvents,
		"GET /api/v1/clusters":                s.getClusters,
		"GET /api/v1/quarantine":              s.getQuarantine,
		"POST /api/v1/quarantine/{id}/repost": s.postRepost,
	} {
		mux.HandleFunc(pattern, s.api(answer))
	}
	mux.HandleFunc("/api/", s.api(func(_ http.ResponseWriter, r *http.Request) error {
		return refuse(http.StatusNotFound, "there is no %s %s here", r.Method, r.URL.Path)
	}))
	mux.HandleFunc("GET /{$}", s.getPage)
	sameSite := http.NewCrossOriginProtection()
	sameSite.SetDenyHandler(s.api(func(http.ResponseWriter, *http.Request) error {
		return refuse(http.StatusForbidden, "a page of another site may not post here (cross-origin request)")
	}))
	return secured(sameSite.Handler(mux))
}

// secured sets what a browser must keep to: no script, no frame, nothing from
// elsewhere, only our own style.
func secured(next http.Handler) http.Handler {
	sum := sha256.Sum256([]byte(styleText))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// refusal is an error that is the asker's to mend.
type refusal struct {
	status int
	words  string
}

func (r *refusal) Error() string { return r.words }

func refuse(status int, format string, args ...any) error {
	return &refusal{status: status, words: fmt.Sprintf(format, args...)}
}

// api answers an error as JSON. What went wrong inside goes to the log; the
// asker learns that it did.
func (s *site) api(answer func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := answer(w, r)
		if err == nil {
			return
		}
		status, words := s.explain(r, err)
		send(w, status, "application/json", func() error {
			return report.WriteJSON(w, map[string]string{"error": words})
		})
	}
}

func (s *site) explain(r *http.Request, err error) (status int, words string) {
	if no, ok := errors.AsType[*refusal](err); ok {
		return no.status, no.words
	}
	if none, ok := errors.AsType[*report.NoEnergyError](err); ok {
		return http.StatusNotFound, none.Error()
	}
	if r.Context().Err() == nil {
		s.Log.Error("question not answered", zap.String("path", r.URL.Path), zap.Error(err))
	}
	return http.StatusInternalServerError, "the ledger could not answer; the aggregator's log says why"
}

// send writes an answer. Once the status is out an error can only mean that the
// asker has gone.
func send(w http.ResponseWriter, status int, mediaType string, write func() error) {
	w.Header().Set("Content-Type", mediaType+"; charset=utf-8")
	w.WriteHeader(status)
	_ = write()
}

func sendJSON(w http.ResponseWriter, status int, document any) error {
	send(w, status, "application/json", func() error { return report.WriteJSON(w, document) })
	return nil
}
