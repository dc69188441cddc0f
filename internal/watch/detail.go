package watch

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// jobs names the running jobs whose devices burnt most while they did nothing.
func (l *look) jobs(ctx context.Context, cluster string) error {
	from := l.now.Add(-day).UnixMilli()
	list, err := l.w.o.Ledger.Jobs(ctx, ledger.JobFilter{Cluster: cluster, FromMS: from, Limit: 100_000})
	if err != nil {
		return fmt.Errorf("cannot list the jobs of %s: %w", cluster, err)
	}
	list = slices.DeleteFunc(list, func(j ledger.JobBooks) bool {
		return j.Job.EndMS != 0 || j.Amounts.Use(energy.Held) < leastHeld
	})
	slices.SortFunc(list, func(a, b ledger.JobBooks) int {
		return cmp.Or(cmp.Compare(b.Amounts.Use(energy.Held), a.Amounts.Use(energy.Held)), cmp.Compare(a.Job.ID, b.Job.ID))
	})
	seen := map[string]bool{} // runs of one id are one series
	for _, j := range list[:min(len(list), mostJobs)] {
		if !seen[j.Job.ID] {
			seen[j.Job.ID] = true
			l.gauge(l.w.desc.heldJobs, float64(j.Amounts.Use(energy.Held).Joules()), cluster, j.Job.ID, j.Job.Project, j.Job.User)
		}
	}
	return nil
}

// nodes tells which of them are silent, and which quarrel over a name.
func (l *look) nodes(ctx context.Context) error {
	nodes, err := l.w.o.Ledger.Nodes(ctx)
	if err != nil {
		return fmt.Errorf("cannot list the nodes: %w", err)
	}
	type counts struct{ silent, conflicts, fenced int }
	by := map[string]counts{}
	var silent []ledger.NodeStatus
	for _, n := range nodes {
		c := by[n.Node.Cluster]
		c.conflicts += n.Conflicts
		c.fenced += n.Fenced
		if !n.Left && l.now.Sub(time.UnixMilli(n.LastMS)) > silentFor {
			c.silent++
			silent = append(silent, n)
		}
		by[n.Node.Cluster] = c
	}
	for name, c := range by {
		l.gauge(l.w.desc.silent, float64(c.silent), name)
		l.gauge(l.w.desc.conflicts, float64(c.conflicts), name)
		l.gauge(l.w.desc.fenced, float64(c.fenced), name)
	}
	slices.SortFunc(silent, func(a, b ledger.NodeStatus) int {
		return cmp.Or(cmp.Compare(a.LastMS, b.LastMS), cmp.Compare(a.Node.Cluster, b.Node.Cluster), cmp.Compare(a.Node.Name, b.Node.Name))
	})
	for _, n := range silent[:min(len(silent), mostSilent)] {
		l.gauge(l.w.desc.silentFor, l.now.Sub(time.UnixMilli(n.LastMS)).Seconds(), n.Node.Cluster, n.Node.Name)
	}
	return nil
}

func (l *look) quarantine(ctx context.Context, clusters []string) error {
	list, err := l.w.o.Ledger.Quarantine(ctx)
	if err != nil {
		return fmt.Errorf("cannot list the quarantine: %w", err)
	}
	windows, mj := map[string]int{}, map[string]energy.Millijoules{}
	for _, q := range list {
		if !q.Settled {
			windows[q.Node.Cluster]++
			mj[q.Node.Cluster] += q.Energy
		}
	}
	for _, c := range clusters {
		l.gauge(l.w.desc.quarantine, float64(windows[c]), c)
		l.gauge(l.w.desc.quarantined, float64(mj[c].Joules()), c)
	}
	return nil
}

// Audit recomputes both sides of the slots that are complete and near, of every
// cluster whose last audit is an hour ago.
func (w *Watch) Audit(ctx context.Context) {
	clusters, err := w.o.Ledger.Clusters(ctx)
	if err != nil {
		w.failed(ctx, "cannot audit the books", err)
		return
	}
	now := w.o.Now()
	to := window.Slot(now.UnixMilli()) * window.SlotMS
	for _, c := range clusters {
		if w.auditedAt(c).Add(auditEvery).After(now) {
			continue
		}
		r, err := w.o.Ledger.Audit(ctx, c, to-auditSpan.Milliseconds(), to)
		if err != nil {
			w.failed(ctx, "cannot audit the books of a cluster", fmt.Errorf("%s: %w", c, err))
			continue
		}
		w.audited(c, now, r.Findings)
	}
}

func (w *Watch) auditedAt(cluster string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.audits[cluster].at
}

// audited keeps and tells what an audit found.
func (w *Watch) audited(cluster string, now time.Time, findings []ledger.Finding) {
	seen := auditSeen{at: now, findings: map[string]int{"any": len(findings)}}
	for i, f := range findings {
		seen.findings[f.Kind]++
		if i < 20 { // `wattledger audit` lists them all
			w.o.Log.Error("the books do not close", zap.String("cluster", f.Cluster), zap.String("kind", f.Kind), zap.String("node", f.Node),
				zap.String("meter", f.Meter), zap.Time("slot", time.UnixMilli(f.SlotMS).UTC()), zap.String("detail", f.Detail))
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.audits[cluster] = seen
}
