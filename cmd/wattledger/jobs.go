package main

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/wattledger/wattledger/internal/report"
)

// askAgain is how often a job that runs is asked for with --wait.
const askAgain = 2 * time.Second

func runJob(ctx context.Context, k *call) error {
	k.text("cluster", "run")
	format := k.flags.String("format", "text", "")
	wait := k.flags.Duration("wait", 0, "")
	rest, err := k.parse()
	switch {
	case err != nil:
		return err
	case len(rest) == 0 || rest[0] == "":
		return misused("which job? Give its id")
	case len(rest) > 1:
		return noMore(rest[1:])
	case *wait < 0:
		return misused("--wait %s: a length of time is wanted, like 30s", *wait)
	}
	if err := oneOf(*format, "text", "short", "json", "table"); err != nil {
		return err
	}
	write := report.WriteJobText
	if *format == "short" {
		write = report.WriteJobShort
	}
	path, q := "/api/v1/job/"+url.PathEscape(rest[0]), k.query("cluster", "run")
	if err := k.untilEnded(ctx, path, q, *wait); err != nil {
		return err
	}
	_, err = document(ctx, k, *format, path, q, write)
	return err
}

// untilEnded waits until the books hold a job to its end, for as long as they may
// take. A job that they do not hold in that time, or that still runs, is shown or
// refused as it is.
func (k *call) untilEnded(ctx context.Context, path string, q url.Values, wait time.Duration) error {
	if wait == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(k.again)
	defer tick.Stop()
	for {
		var j report.Job
		err := k.get(ctx, path, q, decode(&j))
		if err == nil && j.End != nil && (j.BookedToEnd == nil || *j.BookedToEnd) || errors.As(err, new(*usageError)) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil // what there is will be asked for once more
		case <-tick.C:
		}
	}
}

func runJobs(ctx context.Context, k *call) error {
	filters := []string{"project", "user", "cluster", "since", "until", "limit", "timezone"}
	k.text(append(filters, "sort")...)
	format := k.tableOrJSON()
	missing := k.flags.Bool("missing", false, "")
	rest, err := k.parse()
	if err != nil {
		return err
	}
	if err := noMore(rest); err != nil {
		return err
	}
	if *missing {
		return k.unmetered(ctx, *format, filters)
	}
	if err := oneOf(*format, "table", "json", "csv"); err != nil {
		return err
	}
	q := k.query(append(filters, "sort")...)
	if *format == "csv" {
		q.Set("format", "csv")
		return k.copy(ctx, "/api/v1/jobs", q)
	}
	_, err = document(ctx, k, *format, "/api/v1/jobs", q, report.WriteJobsText)
	return err
}

func (k *call) unmetered(ctx context.Context, format string, filters []string) error {
	if err := oneOf(format, "table", "json"); err != nil {
		return err
	}
	if len(k.query("sort")) > 0 {
		return misused("--sort: jobs without energy have no other order than their start")
	}
	_, err := document(ctx, k, format, "/api/v1/jobs/unmetered", k.query(filters...), report.WriteUnmeteredText)
	return err
}
