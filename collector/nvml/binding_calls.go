//go:build cgo && linux

package nvml

import "github.com/NVIDIA/go-nvml/pkg/nvml"

// The calls of a device that answer with a value of their own.

func (d *bound) UUID() (string, code) {
	if !d.has["nvmlDeviceGetUUID"] {
		return "", functionNotFound
	}
	v, r := d.dev.GetUUID()
	return v, code(r)
}

func (d *bound) Name() (string, code) {
	if !d.has["nvmlDeviceGetName"] {
		return "", functionNotFound
	}
	v, r := d.dev.GetName()
	return v, code(r)
}

func (d *bound) Minor() (int, code) {
	if !d.has["nvmlDeviceGetMinorNumber"] {
		return 0, functionNotFound
	}
	v, r := d.dev.GetMinorNumber()
	return v, code(r)
}

func (d *bound) PCI() (string, code) {
	if !d.any("nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo") {
		return "", functionNotFound
	}
	v, r := d.dev.GetPciInfo()
	text := make([]byte, 0, len(v.BusId))
	for _, c := range v.BusId {
		if c == 0 {
			break
		}
		text = append(text, byte(c))
	}
	return string(text), code(r)
}

func (d *bound) Persistent() (bool, code) {
	if !d.has["nvmlDeviceGetPersistenceMode"] {
		return false, functionNotFound
	}
	v, r := d.dev.GetPersistenceMode()
	return v == nvml.FEATURE_ENABLED, code(r)
}

func (d *bound) Energy() (uint64, code) {
	if !d.has["nvmlDeviceGetTotalEnergyConsumption"] {
		return 0, functionNotFound
	}
	v, r := d.dev.GetTotalEnergyConsumption()
	return v, code(r)
}

func (d *bound) Power() (uint32, code) {
	if !d.has["nvmlDeviceGetPowerUsage"] {
		return 0, functionNotFound
	}
	v, r := d.dev.GetPowerUsage()
	return v, code(r)
}

// PowerLimits gives 0 for the one of the two that is not to be had.
func (d *bound) PowerLimits() (enforced, most uint32, c code) {
	c = functionNotFound
	if d.has["nvmlDeviceGetEnforcedPowerLimit"] {
		v, r := d.dev.GetEnforcedPowerLimit()
		if c = code(r); c == success {
			enforced = v
		}
	}
	if d.has["nvmlDeviceGetPowerManagementLimitConstraints"] && !c.fate().dire() {
		if _, v, r := d.dev.GetPowerManagementLimitConstraints(); r == nvml.SUCCESS {
			most, c = v, success
		}
	}
	return enforced, most, c
}

func (d *bound) Utilization() (uint32, code) {
	if !d.has["nvmlDeviceGetUtilizationRates"] {
		return 0, functionNotFound
	}
	v, r := d.dev.GetUtilizationRates()
	return v.Gpu, code(r)
}

func (d *bound) Memory() (used, total uint64, c code) {
	c = functionNotFound
	if d.has["nvmlDeviceGetMemoryInfo_v2"] {
		v, r := d.dev.GetMemoryInfo_v2()
		if c = code(r); c == success || c.fate() != unsupported {
			return v.Used, v.Total, c
		}
	}
	if d.has["nvmlDeviceGetMemoryInfo"] {
		v, r := d.dev.GetMemoryInfo()
		return v.Used, v.Total, code(r)
	}
	return 0, 0, c
}

func (d *bound) Temperature() (int32, code) {
	c := functionNotFound
	if d.has["nvmlDeviceGetTemperatureV"] {
		v, r := d.dev.GetTemperatureV().V1()
		if c = code(r); c == success || c.fate() != unsupported {
			return v.Temperature, c
		}
	}
	if d.has["nvmlDeviceGetTemperature"] {
		v, r := d.dev.GetTemperature(nvml.TEMPERATURE_GPU)
		return int32(v), code(r)
	}
	return 0, c
}

func (d *bound) Margin() (int32, code) {
	if !d.has["nvmlDeviceGetMarginTemperature"] {
		return 0, functionNotFound
	}
	v, r := d.dev.GetMarginTemperature()
	return v.MarginTemperature, code(r)
}

func (d *bound) Clocks() (sm, memory uint32, c code) {
	if !d.has["nvmlDeviceGetClockInfo"] {
		return 0, 0, functionNotFound
	}
	sm, r := d.dev.GetClockInfo(nvml.CLOCK_SM)
	if r != nvml.SUCCESS {
		return 0, 0, code(r)
	}
	memory, r = d.dev.GetClockInfo(nvml.CLOCK_MEM)
	return sm, memory, code(r)
}

func (d *bound) Processes() ([]process, code) {
	if !d.any("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses") {
		return nil, functionNotFound
	}
	list, r := d.dev.GetComputeRunningProcesses()
	if r != nvml.SUCCESS {
		return nil, code(r)
	}
	if len(list) == 0 && d.any("nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v2", "nvmlDeviceGetMPSComputeRunningProcesses") {
		if list, r = d.dev.GetMPSComputeRunningProcesses(); r != nvml.SUCCESS && code(r).fate().dire() {
			return nil, code(r)
		}
	}
	out := make([]process, 0, len(list))
	for _, p := range list {
		x := process{pid: int(p.Pid), memory: p.UsedGpuMemory}
		if x.memory > 1<<50 { // NVML_VALUE_NOT_AVAILABLE
			x.memory = 0
		}
		out = append(out, x)
	}
	return out, success
}

func (d *bound) ProcessUse(sinceUS uint64) ([]use, code) {
	if !d.has["nvmlDeviceGetProcessUtilization"] {
		return nil, functionNotFound
	}
	list, r := d.dev.GetProcessUtilization(sinceUS)
	if r == nvml.ERROR_INSUFFICIENT_SIZE && len(list) == 0 {
		return nil, notFound // room for none is wanted
	}
	if r != nvml.SUCCESS {
		return nil, code(r)
	}
	out := make([]use, 0, len(list))
	for _, u := range list {
		out = append(out, use{pid: int(u.Pid), stampUS: u.TimeStamp, percent: u.SmUtil})
	}
	return out, success
}

func (d *bound) MIG() (bool, code) {
	if !d.has["nvmlDeviceGetMigMode"] {
		return false, functionNotFound
	}
	current, _, r := d.dev.GetMigMode()
	return current == nvml.DEVICE_MIG_ENABLE, code(r)
}

func (d *bound) SliceSlots() (int, code) {
	if !d.has["nvmlDeviceGetMaxMigDeviceCount"] {
		return 0, functionNotFound
	}
	n, r := d.dev.GetMaxMigDeviceCount()
	return n, code(r)
}

func (d *bound) Slice(slot int) (Slice, code) {
	if !d.has["nvmlDeviceGetMigDeviceHandleByIndex"] || !d.has["nvmlDeviceGetGpuInstanceId"] ||
		!d.has["nvmlDeviceGetComputeInstanceId"] || !d.has["nvmlDeviceGetUUID"] {
		return Slice{}, functionNotFound
	}
	mig, r := d.dev.GetMigDeviceHandleByIndex(slot)
	if r != nvml.SUCCESS {
		return Slice{}, code(r)
	}
	var s Slice
	if s.UUID, r = mig.GetUUID(); r != nvml.SUCCESS {
		return Slice{}, code(r)
	}
	if s.Instance, r = mig.GetGpuInstanceId(); r != nvml.SUCCESS {
		return Slice{}, code(r)
	}
	if s.Compute, r = mig.GetComputeInstanceId(); r != nvml.SUCCESS {
		return Slice{}, code(r)
	}
	if d.any("nvmlDeviceGetAttributes_v2", "nvmlDeviceGetAttributes") {
		if a, r := mig.GetAttributes(); r == nvml.SUCCESS {
			s.Slices, s.InstanceSlices = int(a.ComputeInstanceSliceCount), int(a.GpuInstanceSliceCount)
			s.Memory = a.MemorySizeMB << 20
		}
	}
	return s, success
}

// SliceCount is the largest GPU instance that the board knows.
func (d *bound) SliceCount() (int, code) {
	if !d.has["nvmlDeviceGetGpuInstanceProfileInfo"] {
		return 0, functionNotFound
	}
	most, last := 0, notSupported
	for _, profile := range []int{
		nvml.GPU_INSTANCE_PROFILE_8_SLICE, nvml.GPU_INSTANCE_PROFILE_7_SLICE,
		nvml.GPU_INSTANCE_PROFILE_6_SLICE, nvml.GPU_INSTANCE_PROFILE_4_SLICE,
	} {
		info, r := d.dev.GetGpuInstanceProfileInfo(profile)
		if r == nvml.SUCCESS {
			most = max(most, int(info.SliceCount))
		} else {
			last = code(r)
		}
	}
	if most > 0 {
		return most, success
	}
	return 0, last
}
