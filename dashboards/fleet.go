package dashboards

import (
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

const (
	perKWh = ` / 3.6e6`
	// moving is the least step for counters of energy: 10 s while they move, a
	// minute while they do not.
	moving = "30s"
)

// of selects the chosen clusters.
func of(metric string, more ...string) string {
	return metric + "{" + strings.Join(append([]string{`cluster=~"$cluster"`}, more...), ", ") + "}"
}

// orNone shows a zero where nothing is counted; only for counts, never for what
// is measured.
func orNone(expr, by string) string {
	return expr + ` or label_replace(vector(0), "` + by + `", "none", "", "")`
}

func fleetNow() page {
	return page{
		uid: uidFleet, title: "fleet now", since: "now-1h", refresh: "10s",
		description: "What the machines draw now, who uses it, and what is wrong. Everything here is summed at intake or recorded by rules, so it costs the same for ten nodes and for 25,000.",
		variables:   []cog.Builder[dashboard.VariableModel]{someClusters()},
		notes:       alertsAndEvents(""),
		sections: []section{
			{"Now", fleetNumbers()},
			{"Power over time", fleetPower()},
			{"What needs a look", fleetTrouble()},
		},
	}
}

// shareOf is the part of the last hour's energy that served a use.
func shareOf(use string) string {
	all := of("wattledger_cluster_energy_joules_total")
	part := of("wattledger_cluster_energy_joules_total", `use="`+use+`"`)
	return `(sum(rate(` + part + `[1h])) or vector(0)) / sum(rate(` + all + `[1h]))`
}

func fleetNumbers() []cog.Builder[dashboard.Panel] {
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Power", unit: units.Watt, width: 4, height: 4,
			description: "Power of all nodes that send, the mean of the last two minutes. If it drops and \"Nodes in the sum\" drops with it, the nodes are silent, not off: look at the network first.",
			queries:     []query{{expr: `sum(avg_over_time(` + of("wattledger_cluster_power_watts") + `[2m]))`, legend: "power"}},
		}.number(),
		panel{
			title: "Nodes in the sum", unit: units.PercentUnit, width: 4, height: 4, levels: good(0.95, 0.99),
			description: "Nodes whose power is in the sum, of all nodes in the books. Below 99 % some are silent: the table \"Silent nodes\" names them, the runbook node-silent says what to do.",
			queries:     []query{{expr: `sum(` + of("wattledger_cluster_power_nodes") + `) / sum(` + of("wattledger_nodes") + `)`, legend: "sending"}},
		}.number(),
		panel{
			title: "Held, doing nothing", unit: units.PercentUnit, width: 4, height: 4, levels: levels(0.10, 0.25),
			description: "Part of the last hour's energy that was burnt on devices which a job held and did nothing with. Projects pay for it. When it is high, the jobs dashboard names the jobs: talk to their users.",
			queries:     []query{{expr: shareOf("held"), legend: "held"}},
			links:       []link{to("Jobs", uidJobs, label)},
		}.number(),
		panel{
			title: "Idle, held by nobody", unit: units.PercentUnit, width: 4, height: 4, levels: levels(0.20, 0.40),
			description: "Part of the last hour's energy that was burnt by devices which no job held. The site pays for it. When it is high the queue is empty, or nodes are drained: consider to power some down.",
			queries:     []query{{expr: shareOf("idle"), legend: "idle"}},
		}.number(),
		panel{
			title: "Hottest GPU", unit: units.Celsius, width: 4, height: 4, levels: levels(85, 92),
			description: "Highest temperature of any GPU within the last minutes. Above 85 °C most models are near the point where they slow down: the table on GPU health names the node; look at its cooling.",
			queries:     []query{{expr: `max(` + of("wattledger:gpu_temperature_celsius:max") + `)`, legend: "hottest"}},
			links:       []link{to("GPU health", uidGPUs, label)},
		}.number(),
		panel{
			title: "Alerts that fire", unit: units.Short, width: 4, height: 4, levels: levels(1, 5),
			description: "Alerts of severity critical or warning that fire now. Above zero, the table below lists them, each with a runbook that says what to do.",
			queries:     []query{{expr: `count(ALERTS{alertstate="firing", severity=~"critical|warning", cluster=~"$cluster|"}) or vector(0)`, legend: "alerts"}},
		}.number(),
	}
}

func fleetPower() []cog.Builder[dashboard.Panel] {
	byUse := func(by string) []query {
		return []query{{expr: `sum by (` + by + `) (rate(` + of("wattledger_cluster_energy_joules_total") + `[$__rate_interval]))`, legend: "{{" + by + "}}", step: moving}}
	}
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Power by cluster", unit: units.Watt, width: 12, height: 8,
			description: "Power of each cluster, summed at intake from one reading a second of every node. A step down with the same step in \"Nodes\" is a loss of data; without, it is the machine.",
			queries:     []query{{expr: `avg_over_time(` + of("wattledger_cluster_power_watts") + `[$__interval])`, legend: "{{cluster}}"}},
			links:       []link{to("Power quality", uidPower, label, "cluster", "cluster"), toGPUs(label)},
		}.areas(),
		panel{
			title: "Power by project", unit: units.Watt, width: 12, height: 8,
			description: "Power of the fifteen projects that draw most at each instant. What is missing to the power of the cluster is idle, system, or smaller projects. A project that draws what it never did is worth a call.",
			queries:     []query{{expr: `topk(15, sum by (cluster, project) (avg_over_time(` + of("wattledger_project_power_watts") + `[$__interval])))`, legend: "{{project}} ({{cluster}})"}},
			links:       []link{toProject(label), toJobsOf(label)},
		}.areas(),
		panel{
			title: "Power by use", unit: units.Watt, width: 12, height: 8,
			description: "What the power served: busy and held belong to jobs, idle to nobody, system to service and operating system, unknown to somebody nobody can name. Unknown that stays means that jobs are not reported: see the workload manager's hook.",
			queries:     byUse("use"),
		}.areas(),
		panel{
			title: "Power by class of hardware", unit: units.Watt, width: 12, height: 8,
			description: "Where the power went: GPUs, CPUs, memory, the rest of the node (other), or nodes that are metered only as a whole (node). A class that vanishes is a meter that is not read: look for the alert MeterMissing.",
			queries:     byUse("class"),
		}.areas(),
		panel{
			title: "Nodes", unit: units.Short, width: 12, height: 7,
			description: "Nodes in the books, in the sum of power, and silent for three minutes or more. Many silent at once are the network or the aggregator's address, not the nodes.",
			queries: []query{
				{expr: `sum by (cluster) (` + of("wattledger_nodes") + `)`, legend: "{{cluster}}: in the books"},
				{expr: `sum by (cluster) (` + of("wattledger_cluster_power_nodes") + `)`, legend: "{{cluster}}: in the sum"},
				{expr: `sum by (cluster) (` + of("wattledger_nodes_silent") + `)`, legend: "{{cluster}}: silent"},
			},
		}.lines(),
		panel{
			title: "Utilisation of GPUs", unit: units.PercentUnit, width: 12, height: 7,
			description: "Mean utilisation of the GPUs of each cluster, whoever holds them. Low with a full queue means that jobs hold GPUs they do not use; see \"Held, doing nothing\".",
			queries:     []query{{expr: of("wattledger:gpu_utilization_ratio:avg"), legend: "{{cluster}}"}},
			links:       []link{toGPUs(label)},
		}.lines(),
	}
}

func fleetTrouble() []cog.Builder[dashboard.Panel] {
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Firing alerts", unit: units.Short, width: 12, height: 9,
			description: "Alerts that fire now, informative ones included. Empty is good. The runbook of an alert is docs/runbooks, under the name that its annotation gives.",
			queries:     []query{{expr: `ALERTS{alertstate="firing", cluster=~"$cluster|"}`}},
			columns:     []column{{}}, empty: "no alert fires",
			links: []link{toNode(field)},
		}.rows(),
		panel{
			title: "Silent nodes", unit: units.Seconds, width: 6, height: 9,
			description: "Nodes that have sent nothing for three minutes or more, at most a hundred, the longest first. Empty is good. A node that runs keeps its energy and sends it later; ask it with systemctl status wattledger-agent.",
			queries:     []query{{expr: `max by (cluster, node) (` + of("wattledger_node_silent_seconds") + `)`}},
			columns:     []column{{name: "silent for", levels: levels(600, 3600)}}, empty: "every node sends",
			links: []link{toNode(field)},
		}.rows(),
		panel{
			title: "Nodes that draw most", unit: units.Watt, width: 6, height: 9,
			description: "The twenty nodes with the highest power, the mean of a minute, from a rule that records once a minute. One that stands out from its like with the same job wants a look at its power supply and its meters.",
			queries:     []query{{expr: `topk(20, ` + of("wattledger:node_power_watts:top") + `)`}},
			columns:     []column{{name: "power"}},
			links:       []link{toNode(field)},
		}.rows(),
		panel{
			title: "Events of meters and GPUs", unit: units.Short, width: 24, height: 7,
			description: "Events of the last quarter of an hour by kind, over all nodes: gaps, resets, Xid errors, meters that are stuck or disagree. None is usual; a few are a node's, many of one kind at once are a roll-out or a driver.",
			queries: []query{{
				expr: orNone(`sum by (kind) (`+of("wattledger_node_recent_events")+`)`, "kind"), legend: "{{kind}}",
			}},
		}.lines(),
	}
}
