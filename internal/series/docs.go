package series

import (
	"fmt"
	"io"
	"strings"

	"github.com/wattledger/wattledger/internal/series/metric"
)

// intro stands before the lists; what it says is tested in package sums.
const intro = `# Metrics

This page is written from the lists in the code (` + "`go test ./internal/series -run TestDocs -update`" + `); a test compares both.

## Series of the store

The aggregator keeps these series itself and answers PromQL over them: a Prometheus data source of Grafana points at the aggregator's address, or at
its address with ` + "`/prometheus`" + `. Units are base units; a name that ends in ` + "`_total`" + ` is a counter. Nothing is stored that is not listed.

- **Stamps.** A sample is stamped at the end of the time it speaks of: a power sample with the end of its second, a gauge with the end of its window, a
  counter with the last window end it contains. ` + "`avg_over_time(wattledger_node_power_watts[10s] @ T)`" + ` of a window that ends at T is therefore the energy booked
  for it over its length.
- **Hours.** ` + "`x @ end - x @ start`" + ` of ` + "`wattledger_project_energy_joules_total`" + ` is the report of that time, to the precision of a float, where both ends are edges of slots
  (quarters of an hour) and no data was late. The counters start from the books, not from zero, and go on after a restart where the books are.
- **Late data.** Sums wait up to a minute (` + "`series.wait`" + `) for a node that is behind; the edge of a slot waits 15 s in any case. What comes later still is added to the
  next step of the counters: it raises later samples, never past ones. Its power is in the series of its node and in no sum. Both are counted
  (` + "`wattledger_series_late_windows_total`, `wattledger_series_late_power_seconds_total`" + `). An aggregator that was away is no reason for late data: its agents send
  what it missed, and the sums are made for the time it belongs to.
- **Corrections.** Energy that is given to another project after it was posted, or booked from quarantine, is in reports at once. The counter of a project never goes
  down and never moves energy; what was booked from quarantine comes with the next start.
- **Power of a project.** A node's power in a second is shared between projects as the postings of its window are. Over the window this is exact; within it, two jobs
  that share a node, or follow each other, are blended.
- **Gaps.** A node that is silent is missing, not zero: its series end, and the sums are without it. ` + "`wattledger_cluster_power_nodes`" + ` says how many nodes are in them.
- **Zeros.** A counter of a node that has never moved, and the few gauges of trouble that stand at 0 while nothing is wrong, begin no series: where "every" says
  *from its first value other than 0 on*, absence means 0 if the node sends it at all. When it first moves, its series begins with the 0 of the window before, so that
  ` + "`increase()` and `rate()`" + ` see the first movement, and from then on it goes on, also at 0: a counter that starts anew is seen as a reset, an alert ends. What is not 0 when a
  node is first seen, also after a start of the aggregator, has no 0 before it. After a start, series that are in the head of the store go on. A sum that is not to be empty ends in ` + "`or vector(0)`" + `; of single
  GPUs, ` + "`x{kind=\"corrected\"} or on (cluster, node, gpu) 0 * wattledger_gpu_power_watts`" + ` has them all (of one kind, reason or direction at a time). An agent's own page shows its zeros.
- **Means after an outage.** Where a node's power is known only as a mean over minutes, its sums have a sample every 10 s instead of every second: ` + "`avg_over_time`" + ` over a span that has
  both weighs them less. Energy is exact; for a mean power take ` + "`rate()`" + ` of the energy.
- **Memory and disk.** ` + "`GOMEMLIMIT`" + ` bounds the heap; the files of the store are mapped and reclaimable. Retention is by time and size, whichever comes first.

`

// Page is what one of our programs shows at /metrics.
type Page struct {
	Title, Text string
	Metrics     []metric.Metric
}

// WriteDocs writes docs/metrics.md.
func WriteDocs(w io.Writer, pages ...Page) error {
	var b strings.Builder
	b.WriteString(intro)
	table(&b, metric.All(), true)
	for _, p := range pages {
		_, _ = fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", p.Title, p.Text)
		table(&b, p.Metrics, false)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func table(b *strings.Builder, list []metric.Metric, from bool) {
	b.WriteString("| metric | type | unit | labels | what it says |")
	rule := "\n|---|---|---|---|---|"
	if from {
		b.WriteString(" from | every |")
		rule += "---|---|"
	}
	b.WriteString(rule + "\n")
	for _, m := range list {
		_, _ = fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |", m.Name, m.Type, m.Unit, strings.Join(m.Labels, ", "), m.Help)
		if from {
			_, _ = fmt.Fprintf(b, " %s | %s |", m.From, m.Every)
		}
		b.WriteByte('\n')
	}
}
