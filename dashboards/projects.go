package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

func projects() page {
	return page{
		uid: uidProjects, title: "projects", since: "now-24h", refresh: "1m",
		description: "Who burns the power, and how much each project has burnt. The graphs show; what is charged is in the report (wattledger report), and differs where data came late.",
		variables:   []cog.Builder[dashboard.VariableModel]{someClusters(), someProjects()},
		notes:       alertsAndEvents(""),
		sections: []section{
			{"In this range", projectNumbers()},
			{"Power and energy", projectPower()},
		},
	}
}

func projectNumbers() []cog.Builder[dashboard.Panel] {
	mine := of("wattledger_project_energy_joules_total", ofProjects)
	all := of("wattledger_cluster_energy_joules_total") // few series: reading all projects' again would cost as much as theirs
	held := of("wattledger_project_held_energy_joules_total", ofProjects)
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Power of the chosen projects", unit: units.Watt, width: 6, height: 4,
			description: "Power of the chosen projects, the mean of the last two minutes, busy and held together. Zero with running jobs means that jobs do not reach the agents: look at the workload manager's hook.",
			queries:     []query{{expr: `sum(avg_over_time(` + of("wattledger_project_power_watts", ofProjects) + `[2m]))`, legend: "power"}},
		}.number(),
		panel{
			title: "Energy", unit: units.KiloWattHour, width: 6, height: 4,
			description: "Energy booked to the chosen projects over the range that is shown. Prometheus extrapolates to the range's edges; the exact amount is in the report.",
			queries:     []query{{expr: `sum(increase(` + mine + `[$__range]))` + perKWh, legend: "energy"}},
		}.number(),
		panel{
			title: "Of all energy", unit: units.PercentUnit, width: 6, height: 4,
			description: "Their part of all energy that was booked in the range, that of nobody (idle, system, unknown) included. With all projects chosen the rest to 100 % is what the site pays itself.",
			queries:     []query{{expr: `sum(increase(` + mine + `[$__range])) / sum(increase(` + all + `[$__range]))`, legend: "part"}},
		}.number(),
		panel{
			title: "Held, doing nothing", unit: units.PercentUnit, width: 6, height: 4, levels: levels(0.10, 0.25),
			description: "Part of their energy that was burnt on devices which did nothing. Above a tenth, the jobs dashboard names the jobs that hold them.",
			queries:     []query{{expr: `sum(increase(` + held + `[$__range])) / sum(increase(` + mine + `[$__range]))`, legend: "held"}},
			links:       []link{to("Jobs", uidJobs, label)},
		}.number(),
	}
}

func projectPower() []cog.Builder[dashboard.Panel] {
	power := of("wattledger_project_power_watts", ofProjects)
	mine := of("wattledger_project_energy_joules_total", ofProjects)
	held := of("wattledger_project_held_energy_joules_total", ofProjects)
	by := func(expr string) string { return `sum by (cluster, project) (` + expr + `)` }
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Power by project", unit: units.Watt, width: 24, height: 10,
			description: "Power of each chosen project from the energy booked to it, the twenty largest at each instant, stacked. A gap in all of them at once is a loss of data; in one of them its jobs ended.",
			queries:     []query{{expr: `topk(20, ` + by(`rate(`+mine+`[$__rate_interval])`) + `)`, legend: "{{project}} ({{cluster}})", step: moving}},
			links:       []link{toProject(label), toJobsOf(label)},
		}.areas(),
		panel{
			title: "Energy by project", unit: units.KiloWattHour, width: 12, height: 11,
			description: "Energy of each chosen project over the range, the twenty largest. \"(unassigned)\" are jobs whose project is not known yet: give the workload manager's accounts to wattledger, or assign them.",
			queries:     []query{{expr: `sort_desc(topk(20, ` + by(`increase(`+mine+`[$__range])`) + perKWh + `))`, legend: "{{project}} ({{cluster}})"}},
			links:       []link{toProject(label), toJobsOf(label)},
		}.bars(),
		panel{
			title: "Projects", unit: units.KiloWattHour, width: 12, height: 11,
			description: "The fifty projects with most energy in the range: energy, what of it was burnt on devices that did nothing, and power now. Much held energy is waste that the project pays for; tell its lead.",
			queries: []query{
				{expr: `topk(50, ` + by(`increase(`+mine+`[$__range])`) + perKWh + `)`},
				{expr: by(`increase(`+held+`[$__range])`) + perKWh},
				{expr: by(`avg_over_time(` + power + `[2m])`)},
			},
			columns: []column{{name: "energy"}, {name: "held, doing nothing"}, {name: "power now", unit: units.Watt}},
			links:   []link{toProject(field), toJobsOf(field)},
		}.rows(),
		panel{
			title: "Energy by hour", unit: units.KiloWattHour, width: 24, height: 9,
			description: "Energy of the chosen projects by hour, the ten largest of each. Hours end where their column stands. Compare with the budget: wattledger balance says what is left.",
			queries:     []query{{expr: `topk(10, ` + by(`increase(`+mine+`[1h])`) + perKWh + `)`, legend: "{{project}} ({{cluster}})", step: "1h"}},
			links:       []link{toProject(label)},
		}.steps(),
	}
}
