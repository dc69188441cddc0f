package nvml

import (
	"math"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

// Before Volta there is no counter: power is integrated.
func TestNoEnergyCounter(t *testing.T) {
	f := func(what string, energyCode, fieldsCode code, want collector.Kind) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			l := newFake(t, 1)
			g := l.gpus[0]
			g.codes["energy"], g.codes["fields"] = energyCode, fieldsCode
			g.fields[[2]uint32{fieldEnergy, 0}] = field{Code: notSupported}
			d := l.drive(Options{})
			defer d.end()
			d.tick()
			r := d.tick()["gpu0"]
			if r.Scope.Kind != want || !r.HasPower || r.Power != 300*energy.Watt || d.err != nil {
				t.Errorf("%s: %+v, %v", what, r, d.err)
			}
			if want == collector.Counter && r.Counter < 1e12 {
				t.Errorf("%s: counter %d", what, r.Counter)
			}
			if want == collector.Power && (!d.saw("no_energy_counter", "gpu0") || g.calls["energy"] != 1) {
				t.Errorf("%s: events %v, asked %d times", what, d.events, g.calls["energy"])
			}
		})
	}
	f("no field, but the call", success, success, collector.Counter)
	f("a library without fields", success, functionNotFound, collector.Counter)
	f("fields of another version", success, structVersion, collector.Counter)
	f("neither", notSupported, success, collector.Power)
	f("neither, no fields", functionNotFound, functionNotFound, collector.Power)
	f("not for us", noPermission, success, collector.Power)
}

// Each entry point missing in turn: the rest is read, and nothing is called that
// is not there (the fake answers as the guard does).
func TestMissingSymbols(t *testing.T) {
	for _, call := range []string{
		"uuid", "name", "minor", "pci", "persistent", "fields", "energy", "power", "limits", "utilization", "memory",
		"temperature", "margin", "clocks", "processes", "mig", "slots", "slice", "profile", "register",
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newFake(t, 2)
			l.gpus[0].codes[call], l.gpus[1].codes[call] = functionNotFound, functionNotFound
			l.gpus[1].migOn, l.gpus[1].mig = true, []*Slice{{UUID: "MIG-1"}}
			d := l.drive(Options{})
			defer d.end()
			if r := d.ticks(3); len(r) != 2 && call != "uuid" || d.err != nil || r["gpu0"].Counter == 0 {
				t.Errorf("%s: %v, %v", call, r, d.err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 1)
		l.noEvents = true
		d := l.drive(Options{})
		defer d.end()
		if r := d.ticks(3); len(r) != 1 || d.err != nil {
			t.Errorf("no events: %v, %v", r, d.err)
		}
	})
}

func TestWhatIsNoValue(t *testing.T) {
	all := uint64(math.MaxUint64)
	zero := uint64(0)
	absurd := uint64(math.MaxInt64)
	for _, n := range []*uint64{&all, &zero, &absurd} {
		synctest.Test(t, func(t *testing.T) {
			l := newFake(t, 2)
			d := l.drive(Options{})
			defer d.end()
			before := d.ticks(2)["gpu0"]
			l.with(func() { l.gpus[0].energyIs = n })
			for range 10 {
				r := d.tick()
				if _, ok := r["gpu0"]; ok || len(r) != 1 || len(d.failed()) != 1 {
					t.Fatalf("%d mJ became %+v", *n, r["gpu0"])
				}
			}
			l.with(func() { l.gpus[0].energyIs = nil })
			if r := d.tick()["gpu0"]; r.Epoch != before.Epoch || r.Counter <= before.Counter {
				t.Errorf("after: %+v", r)
			}
			if d.s.Stats().Refused < 10 {
				t.Errorf("%d refused", d.s.Stats().Refused)
			}
		})
	}
}

// dcgm-exporter#312: 644,245,923 degC; #418: utilisation above 100.
func TestAbsurdFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 1)
		g := l.gpus[0]
		g.percent = 101
		g.fields[[2]uint32{fieldMemoryTemp, 0}] = field{Type: typeUint32, Raw: 644_245_923}
		g.fields[[2]uint32{fieldPowerLimit, 0}] = field{Type: 99, Raw: 1}
		g.fields[[2]uint32{74, 0}] = field{Type: typeUint64, Raw: math.MaxUint64}
		g.fields[[2]uint32{75, 0}] = field{Type: typeInt64, Raw: blankInt64 + 2}
		g.fields[[2]uint32{fieldPowerAverage, 0}] = field{Type: typeUint32, Raw: 3_000_000_000} // 3 MW
		g.fields[[2]uint32{fieldRowsPending, 0}] = field{Type: typeUint32, Raw: 1}
		g.fields[[2]uint32{fieldRecovery, 0}] = field{Type: typeUint32, Raw: 4}
		d := l.drive(Options{Slow: time.Second})
		defer d.end()
		d.ticks(3)
		r := d.tick()["gpu0"]
		for _, name := range []string{"utilization_ratio", "memory_temperature_celsius", "power_limit_watts", "throttle_power_seconds_total", "throttle_thermal_seconds_total"} {
			if v, ok := gauge(r, name); ok {
				t.Errorf("%s is %v", name, v)
			}
		}
		if v, _ := gauge(r, "throttle_sync_boost_seconds_total"); v != 76 {
			t.Errorf("a good value beside them is %v", v)
		}
		if r.Power != 300*energy.Watt || r.Activity != collector.NotKnown {
			t.Errorf("power %d, activity %v", r.Power, r.Activity) // the instant value stands in
		}
		if d.s.Stats().Refused < 10 {
			t.Errorf("%d refused", d.s.Stats().Refused)
		}
		if d.count("row_remap_pending") != 1 || d.count("recovery_action") != 1 || !strings.Contains(d.events[len(d.events)-1].Detail, "drain and reset") {
			t.Errorf("events %v", d.events)
		}
	})
}

func TestFieldsAreDecodedByType(t *testing.T) {
	f := func(kind uint32, raw uint64, whole uint64, isWhole bool, number float64, isNumber bool) {
		t.Helper()
		x := field{Type: kind, Raw: raw}
		if n, ok := x.uint(); ok != isWhole || ok && n != whole {
			t.Errorf("type %d, %#x: whole %d %v", kind, raw, n, ok)
		}
		if n, ok := x.number(); ok != isNumber || ok && n != number {
			t.Errorf("type %d, %#x: number %v %v", kind, raw, n, ok)
		}
	}
	f(typeUint32, 7, 7, true, 7, true)
	f(typeUint32, 0xdeadbeef_00000007, 7, true, 7, true) // the rest of the union is noise
	f(typeUint32, math.MaxUint32, 0, false, 0, false)
	f(typeUint16, 7, 7, true, 7, true)
	f(typeUint16, math.MaxUint16, 0, false, 0, false)
	f(typeUint64, 1<<40, 1<<40, true, 1<<40, true)
	f(typeUlong, 1<<40, 1<<40, true, 1<<40, true)
	f(typeUint64, math.MaxUint64, 0, false, 0, false)
	f(typeUint64, blankInt64+1, 0, false, 0, false)
	minus5 := int32(-5)
	f(typeInt32, uint64(uint32(minus5)), 0, false, -5, true)
	f(typeInt32, blankInt32+3, 0, false, 0, false)
	f(typeInt64, blankInt64, 0, false, 0, false)
	f(typeDouble, math.Float64bits(1.5), 0, false, 1.5, true)
	f(typeDouble, math.Float64bits(blankDouble+1), 0, false, 0, false)
	f(typeDouble, math.Float64bits(math.NaN()), 0, false, 0, false)
	f(42, 7, 0, false, 0, false)
}

// superchip makes GPU i one of a Grace Hopper module.
func (l *fakeLibrary) superchip(i int, gpu, module float64, counter uint32) *fakeGPU {
	g := l.gpus[i]
	g.product, g.watts, g.moduleWatts, g.counterScope = "NVIDIA GH200 120GB", gpu, module, counter
	return g
}

// zeus#172: the counter of a GH200 is the whole module's.
func TestScopeProbe(t *testing.T) {
	f := func(what string, gpu, module float64, set func(*fakeGPU), event, meter string, witness bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			l := newFake(t, 2)
			g := l.superchip(1, gpu, module, scopeModule)
			if set != nil {
				set(g)
			}
			d := l.drive(Options{})
			defer d.end()
			for i := range 29 {
				r := d.tick()
				if r["gpu0"].Scope.Kind != collector.Counter || r["gpu0"].Counter == 0 {
					t.Fatalf("%s: the H100 beside it waits for the probe", what)
				}
				for name, x := range r {
					if name != "gpu0" && x.Scope.Kind != collector.Gauges {
						t.Fatalf("%s: booked after %d s: %+v", what, i, x)
					}
				}
			}
			r := d.ticks(100)
			x, ok := r[meter]
			if !ok || !d.saw(event, "gpu1") || d.count("scope_probing") != 1 || x.Scope.Witness != witness || x.Counter == 0 || len(r) != 2 {
				t.Fatalf("%s: %+v\n%v", what, r, d.events)
			}
			if meter == "module1" && (x.Scope.Class != energy.GPU || x.Scope.Rest != energy.GPU || what == "busy module" && x.Power != 760*energy.Watt) {
				t.Errorf("%s: %+v", what, x)
			}
		})
	}
	f("idle module", 100, 190, nil, "scope_decided", "module1", false)
	f("busy module", 600, 760, nil, "scope_decided", "module1", false)
	f("counter of the GPU", 300, 450, func(g *fakeGPU) { g.counterScope = scopeGPU }, "scope_decided", "gpu1", false)
	f("power that reads 4 % low", 600, 760, func(g *fakeGPU) {
		g.fields[[2]uint32{fieldPowerInstant, scopeGPU}] = field{Type: typeUint32, Raw: 576_000}
		g.fields[[2]uint32{fieldPowerInstant, scopeModule}] = field{Type: typeUint32, Raw: 730_000}
	}, "scope_decided", "module1", false)
	wrong := field{Type: typeUint32, Raw: 900_000}
	f("neither fits", 300, 450, func(g *fakeGPU) {
		g.fields[[2]uint32{fieldPowerInstant, scopeGPU}] = wrong
		g.fields[[2]uint32{fieldPowerInstant, scopeModule}] = wrong
	}, "scope_unknown", "gpu1", true)
	f("power of the GPU refused", 100, 190, func(g *fakeGPU) {
		g.fields[[2]uint32{fieldPowerInstant, scopeGPU}] = field{Code: notSupported}
		g.fields[[2]uint32{fieldPowerAverage, scopeGPU}] = field{Code: notSupported}
	}, "scope_decided", "module1", false)
	f("no power of the module", 100, 0, func(g *fakeGPU) { g.counterScope = scopeGPU }, "scope_decided", "gpu1", false)
	f("too near to tell", 440, 450, nil, "scope_unknown", "gpu1", true)
}

func TestTwoCountersOnAModule(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	for run := range 2 {
		synctest.Test(t, func(t *testing.T) {
			l := newFake(t, 1)
			l.superchip(0, 300, 450, scopeModule).twoCounters = true
			d := l.drive(Options{State: state})
			defer d.end()
			if run == 0 {
				d.ticks(31)
			}
			a := d.tick()
			b := d.ticks(10)
			gpu, module := b["gpu0"], b["module0"]
			if len(b) != 2 || gpu.Scope.Parent != "module0" || module.Scope.Rest != energy.Other || gpu.Scope.Witness || module.Scope.Witness {
				t.Fatalf("run %d: %+v", run, b)
			}
			if g, m := gpu.Counter-a["gpu0"].Counter, module.Counter-a["module0"].Counter; g != 3000*energy.Joule || m != 4500*energy.Joule {
				t.Errorf("run %d: GPU %d, module %d uJ", run, g, m)
			}
		})
	}
}

// What was found out is not found out again.
func TestScopeIsRemembered(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	for run := range 2 {
		synctest.Test(t, func(t *testing.T) {
			l := newFake(t, 1)
			l.superchip(0, 100, 190, scopeModule)
			d := l.drive(Options{State: state})
			defer d.end()
			if run == 0 {
				d.ticks(33)
			}
			if r := d.tick(); len(r) != 1 || r["module0"].Counter == 0 {
				t.Errorf("run %d: %v", run, r)
			}
		})
	}
}

func TestMIG(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 2)
		g := l.gpus[0]
		g.migOn = true
		g.mig = []*Slice{
			{UUID: "MIG-a", Instance: 1, Slices: 3},
			nil, nil,
			{UUID: "MIG-b", Instance: 5, Slices: 2},
			nil,
			{UUID: "MIG-c", Instance: 9, Slices: 1},
			nil,
		}
		d := l.drive(Options{Slow: 2 * time.Second})
		defer d.end()
		r := d.ticks(3)
		// guilbaults PR#55, dcgm-exporter#317: one meter per board
		if len(r) != 2 || r["gpu0"].Scope.Kind != collector.Counter || d.err != nil {
			t.Fatalf("%v, %v", r, d.err)
		}
		s := d.s.Slices()
		if len(s) != 3 || s[1].UUID != "MIG-b" || s[1].GPU != "gpu0" || s[1].Of != 7 || s[1].Since.IsZero() || !d.saw("mig_changed", "gpu0") {
			t.Fatalf("slices %+v, events %v", s, d.events)
		}
		if r["gpu0"].Activity != collector.Resting {
			t.Errorf("no process, yet %v", r["gpu0"].Activity)
		}
		if _, ok := gauge(r["gpu0"], "utilization_ratio"); ok {
			t.Error("utilisation on a board in MIG mode")
		}
		l.with(func() { g.processes = []process{{pid: 7}, {pid: 8}} })
		if r := d.ticks(4); r["gpu0"].Activity != collector.Working {
			t.Errorf("two processes, yet %v", r["gpu0"].Activity)
		}
		// The same numbers again, other slices: they are told apart.
		was := s[0].Since
		l.with(func() { g.mig[0] = &Slice{UUID: "MIG-d", Instance: 1, Slices: 3} })
		d.ticks(14)
		if s = d.s.Slices(); len(s) != 3 || s[0].UUID != "MIG-d" || !s[0].Since.After(was) || s[1].Since != was || d.count("mig_changed") != 2 {
			t.Errorf("slices %+v", s)
		}
		l.with(func() { g.migOn = false })
		r = d.ticks(16)
		if v, ok := gauge(r["gpu0"], "utilization_ratio"); !ok || v != 0.5 || len(d.s.Slices()) != 0 {
			t.Errorf("after MIG: %+v", r["gpu0"])
		}
	})
}

func TestXid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFake(t, 2)
		d := l.drive(Options{})
		defer d.end()
		d.ticks(2)
		l.xids <- event{Source: l.gpus[1], Critical: true, Data: 79, Instance: math.MaxUint32}
		l.xids <- event{Source: l.gpus[0], Critical: true, Data: 31, Instance: 2}
		l.xids <- event{Source: "somebody", Critical: true, Data: 999, Instance: math.MaxUint32}
		l.xids <- event{Source: l.gpus[0], Data: 1}
		d.ticks(2)
		if d.count("xid") != 3 || !d.saw("xid", "gpu1") || !d.saw("xid", "") {
			t.Fatalf("events %v", d.events)
		}
		if got := d.events[0].Detail; got != "Xid 79 (hardware)" {
			t.Error(got)
		}
		if got := d.events[1].Detail; got != "Xid 31 (application), GPU instance 2" {
			t.Error(got)
		}
		l.with(func() { l.waits = 0 })
		d.ticks(10)
		if l.waits != 10 {
			t.Errorf("asked %d times in 10 ticks", l.waits)
		}
		l.with(func() { l.babble, l.waits = true, 0 })
		d.ticks(10)
		if l.waits > 10*mostXids {
			t.Errorf("asked %d times in 10 ticks by a library that has always one more", l.waits)
		}
		// Nobody asks: the events are bounded.
		for range 2 * maxEvents {
			d.s.mu.Lock()
			d.s.tell(time.Now(), "xid", "gpu0", "")
			d.s.mu.Unlock()
		}
		if n := len(d.s.Events()); n != maxEvents || d.s.Stats().Dropped == 0 {
			t.Errorf("%d events", n)
		}
	})
}

func TestCodes(t *testing.T) {
	f := func(c code, want string, fate fate) {
		t.Helper()
		if c.String() != want || c.fate() != fate {
			t.Errorf("%d: %s, %d", uint32(c), c, c.fate())
		}
	}
	f(success, "SUCCESS (0)", fine)
	f(notSupported, "NOT_SUPPORTED (3)", unsupported)
	f(gpuIsLost, "GPU_IS_LOST (15)", lost)
	f(versionMismatch, "LIB_RM_VERSION_MISMATCH (18)", restart)
	f(27, "NOT_READY (27)", hiccup)
	f(29, "INVALID_STATE (29)", hiccup)
	f(31, "return code 31", hiccup)
	f(unknownError, "UNKNOWN (999)", hiccup)
}
