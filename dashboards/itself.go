package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

func itself() page {
	return page{
		uid: uidItself, title: "itself", since: "now-3h", refresh: "15s",
		description: "Whether the aggregator keeps up: intake, ledger, store of series, exporters, its disk and its process. Agents keep what is not acknowledged, so most trouble here costs time, not energy.",
		notes:       alertsAndEvents(""),
		variables:   []cog.Builder[dashboard.VariableModel]{someClusters()},
		sections: []section{
			{"Now", itselfNumbers()},
			{"Intake and ledger", intakePanels()},
			{"Series, queries and exporters", storePanels()},
			{"Disk and process", processPanels()},
		},
	}
}

func itselfNumbers() []cog.Builder[dashboard.Panel] {
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Since the last commit", unit: units.Seconds, width: 4, height: 4, levels: levels(30, 120),
			description: "Time since the ledger last booked. With nodes that report it stays below the length of a window. Above two minutes nothing arrives or the ledger is stuck: see the runbook ledger.",
			queries:     []query{{expr: `time() - max(wattledger_intake_last_commit_timestamp_seconds > 0)`, legend: "age"}},
		}.number(),
		panel{
			title: "Waiting for a commit", unit: units.Short, width: 4, height: 4, levels: levels(10_000, 100_000),
			description: "Windows that have arrived and wait for the next commit. It grows after an outage and passes; if it stays, the disk is too slow or the machine too small. Agents keep theirs until they are acknowledged.",
			queries:     []query{{expr: `sum(wattledger_intake_queue_windows)`, legend: "windows"}},
		}.number(),
		panel{
			title: "Series behind", unit: units.Seconds, width: 4, height: 4, levels: levels(30, 60),
			description: "Age of the newest window when the store of series took it. Above a minute graphs lag behind the books; energy is not concerned. Many queries or a slow disk do it.",
			queries:     []query{{expr: `max(wattledger_series_append_lag_seconds)`, legend: "lag"}},
		}.number(),
		panel{
			title: "Room on the disk", unit: units.PercentUnit, width: 4, height: 4, levels: good(0.1, 0.2),
			description: "Free part of the disk of the books. Below a tenth an alert fires; a full disk stops the books while agents keep their windows. Lower series.retention or give it a larger disk; see the runbook disk.",
			queries:     []query{{expr: `min(wattledger_data_free_bytes / wattledger_data_disk_bytes)`, legend: "free"}},
		}.number(),
		panel{
			title: "Since the last look", unit: units.Seconds, width: 4, height: 4, levels: levels(180, 600),
			description: "Time since the aggregator last looked at its books for coverage, quarantine and silent nodes; it does so every minute. When it grows, these values are old: look for errors in the log.",
			queries:     []query{{expr: `time() - max(wattledger_watch_last_timestamp_seconds)`, legend: "age"}},
		}.number(),
		panel{
			title: "Version", unit: units.Short, width: 4, height: 4,
			description: "What runs: the value counts the aggregators of that version. More than one where only one should write the books means that two are up: stop one.",
			queries:     []query{{expr: `count by (version) (wattledger_build_info{component="aggregator"})`, legend: "{{version}}"}},
		}.number(),
	}
}

func intakePanels() []cog.Builder[dashboard.Panel] {
	quantile := func(q string) string {
		return `histogram_quantile(` + q + `, sum by (le) (rate(wattledger_intake_commit_seconds_bucket[$__rate_interval])))`
	}
	perSecond := func(metric, by string) string { return `sum by (` + by + `) (rate(` + metric + `[$__rate_interval]))` }
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Requests of agents", unit: units.CountsPerSecond, width: 8, height: 8,
			description: "Requests by status. 200 is normal; 401 and 403 are tokens, 409 ranges that do not join, 503 an aggregator that is stopping or full. Agents try again on all but the last kinds of refusal.",
			queries:     []query{{expr: perSecond("wattledger_intake_requests_total", "code"), legend: "{{code}}"}},
		}.lines(),
		panel{
			title: "Windows by what became of them", unit: units.CountsPerSecond, width: 8, height: 8,
			description: "A tenth of a window per node and second is normal; more is a backlog that is sent. duplicate is a resend, conflict and quarantined want a look at the books dashboard.",
			queries:     []query{{expr: perSecond("wattledger_intake_windows_total", "status"), legend: "{{status}}"}},
		}.lines(),
		panel{
			title: "Time to commit", unit: units.Seconds, width: 8, height: 8, levels: levels(0.5, 2),
			description: "How long the ledger takes to book what has gathered: half of the commits, and 99 of 100. It is most of what an agent waits for its acknowledgement. Above half a second the disk is slow to sync.",
			queries:     []query{{expr: quantile("0.5"), legend: "half"}, {expr: quantile("0.99"), legend: "99 of 100"}},
		}.lines(),
		panel{
			title: "What goes wrong at intake", unit: units.CountsPerSecond, width: 12, height: 8,
			description: "Commits that the ledger refused, bodies that cannot be read, requests for nodes that the token is not for. All belong at zero: commits are the disk (runbook ledger), bodies a broken or foreign agent, tokens the runbook tokens.",
			queries: []query{
				{expr: `sum(rate(wattledger_intake_commit_errors_total[$__rate_interval]))`, legend: "commits refused"},
				{expr: `sum(rate(wattledger_intake_decode_errors_total[$__rate_interval]))`, legend: "bodies that cannot be read"},
				{expr: `sum(rate(wattledger_intake_forbidden_total[$__rate_interval]))`, legend: "tokens for another node"},
				{expr: `sum(rate(wattledger_watch_errors_total[$__rate_interval]))`, legend: "looks at the books that failed"},
				{expr: `sum(rate(wattledger_books_scrape_errors_total[$__rate_interval]))`, legend: "sums not given"},
			},
		}.lines(),
		panel{
			title: "Queues", unit: units.Short, width: 12, height: 8,
			description: "What waits: windows for the ledger, windows for the store of series, samples for exporters. A saw-tooth is normal. One that only grows has a consumer that is too slow or away.",
			queries: []query{
				{expr: `sum(wattledger_intake_queue_windows)`, legend: "windows for the ledger"},
				{expr: `sum(wattledger_series_queue_windows)`, legend: "windows for the series"},
				{expr: `sum by (receiver) (wattledger_exporter_pending_samples)`, legend: "samples for {{receiver}}"},
			},
		}.lines(),
	}
}

func storePanels() []cog.Builder[dashboard.Panel] {
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Samples stored and refused", unit: units.CountsPerSecond, width: 12, height: 8,
			description: "Samples that the store of series took, and those it did not by reason. Refused ones are telemetry, never energy: too_old is a long outage, future a clock, series_limit or unknown_name an agent that sends what it should not.",
			queries: []query{
				{expr: `sum(rate(wattledger_series_appended_samples_total[$__rate_interval]))`, legend: "stored"},
				{expr: `sum by (reason) (rate(wattledger_series_refused_samples_total[$__rate_interval])) > 0`, legend: "refused: {{reason}}"},
			},
		}.lines(),
		panel{
			title: "Queries", unit: units.CountsPerSecond, width: 12, height: 8,
			description: "Queries that were answered, and those that were not. limit is a query that would read too much: ask for less time or for a sum; busy that too many ran at once.",
			queries:     []query{{expr: `sum by (result) (rate(wattledger_series_queries_total[$__rate_interval]))`, legend: "{{result}}"}},
		}.lines(),
		panel{
			title: "What the store of series lost", unit: units.Short, width: 12, height: 8,
			description: "In five minutes: windows whose telemetry was dropped, windows that came too late for the sums, nodes no longer waited for, and errors. Graphs lack it; the books do not. Steady loss means that the machine is too small, or its disk too slow.",
			queries: []query{
				{expr: `sum(increase(wattledger_series_dropped_windows_total[5m]))`, legend: "windows dropped", step: "60s"},
				{expr: `sum(increase(wattledger_series_late_windows_total[5m]))`, legend: "windows late", step: "60s"},
				{expr: `sum(increase(wattledger_series_lost_nodes_total[5m]))`, legend: "nodes not waited for", step: "60s"},
				{expr: `sum(increase(wattledger_series_errors_total[5m]))`, legend: "errors", step: "60s"},
				{expr: `sum by (limit) (increase(wattledger_series_refused_windows_total[5m]))`, legend: "beyond the limit of {{limit}}", step: "60s"},
			},
		}.lines(),
		panel{
			title: "Readers and receivers", unit: units.Seconds, width: 12, height: 8,
			description: "How long ago: the last step of the sums of each cluster, the workload manager's accounting, and since when an exporter's receiver takes nothing. The first stays below two minutes, the second below half an hour, the last at zero; the runbooks series, accounting and exporters say what to do.",
			queries: []query{
				{expr: `time() - ` + of("wattledger_series_emitted_step_timestamp_seconds"), legend: "{{cluster}}: sums"},
				{expr: `time() - ` + of("wattledger_accounting_last_success_timestamp_seconds"), legend: "{{cluster}}: accounting"},
				{expr: `time() - (wattledger_exporter_failing_since_timestamp_seconds > 0)`, legend: "{{receiver}}: failing for"},
			},
		}.lines(),
	}
}

func processPanels() []cog.Builder[dashboard.Panel] {
	const me = `{job="wattledger-aggregator"}`
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Disk", unit: units.BytesIEC, width: 8, height: 8,
			description: "Room that is left on the disk of the books, and what the store of series takes. The ledger grows by some gigabytes a month on a large machine, the store up to its retention. When the room ends within days an alert fires.",
			queries: []query{
				{expr: `min(wattledger_data_free_bytes)`, legend: "free"},
				{expr: `sum by (part) (wattledger_series_storage_bytes)`, legend: "series: {{part}}"},
				{expr: `sum by (receiver) (wattledger_exporter_buffer_bytes)`, legend: "buffer for {{receiver}}"},
			},
		}.lines(),
		panel{
			title: "Processors in use", unit: units.Short, width: 8, height: 8,
			description: "Processors that the aggregator keeps busy. 25,000 nodes every ten seconds take about a third of one; much more is a backlog, or dashboards that ask for raw series: see the queries.",
			queries:     []query{{expr: `sum(rate(process_cpu_seconds_total` + me + `[$__rate_interval]))`, legend: "processors"}},
		}.lines(),
		onTheRight(panel{
			title: "Memory and series", unit: units.BytesIEC, width: 8, height: 8,
			description: "Memory of the process, its heap, and on the right the series in the head of the store. Memory grows with the series: a step up is nodes or jobs that came. GOMEMLIMIT bounds the heap; mapped files are given back when others need room.",
			queries: []query{
				{expr: `sum(process_resident_memory_bytes` + me + `)`, legend: "resident"},
				{expr: `sum(wattledger_series_head_series)`, legend: "series"},
				{expr: `sum(go_memstats_heap_inuse_bytes` + me + `)`, legend: "heap"},
			},
		}.lines(), "B", units.Short),
	}
}
