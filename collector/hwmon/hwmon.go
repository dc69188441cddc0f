// Package hwmon reads the power meters that the kernel lists under
// /sys/class/hwmon: on Grace and GH200 the ACPI power meters of each module
// (drivers/hwmon/acpi_power_meter.c), and, where asked for, the energy counters
// of Intel GPUs (drivers xe and i915).
//
// On GH200 a module contains GPU, HBM, Grace, memory and losses; grace contains
// cpu and sysio. There is no counter: power is given and the agent integrates
// it. The module's own meter is a witness, because NVML counts the module.
package hwmon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/sysfs"
	"github.com/wattledger/wattledger/internal/sysfs/journal"
)

const class = "class/hwmon"

// Source reads the power meters of a node.
type Source struct {
	// Parts books cpu and sysio inside grace, instead of showing them.
	Parts bool
	// Intel reads the energy counters of Intel GPUs as gpu0 and so on. It is not
	// for nodes whose processor has a display adapter beside other GPUs.
	Intel bool

	sys, proc *sysfs.Root
	now       func() time.Time
	boot      string
	sensors   []*sensor
	gpus      map[string]int // numbers of Intel GPUs by PCI address
	rescan    sysfs.Rescan
	broken    bool
	journal   journal.Journal
}

// New makes the source. sys and proc are the roots of sysfs and procfs; of the
// latter the boot id is read, for Intel's counters.
func New(sys, proc *sysfs.Root, now func() time.Time) *Source {
	return &Source{sys: sys, proc: proc, now: now, gpus: map[string]int{}}
}

// Name is "hwmon".
func (s *Source) Name() string { return "hwmon" }

// Events are power meters without a name, and sensors that gave nothing.
func (s *Source) Events() []collector.Event { return s.journal.Events() }

// Read gives a reading of each sensor. A zero is none: the sensor had nothing
// to say, and the time is bridged or missing by how long that lasts. It is an
// error when it begins and an event, with its count, when it is over.
func (s *Source) Read(ctx context.Context) ([]collector.Reading, error) {
	if s.rescan.Due(s.now(), s.broken) {
		if err := s.scan(); err != nil {
			s.broken = true
			return nil, err
		}
	}
	if len(s.sensors) == 0 {
		return nil, fmt.Errorf("there is no power meter under %s", s.sys.Full(class))
	}
	out := make([]collector.Reading, 0, len(s.sensors))
	var gauges []collector.Gauge
	var errs []error
	s.broken = false
	for _, m := range s.sensors {
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		at := s.now()
		v, err := m.file.Uint()
		if err == nil {
			err = m.plausible(v)
		}
		switch {
		case err != nil:
			s.broken = true
			errs = append(errs, &collector.DeviceError{Device: m.scope.Name, Err: err})
			continue
		case v == 0 && m.scope.Kind != collector.Counter:
			if m.zeros++; m.zeros == 1 {
				errs = append(errs, &collector.DeviceError{Device: m.scope.Name, Err: fmt.Errorf("%s reads 0: no data", m.file.Full())})
			}
			continue
		case m.zeros > 0:
			s.journal.Add(at, "zero_readings", m.scope.Name, fmt.Sprintf("%d readings in a row were 0 and were not taken for power", m.zeros))
			m.zeros = 0
		}
		r := collector.Reading{Scope: m.scope, At: at}
		switch m.scope.Kind {
		case collector.Counter:
			r.Epoch, r.Counter = m.epoch, energy.Microjoules(v)
		case collector.Power:
			r.Power, r.HasPower = energy.Microwatts(v), true
		case collector.Gauges:
			if gauges == nil {
				gauges = make([]collector.Gauge, 0, len(s.sensors))
			}
			gauges = append(gauges, collector.Gauge{Name: "power_watts", Value: float64(v) / 1e6})
			r.Gauges = gauges[len(gauges)-1:]
		}
		out = append(out, r)
	}
	return out, errors.Join(errs...)
}

// graceCore is in MIDR_EL1 of Grace's cores: architecture and part of Neoverse V2
// (Arm Neoverse V2 Technical Reference Manual), whatever the revision.
const graceCore = "fd4f"

// Probe says which power meters a Grace node would have and this one has not.
func (s *Source) Probe(context.Context) []collector.Missing {
	const load = "modprobe acpi_power_meter force_cap_on=y && echo 'options acpi_power_meter force_cap_on=y' > /etc/modprobe.d/wattledger.conf"
	err := s.scan()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return []collector.Missing{{Meter: s.Name(), Why: err.Error()}}
	}
	if len(s.sensors) == 0 {
		m := collector.Missing{Meter: s.Name(), Why: "no power meter with a name of a Grace socket under " + s.sys.Full(class)}
		if midr, err := s.sys.Text("devices/system/cpu/cpu0/regs/identification/midr_el1"); err == nil && strings.Contains(midr, graceCore) {
			m.Why, m.Mend = m.Why+": the kernel is without CONFIG_SENSORS_ACPI_POWER, or its module is not loaded", load
		} else {
			m.Why += ", and this is no Grace node"
		}
		return []collector.Missing{m}
	}
	var out []collector.Missing
	for _, m := range s.sensors {
		v, err := m.file.Uint()
		switch {
		case err != nil:
			out = append(out, collector.Missing{Meter: m.scope.Name, Why: err.Error()})
		case v == 0:
			out = append(out, collector.Missing{Meter: m.scope.Name, Why: m.file.Full() + " reads 0: no data"})
		}
	}
	return out
}
