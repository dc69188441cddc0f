package emulate

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v3/common"
	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/load"
	"github.com/shirou/gopsutil/v3/mem"
	"go.yaml.in/yaml/v3"
)

// TestNodeMoves starts each machine as people do, and sees the configuration of
// the agent and the host move.
func TestNodeMoves(t *testing.T) {
	on := map[string]string{
		"leonardo": "host nvml rapl", "dgx-h100": "host nvml rapl", "lumi": "host amdgpu cray", "jupiter": "host hwmon nvml",
	}
	for _, machine := range Machines() {
		t.Run(machine, func(t *testing.T) {
			t.Parallel()
			root := filepath.Join(t.TempDir(), "node")
			e, err := Start(Options{Machine: machine, Root: root, Seed: 3, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(e.Config())
			if err != nil {
				t.Fatal(err)
			}
			var cfg struct {
				Listen string
				NVML   struct{ Library string }
				Path   struct{ Sysfs, Procfs string }

				Sources map[string]struct{ Enabled bool }
			}
			if err := yaml.Unmarshal(text, &cfg); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(cfg.Listen, "127.0.0.1:") || cfg.NVML.Library != e.Library() || !strings.HasPrefix(cfg.Path.Sysfs, root) {
				t.Errorf("agent.yaml: %+v", cfg)
			}
			for name, s := range cfg.Sources {
				if s.Enabled != strings.Contains(on[machine], name) {
					t.Errorf("source %s: %v", name, s.Enabled)
				}
			}
			if e.Library() != "" {
				if _, err := os.Stat(e.Library()); err != nil {
					t.Error(err)
				}
			}
			ctx := context.WithValue(t.Context(), common.EnvKey, common.EnvMap{common.HostProcEnvKey: cfg.Path.Procfs})
			times := func() cpu.TimesStat {
				times, err := cpu.TimesWithContext(ctx, false)
				if err != nil || len(times) != 1 {
					t.Fatalf("processor times %v, %v", times, err)
				}
				return times[0]
			}
			a, began := times(), time.Now()
			for first := a; a == first; { // it was written before the library was compiled
				if time.Since(began) > 10*time.Second {
					t.Fatal("the tree does not move")
				}
				time.Sleep(10 * time.Millisecond)
				a = times()
			}
			began = time.Now()
			if m, err := mem.VirtualMemoryWithContext(ctx); err != nil || m.Total != memoryKiB<<10 || m.Used == 0 {
				t.Errorf("memory %v, %v", m, err)
			}
			if l, err := load.AvgWithContext(ctx); err != nil || l.Load1 == 0 {
				t.Errorf("load %v, %v", l, err)
			}
			time.Sleep(time.Second)
			b, passed := times(), time.Since(began).Seconds()*float64(e.plan.cpus)
			busy, idle := b.User+b.System-a.User-a.System, b.Idle-a.Idle
			if busy <= 0 || idle <= 0 || busy+idle < 0.3*passed || busy+idle > 3*passed {
				t.Errorf("in %.1f s of all processors %.1f s busy and %.1f s idle", passed, busy, idle)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			if machine != "lumi" {
				return
			}
			// Again in the same folder; in another, not.
			e, err = Start(Options{Machine: machine, Root: root, Seed: 3, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			if _, err := Start(Options{Machine: machine, Root: filepath.Dir(root), Now: time.Now}); err == nil {
				t.Error("a folder with other things in it was taken")
			}
		})
	}
}

func TestNoCompiler(t *testing.T) {
	_, err := Start(Options{Machine: "leonardo", Root: t.TempDir(), Now: time.Now, Compiler: "no-such-compiler"})
	if err == nil || !strings.Contains(err.Error(), "cannot compile the emulated NVML with no-such-compiler") {
		t.Errorf("%v", err)
	}
	path := filepath.Join(t.TempDir(), "s.txt")
	if err := os.WriteFile(path, []byte("missing_symbol nvmlDeviceGetNothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Start(Options{Machine: "leonardo", Root: t.TempDir(), Scenario: path, Now: time.Now})
	if err == nil || !strings.Contains(err.Error(), "nvmlDeviceGetNothing: the emulated library has no such function anyway") {
		t.Errorf("%v", err)
	}
}
