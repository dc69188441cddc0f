// Package metric lists every series that wattledger's store of series holds:
// what it is called, what it means, in what unit, with which labels and from
// where. Nothing is stored that is not listed; docs/metrics.md is written from
// the list.
package metric

// Names of the series that are summed or computed at intake.
const (
	NodePower         = "wattledger_node_power_watts"
	GPUPower          = "wattledger_gpu_power_watts"
	ProjectEnergy     = "wattledger_project_energy_joules_total"
	ProjectHeldEnergy = "wattledger_project_held_energy_joules_total"
	ProjectPower      = "wattledger_project_power_watts"
	ClusterEnergy     = "wattledger_cluster_energy_joules_total"
	ClusterPower      = "wattledger_cluster_power_watts"
	ClusterPowerNodes = "wattledger_cluster_power_nodes"
	ClusterRamp       = "wattledger_cluster_power_ramp_watts_per_second"
	JobPower          = "wattledger_job_power_watts"
	JobEnergy         = "wattledger_job_energy_joules_total"
)

// WirePower is what agents call the power of a meter at 1 s.
const WirePower = "power_watts"

// Type of a metric, as Prometheus spells it.
type Type string

// Types in use.
const (
	Gauge   Type = "gauge"
	Counter Type = "counter"
)

// Metric is one family.
type Metric struct {
	Name   string
	Type   Type
	Unit   string // base unit; "" for a number
	Labels []string
	Help   string
	From   string // where the value comes from, for people
	Every  string // how far apart samples are
}

// Scope is what a gauge of an agent is about.
type Scope uint8

// Scopes: a GPU (or the module that stands for it), the node as a whole,
// another meter of the node.
const (
	OfGPU Scope = iota
	OfNode
	OfMeter
)

// Take says which of a window's values is stored.
type Take uint8

// Values of a window: the mean for what goes up and down, the most for what may
// not be too high, the last for states and counters.
const (
	Mean Take = iota
	Most
	Last
)

// Source is a gauge as agents send it, and the family it is stored in.
type Source struct {
	Scope Scope
	Wire  string // name on the wire
	Take  Take
	// Metric is the family; Label and Value are a label beside those of the
	// scope, "" for none.
	Metric, Label, Value string
	// Quiet families begin no series while they stand at 0: absence means 0. Once
	// begun a series goes on, also at 0.
	Quiet bool
}

// All lists every family, by name.
func All() []Metric {
	out := append(computed(), gauges()...)
	sortByName(out)
	return out
}

func computed() []Metric {
	const second, step = "1 s; 10 s where only means are known, as after an outage", "10 s"
	const window = "the postings of the window, in proportion"
	return []Metric{
		{
			NodePower, Gauge, "watts",
			[]string{"cluster", "node"},
			"Power of a node, the mean of the second that ends at the stamp. Its mean over a window is the energy that was booked for the window.",
			"1-second readings of the node's meters, the rest of the booked energy spread evenly", second,
		},
		{
			GPUPower, Gauge, "watts",
			[]string{"cluster", "node", "gpu"},
			"Power of a GPU, or of the module where only that is metered, the mean of the second that ends at the stamp.",
			"differences of its odometer", "1 s",
		},
		{
			ProjectEnergy, Counter, "joules",
			[]string{"cluster", "project"},
			"Energy booked to a project, in windows that ended at the stamp or before. The difference of two slot edges is the report of the time between them, unless data came late; see \"Late data\".",
			"postings", "10 s while it moves, else 60 s",
		},
		{
			ProjectHeldEnergy, Counter, "joules",
			[]string{"cluster", "project"},
			"The part of it that was burnt while the devices held did nothing.", "postings of use held", "10 s while it moves, else 60 s",
		},
		{
			ProjectPower, Gauge, "watts",
			[]string{"cluster", "project"},
			"Power of the nodes that a project uses, as far as it is the project's; 0 in seconds without any, and no series while it has none.",
			"node power, shared by " + window, second,
		},
		{
			ClusterEnergy, Counter, "joules",
			[]string{"cluster", "class", "use"},
			"Energy booked, by class of hardware and by use, in windows that ended at the stamp or before. The sum over all is all energy booked.",
			"postings", "10 s while it moves, else 60 s",
		},
		{
			ClusterPower, Gauge, "watts",
			[]string{"cluster"},
			"Power of the nodes of a cluster that have sent this second, whoever uses them.", "node power", second,
		},
		{
			ClusterPowerNodes, Gauge, "",
			[]string{"cluster"},
			"Nodes in the sum of the cluster's power: the most of the ten seconds before the stamp.", "node power", step,
		},
		{
			ClusterRamp, Gauge, "watts_per_second",
			[]string{"cluster"},
			"Change of the cluster's power against ten seconds before, per second. A node that falls silent is a change, too: compare with the nodes in the sum.",
			"cluster power", second,
		},
		{
			JobPower, Gauge, "watts",
			[]string{"cluster", "job", "project"},
			"Power of a job, the mean of the ten seconds before the stamp. Only with series.jobs.enabled.", "node power, shared by " + window, step,
		},
		{
			JobEnergy, Counter, "joules",
			[]string{"cluster", "job", "project"},
			"Energy booked to a job since its series began; the job's report has all of it. Only with series.jobs.enabled.", "postings", "10 s while it moves, else 60 s",
		},
	}
}
