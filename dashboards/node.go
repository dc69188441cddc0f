package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// ofNode selects the chosen node, ofGPU the chosen GPUs of it.
func ofNode(metric string, more ...string) string {
	return of(metric, append([]string{`node="$node"`}, more...)...)
}

func ofGPU(metric string, more ...string) string {
	return ofNode(metric, append([]string{`gpu=~"$gpu"`}, more...)...)
}

// held names the reasons for which a GPU's clocks are held down by heat, or by
// a power supply that cannot give what is asked.
const heldDown = `reason=~"thermal|software_thermal|hardware_thermal|power_brake|board_limit"`

func node() page {
	return page{
		uid: uidNode, title: "node", since: "now-1h", refresh: "10s",
		description: "One node: what it draws, how hot it is, what its GPUs do, and what its meters complained of. The other dashboards lead here.",
		variables: []cog.Builder[dashboard.VariableModel]{
			one("cluster", "Cluster", clusters),
			one("node", "Node", `label_values(wattledger_node_power_watts{cluster=~"$cluster"}, node)`),
			some("gpu", "GPU", `label_values(wattledger_gpu_power_watts{cluster=~"$cluster", node="$node"}, gpu)`),
		},
		notes: alertsAndEvents(`, node=~"$node|"`),
		sections: []section{
			{"Now", nodeNumbers()},
			{"Power over time", nodePower()},
			{"Work and heat", nodeHealth()},
		},
	}
}

func nodeNumbers() []cog.Builder[dashboard.Panel] {
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Power", unit: units.Watt, width: 4, height: 4,
			description: "Power of the node in its newest second. Its mean over a window of 10 s is the energy that was booked for the window. No value: the node is silent.",
			queries:     []query{{expr: ofNode("wattledger_node_power_watts"), legend: "power"}}, empty: "silent",
		}.number(),
		panel{
			title: "Last heard of", unit: units.Seconds, width: 4, height: 4, levels: levels(60, 180),
			description: "Age of the newest second of power. It is below half a minute while the node sends; above three minutes it counts as silent: look at wattledger-agent on the node and at its way to the aggregator.",
			queries:     []query{{expr: `time() - max(max_over_time(timestamp(` + ofNode("wattledger_node_power_watts") + `)[1d:1m]))`, legend: "age"}},
		}.number(),
		panel{
			title: "Energy of the last 24 hours", unit: units.KiloWattHour, width: 4, height: 4,
			description: "The sum of the node's power over its seconds: joules, as kWh. Seconds that are missing are not in it; what is charged is in the report.",
			queries:     []query{{expr: `sum(sum_over_time(` + ofNode("wattledger_node_power_watts") + `[24h]))` + perKWh, legend: "energy"}},
		}.number(),
		panel{
			title: "Highest power, 24 hours", unit: units.Watt, width: 4, height: 4,
			description: "Highest second of the last 24 hours. Far above the power supplies' rating it is a meter that lies: see the events below.",
			queries:     []query{{expr: `max(max_over_time(` + ofNode("wattledger_node_power_watts") + `[24h]))`, legend: "highest"}},
		}.number(),
		panel{
			title: "Hottest GPU", unit: units.Celsius, width: 4, height: 4, levels: levels(85, 92),
			description: "Highest temperature of the node's GPUs in the newest window. Above 85 °C look whether its neighbours are as hot: one node is its own cooling, many are the loop's.",
			queries:     []query{{expr: `max(` + ofNode("wattledger_gpu_temperature_celsius") + `)`, legend: "hottest"}},
		}.number(),
		panel{
			title: "Events, 15 minutes", unit: units.Short, width: 4, height: 4, levels: levels(1, 10),
			description: "What the node's meters and GPUs complained of in the last quarter of an hour. Above zero, the panel at the bottom tells the kinds and the aggregator's log the details.",
			queries:     []query{{expr: `sum(` + ofNode("wattledger_node_recent_events") + `) or vector(0)`, legend: "events"}},
		}.number(),
	}
}

func nodePower() []cog.Builder[dashboard.Panel] {
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Power of the node", unit: units.Watt, width: 12, height: 8,
			description: "What is booked, at one reading a second, beside what the node's controller (BMC) saw and the limit in force, where there are any. Controller and meters that part for long mean a meter is wrong; the runbook meters-disagree says how to find out which.",
			queries: []query{
				{expr: `avg_over_time(` + ofNode("wattledger_node_power_watts") + `[$__interval])`, legend: "node"},
				{expr: `max_over_time(` + ofNode("wattledger_node_power_watts") + `[$__interval])`, legend: "highest second"},
				{expr: `deriv(` + ofNode("wattledger_node_bmc_energy_joules") + `[2m]) > 0`, legend: "its controller, a witness"},
				{expr: ofNode("wattledger_node_power_limit_watts"), legend: "limit"},
			},
		}.lines(),
		onTheRight(panel{
			title: "Power and clock of GPUs", unit: units.Watt, width: 12, height: 8,
			description: "Power of each chosen GPU (of the whole module where only that is metered), its limit, and on the right its clock where the driver tells it. Power at the limit with falling clocks is normal under full load; low clocks at low power and high temperature are throttling.",
			queries: []query{
				{expr: `avg_over_time(` + ofGPU("wattledger_gpu_power_watts") + `[$__interval])`, legend: "{{gpu}}"},
				{expr: ofGPU("wattledger_gpu_sm_clock_hertz"), legend: "{{gpu}} clock"},
				{expr: ofGPU("wattledger_gpu_chip_power_watts"), legend: "{{gpu}}, the chip alone"},
				{expr: `max(` + ofGPU("wattledger_gpu_power_limit_watts") + `)`, legend: "highest limit"},
			},
		}.lines(), "B", units.Hertz),
	}
}

func nodeHealth() []cog.Builder[dashboard.Panel] {
	return []cog.Builder[dashboard.Panel]{
		panel{
			title: "Utilisation, and time slowed down", unit: units.PercentUnit, width: 12, height: 9,
			description: "How much of the time GPUs and CPUs work, and for which part of it a GPU's clocks are held down by heat or by the power supply. The latter belongs at zero: above 5 % the job pays in time; look at the cooling, then at the power supply.",
			queries: []query{
				{expr: ofGPU("wattledger_gpu_utilization_ratio"), legend: "{{gpu}}"},
				{expr: ofNode("wattledger_node_cpu_utilization_ratio"), legend: "CPUs"},
				{expr: `sum by (gpu, reason) (rate(` + ofGPU("wattledger_gpu_throttle_seconds_total", heldDown) + `[$__rate_interval])) > 0`, legend: "{{gpu}} slowed down: {{reason}}"},
				{expr: ofNode("wattledger_meter_utilization_ratio"), legend: "{{meter}}"},
			},
		}.lines(),
		panel{
			title: "Temperatures", unit: units.Celsius, width: 12, height: 9, levels: levels(85, 92),
			description: "Highest temperature of each window: GPUs, their memory, CPUs and the node as far as sensors are read. One GPU above its neighbours with the same load has a bad contact or a blocked duct; all of them together are the loop.",
			queries: []query{
				{expr: ofGPU("wattledger_gpu_temperature_celsius"), legend: "{{gpu}}"},
				{expr: ofGPU("wattledger_gpu_memory_temperature_celsius"), legend: "{{gpu}} memory"},
				{expr: ofNode("wattledger_meter_temperature_celsius"), legend: "{{meter}}"},
				{expr: ofNode("wattledger_node_temperature_celsius"), legend: "node"},
			},
		}.lines(),
		panel{
			title: "Memory in use", unit: units.BytesIEC, width: 12, height: 8,
			description: "Memory in use on each GPU and on the node. A GPU whose memory is full while it does nothing is held by a job that waits or hangs: ask its owner.",
			queries: []query{
				{expr: ofGPU("wattledger_gpu_memory_used_bytes"), legend: "{{gpu}}"},
				{expr: ofNode("wattledger_node_memory_used_bytes"), legend: "node"},
			},
		}.lines(),
		panel{
			title: "Events and faults", unit: units.Short, width: 12, height: 8,
			description: "Events of the node's meters in the last quarter of an hour by kind, memory errors that could not be mended, and what the driver asks for (1 reset, 2 reboot, 3 drain, 4 drain and reset). None is normal; the runbooks meter and xid go through the kinds.",
			queries: []query{
				{expr: orNone(`sum by (kind) (`+ofNode("wattledger_node_recent_events")+`)`, "kind"), legend: "{{kind}}"},
				{expr: `increase(` + ofGPU("wattledger_gpu_ecc_errors_total", `kind="uncorrected"`) + `[$__rate_interval]) > 0`, legend: "{{gpu}} memory errors"},
				{expr: ofGPU("wattledger_gpu_recovery_action") + ` > 0`, legend: "{{gpu}} the driver asks for"},
			},
		}.lines(),
	}
}
