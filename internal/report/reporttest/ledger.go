// Package reporttest has a ledger made by hand, with books that are easy to
// check by eye, for tests of what people see. It books nothing.
package reporttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// Ledger answers with what its fields say.
type Ledger struct {
	// ByMonth holds books by cluster and by the Unix ms of their start; other
	// spans of a known cluster are empty.
	ByMonth  map[string]map[int64]ledger.Books
	Runs     []ledger.JobBooks
	Known    []ledger.NodeStatus
	Seen     []ledger.EventRow
	Apart    []ledger.QuarantineEntry
	Audits   map[string]ledger.AuditResult
	Reposted ledger.Result
	Stated   []ledger.JobFacts     // what Facts answers from
	Silent   []ledger.JobFacts     // what Unmetered answers from
	Projects []ledger.ProjectFacts // what ProjectFacts answers from
	Fails    error                 // every method returns it

	// What was asked last.
	AskedNowMS, AskedFromMS, AskedToMS int64
	AskedFilter                        ledger.JobFilter
	AskedRepost                        int64
	AskedUnknown                       bool
}

var _ ledger.Ledger = (*Ledger)(nil)

// errReadOnly is what a method that books says.
var errReadOnly = errors.New("this ledger is for reading")

// Open is not for this ledger.
func (l *Ledger) Open(context.Context, ledger.OpenRequest) (ledger.Opening, bool, error) {
	return ledger.Opening{}, false, errReadOnly
}

// Book is not for this ledger.
func (l *Ledger) Book(context.Context, []ledger.Submission) ([]ledger.Result, error) {
	return nil, errReadOnly
}

// Catalogue is not for this ledger.
func (l *Ledger) Catalogue(context.Context, ledger.Node, uint64) (*window.Catalogue, bool, error) {
	return nil, false, errReadOnly
}

// Assign is not for this ledger.
func (l *Ledger) Assign(context.Context, string, window.Job, string) error { return errReadOnly }

// Describe is not for this ledger.
func (l *Ledger) Describe(context.Context, []ledger.JobFacts) error { return errReadOnly }

// Facts answers from Stated.
func (l *Ledger) Facts(_ context.Context, cluster, id string) ([]ledger.JobFacts, error) {
	var out []ledger.JobFacts
	for _, f := range l.Stated {
		if f.Cluster == cluster && f.Job.ID == id {
			out = append(out, f)
		}
	}
	return out, l.Fails
}

// Unmetered answers from Silent.
func (l *Ledger) Unmetered(_ context.Context, cluster string, fromMS, toMS int64) ([]ledger.JobFacts, error) {
	var out []ledger.JobFacts
	for _, f := range l.Silent {
		if f.Cluster == cluster && f.NodeMS(fromMS, toMS) > 0 {
			out = append(out, f)
		}
	}
	return out, l.Fails
}

// PutProjects is not for this ledger.
func (l *Ledger) PutProjects(context.Context, []ledger.ProjectFacts) error { return errReadOnly }

// ProjectFacts answers from Projects.
func (l *Ledger) ProjectFacts(_ context.Context, cluster string) ([]ledger.ProjectFacts, error) {
	var out []ledger.ProjectFacts
	for _, f := range l.Projects {
		if f.Cluster == cluster {
			out = append(out, f)
		}
	}
	return out, l.Fails
}

// Mark is not for this ledger.
func (l *Ledger) Mark(context.Context, string, int64) error { return errReadOnly }

// LastMark is none.
func (l *Ledger) LastMark(context.Context, string) (int64, error) { return 0, l.Fails }

// Clusters lists the clusters of ByMonth.
func (l *Ledger) Clusters(context.Context) ([]string, error) {
	return slices.Sorted(maps.Keys(l.ByMonth)), l.Fails
}

// Books answers from ByMonth.
func (l *Ledger) Books(_ context.Context, cluster string, fromMS, toMS, nowMS int64) (ledger.Books, error) {
	l.AskedNowMS = nowMS
	b := l.ByMonth[cluster][fromMS]
	if b.ToMS != 0 && b.ToMS != toMS {
		return b, fmt.Errorf("books of %s from %d end at %d, not %d", cluster, fromMS, b.ToMS, toMS)
	}
	b.Cluster, b.FromMS, b.ToMS = cluster, fromMS, toMS
	return b, l.Fails
}

// Job answers from Runs.
func (l *Ledger) Job(_ context.Context, cluster, id string) ([]ledger.JobBooks, error) {
	var out []ledger.JobBooks
	for _, r := range l.Runs {
		if r.Cluster == cluster && r.Job.ID == id {
			out = append(out, r)
		}
	}
	return out, l.Fails
}

// Jobs answers from Runs, without nodes.
func (l *Ledger) Jobs(_ context.Context, f ledger.JobFilter) ([]ledger.JobBooks, error) {
	l.AskedFilter = f
	var out []ledger.JobBooks
	for _, r := range l.Runs {
		fits := (f.Cluster == "" || f.Cluster == r.Cluster) && (f.ID == "" || f.ID == r.Job.ID) &&
			(f.Project == "" || f.Project == r.Job.Project) && (f.User == "" || f.User == r.Job.User) &&
			(f.FromMS == 0 || r.Job.EndMS == 0 || r.Job.EndMS > f.FromMS) && (f.ToMS == 0 || r.Job.StartMS < f.ToMS)
		if fits && (f.Limit == 0 || len(out) < f.Limit) {
			r.Nodes = nil
			out = append(out, r)
		}
	}
	return out, l.Fails
}

// Totals is empty.
func (l *Ledger) Totals(context.Context) ([]ledger.ProjectTotal, error) { return nil, l.Fails }

// Nodes answers from Known.
func (l *Ledger) Nodes(context.Context) ([]ledger.NodeStatus, error) { return l.Known, l.Fails }

// Events answers from Seen.
func (l *Ledger) Events(_ context.Context, f ledger.EventFilter) ([]ledger.EventRow, error) {
	fits := func(want, have string) bool { return want == "" || want == have }
	var out []ledger.EventRow
	for _, e := range l.Seen {
		if fits(f.Cluster, e.Node.Cluster) && fits(f.Node, e.Node.Name) && fits(f.Kind, e.Event.Kind) &&
			e.Event.AtMS >= f.FromMS && (f.ToMS == 0 || e.Event.AtMS < f.ToMS) && (f.Limit == 0 || len(out) < f.Limit) {
			out = append(out, e)
		}
	}
	return out, l.Fails
}

// Audit answers from Audits, and from ByMonth for clusters not in there.
func (l *Ledger) Audit(_ context.Context, cluster string, fromMS, toMS int64) (ledger.AuditResult, error) {
	l.AskedFromMS, l.AskedToMS = fromMS, toMS
	if a, ok := l.Audits[cluster]; ok {
		return a, l.Fails
	}
	var a ledger.AuditResult
	for _, b := range l.ByMonth[cluster] {
		a.Slots += int((b.ToMS - b.FromMS) / window.SlotMS)
		a.Metered += b.Metered
		a.Booked += b.Metered - b.Unbooked
		a.Unbooked += b.Unbooked
	}
	return a, l.Fails
}

// Quarantine answers from Apart.
func (l *Ledger) Quarantine(context.Context) ([]ledger.QuarantineEntry, error) {
	return l.Apart, l.Fails
}

// Repost answers Reposted.
func (l *Ledger) Repost(_ context.Context, id int64, asUnknown bool) (ledger.Result, error) {
	l.AskedRepost, l.AskedUnknown = id, asUnknown
	return l.Reposted, l.Fails
}

// Close does nothing.
func (l *Ledger) Close() error { return nil }

// Amounts are sums of a job of GPU energy, busy and held, with a tenth of both
// as CPU energy, and GPU device hours (a tenth of them held).
func Amounts(busy, held energy.Millijoules, gpuHours int64) ledger.Amounts {
	var a ledger.Amounts
	post := func(c energy.Class, u energy.Use, g energy.Grade, mj energy.Millijoules, ms int64) {
		a.Post(window.Posting{Class: c, Use: u, Grade: g, Energy: mj, DeviceMS: ms})
	}
	const hour = 3_600_000
	post(energy.GPU, energy.Busy, energy.Counter, busy-busy/10, gpuHours*hour-gpuHours*hour/10)
	post(energy.CPU, energy.Busy, energy.Sampled, busy/10, 0)
	post(energy.GPU, energy.Held, energy.Counter, held-held/10, gpuHours*hour/10)
	post(energy.CPU, energy.Held, energy.Sampled, held/10, 0)
	return a
}
