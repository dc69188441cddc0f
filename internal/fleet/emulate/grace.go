package emulate

import (
	"fmt"
	"strconv"
	"time"
)

// addGrace adds the ACPI power meters of Grace Hopper superchips as the kernel's
// acpi_power_meter shows them (Documentation/hwmon/acpi_power_meter.rst): the
// label says what a chip measures, its number nothing. Readings of 0 occur, here
// about one in 150; the module's value is a mean that is renewed each second.
func (e *Emulator) addGrace() {
	t := e.tree
	t.static("sys/devices/pci0000:00/0000:00:01.0/nvme/nvme0/hwmon0/name", "nvme")
	t.static("sys/devices/pci0000:00/0000:00:01.0/nvme/nvme0/hwmon0/temp1_input", "38850")
	t.link("sys/class/hwmon/hwmon0", "sys/devices/pci0000:00/0000:00:01.0/nvme/nvme0/hwmon0")
	n := 0
	for _, kind := range []struct{ label, meter string }{
		{"Grace", "grace"}, {"SysIO", "sysio"}, {"Module", "module"}, {"CPU", "cpu"},
	} {
		for socket := range e.plan.grace {
			chip := n
			n++
			meter := fmt.Sprintf("%s%d", kind.meter, socket)
			dir := fmt.Sprintf("sys/devices/LNXSYSTM:00/LNXSYBUS:00/ACPI000D:%02x", chip)
			hwmon := fmt.Sprintf("hwmon%d", chip+1)
			t.static(dir+"/power1_oem_info", fmt.Sprintf("%s Power Socket %d", kind.label, socket))
			t.static(dir+"/power1_average_interval", "50")
			t.static(dir+"/power1_is_battery", "0")
			t.static(dir+"/power1_model_number", "")
			t.live(dir+"/power1_average", 0o444, func(at time.Time) string {
				if e.drop(chip, at) {
					return "0"
				}
				window := quantum
				if kind.meter == "module" {
					at, window = at.Truncate(time.Second), time.Second
				}
				return strconv.FormatUint(e.shown.power(meter, at, window)*1000, 10)
			})
			t.static(dir+"/hwmon/"+hwmon+"/name", "power_meter")
			t.link(dir+"/hwmon/"+hwmon+"/device", dir)
			t.link("sys/class/hwmon/"+hwmon, dir+"/hwmon/"+hwmon)
		}
	}
}

// drop tells whether a chip reads 0 at an instant.
func (e *Emulator) drop(chip int, at time.Time) bool {
	h := (uint64(at.UnixMilli()/100)+uint64(chip)<<40)*0x9e3779b97f4a7c15 + e.seed
	h ^= h >> 32
	return h*0xbf58476d1ce4e5b9>>33%150 == 0
}
