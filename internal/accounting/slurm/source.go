// Package slurm reads Slurm's accounting: of slurmrestd (over its unix socket or
// TCP, in the newest version of the data parser that both sides know), and of
// the commands sacct and sacctmgr where there is no slurmrestd or where it does
// not tell enough.
//
// What was found with real daemons (22.05) and decides much here: the REST
// interface of slurmdbd tells all runs of a requeued job where it is asked for a
// span, and the last alone where not; parsers before 0.0.38 give the time at
// which a job became eligible as its start; a token that is bad or has expired is answered with HTTP 200, an empty
// list and error 1007 by slurmdbd's side, with HTTP 500 and error -1 by
// slurmctld's; a job that was cancelled before it started has its end as its
// start; the end of a running job in slurmctld is start plus limit, no end.
package slurm

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/accounting"
	"github.com/wattledger/wattledger/internal/ledger"
)

// Source reads what is configured of Rest and Commands; one is needed.
type Source struct {
	// Cluster is Slurm's own name of the cluster, "" for the one that the other
	// side is of.
	Cluster  string
	Rest     *Rest
	Commands *Commands
}

var _ accounting.Source = (*Source)(nil)

// Name implements accounting.Source.
func (s *Source) Name() string {
	var names []string
	if s.Rest != nil {
		names = append(names, s.Rest.Name())
	}
	if s.Commands != nil {
		names = append(names, s.Commands.Sacct)
	}
	return strings.Join(names, " and ")
}

// Jobs implements accounting.Source: of slurmrestd, or of sacct where there is
// none or it fails. Where a job ran more than once and the accounting has no
// restart counts, those are taken that slurmctld knows.
func (s *Source) Jobs(ctx context.Context, from, to time.Time) (accounting.Answer, error) {
	if s.Rest == nil {
		return s.Commands.jobs(ctx, s.Cluster, from, to)
	}
	a, err := s.Rest.jobs(ctx, s.Cluster, from, to)
	if err != nil {
		if s.Commands == nil {
			return a, err
		}
		b, err2 := s.Commands.jobs(ctx, s.Cluster, from, to)
		if err2 != nil {
			return b, errors.Join(err, err2)
		}
		b.Notes = append(b.Notes, "sacct is read instead: "+err.Error())
		return b, nil
	}
	if !ranTwice(a.Jobs) {
		return a, nil
	}
	restarts, err := s.Rest.restarts(ctx)
	if err != nil {
		a.Notes = append(a.Notes, "restart counts are not known: "+err.Error())
		return a, nil
	}
	for i := range a.Jobs {
		f := &a.Jobs[i]
		if n, ok := restarts[runKey{f.Job.ID, f.Job.StartMS}]; ok && f.AnyRestart {
			f.Job.Restart, f.AnyRestart = n, false
		}
	}
	return a, nil
}

// ranTwice tells whether restart counts would tell runs apart.
func ranTwice(facts []ledger.JobFacts) bool {
	seen := map[string]bool{}
	for _, f := range facts {
		if f.AnyRestart && seen[f.Job.ID] {
			return true
		}
		seen[f.Job.ID] = true
	}
	return false
}

// Projects implements accounting.Source.
func (s *Source) Projects(ctx context.Context) ([]ledger.ProjectFacts, error) {
	if s.Rest != nil {
		facts, err := s.Rest.projects(ctx, s.Cluster)
		if err == nil || s.Commands == nil {
			return facts, err
		}
	}
	return s.Commands.projects(ctx, s.Cluster)
}
