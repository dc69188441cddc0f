package emulate

import (
	"fmt"
	"strconv"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

// addRAPL adds /sys/class/powercap as the kernel lays it out
// (Documentation/power/powercap/powercap.rst): packages with a dram zone, a psys
// zone that contains them and an mmio interface that repeats them.
func (e *Emulator) addRAPL() {
	for i := range e.plan.sockets {
		pkg, dram := fmt.Sprintf("package%d", i), fmt.Sprintf("dram%d", i)
		zone := fmt.Sprintf("intel-rapl:%d", i)
		e.zone("intel-rapl/"+zone, fmt.Sprintf("package-%d", i), pkg, packageRange, 270)
		e.zone("intel-rapl/"+zone+"/"+zone+":0", "dram", dram, dramRange, 0)
		e.zone(fmt.Sprintf("intel-rapl-mmio/intel-rapl-mmio:%d", i), fmt.Sprintf("package-%d", i), pkg, packageRange, 270)
	}
	e.zone(fmt.Sprintf("intel-rapl/intel-rapl:%d", e.plan.sockets), "psys", "node", packageRange, 0)
	for _, control := range []string{"intel-rapl", "intel-rapl-mmio"} {
		e.tree.static("sys/devices/virtual/powercap/"+control+"/enabled", "1")
		e.tree.link("sys/class/powercap/"+control, "sys/devices/virtual/powercap/"+control)
	}
}

// zone adds one powercap zone; path ends in the zone's own name.
func (e *Emulator) zone(path, name, meter string, most energy.Microjoules, watts int) {
	dir := "sys/devices/virtual/powercap/" + path
	e.tree.static(dir+"/name", name)
	e.tree.static(dir+"/enabled", "1")
	e.tree.static(dir+"/max_energy_range_uj", strconv.FormatUint(uint64(most), 10))
	e.tree.live(dir+"/energy_uj", 0o400, func(at time.Time) string {
		v := e.shown.counter(meter, at)
		if v < blank && v > packageRange { // psys, and absurd values
			v %= packageRange * 4
		}
		return strconv.FormatUint(uint64(v), 10)
	})
	if watts > 0 {
		e.tree.static(dir+"/constraint_0_name", "long_term")
		e.tree.static(dir+"/constraint_0_power_limit_uw", strconv.Itoa(watts*1_000_000))
		e.tree.static(dir+"/constraint_0_max_power_uw", strconv.Itoa(watts*1_000_000))
	}
	e.tree.link("sys/class/powercap/"+path[lastSlash(path)+1:], dir)
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}
