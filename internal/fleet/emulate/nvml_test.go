package emulate

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// inside is an emulated node as a process sees it that loads its NVML.
type inside struct {
	nvml.Interface
	*testing.T
	root  string
	shown *clocked
	start time.Time
}

// emulated runs a test in a process of its own: go-nvml's symbols are bound once
// per process, to the first library.
func emulated(t *testing.T, machine, scenario string, body func(*inside)) {
	t.Helper()
	if root := os.Getenv("EMULATED_" + filepath.Base(t.Name())); root != "" {
		n, err := OpenNode(root)
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(n.Start) > 2300*time.Millisecond {
			t.Fatal(tooLate)
		}
		lib := nvml.New(nvml.WithLibraryPath(filepath.Join(root, "lib", soname)))
		body(&inside{Interface: lib, T: t, root: root, shown: &clocked{trace: n.trace, plan: n.plan}, start: n.Start})
		return
	}
	t.Parallel()
	for try := 1; ; try++ {
		out, err := apart(t, machine, scenario)
		switch {
		case err == nil && strings.Contains(out, "PASS"):
			return
		case strings.Contains(out, tooLate) && try < 4:
		default:
			t.Fatalf("inside: %v\n%s", err, out)
		}
	}
}

// tooLate: a busy machine let an instant of the scenario pass by.
const tooLate = "too late for the scenario"

func apart(t *testing.T, machine, scenario string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	o := Options{Machine: machine, Root: filepath.Join(dir, "node"), Seed: 7, Now: time.Now}
	if scenario != "" {
		o.Scenario = filepath.Join(dir, "scenario.txt")
		if err := os.WriteFile(o.Scenario, []byte(scenario), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "EMULATED_"+filepath.Base(t.Name())+"="+e.Root())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (in *inside) ok(ret nvml.Return, what string) {
	in.Helper()
	if ret != nvml.SUCCESS {
		in.Fatalf("%s: %v", what, ret)
	}
}

// init gives the GPUs by minor: the numbers of the scenario and of the meters.
func (in *inside) init() []nvml.Device {
	in.Helper()
	in.ok(in.Init(), "Init")
	n, ret := in.DeviceGetCount()
	in.ok(ret, "count")
	out := make([]nvml.Device, n)
	for i := range out {
		d, ret := in.DeviceGetHandleByIndex(i)
		in.ok(ret, "handle")
		minor, ret := d.GetMinorNumber()
		in.ok(ret, "minor")
		out[minor] = d
	}
	return out
}

// until waits for an instant of the scenario.
func (in *inside) until(after time.Duration) {
	in.Helper()
	time.Sleep(time.Until(in.start.Add(after)))
	if time.Since(in.start.Add(after)) > 200*time.Millisecond {
		in.Fatal(tooLate)
	}
}

// counter reads the energy counter of a device that shows a meter, and compares it
// with the truth at the last tenth of a second.
func (in *inside) counter(d nvml.Device, meter string) {
	in.Helper()
	at := func() uint64 {
		i, now := in.shown.index[meter], time.Now().Truncate(quantum)
		return uint64((in.shown.offset[i] + in.shown.energy(i, now)) / 1000)
	}
	before := at()
	got, ret := d.GetTotalEnergyConsumption()
	after := at()
	in.ok(ret, "energy")
	if f := field(d, nvml.FI_DEV_TOTAL_ENERGY_CONSUMPTION, 0); f.NvmlReturn != 0 || long(f) < got || long(f)-got > 500_000 {
		in.Errorf("%s: the counter shows %d mJ, field 83 %d", meter, got, long(f))
	}
	if got != before && got != after {
		in.Errorf("%s: the counter shows %d mJ; the truth is %d to %d", meter, got, before, after)
	}
}

func field(d nvml.Device, id, scope uint32) nvml.FieldValue {
	f := []nvml.FieldValue{{FieldId: id, ScopeId: scope}}
	if ret := d.GetFieldValues(f); ret != nvml.SUCCESS {
		f[0].NvmlReturn = uint32(ret)
	}
	return f[0]
}

func word(f nvml.FieldValue) uint32 {
	return uint32(f.Value[0]) | uint32(f.Value[1])<<8 | uint32(f.Value[2])<<16 | uint32(f.Value[3])<<24
}

func long(f nvml.FieldValue) uint64 {
	var v uint64
	for i := range 8 {
		v |= uint64(f.Value[i]) << (8 * i)
	}
	return v
}

// near tells whether a power is the mean of a meter before now, within per mille.
func (in *inside) near(mw uint32, meter string, window time.Duration, perMille uint64) {
	in.Helper()
	for _, at := range []time.Time{time.Now(), time.Now().Add(-quantum)} {
		want := in.shown.mean(in.shown.index[meter], at.Truncate(quantum), window)
		if off := max(uint64(mw), want) - min(uint64(mw), want); off*1000 <= want*perMille {
			return
		}
	}
	in.Errorf("%s: %d mW; the mean of the last %s is %d", meter, mw, window,
		in.shown.mean(in.shown.index[meter], time.Now().Truncate(quantum), window))
}

func TestCounters(t *testing.T) {
	t.Run("h100", func(t *testing.T) {
		emulated(t, "dgx-h100", "", func(in *inside) {
			gpus := in.init()
			if len(gpus) != 8 {
				in.Fatalf("%d GPUs", len(gpus))
			}
			for range 13 {
				for i, d := range gpus {
					in.counter(d, gpuName(i))
					mw, ret := d.GetPowerUsage()
					in.ok(ret, "power")
					in.near(mw, gpuName(i), time.Second, 1)
					in.near(word(field(d, nvml.FI_DEV_POWER_AVERAGE, 0)), gpuName(i), time.Second, 1)
					in.near(word(field(d, nvml.FI_DEV_POWER_INSTANT, 0)), gpuName(i), quantum, 41)
				}
				time.Sleep(70 * time.Millisecond)
			}
			in.fields(gpus[2])
			in.gauges(gpus[2])
		})
	})
	t.Run("a100", func(t *testing.T) {
		emulated(t, "leonardo", "", func(in *inside) {
			gpus := in.init()
			odd := 0
			for range 12 {
				for i, d := range gpus {
					in.counter(d, gpuName(i))
					mw, ret := d.GetPowerUsage()
					in.ok(ret, "power")
					in.near(mw, gpuName(i), quantum, 41)
					if mean := in.shown.mean(in.shown.index[gpuName(i)], time.Now().Truncate(quantum), quantum); uint64(mw) != mean {
						odd++
					}
				}
				time.Sleep(70 * time.Millisecond)
			}
			if odd < 24 {
				in.Errorf("a sensor that sees a quarter of the time told the mean %d times of 48", 48-odd)
			}
			if f := field(gpus[0], nvml.FI_DEV_POWER_AVERAGE, 0); nvml.Return(f.NvmlReturn) != nvml.ERROR_NOT_SUPPORTED {
				in.Errorf("average power of an A100: %v", nvml.Return(f.NvmlReturn))
			}
			if index, ret := gpus[0].GetIndex(); ret != nvml.SUCCESS || index != 3 {
				in.Errorf("minor 0 has index %d, %v", index, ret)
			}
		})
	})
	t.Run("gh200", func(t *testing.T) {
		emulated(t, "jupiter", "field 191 returns 3 gpu 3", func(in *inside) {
			gpus := in.init()
			for i, d := range gpus {
				in.counter(d, "module"+gpuName(i)[3:])
				mw, ret := d.GetPowerUsage()
				in.ok(ret, "power")
				in.near(mw, gpuName(i), time.Second, 1)
				in.near(word(field(d, nvml.FI_DEV_POWER_INSTANT, 1)), "module"+gpuName(i)[3:], quantum, 41)
				if f := field(d, nvml.FI_DEV_POWER_AVERAGE, 1); nvml.Return(f.NvmlReturn) != nvml.ERROR_NOT_SUPPORTED {
					in.Errorf("average power of the module: %v", nvml.Return(f.NvmlReturn))
				}
				whole, gpu := field(d, nvml.FI_DEV_ENERGY, 1), field(d, nvml.FI_DEV_ENERGY, 0)
				if i == 3 {
					if nvml.Return(gpu.NvmlReturn) != nvml.ERROR_NOT_SUPPORTED {
						in.Errorf("field 191 of GPU 3: %v", nvml.Return(gpu.NvmlReturn))
					}
				} else if long(gpu) == 0 || long(gpu) >= long(whole) {
					in.Errorf("scoped energy: GPU %d mJ, module %d", long(gpu), long(whole))
				}
			}
		})
	})
}

func gpuName(i int) string { return "gpu" + string(rune('0'+i)) }

// fields reads every field that a collector may want in one call.
func (in *inside) fields(d nvml.Device) {
	var ask []nvml.FieldValue
	add := func(scope uint32, ids ...uint32) {
		for _, id := range ids {
			ask = append(ask, nvml.FieldValue{FieldId: id, ScopeId: scope})
		}
	}
	add(0, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 142, 143, 144, 145, 185, 186, 187, 188, 189, 190, 191, 192, 193, 194, 195, 196, 197, 198, 230, 269, 270, 271)
	add(^uint32(0), 138, 139, 140, 141)
	good := len(ask)
	add(0, 201, 204, 9999)
	in.ok(d.GetFieldValues(ask), "fields")
	for i, f := range ask {
		switch {
		case i >= good && nvml.Return(f.NvmlReturn) != nvml.ERROR_NOT_SUPPORTED:
			in.Errorf("field %d: %v", f.FieldId, nvml.Return(f.NvmlReturn))
		case i < good && (f.NvmlReturn != 0 || f.LatencyUsec == 0 || time.Since(time.UnixMicro(f.Timestamp)) > 5*time.Second):
			in.Errorf("field %d: %v, stamp %d", f.FieldId, nvml.Return(f.NvmlReturn), f.Timestamp)
		}
	}
}

func (in *inside) gauges(d nvml.Device) {
	u, ret := d.GetUtilizationRates()
	in.ok(ret, "utilisation")
	if want := in.shown.used("util2", time.Now().Truncate(quantum)); max(uint64(u.Gpu), want)-min(uint64(u.Gpu), want) > 12 {
		in.Errorf("utilisation %d %%; the truth is %d", u.Gpu, want)
	}
	m, ret := d.GetMemoryInfo_v2()
	in.ok(ret, "memory")
	if m.Total != 81559<<20 || m.Used+m.Free+m.Reserved != m.Total {
		in.Errorf("memory %+v", m)
	}
	temp, ret := d.GetTemperatureV().V1()
	in.ok(ret, "temperature")
	margin, ret := d.GetMarginTemperature()
	in.ok(ret, "margin")
	if temp.Temperature < 30 || temp.Temperature > 80 || int(margin.MarginTemperature)+int(temp.Temperature) != 87 {
		in.Errorf("temperature %d, margin %d", temp.Temperature, margin.MarginTemperature)
	}
	limit, ret := d.GetEnforcedPowerLimit()
	in.ok(ret, "limit")
	p, ret := d.GetPciInfo()
	in.ok(ret, "PCI")
	uuid, ret := d.GetUUID()
	in.ok(ret, "UUID")
	same, ret := in.DeviceGetHandleByUUID(uuid)
	in.ok(ret, "handle by UUID")
	if i, ret := same.GetIndex(); ret != nvml.SUCCESS || i != 5 || limit != 700_000 || p.Bus != 0x1b+5*0x20 {
		in.Errorf("index %d (%v), limit %d, bus %x", i, ret, limit, p.Bus)
	}
	version, ret := in.SystemGetDriverVersion()
	if ret != nvml.SUCCESS || version != "560.28.03" {
		in.Errorf("driver %s, %v", version, ret)
	}
}
