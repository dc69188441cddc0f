package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// joules selects the aggregator's counter of booked energy. Nobody's energy
// (idle, system, unknown) has an empty project.
func joules(more string) string {
	return `wattledger_project_energy_joules_total{cluster=~"$cluster"` + more + `}`
}

const (
	ofProjects = `, project=~"$project", project!=""`
	perKWh     = ` / 3.6e6`
)

// power is W: joules per second over five minutes, as many as thirty windows.
func power(by, more string) string { return `sum by (` + by + `) (rate(` + joules(more) + `[5m]))` }

func energyOfDay(by, more string) string {
	return `sum by (` + by + `) (increase(` + joules(more) + `[24h]))`
}

func projectsAndBooks() *dashboard.DashboardBuilder {
	b := dashboard.NewDashboardBuilder("wattledger: projects and books").Uid("wattledger-projects").
		Description("Who burns the power now, and whether every window of it is booked. For amounts that are charged, ask for a report.").
		Tags([]string{"wattledger", "energy"}).Readonly().Timezone("browser").
		Time("now-6h", "now").Refresh("30s").Tooltip(dashboard.DashboardCursorSyncCrosshair).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus")).
		WithVariable(choice("cluster", `label_values(wattledger_project_energy_joules_total, cluster)`, "Cluster")).
		WithVariable(choice("project", `label_values(wattledger_project_energy_joules_total{cluster=~"$cluster", project!=""}, project)`, "Project"))
	b = b.WithRow(dashboard.NewRowBuilder("Power and energy"))
	for _, p := range energyPanels() {
		b = b.WithPanel(p)
	}
	b = b.WithRow(dashboard.NewRowBuilder("The books: is everything booked"))
	for _, p := range bookPanels() {
		b = b.WithPanel(p)
	}
	return b
}

func energyPanels() []cog.Builder[dashboard.Panel] {
	share := func(use string) string {
		return `sum(increase(` + joules(`, use="`+use+`"`) + `[24h])) / sum(increase(` + joules("") + `[24h]))`
	}
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Power now", unit: units.Watt, width: 6, height: 4,
			description: "Power of all nodes of the chosen clusters, projects or not: booked energy per second over the last five minutes.",
			queries:     []query{{`sum(rate(` + joules("") + `[5m]))`, "power"}},
		}.number(),
		panel{
			title: "Energy of the last 24 hours", unit: units.KiloWattHour, width: 6, height: 4,
			description: "Energy booked in the last 24 hours, projects, idle and system together. Prometheus extrapolates: the exact amount is in the report.",
			queries:     []query{{`sum(increase(` + joules("") + `[24h]))` + perKWh, "energy"}},
		}.number(),
		panel{
			title: "Held, doing nothing", unit: units.PercentUnit, width: 6, height: 4,
			description: "Share of the last 24 hours' energy that was burnt on devices held by jobs that did nothing with them. Projects pay for it.",
			queries:     []query{{share("held"), "held"}},
		}.number(from(0.10, "orange"), from(0.25, "red")),
		panel{
			title: "Idle, held by nobody", unit: units.PercentUnit, width: 6, height: 4,
			description: "Share of the last 24 hours' energy that was burnt by devices no job held. The site pays for it.",
			queries:     []query{{share("idle"), "idle"}},
		}.number(from(0.20, "orange"), from(0.40, "red")),
		panel{
			title: "Power by project", unit: units.Watt, width: 24, height: 10,
			description: "Power of each chosen project, busy and held together, stacked. The twenty largest at each instant are shown.",
			queries:     []query{{`topk(20, ` + power("project", ofProjects) + `)`, "{{project}}"}},
		}.areas(),
		panel{
			title: "Power by use", unit: units.Watt, width: 12, height: 9,
			description: "What the power served: busy and held belong to jobs, idle to nobody, system to service and operating system, unknown to somebody nobody can name.",
			queries:     []query{{power("use", ""), "{{use}}"}},
		}.areas(),
		panel{
			title: "Power by class of hardware", unit: units.Watt, width: 12, height: 9,
			description: "Where the power went: GPUs, CPUs, memory, the rest of the node (other), or nodes that are metered only as a whole (node).",
			queries:     []query{{power("class", ""), "{{class}}"}},
		}.areas(),
		panel{
			title: "Energy of the last 24 hours by project", unit: units.KiloWattHour, width: 24, height: 9,
			description: "Energy of each chosen project over the last 24 hours, the twenty largest.",
			queries:     []query{{`sort_desc(topk(20, ` + energyOfDay("project", ofProjects) + perKWh + `))`, "{{project}}"}},
		}.bars(),
	}
}

func bookPanels() []cog.Builder[dashboard.Panel] {
	quantile := func(q string) string {
		return `histogram_quantile(` + q + `, sum by (le) (rate(wattledger_intake_commit_seconds_bucket[5m])))`
	}
	of := func(status string) string {
		return `sum(increase(wattledger_intake_windows_total{status="` + status + `"}[24h]))`
	}
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Quarantined windows, 24 hours", unit: units.Short, width: 6, height: 4,
			description: "Windows that could not be booked and were set aside with a reason. Their energy is unbooked until they are posted again: wattledger quarantine.",
			queries:     []query{{of("quarantined"), "quarantined"}},
		}.number(from(1, "red")),
		panel{
			title: "Conflicts, 24 hours", unit: units.Short, width: 6, height: 4,
			description: "Windows whose range is booked with other content: two nodes with one name, or a cloned disk. They were refused.",
			queries:     []query{{of("conflict"), "conflicts"}},
		}.number(from(1, "red")),
		panel{
			title: "Since the last commit", unit: units.Seconds, width: 6, height: 4,
			description: "Time since the ledger last booked. With nodes reporting it stays below the length of a window.",
			queries:     []query{{`time() - max(wattledger_intake_last_commit_timestamp_seconds > 0)`, "age"}},
		}.number(from(30, "orange"), from(300, "red")),
		panel{
			title: "Waiting for a commit", unit: units.Short, width: 6, height: 4,
			description: "Windows that have arrived and wait for the next commit. It grows where the disk is too slow; agents keep theirs until they are acknowledged.",
			queries:     []query{{`sum(wattledger_intake_queue_windows)`, "windows"}},
		}.number(from(10_000, "orange"), from(100_000, "red")),
		panel{
			title: "Nodes", unit: units.Short, width: 12, height: 6,
			description: "Nodes that have ever sent a window, by cluster. Whether they still do, the panel beside it says.",
			queries:     []query{{`sum by (cluster) (wattledger_nodes{cluster=~"$cluster"})`, "{{cluster}}"}},
		}.lines(),
		panel{
			title: "How far the books lag", unit: units.Seconds, width: 12, height: 6,
			description: "Age of the last booked window: of the newest node, and of the one furthest behind. A silent node's device time is missing in the report until it comes back with its energy.",
			queries: []query{{
				`time() - wattledger_node_last_window_timestamp_seconds{cluster=~"$cluster"}`, "{{cluster}}, {{which}}",
			}},
		}.lines(),
		panel{
			title: "Windows per second by what became of them", unit: units.CountsPerSecond, width: 24, height: 8,
			description: "Windows offered by agents. Booked is the normal case, duplicate a resend; the others want a look.",
			queries:     []query{{`sum by (status) (rate(wattledger_intake_windows_total[5m]))`, "{{status}}"}},
		}.lines(),
		panel{
			title: "Time to commit", unit: units.Seconds, width: 12, height: 9,
			description: "How long the ledger takes to book what has gathered, half of the commits and 99 of 100. It is most of what an agent waits for its acknowledgement.",
			queries:     []query{{quantile("0.5"), "half"}, {quantile("0.99"), "99 of 100"}},
		}.lines(),
		panel{
			title: "Commits that failed", unit: units.CountsPerSecond, width: 12, height: 9,
			description: "Commits the ledger refused as a whole: disk full or broken. Nothing of them was acknowledged, agents send again.",
			queries:     []query{{`sum(rate(wattledger_intake_commit_errors_total[5m]))`, "failed"}},
		}.lines(),
	}
}
