package wire

// seriesNames are the names that travel as a number: the index in this list,
// from 1. They are only ever appended to. Other names travel as text.
func seriesNames() [40]string {
	return [...]string{
		0:  "", // the next of the group's own names
		1:  "power_watts",
		2:  "utilization_ratio",
		3:  "memory_used_bytes",
		4:  "memory_total_bytes",
		5:  "memory_used_ratio",
		6:  "memory_utilization_ratio",
		7:  "memory_available_bytes",
		8:  "temperature_celsius",
		9:  "memory_temperature_celsius",
		10: "sm_clock_hertz",
		11: "memory_clock_hertz",
		12: "clock_hertz",
		13: "throttle_ratio",
		14: "throttle_thermal_ratio",
		15: "throttle_power_ratio",
		16: "power_limit_watts",
		17: "fan_ratio",
		18: "load1",
		19: "load5",
		20: "load15",
		21: "cpu_utilization_ratio",
		22: "memory_free_bytes",
		23: "swap_used_bytes",
		24: "disk_read_bytes",
		25: "disk_written_bytes",
		26: "network_receive_bytes",
		27: "network_transmit_bytes",
		28: "pcie_receive_bytes",
		29: "pcie_transmit_bytes",
		30: "nvlink_receive_bytes",
		31: "nvlink_transmit_bytes",
		32: "ecc_corrected_errors",
		33: "ecc_uncorrected_errors",
		34: "sm_active_ratio",
		35: "tensor_active_ratio",
		36: "processes",
		37: "tasks",
		38: "voltage_volts",
		39: "current_amperes",
	}
}

// seriesNumber is the number of a name, 0 if it travels as text.
func seriesNumber(name string) uint32 {
	for i, n := range seriesNames() {
		if n == name {
			return uint32(i) // "" gives 0 and travels as text, too
		}
	}
	return 0
}

// Devices of a holding that are not meters, and where the meters begin.
const (
	deviceNamed  = 0
	deviceMeters = 4
)

// sharedDevices are the pseudo-devices of a holding, by their number.
func sharedDevices() [deviceMeters]string { return [...]string{"", "cpu", "memory", "other"} }
