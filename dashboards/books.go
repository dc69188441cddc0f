package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

func energyBooks() page {
	return page{
		uid: uidBooks, title: "energy books and coverage", since: "now-24h", refresh: "1m",
		description: "Whether the books close, what is metered and not booked, and how much of the machine's time the meters covered: what an auditor asks first.",
		variables:   []cog.Builder[dashboard.VariableModel]{someClusters()},
		notes:       alertsAndEvents(""),
		sections: []section{
			{"Do the books close", booksNumbers()},
			{"What was booked", bookedPanels()},
			{"What is missing, late or set aside", missingPanels()},
		},
	}
}

func booksNumbers() []cog.Builder[dashboard.Panel] {
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Difference of the books", unit: units.Joule, width: 4, height: 4, levels: bad(0.001),
			description: "Metered less booked less unbooked energy of the last 24 hours, without its sign. Anything but zero is a fault of wattledger or its database, never of a node: run wattledger audit and follow the runbook books-do-not-close.",
			queries:     []query{{expr: `max(abs(` + of("wattledger_books_difference_joules") + `))`, legend: "difference"}},
		}.number(),
		panel{
			title: "Findings of the audit", unit: units.Short, width: 4, height: 4, levels: bad(1),
			description: "Places where the last audit, which recomputes the last hours every hour, did not close. Above zero, wattledger audit names slot, node and meter of each.",
			queries:     []query{{expr: `sum(` + of("wattledger_audit_findings", `kind="any"`) + `)`, legend: "findings"}},
		}.number(),
		panel{
			title: "Unbooked energy", unit: units.Joule, width: 4, height: 4, levels: bad(0.001),
			description: "Energy of the last 31 days that meters counted and nobody booked: holes between booked ranges, and quarantine. It has to be settled before the month is closed; the runbook unbooked-energy says how.",
			queries:     []query{{expr: `sum(` + of("wattledger_unbooked_joules") + `)`, legend: "unbooked"}},
		}.number(),
		panel{
			title: "Windows in quarantine", unit: units.Short, width: 4, height: 4, levels: bad(1),
			description: "Windows that joined the books and did not pass the check. Their energy is unbooked until they are settled: wattledger quarantine lists them with their reasons.",
			queries:     []query{{expr: `sum(` + of("wattledger_quarantine_windows") + `)`, legend: "windows"}},
		}.number(),
		panel{
			title: "Coverage, 24 hours", unit: units.PercentUnit, width: 4, height: 4, levels: good(0.95, 0.99),
			description: "Part of the device time of the last 24 hours that has energy. The rest is missing, which is not zero energy. Below 95 % a statement is hard to defend: find the silent nodes on the fleet dashboard.",
			queries:     []query{{expr: `min(` + of("wattledger_coverage_ratio") + `)`, legend: "covered"}},
		}.number(),
		panel{
			title: "Since the last audit", unit: units.Seconds, width: 4, height: 4, levels: levels(2*3600, 3*3600),
			description: "Time since the books were last audited; it happens every hour. More than three hours: the ledger fails, look for errors in the aggregator's log.",
			queries:     []query{{expr: `time() - min(` + of("wattledger_audit_last_timestamp_seconds") + `)`, legend: "age"}},
		}.number(),
	}
}

func bookedPanels() []cog.Builder[dashboard.Panel] {
	by := func(label string) []query {
		return []query{{expr: `sum by (` + label + `) (increase(` + of("wattledger_cluster_energy_joules_total") + `[1h]))` + perKWh, legend: "{{" + label + "}}", step: "1h"}}
	}
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Energy booked by hour and use", unit: units.KiloWattHour, width: 12, height: 9,
			description: "What each hour's energy served. Unknown means that it was metered and its owner is not known: see whether agents lost their state or the hook. The hours add up to the report unless data came late.",
			queries:     by("use"),
		}.steps(),
		panel{
			title: "Energy booked by hour and class", unit: units.KiloWattHour, width: 12, height: 9,
			description: "Where each hour's energy went: gpu, cpu, memory, other, or node where only that is metered. A class that vanishes is a kind of meter that is not read any more: wattledger-agent check on a node says why.",
			queries:     by("class"),
		}.steps(),
		panel{
			title: "How the energy is known", unit: units.PercentUnit, width: 12, height: 8,
			description: "Part of the last 24 hours' energy by grade: counter is read from a counter, sampled integrated from power, bridged exact but spread by assumption, modelled computed. Much bridged energy means outages or late job edges.",
			queries:     []query{{expr: `avg by (grade) (` + of("wattledger_grade_energy_ratio") + `)`, legend: "{{grade}}"}},
		}.areas(),
		panel{
			title: "Coverage", unit: units.PercentUnit, width: 12, height: 8, levels: good(0.95, 0.99),
			description: "Part of the device time of the 24 hours before each instant that has energy, by cluster. It falls while nodes are silent and recovers when they deliver what they kept; if it does not recover, that energy was never metered.",
			queries:     []query{{expr: of("wattledger_coverage_ratio"), legend: "{{cluster}}"}},
		}.lines(),
	}
}

func missingPanels() []cog.Builder[dashboard.Panel] {
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "How far the books lag", unit: units.Seconds, width: 12, height: 8,
			description: "Age of the last booked window: of the newest node, and of the one furthest behind. The first is below half a minute; the second grows with a node that is silent, until it comes back or leaves the books.",
			queries:     []query{{expr: `time() - ` + of("wattledger_node_last_window_timestamp_seconds"), legend: "{{cluster}}, {{which}}"}},
		}.lines(),
		panel{
			title: "Unbooked energy and quarantine", unit: units.Joule, width: 12, height: 8,
			description: "Energy that meters counted and nobody booked, and of it what is in quarantine. A step up is an event on one node: wattledger audit names it. It falls when it is settled.",
			queries: []query{
				{expr: of("wattledger_unbooked_joules"), legend: "{{cluster}}: unbooked"},
				{expr: of("wattledger_quarantine_joules"), legend: "{{cluster}}: in quarantine"},
			},
		}.lines(),
		panel{
			title: "Windows by what became of them", unit: units.CountsPerSecond, width: 12, height: 8,
			description: "Windows that agents offered. Booked is the normal case, duplicate a resend; conflict is two machines with one name or a cloned disk, quarantined a check that failed: see the runbooks two-nodes-one-name and quarantine.",
			queries:     []query{{expr: `sum by (status) (rate(wattledger_intake_windows_total[$__rate_interval]))`, legend: "{{status}}"}},
		}.lines(),
		panel{
			title: "Late data", unit: units.Joule, width: 12, height: 8,
			description: "Energy of windows that came after the sums of their time were made, by five minutes. The books have it where it belongs; graphs show it later. Steady lateness is a link or a clock: see the alerts ClockSkew and SpoolFilling.",
			queries:     []query{{expr: `sum(increase(wattledger_series_late_energy_joules_total[5m]))`, legend: "late", step: "60s"}},
		}.lines(),
		panel{
			title: "Quarrels over names", unit: units.Short, width: 12, height: 7,
			description: "Windows refused because their range is booked with other content, and agents that were fenced by another of the same name, since the nodes are known. A step up: two machines answer to one name; see the runbook two-nodes-one-name.",
			queries: []query{
				{expr: of("wattledger_node_conflicts"), legend: "{{cluster}}: refused windows"},
				{expr: of("wattledger_node_takeovers"), legend: "{{cluster}}: fenced agents"},
			},
		}.lines(),
		panel{
			title: "Nodes that are silent", unit: units.Short, width: 12, height: 7,
			description: "Nodes that have not left the books and sent nothing for three minutes, and device time of jobs on nodes that sent nothing. Their time is booked as missing until they send: restart wattledger-agent there, or take the node out of the books.",
			queries: []query{
				{expr: of("wattledger_nodes_silent"), legend: "{{cluster}}: silent"},
				{expr: of("wattledger_accounting_unmetered_jobs"), legend: "{{cluster}}: jobs not in the books"},
			},
		}.lines(),
	}
}
