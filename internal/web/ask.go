package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/report"
)

// question is the checked query of a request.
type question struct {
	url.Values
}

// ask reads the query and refuses what the route does not know: a misspelt
// filter must not be answered as if it were not there.
func ask(r *http.Request, known ...string) (question, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return question{}, refuse(http.StatusBadRequest, "cannot read the query: %v", err)
	}
	for key, values := range q {
		if !slices.Contains(known, key) {
			return question{}, refuse(http.StatusBadRequest, "%q is not known here; there are: %s", key, strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return question{}, refuse(http.StatusBadRequest, "%s is given %d times", key, len(values))
		}
		if len(values[0]) > 1024 {
			return question{}, refuse(http.StatusBadRequest, "%s is longer than 1024 bytes", key)
		}
	}
	return question{Values: q}, nil
}

// clusters are those asked for: the one that is named, or all.
func (s *site) clusters(ctx context.Context, q question) ([]string, error) {
	all, err := s.Ledger.Clusters(ctx)
	if err != nil {
		return nil, err
	}
	name := q.Get("cluster")
	switch {
	case name == "":
		return all, nil
	case slices.Contains(all, name):
		return []string{name}, nil
	case len(all) == 0:
		return nil, refuse(http.StatusNotFound, "there is no cluster %q: the ledger is empty, no agent has sent a window yet", name)
	}
	return nil, refuse(http.StatusNotFound, "there is no cluster %q; there are: %s", name, strings.Join(all, ", "))
}

// cluster is the one asked for, or the only one there is.
func (s *site) cluster(ctx context.Context, q question) (string, error) {
	all, err := s.clusters(ctx, q)
	switch {
	case err != nil:
		return "", err
	case len(all) == 0:
		return "", refuse(http.StatusNotFound, "the ledger is empty: no agent has sent a window yet")
	case len(all) > 1:
		return "", refuse(http.StatusBadRequest, "there are several clusters, name one: %s", strings.Join(all, ", "))
	}
	return all[0], nil
}

// zone is the one asked for, or the cluster's.
func (s *site) zone(q question, cluster string) (*time.Location, error) {
	if name := q.Get("timezone"); name != "" {
		zone, err := report.ParseZone(name)
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "%v", err)
		}
		return zone, nil
	}
	if s.Zone != nil {
		if zone := s.Zone(cluster); zone != nil {
			return zone, nil
		}
	}
	return time.UTC, nil
}

// period is the month asked for, or the last one that is over.
func (s *site) period(q question, zone *time.Location) (report.Period, error) {
	if month := q.Get("month"); month != "" {
		p, err := report.ParseMonth(zone, month)
		if err != nil {
			return report.Period{}, refuse(http.StatusBadRequest, "%v", err)
		}
		return p, nil
	}
	return report.MonthOf(zone, s.Now()).Previous(), nil
}

// instant reads a time; without one it is the fallback.
func (s *site) instant(q question, key string, zone *time.Location, fallback int64) (int64, error) {
	text := q.Get(key)
	if text == "" {
		return fallback, nil
	}
	t, err := report.ParseTime(text, zone, s.Now())
	if err != nil {
		return 0, refuse(http.StatusBadRequest, "%s: %v", key, err)
	}
	return t.UnixMilli(), nil
}

func (q question) limit(fallback, most int) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, refuse(http.StatusBadRequest, "limit: %.20q is not a number from 1 to %d", text, most)
	}
	return n, nil
}
