package main

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/energy"
)

// TestWitnessesSayWhy: no witness is left without a reason of its own.
func TestWitnessesSayWhy(t *testing.T) {
	blade := t.TempDir()
	write(t, filepath.Join(blade, "cray/pm_counters/energy"), "0 J 1 us\n")
	f := func(name, source string, class energy.Class, want string) {
		t.Helper()
		s := collector.Scope{Name: name, Class: class, Witness: true}
		if got := because(s, source, &config.Agent{Cray: true, Sysfs: blade}); got != want {
			t.Errorf("%s of %s: %q; want %q", name, source, got, want)
		}
	}
	f("node-bmc", "ipmi", energy.Node, "sources.ipmi.booked is false")
	f("node-redfish", "redfish", energy.Node, "sources.redfish.booked is false")
	f("gpu3-redfish", "redfish", energy.GPU, "a controller's power of one part is too coarse to book")
	f("gpu0-amdgpu", "amdgpu", energy.GPU, "the blade's pm_counters are booked")
	f("package0-rapl", "rapl", energy.CPU, "the blade's pm_counters are booked")
	f("gpu0-suspect", "amdgpu", energy.GPU, "its counter and its power do not agree")
	f("psys", "rapl", energy.Node, "what a platform counter contains differs from board to board")
	f("module0-hwmon", "hwmon", energy.GPU, "the module is booked by its NVML counter")
	f("gpu1", "nvml", energy.GPU, "whether its counter is the GPU's or the whole module's is not known")
}

// superchip gives gauges until it was read that often.
type superchip struct {
	reads, decided int
	name           string
}

func (s *superchip) Name() string { return s.name }

func (s *superchip) Read(context.Context) ([]collector.Reading, error) {
	s.reads++
	gauges := collector.Reading{Scope: collector.Scope{Name: "gpu0", Kind: collector.Gauges}}
	if s.reads < s.decided {
		return []collector.Reading{gauges}, nil
	}
	return []collector.Reading{gauges, {Scope: collector.Scope{Name: "module0"}}}, nil
}

// TestCheckWaitsForSuperchips: but for nothing else.
func TestCheckWaitsForSuperchips(t *testing.T) {
	f := func(name string, decided, want int) {
		t.Helper()
		s := &superchip{name: name, decided: decided}
		if _, err := readSettled(t.Context(), s); err != nil || s.reads != want {
			t.Errorf("%s, decided at read %d: %d reads, %v; want %d", name, decided, s.reads, err, want)
		}
	}
	f("nvml", 1, 1)
	f("nvml", 2, 2)
	f("simulated", 9, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &superchip{name: "nvml", decided: 9}
	if _, err := readSettled(ctx, s); err != nil || s.reads != 1 {
		t.Errorf("%d reads after the end of its context, %v", s.reads, err)
	}
}
