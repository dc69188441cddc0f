// Package prometheus shows what an agent meters as metrics for a Prometheus of
// the site's own: useful without any aggregator. Names, units and labels are
// those of the aggregator's series (internal/series/metric), less the labels
// cluster and node, which the scrape adds (job, instance).
//
// The values are for looking at. The books are elsewhere: an energy counter
// here begins anew where its meter began anew, as counters of Prometheus may.
package prometheus

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/series/metric"
)

// staleAfter is how long a value is shown after it was last read: longer than
// the slowest source's pause, shorter than a person's patience.
const staleAfter = time.Minute

// Look is what an agent saw at one instant. Its slices are the agent's: Observe
// copies what it keeps.
type Look struct {
	Readings []collector.Reading
	// Odometer is the cumulative energy of a meter since its epoch began.
	Odometer func(meter string) (energy.Microjoules, bool)
	// Jobs gives those that hold devices now; asked only where the page shows them.
	Jobs func() []job.Allocation
}

// Node is a collector of the last values of a node's meters.
type Node struct {
	now    func() time.Time
	jobs   bool
	known  map[gaugeKey]family
	energy map[metric.Scope]*prometheus.Desc
	power  map[metric.Scope]*prometheus.Desc
	info   *prometheus.Desc
	holder *prometheus.Desc
	events *prometheus.CounterVec
	xids   *prometheus.CounterVec

	mu     sync.Mutex
	meters map[string]*meter
	held   []held
}

type gaugeKey struct {
	scope metric.Scope
	wire  string
}

type family struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	labels []string // values after that of the scope
}

// meter is what is kept of one.
type meter struct {
	scope    collector.Scope
	of       metric.Scope
	at       time.Time
	uj       energy.Microjoules
	hasUJ    bool
	power    energy.Microwatts
	hasPower bool
	gauges   []gauge
}

type gauge struct {
	name  string
	value float64
	at    time.Time
}

type held struct {
	device, job, project string
	share                float64
}

// NewNode makes the collector. With jobs the page says which job of which
// project holds which device: users of the node can read that.
func NewNode(now func() time.Time, jobs bool) *Node {
	n := &Node{
		now: now, jobs: jobs, known: map[gaugeKey]family{}, meters: map[string]*meter{},
		energy: map[metric.Scope]*prometheus.Desc{}, power: map[metric.Scope]*prometheus.Desc{},
		info: prometheus.NewDesc("wattledger_meter_info",
			"What a meter is: class, source of its value (counter, power), the hardware's own name; role booked or witness.",
			[]string{"meter", "class", "kind", "device", "role"}, nil),
		holder: prometheus.NewDesc("wattledger_gpu_job_share", "Part of a GPU that a job holds now, 0 to 1; join it on gpu.",
			[]string{"gpu", "job", "project"}, nil),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wattledger_agent_events_total", Help: "Events of the node's meters by kind: xid, gpu_lost, reset, gap, stuck, implausible, witness, ...",
		}, []string{"kind"}),
		xids: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wattledger_gpu_xid_errors_total", Help: "Xid errors that the driver told of, by GPU and number (NVIDIA lists what each means); class: application, hardware, driver or other.",
		}, []string{"gpu", "xid", "class"}),
	}
	for of, label := range map[metric.Scope]string{metric.OfGPU: "gpu", metric.OfMeter: "meter"} {
		prefix := "wattledger_" + label
		n.energy[of] = prometheus.NewDesc(prefix+"_energy_joules_total", "Energy since the meter's epoch began.", []string{label}, nil)
		n.power[of] = prometheus.NewDesc(prefix+"_power_watts", "Power as last read.", []string{label}, nil)
	}
	n.describe()
	return n
}

// describe makes the families of the gauges that are known.
func (n *Node) describe() {
	help := map[string]metric.Metric{}
	for _, m := range metric.All() {
		help[m.Name] = m
	}
	made := map[string]*prometheus.Desc{}
	for _, s := range metric.Sources() {
		if ofAgent(s.Wire) {
			continue
		}
		m := help[s.Metric]
		labels := without(m.Labels, "cluster", "node")
		if made[s.Metric] == nil {
			made[s.Metric] = prometheus.NewDesc(s.Metric, m.Help, labels, nil)
		}
		f := family{desc: made[s.Metric], kind: prometheus.GaugeValue}
		if m.Type == metric.Counter {
			f.kind = prometheus.CounterValue
		}
		if s.Label != "" {
			f.labels = []string{s.Value}
		}
		n.known[gaugeKey{s.Scope, s.Wire}] = f
	}
}

// ofAgent tells of values that agents add for the aggregator; no reading has
// them. This page has wattledger_spool_bytes and wattledger_meter_power_watts.
func ofAgent(wire string) bool {
	return slices.Contains([]string{"spool_used_ratio", "clock_offset_seconds", "bmc_power_watts", "redfish_power_watts"}, wire)
}

func without(list []string, drop ...string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(l string) bool { return slices.Contains(drop, l) })
}

// Observe keeps what was seen.
func (n *Node) Observe(l Look) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range l.Readings {
		n.keep(&l.Readings[i], l.Odometer)
	}
	if !n.jobs || l.Jobs == nil {
		return
	}
	n.held = n.held[:0]
	for _, a := range l.Jobs() {
		if a.WholeNode() {
			n.held = append(n.held, held{device: "node", job: a.ID, project: a.Project, share: 1})
		}
		for _, g := range a.GPUs {
			n.held = append(n.held, held{device: g.Device, job: a.ID, project: a.Project, share: float64(g.Weight) / job.Whole})
		}
	}
}

func (n *Node) keep(r *collector.Reading, odometer func(string) (energy.Microjoules, bool)) {
	m := n.meters[r.Scope.Name]
	if m == nil {
		m = &meter{of: scopeOf(r.Scope)}
		n.meters[r.Scope.Name] = m
	}
	m.scope, m.at = r.Scope, r.At
	m.power, m.hasPower = r.Power, r.HasPower || r.Scope.Kind == collector.Power
	if odometer != nil {
		m.uj, m.hasUJ = odometer(r.Scope.Name)
	}
	for i, g := range r.Gauges {
		m.set(i, g, r.At)
	}
}

// set keeps a gauge; sources give them in the same order each time.
func (m *meter) set(i int, g collector.Gauge, at time.Time) {
	if i >= len(m.gauges) || m.gauges[i].name != g.Name {
		for i = 0; i < len(m.gauges) && m.gauges[i].name != g.Name; i++ {
		}
		if i == len(m.gauges) {
			m.gauges = append(m.gauges, gauge{})
		}
	}
	m.gauges[i] = gauge{g.Name, g.Value, at}
}

// scopeOf says what a meter's values are about: a GPU (also a module that
// stands for one, and a second look at one), the node, or anything else.
func scopeOf(s collector.Scope) metric.Scope {
	switch {
	case s.Name == "host", strings.HasPrefix(s.Name, "node"):
		return metric.OfNode
	case s.Class == energy.GPU && !strings.Contains(s.Name, "-"):
		return metric.OfGPU
	}
	return metric.OfMeter
}

// Event counts one.
func (n *Node) Event(e collector.Event) {
	n.events.WithLabelValues(e.Kind).Inc()
	if e.Kind != "xid" {
		return
	}
	number, class := collector.ParseXid(e.Detail)
	n.xids.WithLabelValues(e.Meter, number, class).Inc()
}

// Describe says what may be there; what is there depends on the node.
func (n *Node) Describe(ch chan<- *prometheus.Desc) {
	n.events.Describe(ch)
	n.xids.Describe(ch)
	ch <- n.info
	ch <- n.holder
	for _, m := range []map[metric.Scope]*prometheus.Desc{n.energy, n.power} {
		for _, d := range m {
			ch <- d
		}
	}
	seen := map[*prometheus.Desc]bool{}
	for _, f := range n.known {
		if !seen[f.desc] {
			seen[f.desc] = true
			ch <- f.desc
		}
	}
}

// Collect gives the last values that are not stale.
func (n *Node) Collect(ch chan<- prometheus.Metric) {
	n.events.Collect(ch)
	n.xids.Collect(ch)
	n.mu.Lock()
	defer n.mu.Unlock()
	oldest := n.now().Add(-staleAfter)
	ofNode := map[gaugeKey]bool{} // host and controller may both say it: the first by name does
	for _, name := range slices.Sorted(maps.Keys(n.meters)) {
		m := n.meters[name]
		if m.at.Before(oldest) {
			continue
		}
		if m.scope.Kind != collector.Gauges {
			n.collectMeter(ch, name, m)
		}
		n.collectGauges(ch, name, m, oldest, ofNode)
	}
	for _, h := range n.held {
		ch <- prometheus.MustNewConstMetric(n.holder, prometheus.GaugeValue, h.share, h.device, h.job, h.project)
	}
}

func (n *Node) collectMeter(ch chan<- prometheus.Metric, name string, m *meter) {
	of := m.of
	if of == metric.OfNode { // the node's own meter is one of its meters
		of = metric.OfMeter
	}
	if m.hasUJ {
		ch <- prometheus.MustNewConstMetric(n.energy[of], prometheus.CounterValue, float64(m.uj)/1e6, name)
	}
	if m.hasPower {
		ch <- prometheus.MustNewConstMetric(n.power[of], prometheus.GaugeValue, float64(m.power)/1e6, name)
	}
	kind, role := "counter", "booked"
	if m.scope.Kind == collector.Power {
		kind = "power"
	}
	if m.scope.Witness {
		role = "witness"
	}
	ch <- prometheus.MustNewConstMetric(n.info, prometheus.GaugeValue, 1, name, m.scope.Class.String(), kind, m.scope.Device, role)
}

func (n *Node) collectGauges(ch chan<- prometheus.Metric, name string, m *meter, oldest time.Time, ofNode map[gaugeKey]bool) {
	for _, g := range m.gauges {
		k := gaugeKey{m.of, g.name}
		f, ok := n.known[k]
		if !ok || g.at.Before(oldest) || ofNode[k] {
			continue
		}
		ofNode[k] = m.of == metric.OfNode
		labels := f.labels
		if m.of != metric.OfNode {
			labels = append([]string{name}, labels...)
		}
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, g.value, labels...)
	}
}
