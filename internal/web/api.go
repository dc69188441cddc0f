package web

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/report"
	"github.com/wattledger/wattledger/internal/window"
)

func (s *site) getReport(w http.ResponseWriter, r *http.Request) error {
	q, err := ask(r, "month", "cluster", "project", "timezone", "format")
	if err != nil {
		return err
	}
	cluster, err := s.cluster(r.Context(), q)
	if err != nil {
		return err
	}
	zone, err := s.zone(q, cluster)
	if err != nil {
		return err
	}
	p, err := s.period(q, zone)
	if err != nil {
		return err
	}
	format := q.Get("format")
	if !slices.Contains([]string{"", "json", "csv", "table", "html"}, format) {
		return refuse(http.StatusBadRequest, "format: %.20q is not json, csv, table or html", format)
	}
	doc, err := report.Build(r.Context(), s.Ledger, cluster, p, q.Get("project"), s.Now())
	if err != nil {
		return err
	}
	mediaType, write := "application/json", func(w io.Writer) error { return report.WriteJSON(w, doc) }
	switch format {
	case "csv":
		mediaType, write = "text/csv", func(w io.Writer) error { return report.WriteCSV(w, &doc) }
		w.Header().Set("Content-Disposition", fmt.Sprintf(`inline; filename="wattledger-%s.csv"`, p))
	case "table":
		mediaType, write = "text/plain", func(w io.Writer) error { return report.WriteText(w, &doc) }
	case "html":
		mediaType, write = "text/html", func(w io.Writer) error { return s.writeDocument(w, &doc, p) }
	}
	var body bytes.Buffer
	if err := write(&body); err != nil {
		return err
	}
	send(w, http.StatusOK, mediaType, func() error { _, err := body.WriteTo(w); return err })
	return nil
}

// getAudit covers whole slots. Without a span it covers all there is: from 1970
// to a day ahead, because a window may be a little early.
func (s *site) getAudit(w http.ResponseWriter, r *http.Request) error {
	q, err := ask(r, "from", "to", "cluster", "timezone")
	if err != nil {
		return err
	}
	clusters, err := s.clusters(r.Context(), q)
	if err != nil {
		return err
	}
	zone, err := s.zone(q, q.Get("cluster"))
	if err != nil {
		return err
	}
	from, err := s.instant(q, "from", zone, 0)
	if err != nil {
		return err
	}
	to, err := s.instant(q, "to", zone, s.Now().Add(24*time.Hour).UnixMilli())
	if err != nil {
		return err
	}
	if from >= to {
		return refuse(http.StatusBadRequest, "the span ends before it begins")
	}
	from, to = window.Slot(from)*window.SlotMS, (window.Slot(to-1)+1)*window.SlotMS
	audit := report.NewAudit(from, to)
	for _, cluster := range clusters {
		result, err := s.Ledger.Audit(r.Context(), cluster, from, to)
		if err != nil {
			return err
		}
		audit.Add(cluster, &result)
	}
	return sendJSON(w, http.StatusOK, audit)
}

func (s *site) getNodes(w http.ResponseWriter, r *http.Request) error {
	q, err := ask(r, "cluster")
	if err != nil {
		return err
	}
	if _, err := s.clusters(r.Context(), q); err != nil {
		return err
	}
	nodes, err := s.Ledger.Nodes(r.Context())
	if err != nil {
		return err
	}
	return sendJSON(w, http.StatusOK, report.NodesOf(nodes, q.Get("cluster")))
}

// getEvents lists what meters and intake complained of, newest first: of the
// last day unless asked otherwise, of all clusters or one.
func (s *site) getEvents(w http.ResponseWriter, r *http.Request) error {
	q, err := ask(r, "cluster", "node", "kind", "from", "to", "limit", "timezone")
	if err != nil {
		return err
	}
	clusters, err := s.clusters(r.Context(), q)
	if err != nil {
		return err
	}
	f := ledger.EventFilter{Cluster: q.Get("cluster"), Node: q.Get("node"), Kind: q.Get("kind")}
	if len(clusters) == 1 {
		f.Cluster = clusters[0] // whose zone days are in
	}
	zone, err := s.zone(q, f.Cluster)
	if err != nil {
		return err
	}
	if f.Limit, err = q.limit(1000, 10_000); err != nil {
		return err
	}
	now := s.Now()
	if f.FromMS, err = s.instant(q, "from", zone, now.Add(-24*time.Hour).UnixMilli()); err != nil {
		return err
	}
	if f.ToMS, err = s.instant(q, "to", zone, now.Add(24*time.Hour).UnixMilli()); err != nil {
		return err
	}
	if f.FromMS >= f.ToMS {
		return refuse(http.StatusBadRequest, "the span ends before it begins")
	}
	rows, err := s.Ledger.Events(r.Context(), f)
	if err != nil {
		return err
	}
	return sendJSON(w, http.StatusOK, report.EventsOf(rows))
}

func (s *site) getClusters(w http.ResponseWriter, r *http.Request) error {
	if _, err := ask(r); err != nil {
		return err
	}
	names, err := s.Ledger.Clusters(r.Context())
	if err != nil {
		return err
	}
	type line struct {
		Cluster  string `json:"cluster"`
		Timezone string `json:"timezone"`
	}
	out := make([]line, 0, len(names))
	for _, name := range names {
		zone, err := s.zone(question{}, name)
		if err != nil {
			return err
		}
		out = append(out, line{Cluster: name, Timezone: zone.String()})
	}
	return sendJSON(w, http.StatusOK, map[string]any{"schema": "wattledger.clusters/v1", "clusters": out})
}

func (s *site) getQuarantine(w http.ResponseWriter, r *http.Request) error {
	q, err := ask(r, "cluster")
	if err != nil {
		return err
	}
	if _, err := s.clusters(r.Context(), q); err != nil {
		return err
	}
	entries, err := s.Ledger.Quarantine(r.Context())
	if err != nil {
		return err
	}
	return sendJSON(w, http.StatusOK, report.QuarantineOf(entries, q.Get("cluster")))
}

func (s *site) postRepost(w http.ResponseWriter, r *http.Request) error {
	q, err := ask(r, "as")
	if err != nil {
		return err
	}
	as := q.Get("as")
	if as != "" && as != "unknown" {
		return refuse(http.StatusBadRequest, "as: %.20q is not unknown (or leave it out to book the window as it is)", as)
	}
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return refuse(http.StatusBadRequest, "%.40q is not the number of a quarantined window", r.PathValue("id"))
	}
	entries, err := s.Ledger.Quarantine(r.Context())
	if err != nil {
		return err
	}
	at := slices.IndexFunc(entries, func(e ledger.QuarantineEntry) bool { return e.ID == id })
	switch {
	case at < 0:
		return refuse(http.StatusNotFound, "there is no quarantined window %d", id)
	case entries[at].Settled:
		return refuse(http.StatusConflict, "quarantined window %d is settled already", id)
	}
	result, err := s.Ledger.Repost(r.Context(), id, as == "unknown")
	if err != nil {
		return err
	}
	status := http.StatusOK
	if result.Status != ledger.Booked {
		status = http.StatusConflict
	}
	return sendJSON(w, status, report.RepostAnswer{ID: id, Status: result.Status.String(), Reason: result.Reason})
}
