package hwmon

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/sysfs"
)

// absurd is a power that no socket has; it is not even shown.
const absurd = 100_000 * uint64(energy.Watt)

// sensor is one attribute, kept open.
type sensor struct {
	path  string
	file  *sysfs.File
	scope collector.Scope
	epoch string // of counters
	zeros int    // readings of 0 in a row
}

func (m *sensor) plausible(v uint64) error {
	if m.scope.Kind != collector.Counter && v > absurd {
		return fmt.Errorf("%s reads %d uW: no socket draws that", m.file.Full(), v)
	}
	return nil
}

// scan lists the chips; sensors that are known stay open.
func (s *Source) scan() error {
	chips, err := s.sys.Entries(class)
	if err != nil {
		return fmt.Errorf("cannot look for power meters: %w", err)
	}
	var found []*sensor
	taken := map[string]string{}
	for _, chip := range chips {
		m := s.sensorOf(class + "/" + chip)
		if m == nil {
			continue
		}
		if first, twice := taken[m.scope.Name]; twice {
			s.journal.State(s.now(), "duplicate_meter", m.scope.Name, fmt.Sprintf("%s says it is %s, as %s does: not read", m.path, m.scope.Name, first))
			continue
		}
		taken[m.scope.Name] = m.path
		found = append(found, m)
	}
	for _, old := range s.sensors {
		kept := false
		for i, m := range found {
			if m.path == old.path && m.scope == old.scope && m.epoch == old.epoch {
				found[i], kept = old, true
			}
		}
		if !kept {
			_ = old.file.Close()
		}
	}
	s.sensors = found
	return nil
}

// sensorOf is what a chip meters, nil for one that is not ours.
func (s *Source) sensorOf(dir string) *sensor {
	name, err := s.sys.Text(dir + "/name")
	if err != nil {
		if name, err = s.sys.Text(dir + "/device/name"); err != nil {
			return nil
		}
	}
	switch {
	case name == "power_meter":
		return s.acpi(dir)
	case s.Intel && (name == "xe" || name == "i915"):
		return s.intel(dir)
	}
	return nil
}

// acpi is a power meter of Grace by the name that firmware gives it. Its files
// are with the chip or, in older kernels, with its device.
func (s *Source) acpi(dir string) *sensor {
	at := ""
	for _, d := range []string{dir + "/device", dir} {
		if s.sys.Has(d + "/power1_average") {
			at = d
			break
		}
	}
	label := ""
	for _, d := range []string{dir + "/device", dir} {
		if text, err := s.sys.Text(d + "/power1_oem_info"); err == nil && text != "" {
			label = text
			break
		}
	}
	scope, ok := s.scopeOf(label)
	if !ok || at == "" {
		s.journal.State(s.now(), "unknown_meter", path.Base(dir), fmt.Sprintf("a power meter named %.64q is none that we know", label))
		return nil
	}
	scope.Device = label
	file := at + "/power1_average"
	return &sensor{path: file, file: s.sys.File(file), scope: scope}
}

// scopeOf turns "Grace Power Socket 2" into grace2, inside module2.
func (s *Source) scopeOf(label string) (collector.Scope, bool) {
	what, socket, ok := strings.Cut(label, " Power Socket ")
	n, good := sysfs.ParseUint([]byte(socket))
	if !ok || !good || n > 1000 {
		return collector.Scope{}, false
	}
	k := strconv.FormatUint(n, 10)
	sc := collector.Scope{Kind: collector.Power, Class: energy.CPU}
	switch strings.ToLower(what) {
	case "module":
		sc.Name, sc.Class, sc.Rest, sc.Limit, sc.Witness = "module"+k+"-hwmon", energy.GPU, energy.GPU, 3000*energy.Watt, true
	case "grace":
		sc.Name, sc.Parent, sc.Rest, sc.Limit = "grace"+k, "module"+k, energy.CPU, 1500*energy.Watt
	case "cpu", "sysio":
		sc.Name, sc.Parent, sc.Limit = strings.ToLower(what)+k, "grace"+k, 1000*energy.Watt
		if !s.Parts {
			sc.Kind = collector.Gauges
		}
	default:
		return sc, false
	}
	return sc, true
}

// intel is the energy counter of a card, in microjoules since the driver was
// loaded (Documentation/ABI/testing/sysfs-driver-intel-xe-hwmon).
func (s *Source) intel(dir string) *sensor {
	file := dir + "/energy1_input"
	if !s.sys.Has(file) {
		return nil
	}
	if s.boot == "" {
		boot, err := s.proc.BootID()
		if err != nil {
			s.journal.State(s.now(), "missing_meter", path.Base(dir), "cannot tell this boot from the next: "+err.Error())
			return nil
		}
		s.boot = boot
	}
	address, err := s.sys.Target(dir + "/device")
	if err != nil {
		s.journal.State(s.now(), "missing_meter", path.Base(dir), err.Error())
		return nil
	}
	k, known := s.gpus[address]
	if !known {
		k = len(s.gpus)
		s.gpus[address] = k
	}
	limit := 2000 * energy.Watt
	if uw, err := s.sys.Uint(dir + "/power1_max"); err == nil && uw >= uint64(50*energy.Watt) && uw < uint64(limit)/2 {
		limit = 2 * energy.Microwatts(uw)
	}
	return &sensor{
		// the chip has another number after the driver was loaded again
		path: file, file: s.sys.File(file), epoch: s.boot + "/" + address + "/" + path.Base(dir),
		scope: collector.Scope{Name: "gpu" + strconv.Itoa(k), Class: energy.GPU, Kind: collector.Counter, Limit: limit, Device: address},
	}
}
