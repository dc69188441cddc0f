//go:build cgo && linux

package nvml

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// binding is the real library. The symbols it has are looked up once: to call
// one that it lacks would end the process.
type binding struct {
	lib nvml.Interface
	has map[string]bool
}

// load maps the library at a path, or the one of that name that the linker
// finds. It is never unmapped: entry points stay bound to it.
func load(path string) (library, error) {
	so := dl.New(path, dl.RTLD_LAZY|dl.RTLD_LOCAL|dl.RTLD_NODELETE)
	if err := so.Open(); err != nil {
		return nil, err
	}
	b := &binding{lib: nvml.New(nvml.WithLibraryPath(path)), has: map[string]bool{}}
	for _, name := range symbols() {
		b.has[name] = so.Lookup(name) == nil
	}
	if !b.any("nvmlInit_v2", "nvmlInit") || !b.has["nvmlShutdown"] {
		return nil, errors.New("it has no nvmlInit or no nvmlShutdown: not an NVML library")
	}
	return b, nil
}

// symbols are the entry points that the calls below may lead to.
func symbols() []string {
	return []string{
		"nvmlInit_v2", "nvmlInit", "nvmlShutdown", "nvmlSystemGetDriverVersion",
		"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex",
		"nvmlDeviceGetHandleByPciBusId_v2", "nvmlDeviceGetHandleByPciBusId",
		"nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlDeviceGetMinorNumber", "nvmlDeviceGetPersistenceMode",
		"nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo",
		"nvmlDeviceGetFieldValues", "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage",
		"nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimitConstraints", "nvmlDeviceGetUtilizationRates",
		"nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature",
		"nvmlDeviceGetMarginTemperature", "nvmlDeviceGetClockInfo",
		"nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses",
		"nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v2", "nvmlDeviceGetMPSComputeRunningProcesses",
		"nvmlDeviceGetProcessUtilization",
		"nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex",
		"nvmlDeviceGetGpuInstanceId", "nvmlDeviceGetComputeInstanceId", "nvmlDeviceGetAttributes_v2", "nvmlDeviceGetAttributes",
		"nvmlDeviceGetGpuInstanceProfileInfo",
		"nvmlEventSetCreate", "nvmlEventSetWait_v2", "nvmlEventSetWait", "nvmlEventSetFree",
		"nvmlDeviceRegisterEvents", "nvmlDeviceGetSupportedEventTypes",
	}
}

// any tells whether the library has one of the versions of an entry point.
func (b *binding) any(names ...string) bool {
	for _, name := range names {
		if b.has[name] {
			return true
		}
	}
	return false
}

func (b *binding) Init() code { return code(b.lib.Init()) }

// Shutdown gives the library's own reference back. The mapping stays.
func (b *binding) Shutdown() code { return code(b.lib.Shutdown()) }

func (b *binding) DriverVersion() (string, code) {
	if !b.has["nvmlSystemGetDriverVersion"] {
		return "", functionNotFound
	}
	v, r := b.lib.SystemGetDriverVersion()
	return v, code(r)
}

func (b *binding) Count() (int, code) {
	if !b.any("nvmlDeviceGetCount_v2", "nvmlDeviceGetCount") {
		return 0, functionNotFound
	}
	n, r := b.lib.DeviceGetCount()
	return n, code(r)
}

func (b *binding) Device(index int) (device, code) {
	if !b.any("nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex") {
		return nil, functionNotFound
	}
	d, r := b.lib.DeviceGetHandleByIndex(index)
	return b.bind(d, r)
}

func (b *binding) DeviceAt(pci string) (device, code) {
	if !b.any("nvmlDeviceGetHandleByPciBusId_v2", "nvmlDeviceGetHandleByPciBusId") {
		return nil, functionNotFound
	}
	d, r := b.lib.DeviceGetHandleByPciBusId(pci)
	return b.bind(d, r)
}

func (b *binding) bind(d nvml.Device, r nvml.Return) (device, code) {
	if r != nvml.SUCCESS {
		return nil, code(r)
	}
	return &bound{binding: b, dev: d}, success
}

func (b *binding) EventSet() (eventSet, code) {
	if !b.any("nvmlEventSetWait_v2", "nvmlEventSetWait") || !b.has["nvmlEventSetCreate"] || !b.has["nvmlEventSetFree"] {
		return nil, functionNotFound
	}
	set, r := b.lib.EventSetCreate()
	return boundEvents{b, set}, code(r)
}

type boundEvents struct {
	*binding
	set nvml.EventSet
}

func (e boundEvents) Register(d device) code {
	b, ok := d.(*bound)
	if !ok {
		return invalidArgument
	}
	if !e.has["nvmlDeviceRegisterEvents"] {
		return functionNotFound
	}
	if e.has["nvmlDeviceGetSupportedEventTypes"] {
		types, r := b.dev.GetSupportedEventTypes()
		if r != nvml.SUCCESS {
			return code(r)
		}
		if types&nvml.EventTypeXidCriticalError == 0 {
			return notSupported
		}
	}
	return code(b.dev.RegisterEvents(nvml.EventTypeXidCriticalError, e.set))
}

func (e boundEvents) Wait(ms uint32) (event, code) {
	d, r := e.set.Wait(ms)
	return event{
		Source: d.Device, Critical: d.EventType&nvml.EventTypeXidCriticalError != 0, Data: d.EventData, Instance: d.GpuInstanceId,
	}, code(r)
}

func (e boundEvents) Free() code { return code(e.set.Free()) }

// bound is a handle of the real library.
type bound struct {
	*binding
	dev   nvml.Device
	batch []nvml.FieldValue // kept between calls
}

func (d *bound) Key() any { return d.dev }

func (d *bound) Fields(fields []field) code {
	if !d.has["nvmlDeviceGetFieldValues"] {
		return functionNotFound
	}
	if len(fields) == 0 {
		return success // the wrapper would panic
	}
	d.batch = d.batch[:0]
	for i := range fields {
		d.batch = append(d.batch, nvml.FieldValue{FieldId: fields[i].ID, ScopeId: fields[i].Scope})
	}
	r := d.dev.GetFieldValues(d.batch)
	for i := range fields {
		f, v := &fields[i], &d.batch[i]
		if v.FieldId != f.ID { // decoded by id, not by position
			f.Code = noData
			continue
		}
		f.Code, f.Type, f.LatencyUS = code(v.NvmlReturn), v.ValueType, v.LatencyUsec
		f.Raw = binary.NativeEndian.Uint64(v.Value[:])
	}
	return code(r)
}

func (d *bound) String() string { return fmt.Sprintf("handle %v", d.dev) }
