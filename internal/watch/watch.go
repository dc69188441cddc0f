// Package watch looks at the books once a minute and shows what an operator has
// to know: how much of the device time is covered, what is not booked or in
// quarantine, which nodes are silent, which jobs hold devices that do nothing,
// what the meters complained of, and what the last audit found. Alert rules are
// written over these metrics. A scrape costs the ledger nothing.
package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// How often and how far.
const (
	lookEvery  = time.Minute
	auditEvery = time.Hour
	auditLook  = 2 * time.Minute // a cluster that is new is audited soon
	auditSpan  = 3 * time.Hour   // of slots that are complete; each is audited again until no late data comes
	day        = 24 * time.Hour
	unbookedIn = 31 * day
	silentFor  = 3 * time.Minute                 // eighteen windows: no commit takes that long
	mostSilent = 100                             // nodes that are named
	mostJobs   = 50                              // jobs that are named
	leastHeld  = energy.Millijoules(360_000_000) // 0.1 kWh
	mostSeries = 20_000                          // of events; beyond, nodes are counted together
)

// Options say what is watched.
type Options struct {
	Ledger ledger.Ledger
	// DataDir is the folder of the books, for the room that is left on its disk.
	DataDir string
	// Contract is the power that a cluster's site may draw, by cluster.
	Contract map[string]energy.Microwatts
	Now      func() time.Time
	Log      *zap.Logger
}

// Watch keeps what it saw last. Run must be running.
type Watch struct {
	o    Options
	desc descs

	mu     sync.Mutex
	seen   []prometheus.Metric
	audits map[string]auditSeen
	events map[eventKey]*tally
	xids   map[xidKey]*tally
	errors prometheus.Counter
	tell   *zap.Logger // of events: one that repeats itself is sampled
}

type auditSeen struct {
	at       time.Time
	findings map[string]int
}

type eventKey struct{ cluster, node, kind string }

type xidKey struct{ cluster, node, gpu, xid, class string }

type descs struct {
	coverage, unbooked, difference, grades, quarantine, quarantined *prometheus.Desc
	silent, silentFor, conflicts, fenced, heldJobs, events          *prometheus.Desc
	recent, xids, recentXids                                        *prometheus.Desc
	findings, audited, contract, free, size, looked                 *prometheus.Desc
}

// New makes a Watch.
func New(o Options) *Watch {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("wattledger_"+name, help, labels, nil)
	}
	return &Watch{
		tell: o.Log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
			return zapcore.NewSamplerWithOptions(c, time.Minute, 3, 100)
		})),
		o: o, audits: map[string]auditSeen{}, events: map[eventKey]*tally{}, xids: map[xidKey]*tally{},
		errors: prometheus.NewCounter(prometheus.CounterOpts{Name: "wattledger_watch_errors_total", Help: "Looks at the books that failed."}),
		desc: descs{
			coverage:    d("coverage_ratio", "Part of the device time of the last 24 h that has energy or a known use; 1 is all of it.", "cluster"),
			unbooked:    d("unbooked_joules", "Energy of the last 31 days that meters counted and nobody booked: holes and quarantine.", "cluster"),
			difference:  d("books_difference_joules", "Metered less booked less unbooked energy of the last 24 h. Anything but 0 is a fault of the books.", "cluster"),
			grades:      d("grade_energy_ratio", "Part of the energy of the last 24 h by grade.", "cluster", "grade"),
			quarantine:  d("quarantine_windows", "Windows in quarantine that are not settled.", "cluster"),
			quarantined: d("quarantine_joules", "Energy of the windows in quarantine that are not settled.", "cluster"),
			silent:      d("nodes_silent", "Nodes that have not left the books and sent nothing for three minutes.", "cluster"),
			silentFor:   d("node_silent_seconds", "For how long a silent node has sent nothing; at most 100 nodes, the longest.", "cluster", "node"),
			conflicts:   d("node_conflicts", "Windows refused because their ranges are booked with other content: two nodes with one name, a cloned disk.", "cluster"),
			fenced:      d("node_takeovers", "Agents that were fenced because another took their node's name.", "cluster"),
			heldJobs: d("job_held_energy_joules", "Energy that a running job's devices burnt while they did nothing, so far; at most 50 jobs, those with most.",
				"cluster", "job", "project", "user"),
			events:     d("node_events_total", "Events that came with windows, by kind.", "cluster", "node", "kind"),
			recent:     d("node_recent_events", "Events of the last quarter of an hour by kind; no series where there was none since the aggregator started.", "cluster", "node", "kind"),
			xids:       d("gpu_xid_errors_total", "Xid errors of GPUs, by number and class: application, hardware, driver or other.", "cluster", "node", "gpu", "xid", "class"),
			recentXids: d("gpu_recent_xid_errors", "Xid errors of GPUs in the last quarter of an hour; no series where there was none since the aggregator started.", "cluster", "node", "gpu", "xid", "class"),
			findings:   d("audit_findings", "Places of the last three hours where the last audit did not close, by kind.", "cluster", "kind"),
			audited:    d("audit_last_timestamp_seconds", "When the books were last audited.", "cluster"),
			contract:   d("contract_power_watts", "Power that the site's contract allows, from the configuration.", "cluster"),
			free:       d("data_free_bytes", "Room left on the disk of the data folder."),
			size:       d("data_disk_bytes", "Size of the disk of the data folder."),
			looked:     d("watch_last_timestamp_seconds", "When the books were last looked at."),
		},
	}
}

// Run looks, and audits, until ctx ends. An audit of a large machine takes
// longer than the time between looks, so neither waits for the other.
func (w *Watch) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { every(ctx, lookEvery, lookEvery, w.Look) })
	wg.Go(func() { every(ctx, auditLook, auditEvery, w.Audit) })
	wg.Wait()
	return nil
}

// every works now and then, and ends what takes longer than it may.
func every(ctx context.Context, d, within time.Duration, work func(context.Context)) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		func() {
			ctx, cancel := context.WithTimeout(ctx, within)
			defer cancel()
			work(ctx)
		}()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Look reads the books once. What cannot be read is counted and left as it was.
func (w *Watch) Look(ctx context.Context) {
	l := &look{w: w, now: w.o.Now()}
	if err := l.all(ctx); err != nil {
		w.failed(ctx, "cannot look at the books; the metrics keep what was seen before", err)
		return
	}
	w.mu.Lock()
	w.seen = l.out
	w.mu.Unlock()
}

// failed counts and tells of an error, unless it is the end of the program.
func (w *Watch) failed(ctx context.Context, words string, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	w.errors.Inc()
	w.o.Log.Error(words, zap.Error(err))
}

// look is one look in the making.
type look struct {
	w   *Watch
	now time.Time
	out []prometheus.Metric
}

func (l *look) gauge(d *prometheus.Desc, v float64, labels ...string) {
	l.out = append(l.out, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...))
}

func (l *look) all(ctx context.Context) error {
	clusters, err := l.w.o.Ledger.Clusters(ctx)
	if err != nil {
		return fmt.Errorf("cannot list the clusters: %w", err)
	}
	var errs []error
	for _, c := range clusters {
		errs = append(errs, l.books(ctx, c), l.jobs(ctx, c))
	}
	errs = append(errs, l.nodes(ctx), l.quarantine(ctx, clusters), l.disk())
	for c, p := range l.w.o.Contract {
		l.gauge(l.w.desc.contract, float64(p)/1e6, c)
	}
	l.gauge(l.w.desc.looked, float64(l.now.UnixMilli())/1e3)
	return errors.Join(errs...)
}

// books gives what the sums of the last day say.
func (l *look) books(ctx context.Context, cluster string) error {
	to := window.Slot(l.now.UnixMilli()) * window.SlotMS // slots that are complete
	b, err := l.w.o.Ledger.Books(ctx, cluster, to-day.Milliseconds(), to, l.now.UnixMilli())
	if err != nil {
		return fmt.Errorf("cannot read the last day of %s: %w", cluster, err)
	}
	sum := b.Nobody
	for i := range b.Projects {
		sum.Add(&b.Projects[i].Amounts)
	}
	known := int64(0)
	for _, uses := range sum.DeviceMS {
		for _, ms := range uses {
			known += ms
		}
	}
	if all := known + b.MissingMS; all > 0 {
		l.gauge(l.w.desc.coverage, float64(known)/float64(all), cluster)
	}
	l.gauge(l.w.desc.difference, float64((b.Metered - b.Unbooked - sum.Total()).Joules()), cluster)
	if total := sum.Total(); total > 0 {
		for g, mj := range sum.Grades {
			l.gauge(l.w.desc.grades, float64(mj)/float64(total), cluster, energy.Grade(g).String())
		}
	}
	month, err := l.w.o.Ledger.Books(ctx, cluster, to-unbookedIn.Milliseconds(), to+window.SlotMS, l.now.UnixMilli())
	if err != nil {
		return fmt.Errorf("cannot read the last 31 days of %s: %w", cluster, err)
	}
	l.gauge(l.w.desc.unbooked, float64(month.Unbooked.Joules()), cluster)
	return nil
}

// disk tells how much room the books have.
func (l *look) disk() error {
	if l.w.o.DataDir == "" {
		return nil
	}
	var s unix.Statfs_t
	if err := unix.Statfs(l.w.o.DataDir, &s); err != nil {
		return fmt.Errorf("cannot ask for the room on the disk of %s: %w", l.w.o.DataDir, err)
	}
	block := uint64(s.Bsize) //nolint:gosec // a block has a size above zero
	l.gauge(l.w.desc.free, float64(s.Bavail*block))
	l.gauge(l.w.desc.size, float64(s.Blocks*block))
	return nil
}

// Describe says what may be there.
func (w *Watch) Describe(ch chan<- *prometheus.Desc) {
	w.errors.Describe(ch)
	d := &w.desc
	for _, desc := range []*prometheus.Desc{
		d.coverage, d.unbooked, d.difference, d.grades, d.quarantine, d.quarantined,
		d.silent, d.silentFor, d.conflicts, d.fenced, d.heldJobs, d.events,
		d.recent, d.xids, d.recentXids, d.findings, d.audited, d.contract, d.free, d.size, d.looked,
	} {
		ch <- desc
	}
}

// Collect gives what was seen last.
func (w *Watch) Collect(ch chan<- prometheus.Metric) {
	w.errors.Collect(ch)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.seen {
		ch <- m
	}
	for c, a := range w.audits {
		ch <- prometheus.MustNewConstMetric(w.desc.audited, prometheus.GaugeValue, float64(a.at.UnixMilli())/1e3, c)
		for kind, n := range a.findings {
			ch <- prometheus.MustNewConstMetric(w.desc.findings, prometheus.GaugeValue, float64(n), c, kind)
		}
	}
	minute := w.o.Now().Unix() / 60
	for k, t := range w.events {
		ch <- prometheus.MustNewConstMetric(w.desc.events, prometheus.CounterValue, float64(t.total), k.cluster, k.node, k.kind)
		ch <- prometheus.MustNewConstMetric(w.desc.recent, prometheus.GaugeValue, float64(t.recent(minute)), k.cluster, k.node, k.kind)
	}
	for k, t := range w.xids {
		labels := []string{k.cluster, k.node, k.gpu, k.xid, k.class}
		ch <- prometheus.MustNewConstMetric(w.desc.xids, prometheus.CounterValue, float64(t.total), labels...)
		ch <- prometheus.MustNewConstMetric(w.desc.recentXids, prometheus.GaugeValue, float64(t.recent(minute)), labels...)
	}
}
