//go:build gpu

package gpu_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/collector/nvml"
	"github.com/wattledger/wattledger/internal/energy"
)

const readFor = 60 * time.Second

// meter is one GPU over the minute: its counter, and the integral of its power
// along the line between readings.
type meter struct {
	first, last collector.Reading
	power       energy.Integral
	reads       int
	busy        int
}

// TestCounterAgainstPower reads every GPU once a second for a minute, under the
// load that WATTLEDGER_GPU_LOAD names (a command that runs for a minute or
// more), and holds the energy counter against integrated power.
func TestCounterAgainstPower(t *testing.T) {
	if devices, _ := filepath.Glob("/dev/nvidia[0-9]*"); len(devices) == 0 {
		t.Skip("no NVIDIA GPU on this machine: nothing was checked")
	}
	s, err := nvml.New(nvml.Options{Now: time.Now, Procfs: "/proc", State: filepath.Join(t.TempDir(), "nvml.json")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background()) //nolint:errcheck // the process ends
	if load := os.Getenv("WATTLEDGER_GPU_LOAD"); load != "" {
		ctx, cancel := context.WithTimeout(t.Context(), readFor+30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-c", load)
		if err := cmd.Start(); err != nil {
			t.Fatalf("cannot start the load %q: %v", load, err)
		}
		defer cmd.Wait() //nolint:errcheck // it is cut
		time.Sleep(5 * time.Second)
	} else {
		t.Log("no load: set WATTLEDGER_GPU_LOAD to a command that keeps the GPUs busy")
	}
	meters := read(t, s)
	if len(meters) == 0 {
		t.Fatal("there are GPUs, and no meter was read")
	}
	fmt.Printf("%-10s %6s %12s %12s %8s %6s\n", "meter", "reads", "counter J", "power J", "apart", "busy")
	for name, m := range meters {
		counted := float64((m.last.Counter - m.first.Counter).Joules())
		drawn := float64(m.power.Odometer().Joules())
		apart := (counted - drawn) / drawn
		fmt.Printf("%-10s %6d %12.1f %12.1f %7.2f%% %5.0f%%\n", name, m.reads, counted, drawn, 100*apart, 100*float64(m.busy)/float64(m.reads))
		if counted <= 0 {
			t.Errorf("%s: the counter did not move in a minute", name)
		}
		// one sensor is behind both; A100's power is sampled a quarter of the time
		if apart > 0.1 || apart < -0.1 {
			t.Errorf("%s: counter and integrated power are %.1f %% apart", name, 100*apart)
		}
	}
}

func read(t *testing.T, s *nvml.Source) map[string]*meter {
	t.Helper()
	meters := map[string]*meter{}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for end := time.Now().Add(readFor); time.Now().Before(end); <-tick.C {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		list, err := s.Read(ctx)
		cancel()
		if err != nil {
			t.Logf("a reading: %v", err)
		}
		for _, r := range list {
			if r.Scope.Kind != collector.Counter || !r.HasPower {
				continue
			}
			m := meters[r.Scope.Name]
			if m == nil {
				m = &meter{first: r}
				meters[r.Scope.Name] = m
			}
			m.power.Add(r.At.UnixNano(), r.Power)
			m.last, m.reads = r, m.reads+1
			if r.Activity == collector.Working {
				m.busy++
			}
		}
	}
	return meters
}
