package emulate

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

func (in *inside) returns(what string, got, want nvml.Return) {
	in.Helper()
	if got != want {
		in.Errorf("%s: %v; want %v", what, got, want)
	}
}

func TestFaults(t *testing.T) {
	t.Run("values", func(t *testing.T) {
		emulated(t, "dgx-h100", `
			at 3s for 3s gpu 0 blank
			at 3s for 3s gpu 1 backwards
			at 3s for 3s gpu 2 stuck
			at 3s for 3s gpu 3 absurd
			at 3s gpu 4 reset
			at 3s for 3s call nvmlDeviceGetPowerUsage returns 999 gpu 5
			at 3s for 3s field 83 returns 21 gpu 6
			gpu 7 process 4711 sm 60
			gpu 7 process 4712
			at 3s for 3s gpu 7 recovery 4
		`, func(in *inside) {
			gpus := in.init()
			read := func(i int) uint64 {
				in.Helper()
				v, ret := gpus[i].GetTotalEnergyConsumption()
				in.ok(ret, "energy")
				return v
			}
			in.until(2500 * time.Millisecond)
			for i, d := range gpus {
				in.counter(d, gpuName(i))
			}
			before := make([]uint64, len(gpus))
			for i := range gpus {
				before[i] = read(i)
			}
			in.until(3300 * time.Millisecond)
			frozen := read(2)
			in.until(4200 * time.Millisecond)
			if v := read(0); v != ^uint64(0) {
				in.Errorf("blank: %d", v)
			}
			if v := read(1); v >= before[1] || v < before[1]-10_000_000 {
				in.Errorf("backwards: %d after %d", v, before[1])
			}
			if v := read(2); v != frozen || v < before[2] {
				in.Errorf("stuck: %d after %d", v, frozen)
			}
			if v := read(3); v < before[3]+1_000_000_000_000 {
				in.Errorf("absurd: %d after %d", v, before[3])
			}
			if v := read(4); v == 0 || v > 2_500_000 {
				in.Errorf("reset: %d mJ after about a second", v)
			}
			_, ret := gpus[5].GetPowerUsage()
			in.returns("call", ret, nvml.ERROR_UNKNOWN)
			in.returns("field", nvml.Return(field(gpus[6], 83, 0).NvmlReturn), nvml.ERROR_NO_DATA)
			in.returns("field of another", nvml.Return(field(gpus[5], 83, 0).NvmlReturn), nvml.SUCCESS)
			if f := field(gpus[7], 230, 0); word(f) != 4 {
				in.Errorf("recovery action %d", word(f))
			}
			p, ret := gpus[7].GetComputeRunningProcesses()
			if ret != nvml.SUCCESS || len(p) != 2 || p[0].Pid != 4711 || p[1].Pid != 4712 || p[0].GpuInstanceId != ^uint32(0) {
				in.Errorf("processes %+v, %v", p, ret)
			}
			u, ret := gpus[7].GetProcessUtilization(0)
			if ret != nvml.SUCCESS || len(u) != 1 || u[0].Pid != 4711 || u[0].SmUtil != 60 {
				in.Fatalf("use of processes %+v, %v", u, ret)
			}
			if at := time.UnixMicro(int64(u[0].TimeStamp)); at.After(time.Now()) || time.Since(at) > 2*time.Second {
				in.Errorf("use of processes at %v", at)
			}
			_, ret = gpus[7].GetProcessUtilization(u[0].TimeStamp + 10_000_000)
			in.returns("use after now", ret, nvml.ERROR_NOT_FOUND)
			in.until(6200 * time.Millisecond)
			for _, i := range []int{0, 1, 2, 3, 5, 6, 7} {
				in.counter(gpus[i], gpuName(i))
			}
		})
	})
	t.Run("lost", func(t *testing.T) {
		emulated(t, "dgx-h100", `
			at 3s for 1s gpu 3 lost
			at 3500ms gpu 1 xid 31
			at 3s for 1s gpu 5 hang
			at 3s for 1s gpu 6 reset
			at 5s for 1s driver_reload
			at 7s version_mismatch
		`, func(in *inside) {
			gpus := in.init()
			set, ret := in.EventSetCreate()
			in.ok(ret, "event set")
			for _, d := range gpus {
				in.ok(d.RegisterEvents(nvml.EventTypeXidCriticalError, set), "register")
			}
			_, ret = set.Wait(100)
			in.returns("no event", ret, nvml.ERROR_TIMEOUT)
			in.until(3100 * time.Millisecond)
			_, ret = gpus[3].GetTotalEnergyConsumption()
			in.returns("energy of a lost GPU", ret, nvml.ERROR_GPU_IS_LOST)
			_, ret = in.DeviceGetHandleByIndex(4)
			in.returns("handle of a lost GPU", ret, nvml.ERROR_GPU_IS_LOST)
			_, ret = gpus[6].GetTotalEnergyConsumption()
			in.returns("energy in a reset", ret, nvml.ERROR_RESET_REQUIRED)
			in.counter(gpus[2], "gpu2")
			began := time.Now()
			in.counter(gpus[5], "gpu5") // waits
			if waited := time.Since(began); waited < 300*time.Millisecond {
				in.Errorf("the call hung for %s", waited)
			}
			var seen []uint64
			for range 2 {
				ev, ret := set.Wait(100)
				in.ok(ret, "event")
				seen = append(seen, ev.EventData)
			}
			if !slices.Equal(seen, []uint64{79, 31}) {
				in.Errorf("Xids %v", seen)
			}
			_, ret = set.Wait(50)
			in.returns("each event once", ret, nvml.ERROR_TIMEOUT)
			in.ok(set.Free(), "free")
			// Back on the bus: old handles are dead, new ones good, the counter at 0.
			in.until(4200 * time.Millisecond)
			_, ret = gpus[3].GetPowerUsage()
			in.returns("the old handle", ret, nvml.ERROR_GPU_IS_LOST)
			_, ret = gpus[2].GetPowerUsage()
			in.returns("another's handle", ret, nvml.SUCCESS)
			in.ok(in.Shutdown(), "shutdown")
			_, ret = in.DeviceGetCount()
			in.returns("after shutdown", ret, nvml.ERROR_UNINITIALIZED)
			gpus = in.init()
			for _, i := range []int{3, 6} {
				if v, ret := gpus[i].GetTotalEnergyConsumption(); ret != nvml.SUCCESS || v > 1_000_000 {
					in.Errorf("GPU %d after it came back: %d mJ, %v", i, v, ret)
				}
			}
			in.counter(gpus[0], "gpu0")
			// The driver is loaded anew.
			in.until(5200 * time.Millisecond)
			_, ret = gpus[0].GetPowerUsage()
			in.returns("without a driver", ret, nvml.ERROR_UNKNOWN)
			in.ok(in.Shutdown(), "shutdown")
			in.returns("init without a driver", in.Init(), nvml.ERROR_DRIVER_NOT_LOADED)
			in.until(6200 * time.Millisecond)
			gpus = in.init()
			if v, ret := gpus[0].GetTotalEnergyConsumption(); ret != nvml.SUCCESS || v > 1_000_000 {
				in.Errorf("after a reload: %d mJ, %v", v, ret)
			}
			in.until(7200 * time.Millisecond)
			_, ret = gpus[0].GetPowerUsage()
			in.returns("another version", ret, nvml.ERROR_LIB_RM_VERSION_MISMATCH)
			in.ok(in.Shutdown(), "shutdown")
			in.returns("init of another version", in.Init(), nvml.ERROR_LIB_RM_VERSION_MISMATCH)
		})
	})
	t.Run("symbol", func(t *testing.T) {
		emulated(t, "leonardo", "missing_symbol nvmlDeviceGetMemoryInfo_v2", func(in *inside) {
			gpus := in.init()
			if in.Extensions().LookupSymbol("nvmlDeviceGetMemoryInfo_v2") == nil {
				in.Error("the symbol is there")
			}
			if err := in.Extensions().LookupSymbol("nvmlDeviceGetMemoryInfo"); err != nil {
				in.Error(err)
			}
			m, ret := gpus[0].GetMemoryInfo()
			if ret != nvml.SUCCESS || m.Total != 64<<30 {
				in.Errorf("memory %+v, %v", m, ret)
			}
		})
	})
}

func TestMIG(t *testing.T) {
	emulated(t, "dgx-h100", `
		mig gpu 0 1g.10gb 2g.20gb@3 3g.40gb@5
		at 3s mig gpu 0 3g.40gb@5 1g.10gb@2
	`, func(in *inside) {
		gpus := in.init()
		mode, _, ret := gpus[0].GetMigMode()
		in.ok(ret, "mode")
		other, _, _ := gpus[1].GetMigMode()
		if mode != nvml.DEVICE_MIG_ENABLE || other != nvml.DEVICE_MIG_DISABLE {
			in.Errorf("modes %d, %d", mode, other)
		}
		n, ret := gpus[0].GetMaxMigDeviceCount()
		in.ok(ret, "count")
		list := func() (found []string, first nvml.Device) {
			for i := range n {
				d, ret := gpus[0].GetMigDeviceHandleByIndex(i)
				if ret == nvml.ERROR_NOT_FOUND {
					continue
				}
				in.ok(ret, "handle")
				gi, _ := d.GetGpuInstanceId()
				a, ret := d.GetAttributes()
				in.ok(ret, "attributes")
				m, ret := d.GetMemoryInfo()
				in.ok(ret, "memory")
				uuid, _ := d.GetUUID()
				found = append(found, fmt.Sprintf("%d:%d:%d:%d:%v", i, gi, a.GpuInstanceSliceCount, a.MultiprocessorCount, m.Total == a.MemorySizeMB<<20))
				if first == nil {
					first = d
				}
				if same, ret := in.DeviceGetHandleByUUID(uuid); ret != nvml.SUCCESS || same != d {
					in.Errorf("%s is not found by its UUID: %v", uuid, ret)
				}
			}
			return found, first
		}
		found, slice := list()
		if got := fmt.Sprint(found); got != "[0:7:1:16:true 3:3:2:32:true 5:1:3:48:true]" {
			in.Errorf("slices %s", got)
		}
		_, ret = slice.GetTotalEnergyConsumption()
		in.returns("energy of a slice", ret, nvml.ERROR_NOT_SUPPORTED)
		_, ret = slice.GetUtilizationRates()
		in.returns("utilisation of a slice", ret, nvml.ERROR_NOT_SUPPORTED)
		_, ret = gpus[0].GetUtilizationRates()
		in.returns("utilisation of a board with slices", ret, nvml.ERROR_NOT_SUPPORTED)
		_, ret = gpus[1].GetUtilizationRates()
		in.returns("utilisation of a board without", ret, nvml.SUCCESS)
		board, ret := slice.GetDeviceHandleFromMigDeviceHandle()
		if ret != nvml.SUCCESS || board != gpus[0] {
			in.Errorf("the board of a slice: %v", ret)
		}
		in.counter(gpus[0], "gpu0")
		uuid, ret := slice.GetUUID()
		if ret != nvml.SUCCESS {
			in.Fatal(tooLate)
		}
		in.until(3200 * time.Millisecond)
		_, ret = slice.GetUUID()
		in.returns("a slice of the layout before", ret, nvml.ERROR_INVALID_ARGUMENT)
		found, slice = list()
		if got := fmt.Sprint(found); got != "[2:7:1:16:true 5:1:3:48:true]" {
			in.Errorf("slices %s", got)
		}
		if now, _ := slice.GetUUID(); now == uuid {
			in.Error("a new slice has the UUID of an old one")
		}
		in.counter(gpus[0], "gpu0")
	})
}
