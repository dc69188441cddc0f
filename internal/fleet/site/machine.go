package site

import (
	"fmt"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/meter"
)

// part says what a meter's power follows.
type part uint8

const (
	ofGPU    part = iota // its GPU's load
	ofCPU                // the load of the CPUs
	ofMemory             // likewise
	ofModule             // GPU, Grace and losses; it stands for the GPU
	ofNode               // all of the node
)

// gauges says which an agent on such a node has.
type gauges uint8

const (
	gaugesNVML gauges = iota
	gaugesAMD
)

// span of power, in milliwatts.
type span struct{ rest, most int64 }

// scopeDef is a meter of a machine.
type scopeDef struct {
	collector.Scope
	part part
	unit int   // which GPU, CPU or module
	step int64 // what its counter counts in, in microjoules
}

// machine is a kind of node, and how many there are of it.
type machine struct {
	name, prefix, project string
	nodes                 int // of the real machine
	gpus                  int
	scopes                []scopeDef
	gpu, cpu, memory      span // per device
	other                 span // of the node or of each module
	gauges                gauges
	gpuBytes, nodeBytes   int64
	smHertz, memHertz     int64 // at full speed

	tree *meter.Tree // of the scopes, in its own order
	defs []scopeDef  // in the order of the tree
}

// RAPL counts 2^32-1 units of 61.035 and of 15.3 uJ.
const (
	packageModulus = 262_143_328_850
	dramModulus    = 65_712_999_613
)

const watt = 1000 // milliwatts

// Machines names what can be simulated.
func Machines() []string { return []string{"leonardo", "lumi", "jupiter", "gigafactory"} }

// Size is how many nodes the real machine has, 0 where there is none of the name.
func Size(name string) int {
	m, err := machineOf(name)
	if err != nil {
		return 0
	}
	return m.nodes
}

func machineOf(name string) (*machine, error) {
	var m *machine
	switch name {
	case "leonardo":
		m = leonardo()
	case "lumi":
		m = lumi()
	case "jupiter":
		m = jupiter()
	case "gigafactory":
		m = gigafactory()
	default:
		return nil, fmt.Errorf("cannot simulate machine %q: there are %v", name, Machines())
	}
	m.name = name
	scopes := make([]collector.Scope, len(m.scopes))
	for i := range m.scopes {
		scopes[i] = m.scopes[i].Scope
	}
	tree, err := meter.New(scopes)
	if err != nil {
		return nil, fmt.Errorf("cannot arrange the meters of %s: %w", name, err)
	}
	m.tree = tree
	for i := range tree.Nodes {
		for _, d := range m.scopes {
			if d.Name == tree.Nodes[i].Name {
				m.defs = append(m.defs, d)
			}
		}
	}
	return m, nil
}

// add appends a counter.
func (m *machine) add(p part, unit int, name, parent string, class energy.Class, step int64) *scopeDef {
	m.scopes = append(m.scopes, scopeDef{
		part: p, unit: unit, step: step,
		Scope: collector.Scope{Name: name, Parent: parent, Class: class, Resolution: energy.Microjoules(step)},
	})
	return &m.scopes[len(m.scopes)-1]
}

func (m *machine) nvidia() {
	for g := range m.gpus {
		m.add(ofGPU, g, fmt.Sprint("gpu", g), "", energy.GPU, 1000)
	}
}

func (m *machine) rapl(packages int, dram bool) {
	for i := range packages {
		m.add(ofCPU, i, fmt.Sprint("package", i), "", energy.CPU, 1).Modulus = packageModulus
	}
	for i := range packages {
		if dram {
			m.add(ofMemory, i, fmt.Sprint("dram", i), "", energy.Memory, 1).Modulus = dramModulus
		}
	}
}

// leonardo: NVML counters in millijoules, RAPL packages and dram that wrap.
func leonardo() *machine {
	m := &machine{
		prefix: "lrdn", project: "IscrB", nodes: 3456, gpus: 4, gauges: gaugesNVML,
		gpu: span{58 * watt, 440 * watt}, cpu: span{62 * watt, 165 * watt}, memory: span{9 * watt, 38 * watt},
		gpuBytes: 64 << 30, nodeBytes: 512 << 30, smHertz: 1_395_000_000, memHertz: 1_593_000_000,
	}
	m.nvidia()
	m.rapl(2, true)
	return m
}

// lumi: the blade's counters in whole joules, all inside the node's.
func lumi() *machine {
	m := &machine{
		prefix: "nid", project: "project_4650", nodes: 2978, gpus: 4, gauges: gaugesAMD,
		gpu: span{92 * watt, 520 * watt}, cpu: span{78 * watt, 240 * watt}, memory: span{22 * watt, 75 * watt},
		other: span{190 * watt, 330 * watt}, gpuBytes: 128 << 30, nodeBytes: 512 << 30, smHertz: 1_700_000_000, memHertz: 1_600_000_000,
	}
	m.add(ofNode, 0, "node", "", energy.Node, 1_000_000).Rest = energy.Other
	for g := range m.gpus {
		m.add(ofGPU, g, fmt.Sprint("gpu", g), "node", energy.GPU, 1_000_000)
	}
	m.add(ofCPU, 0, "package0", "node", energy.CPU, 1_000_000)
	m.add(ofMemory, 0, "dram0", "node", energy.Memory, 1_000_000)
	return m
}

// jupiter: four modules with a counter each that has no other of the GPU inside
// it, and Grace, of which only the power is known.
func jupiter() *machine {
	m := &machine{
		prefix: "jpbo-", project: "jureap", nodes: 5940, gpus: 4, gauges: gaugesNVML,
		gpu: span{84 * watt, 610 * watt}, cpu: span{48 * watt, 230 * watt}, other: span{28 * watt, 64 * watt},
		gpuBytes: 96 << 30, nodeBytes: 480 << 30, smHertz: 1_980_000_000, memHertz: 2_619_000_000,
	}
	for g := range m.gpus {
		module := fmt.Sprint("module", g)
		m.add(ofModule, g, module, "", energy.GPU, 1000).Rest = energy.GPU
		grace := m.add(ofCPU, g, fmt.Sprint("grace", g), module, energy.CPU, 1)
		grace.Kind = collector.Power
	}
	return m
}

// gigafactory: H200 boards behind two packages each.
func gigafactory() *machine {
	m := &machine{
		prefix: "gf", project: "AIF", nodes: 25_000, gpus: 4, gauges: gaugesNVML,
		gpu: span{74 * watt, 690 * watt}, cpu: span{95 * watt, 330 * watt},
		gpuBytes: 141 << 30, nodeBytes: 1024 << 30, smHertz: 1_980_000_000, memHertz: 3_201_000_000,
	}
	m.nvidia()
	m.rapl(2, false)
	return m
}

// node names the i-th.
func (m *machine) node(i int) string {
	if m.name == "lumi" {
		return fmt.Sprintf("nid%06d", 5000+i)
	}
	if m.name == "jupiter" {
		return fmt.Sprintf("jpbo-%03d-%02d", 1+i/48, 1+i%48)
	}
	return fmt.Sprintf("%s%05d", m.prefix, i)
}

// device tells whether a meter is how a GPU is known.
func (d *scopeDef) device() bool { return d.part == ofGPU || d.part == ofModule }

// reloaded tells whether a counter begins anew with the driver (of LUMI: with
// the blade's controller, which has all of them).
func (m *machine) reloaded(d *scopeDef) bool {
	return d.device() || m.gauges == gaugesAMD
}
