package wire

// seriesNames are the names that travel as a number: the index in this list,
// from 1. They are only ever appended to. Other names travel as text.
func seriesNames() [71]string {
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
		40: "clock_sm_hertz",
		41: "clock_memory_hertz",
		42: "edge_temperature_celsius",
		43: "temperature_margin_celsius",
		44: "throttle_power_seconds_total",
		45: "throttle_thermal_seconds_total",
		46: "throttle_sync_boost_seconds_total",
		47: "throttle_board_limit_seconds_total",
		48: "throttle_low_utilization_seconds_total",
		49: "throttle_reliability_seconds_total",
		50: "throttle_app_clocks_seconds_total",
		51: "throttle_base_clocks_seconds_total",
		52: "throttle_software_thermal_seconds_total",
		53: "throttle_hardware_thermal_seconds_total",
		54: "throttle_power_brake_seconds_total",
		55: "ecc_corrected_total",
		56: "ecc_uncorrected_total",
		57: "remapped_rows_corrected_total",
		58: "remapped_rows_uncorrected_total",
		59: "remapped_rows_pending",
		60: "remapped_rows_failure",
		61: "recovery_action",
		62: "nvlink_receive_bytes_total",
		63: "nvlink_transmit_bytes_total",
		64: "gpu_power_watts",
		65: "bmc_response_seconds",
		66: "bmc_power_watts",
		67: "redfish_power_watts",
		68: "spool_used_ratio",
		69: "clock_offset_seconds",
		70: "energy_joules",
	}
}

// seriesNumber is the number of a name, 0 if it travels as text.
func seriesNumber(name string) uint32 {
	names := seriesNames()
	return numberIn(names[:], name)
}

func numberIn(names []string, name string) uint32 {
	for i, n := range names {
		if n == name {
			return uint32(i) // "" gives 0 and travels as text, too
		}
	}
	return 0
}

// SeriesNumber is the number that the name of a series travels as, 0 where it
// travels as text.
func SeriesNumber(name string) uint32 { return seriesNumber(name) }

// Devices of a holding that are not meters, and where the meters begin.
const (
	deviceNamed  = 0
	deviceMeters = 4
)

// sharedDevices are the pseudo-devices of a holding, by their number.
func sharedDevices() [deviceMeters]string { return [...]string{"", "cpu", "memory", "other"} }
