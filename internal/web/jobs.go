package web

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/report"
)

// searched is how many jobs, the newest, are looked at to find the largest.
const searched = 20_000

// fresh is how long after its end a job may wait for windows that come late.
const fresh = 24 * time.Hour

func (s *site) getJob(w http.ResponseWriter, r *http.Request) error {
	q, err := ask(r, "cluster", "run")
	if err != nil {
		return err
	}
	clusters, err := s.clusters(r.Context(), q)
	if err != nil {
		return err
	}
	run, err := q.run()
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	var found []string
	var runs []ledger.JobBooks
	for _, cluster := range clusters {
		here, err := s.Ledger.Job(r.Context(), cluster, id)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(here, metered) {
			runs, found = here, append(found, cluster)
		}
	}
	switch len(found) {
	case 0:
		return s.noEnergy(r.Context(), clusters, id)
	case 1:
	default:
		return refuse(http.StatusBadRequest, "several clusters have a job %.80q, name one: %s", id, strings.Join(found, ", "))
	}
	doc, ok, err := s.job(r.Context(), found[0], id, runs, run)
	if err != nil {
		return err
	}
	if !ok {
		return refuse(http.StatusNotFound, "job %.80q has no run %d in the books; there are: %s", id, *run, restarts(runs))
	}
	return sendJSON(w, http.StatusOK, doc)
}

// job asks for what a document is made of. Nodes are asked for only where the
// job runs or ended lately: the list is as long as the fleet.
func (s *site) job(ctx context.Context, cluster, id string, runs []ledger.JobBooks, run *uint32) (report.Job, bool, error) {
	in := report.JobInput{Runs: runs, NowMS: s.Now().UnixMilli(), Run: run}
	var err error
	if in.Facts, err = s.Ledger.Facts(ctx, cluster, id); err != nil {
		return report.Job{}, false, err
	}
	lately := in.NowMS - fresh.Milliseconds()
	if slices.ContainsFunc(runs, func(b ledger.JobBooks) bool { return isRunning(b) || b.Job.EndMS > lately }) {
		if in.Nodes, err = s.Ledger.Nodes(ctx); err != nil {
			return report.Job{}, false, err
		}
	}
	doc, ok := report.JobOf(in)
	return doc, ok, nil
}

func metered(b ledger.JobBooks) bool { return report.Metered(&b) }

func isRunning(b ledger.JobBooks) bool { return b.Job.EndMS == 0 }

// noEnergy tells a job that nobody knows from one that nobody metered.
func (s *site) noEnergy(ctx context.Context, clusters []string, id string) error {
	for _, cluster := range clusters {
		facts, err := s.Ledger.Facts(ctx, cluster, id)
		if err != nil {
			return err
		}
		if len(facts) > 0 {
			f := facts[len(facts)-1]
			return refuse(http.StatusNotFound, "no energy was ever booked to a job %.80q; the scheduler of %s knows it (%s): its nodes have sent nothing of it", id, cluster, f.State)
		}
	}
	return refuse(http.StatusNotFound, "no energy was ever booked to a job %.80q", id)
}

func restarts(runs []ledger.JobBooks) string {
	var counts []string
	for i := range runs {
		if !metered(runs[i]) {
			continue
		}
		counts = append(counts, strconv.FormatUint(uint64(runs[i].Job.Restart), 10))
	}
	slices.Sort(counts)
	return strings.Join(slices.Compact(counts), ", ")
}

// run is the restart count asked for, nil for the newest run.
func (q question) run() (*uint32, error) {
	text := q.Get("run")
	if text == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "run: %.20q is not a restart count, like 0", text)
	}
	run := uint32(n)
	return &run, nil
}

func (s *site) getJobs(w http.ResponseWriter, r *http.Request) error {
	q, err := ask(r, "project", "user", "cluster", "since", "until", "limit", "timezone", "sort", "format")
	if err != nil {
		return err
	}
	if _, err := s.clusters(r.Context(), q); err != nil {
		return err
	}
	limit, err := q.limit(100, 10_000)
	if err != nil {
		return err
	}
	for key, words := range map[string][]string{"sort": {"start", "energy"}, "format": {"json", "csv"}} {
		if v := q.Get(key); v != "" && !slices.Contains(words, v) {
			return refuse(http.StatusBadRequest, "%s: %.20q is not %s", key, v, strings.Join(words, " or "))
		}
	}
	f := ledger.JobFilter{Cluster: q.Get("cluster"), Project: q.Get("project"), User: q.Get("user"), Limit: limit + 1}
	byEnergy := q.Get("sort") == "energy"
	if byEnergy {
		f.Limit = searched + 1
	}
	if f.FromMS, f.ToMS, err = s.span(q, 0, 0); err != nil {
		return err
	}
	jobs, err := s.metered(r.Context(), f)
	if err != nil {
		return err
	}
	list, err := s.list(r.Context(), jobs, limit, byEnergy)
	if err != nil {
		return err
	}
	if q.Get("format") != "csv" {
		return sendJSON(w, http.StatusOK, list)
	}
	var body bytes.Buffer
	if err := report.WriteJobsCSV(&body, &list); err != nil {
		return err
	}
	w.Header().Set("Content-Disposition", `inline; filename="wattledger-jobs.csv"`)
	send(w, http.StatusOK, "text/csv", func() error { _, err := body.WriteTo(w); return err })
	return nil
}

// metered gives as many jobs as the filter's limit that anything is booked of,
// if there are so many: the ledger lists others, too.
func (s *site) metered(ctx context.Context, f ledger.JobFilter) ([]ledger.JobBooks, error) {
	want := f.Limit
	for {
		jobs, err := s.Ledger.Jobs(ctx, f)
		if err != nil {
			return nil, err
		}
		all := len(jobs) < f.Limit
		jobs = slices.DeleteFunc(jobs, func(b ledger.JobBooks) bool { return !metered(b) })
		if all || len(jobs) >= want {
			return jobs[:min(len(jobs), want)], nil
		}
		f.Limit *= 4
	}
}

func (s *site) list(ctx context.Context, jobs []ledger.JobBooks, limit int, byEnergy bool) (report.Jobs, error) {
	in := report.JobsInput{Jobs: jobs, NowMS: s.Now().UnixMilli(), Limit: limit, ByEnergy: byEnergy}
	more := byEnergy && len(jobs) > searched
	if more {
		in.Jobs = jobs[:searched]
	}
	in.Facts = func(b *ledger.JobBooks) ([]ledger.JobFacts, error) { return s.Ledger.Facts(ctx, b.Cluster, b.Job.ID) }
	in.Nodes = func(b *ledger.JobBooks) ([]ledger.NodeAmounts, error) {
		runs, err := s.Ledger.Job(ctx, b.Cluster, b.Job.ID)
		for i := range runs {
			j := &runs[i].Job
			if j.Restart == b.Job.Restart && j.SubmitMS == b.Job.SubmitMS {
				return runs[i].Nodes, err
			}
		}
		return nil, err
	}
	var err error
	if slices.ContainsFunc(in.Jobs, isRunning) {
		if in.Fleet, err = s.Ledger.Nodes(ctx); err != nil {
			return report.Jobs{}, err
		}
	}
	list, err := report.JobsOf(in)
	if more {
		list.Truncated, list.Searched = true, searched
	}
	return list, err
}

// span reads since and until; without a cluster that is named, its zone is UTC.
func (s *site) span(q question, from, to int64) (fromMS, toMS int64, err error) {
	zone, err := s.zone(q, q.Get("cluster"))
	if err != nil {
		return 0, 0, err
	}
	if fromMS, err = s.instant(q, "since", zone, from); err != nil {
		return 0, 0, err
	}
	if toMS, err = s.instant(q, "until", zone, to); err != nil {
		return 0, 0, err
	}
	if toMS != 0 && fromMS >= toMS {
		return 0, 0, refuse(http.StatusBadRequest, "the span ends before it begins")
	}
	return fromMS, toMS, nil
}

// getUnmetered lists what the workload manager ran and the books do not hold; of
// the last week unless another span is named.
func (s *site) getUnmetered(w http.ResponseWriter, r *http.Request) error {
	q, err := ask(r, "project", "user", "cluster", "since", "until", "limit", "timezone")
	if err != nil {
		return err
	}
	clusters, err := s.clusters(r.Context(), q)
	if err != nil {
		return err
	}
	limit, err := q.limit(100, 10_000)
	if err != nil {
		return err
	}
	now := s.Now()
	from, to, err := s.span(q, now.AddDate(0, 0, -7).UnixMilli(), now.UnixMilli())
	if err != nil {
		return err
	}
	var all []ledger.JobFacts
	for _, cluster := range clusters {
		facts, err := s.Ledger.Unmetered(r.Context(), cluster, from, to)
		if err != nil {
			return err
		}
		all = append(all, facts...)
	}
	project, user := q.Get("project"), q.Get("user")
	all = slices.DeleteFunc(all, func(f ledger.JobFacts) bool {
		return project != "" && f.Job.Project != project || user != "" && f.Job.User != user
	})
	return sendJSON(w, http.StatusOK, report.UnmeteredOf(all, from, to, limit))
}
