package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

func gpuHealth() page {
	return page{
		uid: uidGPUs, title: "GPU health and thermals", since: "now-6h", refresh: "1m",
		description: "Heat, throttling and faults of all GPUs. It shows what rules record once a minute over the fleet (alerts/recording.rules.yml), and names the GPUs that need a hand.",
		variables:   []cog.Builder[dashboard.VariableModel]{someClusters()},
		notes:       alertsAndEvents(""),
		sections: []section{
			{"Now", gpuNumbers()},
			{"Heat", gpuHeat()},
			{"Faults", gpuFaults()},
		},
	}
}

func gpuNumbers() []cog.Builder[dashboard.Panel] {
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "GPUs metered", unit: units.Short, width: 4, height: 4,
			description: "GPUs (or modules) whose power arrives. Fewer than the machine has: nodes are silent, or GPUs fell off the bus; see the alerts NodeSilent and GPULost.",
			queries:     []query{{expr: `sum(` + of("wattledger:gpus:count") + `)`, legend: "GPUs"}},
		}.number(),
		panel{
			title: "Hottest GPU", unit: units.Celsius, width: 4, height: 4, levels: levels(85, 92),
			description: "Highest temperature of any GPU. Above 85 °C most models are about to slow down; the table below names it, and its node shows whether the neighbours are as hot.",
			queries:     []query{{expr: `max(` + of("wattledger:gpu_temperature_celsius:max") + `)`, legend: "hottest"}},
		}.number(),
		panel{
			title: "GPUs above 85 °C", unit: units.Short, width: 4, height: 4, levels: levels(1, 50),
			description: "How many GPUs are above 85 °C now; fifty of each cluster are the most that are counted. A few are their own cooling; dozens at once are a loop or a cooling unit: call facilities before they throttle.",
			queries:     []query{{expr: `count(` + of("wattledger:gpu_temperature_celsius:top") + ` > 85) or 0 * max(` + of("wattledger:gpu_temperature_celsius:max") + `)`, legend: "hot"}},
		}.number(),
		panel{
			title: "Slowed down by heat or power", unit: units.Short, width: 4, height: 4, levels: levels(1, 20),
			description: "GPUs whose clocks were held down for more than 5 % of ten minutes by heat, or 20 % by a power brake or the board's limit. Jobs on them take longer and burn more: the table below names them.",
			queries:     []query{{expr: `sum(` + of("wattledger:gpu_throttle_ratio:high_count") + `) or vector(0)`, legend: "slowed down"}},
		}.number(),
		panel{
			title: "Xid errors, 15 minutes", unit: units.Short, width: 4, height: 4, levels: levels(1, 10),
			description: "Xid errors of class hardware or driver in the last quarter of an hour; those of applications are not counted. Any is worth a look: the runbook xid says which numbers mean drain.",
			queries:     []query{{expr: `sum(` + of("wattledger_gpu_recent_xid_errors", `class=~"hardware|driver"`) + `) or vector(0)`, legend: "Xid"}},
		}.number(),
		panel{
			title: "Mean utilisation", unit: units.PercentUnit, width: 4, height: 4,
			description: "Mean utilisation of all GPUs that tell theirs. Low while the queue is full means that jobs hold what they do not use; the jobs dashboard names them.",
			queries:     []query{{expr: `avg(` + of("wattledger:gpu_utilization_ratio:avg") + `)`, legend: "utilisation"}},
		}.number(),
	}
}

func gpuHeat() []cog.Builder[dashboard.Panel] {
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Temperatures over the fleet", unit: units.Celsius, width: 12, height: 9, levels: levels(85, 92),
			description: "Half of the GPUs are below the first line, 99 of 100 below the second; then the hottest, and the hottest memory. All lines that rise together are the coolant; the highest alone is one GPU.",
			queries: []query{
				{expr: of("wattledger:gpu_temperature_celsius:q50"), legend: "{{cluster}}: half"},
				{expr: of("wattledger:gpu_temperature_celsius:q99"), legend: "{{cluster}}: 99 of 100"},
				{expr: of("wattledger:gpu_temperature_celsius:max"), legend: "{{cluster}}: hottest"},
				{expr: of("wattledger:gpu_memory_temperature_celsius:max"), legend: "{{cluster}}: hottest memory"},
			},
		}.lines(),
		onTheRight(panel{
			title: "Utilisation, and GPUs slowed down", unit: units.PercentUnit, width: 12, height: 9,
			description: "Mean utilisation of the GPUs and, on the right, how many are slowed down, by reason, as far as their driver tells it. Many at once for heat are the coolant, for a power brake the supply of a rack; find them in the table below.",
			queries: []query{
				{expr: of("wattledger:gpu_utilization_ratio:avg"), legend: "{{cluster}}: utilisation"},
				{expr: orNone(`sum by (reason) (`+of("wattledger:gpu_throttle_ratio:high_count")+`)`, "reason"), legend: "slowed down: {{reason}}"},
			},
		}.lines(), "B", units.Short),
		panel{
			title: "Hottest GPUs", unit: units.Celsius, width: 8, height: 10,
			description: "The twenty hottest GPUs as of the last minute. Names that come back day after day want their thermal paste, their cold plate or their fans looked at; a row of one rack is the loop.",
			queries:     []query{{expr: `topk(20, ` + of("wattledger:gpu_temperature_celsius:top") + `)`}},
			columns:     []column{{name: "temperature", levels: levels(85, 92)}},
			links:       []link{toNode(field)},
		}.rows(),
		onTheRight(panel{
			title: "Mean power and clock", unit: units.Watt, width: 8, height: 10,
			description: "Mean power of a GPU, from the energy booked to GPUs, and, on the right, the mean clock where the driver tells it. Clocks that fall while power and temperature are high are throttling; both falling together are less work.",
			queries: []query{
				{
					expr:   `sum by (cluster) (rate(` + of("wattledger_cluster_energy_joules_total", `class="gpu"`) + `[$__rate_interval])) / on (cluster) ` + of("wattledger:gpus:count"),
					legend: "{{cluster}}: power", step: moving,
				},
				{expr: of("wattledger:gpu_sm_clock_hertz:avg"), legend: "{{cluster}}: clock"},
			},
		}.lines(), "B", units.Hertz),
		panel{
			title: "Hotter than a day ago", unit: units.Celsius, width: 8, height: 10, signed: true,
			description: "How much hotter half of the GPUs, and 99 of 100, are than a day before; on the first day, than at its coolest. A machine that warms by 5 K at the same load has a filter or a pump that wants service.",
			queries: []query{
				{expr: since(`wattledger:gpu_temperature_celsius:q50`), legend: "{{cluster}}: half"},
				{expr: since(`wattledger:gpu_temperature_celsius:q99`), legend: "{{cluster}}: 99 of 100"},
			},
		}.lines(),
	}
}

// since is the difference to a day ago; in the first day to the least there was.
func since(metric string) string {
	m := of(metric)
	return m + ` - (` + m + ` offset 1d or min_over_time(` + m + `[1d]))`
}

func gpuFaults() []cog.Builder[dashboard.Panel] {
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Slowed down most", unit: units.PercentUnit, width: 8, height: 10,
			description: "GPUs by the part of the last ten minutes for which their clocks were held down, and why; \"none\" where there is none. thermal is heat, power_brake the node's power supply, board_limit the board. Move the job away, then look at the node.",
			queries: []query{{
				expr: orNone(`topk(20, last_over_time(`+of("wattledger:gpu_throttle_ratio:high")+`[6m]))`, "reason"),
			}},
			columns: []column{{name: "slowed down", levels: levels(0.05, 0.2)}},
			links:   []link{toNode(field)},
		}.rows(),
		panel{
			title: "Xid errors by GPU", unit: units.Short, width: 8, height: 10,
			description: "Xid errors of the last quarter of an hour by GPU, number and class. Empty is good. hardware and driver: drain the node and follow the runbook xid; application: the user's program, seldom the GPU.",
			queries:     []query{{expr: `topk(50, sum by (cluster, node, gpu, xid, class) (` + of("wattledger_gpu_recent_xid_errors") + `) > 0)`}},
			columns:     []column{{name: "errors", levels: levels(1, 10)}}, empty: "no Xid in the last quarter of an hour",
			links: []link{toNode(field)},
		}.rows(),
		panel{
			title: "Memory faults and wanted resets", unit: units.Short, width: 8, height: 10,
			description: "GPUs that are metered, and of them: memory errors of the last 24 hours, those that could not be mended, rows that wait for a reset or cannot be replaced, and GPUs whose driver asks for a reset or a drain. All but the first belong at zero; a driver that does not tell them, as AMD's, shows zero, too.",
			queries: []query{
				{expr: `sum(` + of("wattledger:gpus:count") + `)`, legend: "GPUs"},
				{expr: `sum(sum_over_time(` + of("wattledger:gpu_ecc_errors:increase2m", `kind="corrected"`) + `[24h])) or vector(0)`, legend: "memory errors, mended"},
				{expr: `sum(sum_over_time(` + of("wattledger:gpu_ecc_errors:increase2m", `kind="uncorrected"`) + `[24h])) or vector(0)`, legend: "memory errors, not mended"},
				{expr: `sum(` + of("wattledger:gpu_remapped_rows_pending:sum") + `) or vector(0)`, legend: "rows pending"},
				{expr: `sum(` + of("wattledger:gpu_remapped_rows_failure:sum") + `) or vector(0)`, legend: "rows not replaced"},
				{expr: `sum(` + of("wattledger:gpu_recovery_action:count") + `) or vector(0)`, legend: "resets wanted"},
			},
		}.bars(),
	}
}
