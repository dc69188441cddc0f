package metric

import (
	"slices"
	"strings"
)

// gauge is a family that one or several wire names go to.
type gauge struct {
	scope Scope
	name  string // without the prefix of the scope
	unit  string
	kind  Type
	take  Take
	help  string
	wire  []string // names; with label: name=value
	label string
}

// families lists what agents send beside power. Names that are not here are not
// stored and are counted.
func families() []gauge {
	return append(ofGPU(), ofOthers()...)
}

func ofGPU() []gauge {
	one := func(name, unit string, take Take, help string) gauge {
		return gauge{scope: OfGPU, name: name, unit: unit, kind: Gauge, take: take, help: help, wire: []string{name}}
	}
	return []gauge{
		one("utilization_ratio", "ratio", Mean, "Part of the time in which the GPU ran anything, mean of the window."),
		one("memory_used_bytes", "bytes", Last, "Memory in use."),
		one("memory_total_bytes", "bytes", Last, "Memory there is."),
		one("temperature_celsius", "celsius", Most, "Temperature of the GPU, the highest of the window; of several dies the hottest."),
		one("memory_temperature_celsius", "celsius", Most, "Temperature of the memory, the highest of the window."),
		one("edge_temperature_celsius", "celsius", Most, "Temperature at the edge of the die, the highest of the window."),
		one("temperature_margin_celsius", "celsius", Last, "How far the GPU is below the temperature at which it slows down."),
		{OfGPU, "sm_clock_hertz", "hertz", Gauge, Mean, "Clock of the processors, mean of the window.", []string{"clock_sm_hertz"}, ""},
		{OfGPU, "memory_clock_hertz", "hertz", Gauge, Mean, "Clock of the memory, mean of the window.", []string{"clock_memory_hertz"}, ""},
		one("power_limit_watts", "watts", Last, "Power limit in force."),
		{OfGPU, "chip_power_watts", "watts", Gauge, Mean, "Power of the GPU alone where a whole module is metered, as its sensor says.", []string{"gpu_power_watts"}, ""},
		one("processes", "", Last, "Processes on the GPU, where utilisation is not to be had."),
		{OfGPU, "throttle_seconds_total", "seconds", Counter, Last, "Time for which the clocks were held down, by reason, since the driver was loaded.", []string{
			"throttle_power_seconds_total=power", "throttle_thermal_seconds_total=thermal", "throttle_sync_boost_seconds_total=sync_boost",
			"throttle_board_limit_seconds_total=board_limit", "throttle_low_utilization_seconds_total=low_utilization",
			"throttle_reliability_seconds_total=reliability", "throttle_app_clocks_seconds_total=app_clocks", "throttle_base_clocks_seconds_total=base_clocks",
			"throttle_software_thermal_seconds_total=software_thermal", "throttle_hardware_thermal_seconds_total=hardware_thermal",
			"throttle_power_brake_seconds_total=power_brake",
		}, "reason"},
		{
			OfGPU, "ecc_errors_total", "", Counter, Last, "Memory errors, corrected or not, since the driver was loaded.",
			[]string{"ecc_corrected_total=corrected", "ecc_uncorrected_total=uncorrected"},
			"kind",
		},
		{
			OfGPU, "remapped_rows_total", "", Counter, Last, "Rows of memory that were replaced, by the errors they had.",
			[]string{"remapped_rows_corrected_total=corrected", "remapped_rows_uncorrected_total=uncorrected"},
			"kind",
		},
		one("remapped_rows_pending", "", Last, "1 where rows wait to be replaced at the next reset."),
		one("remapped_rows_failure", "", Last, "1 where rows could not be replaced."),
		one("recovery_action", "", Last, "What the driver asks for: 0 nothing, 1 reset the GPU, 2 reboot the node, 3 drain, 4 drain and reset."),
		{
			OfGPU, "nvlink_bytes_total", "bytes", Counter, Last, "Data over all NVLinks, by direction.",
			[]string{"nvlink_receive_bytes_total=receive", "nvlink_transmit_bytes_total=transmit"},
			"direction",
		},
	}
}

func ofOthers() []gauge {
	one := func(scope Scope, name, unit string, take Take, help string) gauge {
		return gauge{scope: scope, name: name, unit: unit, kind: Gauge, take: take, help: help, wire: []string{name}}
	}
	return []gauge{
		one(OfNode, "cpu_utilization_ratio", "ratio", Mean, "Part of the processors' time that was not idle, mean of the window."),
		one(OfNode, "load1", "", Last, "Load average of 1 minute."),
		one(OfNode, "load5", "", Last, "Load average of 5 minutes."),
		one(OfNode, "load15", "", Last, "Load average of 15 minutes."),
		one(OfNode, "memory_used_bytes", "bytes", Last, "Main memory in use."),
		one(OfNode, "memory_total_bytes", "bytes", Last, "Main memory there is."),
		one(OfNode, "temperature_celsius", "celsius", Most, "Temperature that the node's controller gives for it, the highest of the window."),
		one(OfNode, "power_limit_watts", "watts", Last, "Power limit of the node in force."),
		one(OfNode, "bmc_response_seconds", "seconds", Most, "How long the node's controller took to answer, the longest of the window."),
		{
			OfNode, "witness_power_watts", "watts", Gauge, Mean,
			"Power of the node as its controller says over IPMI (bmc) or Redfish, mean of the window; compared with what is booked, never booked.",
			[]string{"bmc_power_watts=bmc", "redfish_power_watts=redfish"},
			"witness",
		},
		one(OfNode, "spool_used_ratio", "ratio", Most, "Part of the agent's spool that is full: windows wait there for the aggregator."),
		one(OfNode, "clock_offset_seconds", "seconds", Last, "How far the aggregator's clock is ahead of the node's."),
		{OfNode, "bmc_energy_joules", "joules", Gauge, Last, "Energy that the node's controller claims; a witness without an epoch, never booked.", []string{"energy_joules"}, ""},
		one(OfMeter, "power_limit_watts", "watts", Last, "Power limit of a meter's scope that is neither a GPU nor the node."),
		one(OfMeter, "temperature_celsius", "celsius", Most, "Temperature of a meter's scope that is neither a GPU nor the node, the highest of the window."),
		one(OfMeter, "utilization_ratio", "ratio", Mean, "Utilisation of a meter's scope that is neither a GPU nor the node, mean of the window."),
	}
}

// Prefix and labels of a scope.
func (s Scope) prefix() string {
	return [...]string{"wattledger_gpu_", "wattledger_node_", "wattledger_meter_"}[s]
}

// Label is the label that names one of the scope within its node; "" for the
// node itself.
func (s Scope) Label() string { return [...]string{"gpu", "", "meter"}[s] }

// quiet tells of a family that stands at 0 for months where nothing is wrong: a
// counter, or a gauge of trouble.
func (g *gauge) quiet() bool {
	return g.kind == Counter || slices.Contains([]string{"remapped_rows_pending", "remapped_rows_failure", "recovery_action", "spool_used_ratio"}, g.name)
}

func (g *gauge) every() string {
	if g.quiet() {
		return "every window (10 s), from its first value other than 0 on"
	}
	return "every window (10 s)"
}

func (g *gauge) labels() []string {
	out := []string{"cluster", "node"}
	if l := g.scope.Label(); l != "" {
		out = append(out, l)
	}
	if g.label != "" {
		out = append(out, g.label)
	}
	return out
}

func gauges() []Metric {
	var out []Metric
	for _, g := range families() {
		out = append(out, Metric{
			Name: g.scope.prefix() + g.name, Type: g.kind, Unit: g.unit, Labels: g.labels(), Help: g.help,
			From: "agents send " + strings.Join(g.wireNames(), ", "), Every: g.every(),
		})
	}
	return out
}

func (g *gauge) wireNames() []string {
	out := make([]string, 0, len(g.wire))
	for _, w := range g.wire {
		name, _, _ := strings.Cut(w, "=")
		out = append(out, "`"+name+"`")
	}
	return out
}

// Sources lists the gauges of agents that are stored.
func Sources() []Source {
	var out []Source
	for _, g := range families() {
		for _, w := range g.wire {
			name, value, _ := strings.Cut(w, "=")
			out = append(out, Source{Scope: g.scope, Wire: name, Take: g.take, Metric: g.scope.prefix() + g.name, Label: g.label, Value: value, Quiet: g.quiet()})
		}
	}
	return out
}

func sortByName(m []Metric) {
	slices.SortFunc(m, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
}
