package emulate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wattledger/wattledger/internal/energy"
)

// Meter is one scope of the emulated node whose energy is known.
type Meter struct {
	Name   string // gpu0, package0, module0, node: the words of the scope tree
	Parent string // the meter that contains it, "" for none
	Class  energy.Class
	Root   bool // one of those that together are the total: no meter is in it twice
}

// machine is the plan of a node.
type machine struct {
	name    string
	meters  []Meter
	gpus    int   // NVML devices
	minors  []int // of their device files, nil for the usual order
	profile string
	sockets int // RAPL packages
	cray    bool
	grace   int // superchips with hwmon power meters
	cpus    int // processors in /proc
}

// Machines are the names that Options.Machine takes.
func Machines() []string { return []string{"leonardo", "lumi", "jupiter", "dgx-h100"} }

func machineOf(name string) (*machine, error) {
	m := &machine{name: name, cpus: 64}
	switch name {
	case "leonardo":
		m.gpus, m.profile, m.sockets = 4, "a100", 2
	case "dgx-h100":
		m.gpus, m.profile, m.sockets, m.cpus = 8, "h100", 2, 112
	case "jupiter":
		m.gpus, m.profile, m.grace, m.cpus = 4, "gh200", 4, 288
	case "lumi":
		m.cray = true
	default:
		return nil, fmt.Errorf("there is no machine %q: %s", name, strings.Join(Machines(), ", "))
	}
	switch {
	case m.cray:
		m.add("node", "", energy.Node, true)
		m.add("package0", "node", energy.CPU, false)
		m.add("dram0", "node", energy.Memory, false)
		m.addAll("gpu%d", "node", 4, energy.GPU, false)  // as pm_counters has it
		m.addAll("oam%d", "gpu%d", 4, energy.GPU, false) // as the module itself has it
	case m.grace > 0:
		m.add("node", "", energy.Node, false)
		m.addAll("module%d", "node", m.grace, energy.GPU, true)
		m.addAll("gpu%d", "module%d", m.gpus, energy.GPU, false)
		m.addAll("grace%d", "module%d", m.grace, energy.CPU, false)
		m.addAll("cpu%d", "grace%d", m.grace, energy.CPU, false)
		m.addAll("sysio%d", "grace%d", m.grace, energy.Other, false)
	default:
		m.add("node", "", energy.Node, false)
		m.addAll("gpu%d", "node", m.gpus, energy.GPU, true)
		m.addAll("package%d", "node", m.sockets, energy.CPU, true)
		m.addAll("dram%d", "node", m.sockets, energy.Memory, true)
	}
	return m, nil
}

func (m *machine) add(name, parent string, class energy.Class, root bool) {
	m.meters = append(m.meters, Meter{Name: name, Parent: parent, Class: class, Root: root})
}

func (m *machine) addAll(name, parent string, n int, class energy.Class, root bool) {
	for i := range n {
		p := parent
		if strings.Contains(p, "%d") {
			p = fmt.Sprintf(p, i)
		}
		m.add(fmt.Sprintf(name, i), p, class, root)
	}
}

func (m *machine) has(meter string) bool {
	return slices.ContainsFunc(m.meters, func(k Meter) bool { return k.Name == meter })
}

// profile is what NVML says of a kind of GPU.
type profile struct {
	name, driver, nvml            string
	average, module, scoped, tlim int // 185 answered; module scope; 191 with scopes; T.Limit
	architecture, major           int
	limit, least, most            int // W
	memory, multiprocessors       int // MiB
	device                        uint32
	idle, busy, noise             uint64 // W
	slice                         int    // multiprocessors of a MIG slice
}

func profileOf(name string) profile {
	switch name {
	case "a100":
		return profile{
			name: "NVIDIA A100-SXM-64GB", driver: "535.274.02", nvml: "12.535.274.02", architecture: 7, major: 8,
			limit: 440, least: 100, most: 440, memory: 65536, multiprocessors: 124, device: 0x20b310de, idle: 62, busy: 210, noise: 200, slice: 14,
		}
	case "gh200":
		return profile{
			name: "NVIDIA GH200 120GB", driver: "560.35.03", nvml: "12.560.35.03", average: 1, module: 1, scoped: 1, tlim: 1, architecture: 9, major: 9,
			limit: 680, least: 200, most: 700, memory: 97871, multiprocessors: 132, device: 0x234210de, idle: 92, busy: 300, noise: 330, slice: 16,
		}
	default:
		return profile{
			name: "NVIDIA H100 80GB HBM3", driver: "560.28.03", nvml: "12.560.28.03", average: 1, tlim: 1, architecture: 9, major: 9,
			limit: 700, least: 200, most: 700, memory: 81559, multiprocessors: 132, device: 0x233010de, idle: 72, busy: 320, noise: 360, slice: 16,
		}
	}
}
