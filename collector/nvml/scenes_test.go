//go:build cgo && linux

package nvml_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/collector/nvml"
	"github.com/wattledger/wattledger/internal/energy"
)

func scenes() []scene {
	missing := func(names []string) string {
		return "missing_symbol " + strings.Join(names, "\nmissing_symbol ") + "\n"
	}
	return []scene{
		{"gh200", "jupiter", "field 191 returns 3 gpu 3\n", seeGH200},
		{"faults", "dgx-h100", "at 3s for 8s gpu 3 hang\nat 4s for 5s gpu 5 lost\nat 5s for 1s gpu 6 xid 31\nat 4s for 2s gpu 1 blank\n", seeFaults},
		{"reload", "leonardo", "at 3s for 6s driver_reload\n", seeReload},
		{"h100", "dgx-h100", "", seeH100},
		{"mismatch", "leonardo", "at 4s version_mismatch\n", seeMismatch},
		{"no symbols but energy", "leonardo", missing(optional()), seeEnergyAlone},
		{"no symbols", "leonardo", missing(append(optional(), "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetUUID")), seeNothing},
		{"no init", "leonardo", missing([]string{"nvmlInit_v2"}), seeNoInit},
		{"mig", "dgx-h100", "mig gpu 0 1g.10gb 2g.20gb@3 3g.40gb\n", seeMIG},
		{"names", "dgx-h100", "minors 3 1 4 0 5 7 2 6\nmig gpu 4 1g.10gb 2g.20gb@3 3g.40gb\ngpu 2 process 4711 sm 60\ngpu 2 process 4712\n", seeNames},
	}
}

// optional are entry points that a library may lack.
func optional() []string {
	return []string{
		"nvmlSystemGetDriverVersion", "nvmlDeviceGetName", "nvmlDeviceGetMinorNumber", "nvmlDeviceGetPersistenceMode", "nvmlDeviceGetPciInfo_v3",
		"nvmlDeviceGetFieldValues", "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimitConstraints", "nvmlDeviceGetPowerUsage",
		"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature",
		"nvmlDeviceGetMarginTemperature", "nvmlDeviceGetClockInfo", "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v3",
		"nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount", "nvmlEventSetWait_v2", "nvmlEventSetCreate", "nvmlDeviceRegisterEvents",
	}
}

func seeH100(n *node) {
	var first, last map[string]collector.Reading
	gauges := map[string]bool{}
	n.reads(8*time.Second, func(_ time.Duration, r map[string]collector.Reading) {
		if n.last != nil || len(r) != 8 {
			n.Fatalf("%d readings, %v", len(r), n.last)
		}
		if first == nil {
			first = r
		}
		last = r
		for _, g := range r["gpu2"].Gauges {
			gauges[g.Name] = true
		}
	})
	for i := range 8 {
		name := gpu(i)
		n.agrees(name, first[name], last[name])
		if !last[name].HasPower || last[name].Activity == collector.NotKnown || last[name].Epoch != first[name].Epoch {
			n.Errorf("%+v", last[name])
		}
	}
	for _, name := range []string{
		"utilization_ratio", "memory_used_bytes", "temperature_celsius", "memory_temperature_celsius", "temperature_margin_celsius", "clock_sm_hertz",
		"throttle_power_seconds_total", "throttle_hardware_thermal_seconds_total", "remapped_rows_pending", "recovery_action", "nvlink_receive_bytes_total",
		"power_limit_watts",
	} {
		if !gauges[name] {
			n.Errorf("no %s", name)
		}
	}
	if st := n.s.Stats(); st.Refused > 0 || st.Unknown > 0 {
		n.Errorf("%+v", st)
	}
	n.Logf("events %v\nstats %+v", n.events, n.s.Stats())
}

// One GPU hangs, one falls off the bus and comes back, one says an Xid, one
// shows blanks.
func seeFaults(n *node) {
	hung, lost, blank := "gpu3", "gpu5", "gpu1"
	var first, last map[string]collector.Reading
	threads := 0
	n.reads(24*time.Second, func(at time.Duration, r map[string]collector.Reading) {
		if first == nil {
			first = r
		}
		last = r
		for i := range 8 {
			name := gpu(i)
			if _, ok := r[name]; !ok && name != hung && name != lost && name != blank {
				n.Errorf("after %v: no reading of %s: %v", at, name, n.last)
			}
		}
		if at > 6*time.Second && threads == 0 {
			threads = countThreads(n)
		}
	})
	if len(last) != 8 || n.last != nil {
		n.Fatalf("at the end: %d readings, %v\n%v", len(last), n.last, n.events)
	}
	for i := range 8 {
		if name := gpu(i); name != lost {
			n.agrees(name, first[name], last[name])
		}
	}
	if last[lost].Epoch == first[lost].Epoch {
		n.Errorf("the counter of the lost GPU began at 0 in the same epoch")
	}
	for _, e := range [][3]string{
		{"gpu_hung", hung, ""},
		{"gpu_back", hung, ""},
		{"gpu_lost", lost, "15"},
		{"gpu_back", lost, ""},
		{"counter_reset", lost, ""},
		{"xid", lost, "79 (hardware)"},
		{"xid", "gpu6", "31 (application)"},
	} {
		if !n.saw(e[0], e[1], e[2]) {
			n.Errorf("no event %v in %v", e, n.events)
		}
	}
	slices.Sort(n.late)
	if p99 := n.late[len(n.late)*99/100]; p99 > 100*time.Millisecond {
		n.Errorf("p99 of the lateness is %v", p99)
	}
	if now := countThreads(n); now > threads+2 {
		n.Errorf("%d threads, %d during the hang", now, threads)
	}
	n.Logf("events %v\nstats %+v", n.events, n.s.Stats())
}

func countThreads(n *node) int {
	n.Helper()
	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		n.Fatal(err)
	}
	return len(list)
}

func seeReload(n *node) {
	var first, last map[string]collector.Reading
	n.reads(22*time.Second, func(_ time.Duration, r map[string]collector.Reading) {
		if first == nil {
			first = r
		}
		last = r
	})
	if len(last) != 4 || n.last != nil {
		n.Fatalf("%v, %v\n%v", last, n.last, n.events)
	}
	for name := range last {
		if last[name].Epoch == first[name].Epoch || last[name].Counter > 20_000*energy.Joule {
			n.Errorf("%s: before %+v, after %+v", name, first[name], last[name])
		}
	}
}

func seeMismatch(n *node) {
	n.reads(10*time.Second, nil)
	if !errors.Is(n.last, nvml.ErrRestart) {
		n.Errorf("%v", n.last)
	}
}

// Nothing is called that the library lacks: the process would end.
func seeEnergyAlone(n *node) {
	n.reads(6*time.Second, func(_ time.Duration, r map[string]collector.Reading) {
		if len(r) != 4 || n.last != nil || r["gpu1"].Scope.Kind != collector.Counter || r["gpu1"].Counter == 0 {
			n.Errorf("%v, %v", r, n.last)
		}
	})
}

func seeNothing(n *node) {
	n.reads(6*time.Second, func(_ time.Duration, r map[string]collector.Reading) {
		if len(r) != 0 || n.last == nil {
			n.Errorf("%v, %v", r, n.last)
		}
	})
}

func seeNoInit(n *node) {
	n.reads(3*time.Second, func(_ time.Duration, r map[string]collector.Reading) {
		if n.last == nil || !strings.Contains(n.last.Error(), "not an NVML library") {
			n.Errorf("%v, %v", r, n.last)
		}
	})
}

func seeMIG(n *node) {
	name := "gpu0"
	var last map[string]collector.Reading
	n.reads(7*time.Second, func(_ time.Duration, r map[string]collector.Reading) { last = r })
	if len(last) != 8 || last[name].Scope.Kind != collector.Counter {
		n.Fatalf("%v, %v", last, n.last)
	}
	s := n.s.Slices()
	if len(s) != 3 {
		n.Fatalf("slices %+v", s)
	}
	sum := 0
	for _, x := range s {
		sum += x.Slices
		if x.GPU != name || x.Of != 7 || !strings.HasPrefix(x.UUID, "MIG-") || x.Memory == 0 {
			n.Errorf("%+v", x)
		}
	}
	if sum != 6 {
		n.Errorf("%d of 7 slices", sum)
	}
}

// The minors run in neither order; every name of a GPU leads to the meter of its
// device file, whose energy is that of the truth.
func seeNames(n *node) {
	var first, last map[string]collector.Reading
	n.reads(5*time.Second, func(_ time.Duration, r map[string]collector.Reading) {
		if first == nil {
			first = r
		}
		last = r
	})
	if n.last != nil || len(last) != 8 {
		n.Fatalf("%v, %v", last, n.last)
	}
	at := func(ref, meter string, weight uint32) {
		n.Helper()
		got, ok := n.s.Locate(ref)
		if want := (collector.Place{Meter: meter, Weight: weight}); ok != (meter != "") || ok && got != want {
			n.Errorf("%s is %+v, %v; want %+v", ref, got, ok, want)
		}
	}
	for index, minor := range []int{3, 1, 4, 0, 5, 7, 2, 6} {
		name := gpu(minor)
		n.agrees(name, first[name], last[name])
		at(fmt.Sprintf("minor:%d", minor), name, collector.Whole)
		at(fmt.Sprintf("index:%d", index), name, collector.Whole)
		at(fmt.Sprintf("pci:0000:%02x:00.0", 0x1b+0x20*index), name, collector.Whole)
		at(last[name].Scope.Device, name, collector.Whole)
	}
	for _, x := range n.s.Slices() {
		weight := uint32(collector.Whole * x.Slices / 7)
		at(x.UUID, "gpu4", weight)
		at(fmt.Sprintf("gi:4/%d", x.Instance), "gpu4", weight)
		// as the driver numbers them: 3, then nine for each of fifteen instances
		at(fmt.Sprintf("capability:%d", 3+4*135+x.Instance*9+1), "gpu4", weight)
		at(fmt.Sprintf("capability:%d", 3+3*135+x.Instance*9+1), "", 0) // of gpu3, which is whole
	}
	for _, d := range n.s.Processes() {
		switch d.Meter {
		case "gpu2":
			if len(d.Processes) != 2 || d.Processes[0].PID != 4711 || d.Processes[0].Use != 600_000 || d.Processes[1].Use != 0 || !d.HasUse {
				n.Errorf("processes of gpu2 %+v", d)
			}
		case "gpu4":
			if d.HasUse {
				n.Errorf("use of processes on a board in MIG mode: %+v", d)
			}
		}
	}
	if len(n.s.Processes()) != 8 {
		n.Errorf("processes %+v", n.s.Processes())
	}
}

// GPUs 0 to 2 tell both energies apart by field 191; GPU 3 does not, and is told
// by its power after 30 s. Module and GPU are never both roots.
func seeGH200(n *node) {
	var mid, last map[string]collector.Reading
	n.reads(42*time.Second, func(at time.Duration, r map[string]collector.Reading) {
		if at > 36*time.Second && mid == nil {
			mid = r
		}
		last = r
	})
	if n.last != nil || len(last) != 7 {
		n.Fatalf("%d readings: %v, %v\n%v", len(last), last, n.last, n.events)
	}
	for i := range 4 {
		gpu := gpu(i)
		module := "module" + strings.TrimPrefix(gpu, "gpu")
		n.agrees(fmt.Sprintf("module%d", i), mid[module], last[module])
		x, ok := last[gpu]
		if ok != (i != 3) || ok && x.Scope.Parent != module {
			n.Errorf("%s: %+v", gpu, x.Scope)
		}
		if ok {
			n.agrees(gpu, mid[gpu], x)
		}
	}
	for i := range 4 { // jobs hold gpu3, whatever its counter covers
		if p, ok := n.s.Locate(fmt.Sprintf("minor:%d", i)); !ok || p.Meter != gpu(i) {
			n.Errorf("minor:%d is %+v, %v", i, p, ok)
		}
	}
	if !n.saw("scope_decided", "gpu3", "") || !n.saw("scope_probing", "gpu3", "") {
		n.Errorf("%v", n.events)
	}
	n.Logf("events %v", n.events)
}

// gpu is a meter: truth, scenario and source all call it by its device file.
func gpu(i int) string { return fmt.Sprintf("gpu%d", i) }
