package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

func powerQuality() page {
	return page{
		uid: uidPower, title: "power quality", since: "now-24h", refresh: "30s",
		description: "What the electricity contract and the grid care about: means of quarters of an hour against the contract, peaks, ramps and swings. All of it from the sum of the cluster's power at one second.",
		variables:   []cog.Builder[dashboard.VariableModel]{someClusters()},
		notes:       alertsAndEvents(""),
		sections: []section{
			{"Against the contract", powerNumbers()},
			{"Quarters of an hour", quarters()},
			{"Ramps and swings", ramps()},
		},
	}
}

func powerNumbers() []cog.Builder[dashboard.Panel] {
	quarter, contract := of("wattledger:cluster_power_watts:avg15m"), of("wattledger_contract_power_watts")
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Power", unit: units.Watt, width: 4, height: 4,
			description: "Power of the chosen clusters, the mean of the last minute or so, as their meters in the nodes see it. Cooling, network and losses of the supply are not in it: the utility's meter reads more.",
			queries:     []query{{expr: `sum(avg_over_time(` + of("wattledger_cluster_power_watts") + `[2m]))`, legend: "power"}},
		}.number(),
		panel{
			title: "Mean of the last 15 minutes", unit: units.Watt, width: 4, height: 4,
			description: "Mean power of the last quarter of an hour, sliding: what most contracts price. Near the contract, hold back jobs or set a power limit before the quarter ends.",
			queries:     []query{{expr: `sum(` + quarter + `)`, legend: "15 min"}},
		}.number(),
		panel{
			title: "Highest 15 minutes, 31 days", unit: units.Watt, width: 4, height: 4,
			description: "Highest quarter of an hour of the last 31 days of each cluster, added up: the peak that sets the price of capacity in most contracts. It does not come down again within the month.",
			queries:     []query{{expr: `sum(max_over_time(` + quarter + `[31d]))`, legend: "peak"}},
		}.number(),
		panel{
			title: "Contract, and part of it in use", unit: units.PercentUnit, width: 4, height: 4, levels: levels(0.9, 0.95),
			description: "Mean of the last quarter of an hour as a part of the contract's power. Without a contract in the configuration (contract_power) it is a part of the day's highest quarter. Above 95 % an alert fires: bring the power down now.",
			queries: []query{{
				expr:   `sum by (cluster) (` + quarter + `) / on (cluster) (sum by (cluster) (` + contract + `) or sum by (cluster) (` + of("wattledger:cluster_power_watts:max1d") + `))`,
				legend: "{{cluster}}",
			}},
		}.number(),
		panel{
			title: "Load factor, 24 hours", unit: units.PercentUnit, width: 4, height: 4,
			description: "Mean power of the last 24 hours as a part of its highest quarter of an hour. The nearer to 100 % the cheaper each kWh: a low factor means that a short peak is paid for all month.",
			queries:     []query{{expr: `sum(avg_over_time(` + quarter + `[1d])) / sum(max_over_time(` + quarter + `[1d]))`, legend: "load factor"}},
		}.number(),
		panel{
			title: "Steepest ramps, 1 hour", unit: wattsPerSecond, width: 4, height: 4,
			description: "Steepest rise and fall of the last hour: the change of power against ten seconds before, per second. Large jobs that begin or end together make it; grid operators limit it. Stagger the starts where it nears their limit.",
			queries: []query{
				{expr: `max(max_over_time(` + of("wattledger_cluster_power_ramp_watts_per_second") + `[1h]))`, legend: "up"},
				{expr: `min(min_over_time(` + of("wattledger_cluster_power_ramp_watts_per_second") + `[1h]))`, legend: "down"},
			},
		}.number(),
	}
}

func quarters() []cog.Builder[dashboard.Panel] {
	power, contract := of("wattledger_cluster_power_watts"), of("wattledger_contract_power_watts")
	return []cog.Builder[dashboard.Panel]{
		dashed(panel{
			title: "Power against the contract", unit: units.Watt, width: 24, height: 9,
			description: "Power at one second, as mean and as highest second of each step, with the sliding mean of 15 minutes and the contract as a dashed line where one is configured. Only the 15 minutes count for the contract; single seconds matter to fuses and to the grid.",
			queries: []query{
				{expr: contract, legend: "{{cluster}}: contract"},
				{expr: `avg_over_time(` + power + `[$__interval])`, legend: "{{cluster}}"},
				{expr: `max_over_time(` + power + `[$__interval])`, legend: "{{cluster}}: highest second"},
				{expr: of("wattledger:cluster_power_watts:avg15m"), legend: "{{cluster}}: 15 minutes"},
			},
		}.lines(), "A"),
		dashed(panel{
			title: "Each quarter of an hour", unit: units.Watt, width: 12, height: 9,
			description: "Mean power of each quarter of an hour of the clock, the settlement period of the market; a column stands at the end of its quarter. Columns that touch the dashed contract cost money: see which project's power peaked then.",
			queries: []query{
				{expr: contract, legend: "{{cluster}}: contract", step: "15m"},
				{expr: `avg_over_time(` + power + `[15m])`, legend: "{{cluster}}", step: "15m"},
			},
		}.steps(), "A"),
		dashed(panel{
			title: "Highest quarter of each day", unit: units.Watt, width: 12, height: 9,
			description: "Highest quarter of an hour within the 24 hours before each point. A machine whose peak stands far above its mean gains from a power limit at peak hours, or from shifting large jobs to the night.",
			queries: []query{
				{expr: contract, legend: "{{cluster}}: contract"},
				{expr: of("wattledger:cluster_power_watts:max1d"), legend: "{{cluster}}: peak of the day"},
				{expr: `avg_over_time(` + of("wattledger:cluster_power_watts:avg15m") + `[1d])`, legend: "{{cluster}}: mean of the day", step: "15m"},
			},
		}.lines(), "A"),
	}
}

func ramps() []cog.Builder[dashboard.Panel] {
	power, ramp := of("wattledger_cluster_power_watts"), of("wattledger_cluster_power_ramp_watts_per_second")
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Ramp", unit: wattsPerSecond, width: 12, height: 9, signed: true,
			description: "Steepest rise and fall of each step: the change of power against ten seconds before, per second. A fall of the whole machine is an outage or a job of all nodes that ended; compare with the nodes in the sum.",
			queries: []query{
				{expr: `max_over_time(` + ramp + `[$__interval])`, legend: "{{cluster}}: up"},
				{expr: `min_over_time(` + ramp + `[$__interval])`, legend: "{{cluster}}: down"},
			},
		}.lines(),
		panel{
			title: "Swing within a minute", unit: units.Watt, width: 12, height: 9,
			description: "Highest less lowest second within the minute before each point. Training jobs that compute and communicate in turn make all nodes swing together; where it is a large part of the power, the supply's filters and the grid feel it.",
			queries:     []query{{expr: `max_over_time(` + power + `[1m]) - min_over_time(` + power + `[1m])`, legend: "{{cluster}}"}},
		}.lines(),
		panel{
			title: "Nodes in the sum", unit: units.Short, width: 12, height: 7,
			description: "How many nodes are in the sum of power. A ramp with a step here is a loss of data, not of power: silent nodes, not the machine.",
			queries:     []query{{expr: of("wattledger_cluster_power_nodes"), legend: "{{cluster}}"}},
		}.lines(),
		panel{
			title: "How the load is distributed, 24 hours", unit: units.Watt, width: 12, height: 7,
			description: "Quarters of an hour of the last 24 hours, sorted: a tenth of them were below the first value, half below the second, 95 and 99 of 100 below the others. A wide gap between the last two is one peak that a power limit would cut.",
			queries: []query{
				{expr: distributed("0.1"), legend: "{{cluster}}: 10 %"},
				{expr: distributed("0.5"), legend: "{{cluster}}: 50 %"},
				{expr: distributed("0.95"), legend: "{{cluster}}: 95 %"},
				{expr: distributed("0.99"), legend: "{{cluster}}: 99 %"},
			},
		}.bars(),
	}
}

func distributed(q string) string {
	return `quantile_over_time(` + q + `, ` + of("wattledger:cluster_power_watts:avg15m") + `[1d])`
}
