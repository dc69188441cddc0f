// Package rapl reads the processors' energy counters through powercap
// (Documentation/power/powercap/powercap.rst): one meter for each package (or
// die of a package) and one for the memory beside it. Intel and AMD come under
// the same names; AMD gives no memory.
//
// What is summed is package + dram. A package holds its core and uncore zones,
// psys holds packages and memory, and intel-rapl-mmio shows a package a second
// time: psys is a witness, the others are not read.
package rapl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/sysfs"
	"github.com/wattledger/wattledger/internal/sysfs/journal"
)

const class = "class/powercap"

// Source reads the RAPL zones of a node.
type Source struct {
	// Witness makes every meter one that is compared and not booked, named
	// package0-rapl and so on: for nodes whose processors another source meters.
	Witness bool

	sys, proc *sysfs.Root
	now       func() time.Time
	boot      string
	zones     []*zone
	rescan    sysfs.Rescan
	broken    bool
	journal   journal.Journal
}

// New makes the source. sys and proc are the roots of sysfs and procfs; the
// epoch of the counters is the boot, which procfs names.
func New(sys, proc *sysfs.Root, now func() time.Time) *Source {
	return &Source{sys: sys, proc: proc, now: now}
}

// Name is "rapl".
func (s *Source) Name() string { return "rapl" }

// Events are meters that were passed over.
func (s *Source) Events() []collector.Event { return s.journal.Events() }

// Read gives a reading of each zone, with a stamp of its own. What one zone
// refuses (EINVAL, EIO, EACCES are known) costs that zone.
func (s *Source) Read(ctx context.Context) ([]collector.Reading, error) {
	if s.boot == "" {
		boot, err := s.proc.BootID()
		if err != nil {
			return nil, fmt.Errorf("cannot tell this boot from the next: %w", err)
		}
		s.boot = boot
	}
	if s.rescan.Due(s.now(), s.broken) {
		if err := s.scan(); err != nil {
			s.broken = true
			return nil, err
		}
	}
	if len(s.zones) == 0 {
		return nil, fmt.Errorf("there is no package under %s", s.sys.Full(class))
	}
	out := make([]collector.Reading, 0, len(s.zones))
	var errs []error
	for _, z := range s.zones {
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		at := s.now()
		uj, err := z.read()
		if err != nil {
			errs = append(errs, &collector.DeviceError{Device: z.scope.Name, Err: err})
			continue
		}
		out = append(out, collector.Reading{Scope: z.scope, At: at, Epoch: s.boot, Counter: uj})
	}
	s.broken = len(errs) > 0
	return out, errors.Join(errs...)
}

// scan looks for zones, and keeps those that it knows.
func (s *Source) scan() error {
	names, err := s.sys.Entries(class)
	if err != nil {
		return fmt.Errorf("cannot look for RAPL zones: %w", err)
	}
	known := map[string]*zone{}
	for _, z := range s.zones {
		known[z.id+" "+z.label] = z
	}
	s.zones = nil
	labels := map[string]string{}
	taken := map[string]string{}
	for _, id := range names { // a zone comes before the zones inside it
		if !strings.HasPrefix(id, "intel-rapl:") {
			continue
		}
		label, err := s.sys.Text(class + "/" + id + "/name")
		if err != nil {
			s.journal.State(s.now(), "missing_meter", "", err.Error())
			continue
		}
		labels[id] = label
		up := ""
		if i := strings.LastIndexByte(id, ':'); i > 0 {
			up = labels[id[:i]]
		}
		name, what := meterOf(label, up)
		if what == nothing {
			continue
		}
		if first, twice := taken[name]; twice {
			s.journal.State(s.now(), "duplicate_meter", name, fmt.Sprintf("zone %s says it is %s, as %s does: not read", id, label, first))
			continue
		}
		taken[name] = id
		z := known[id+" "+label]
		delete(known, id+" "+label)
		if z == nil {
			z = newZone(s.sys, id, label, name, what)
			if s.Witness {
				z.scope.Name, z.scope.Witness = name+"-rapl", true
			}
		}
		s.zones = append(s.zones, z)
	}
	for _, z := range known {
		z.close()
	}
	return nil
}

// Probe says which of package and dram cannot be read, and what mends it.
func (s *Source) Probe(ctx context.Context) []collector.Missing {
	const load = "modprobe intel_rapl_msr && echo intel_rapl_msr > /etc/modules-load.d/wattledger.conf"
	err := s.scan()
	if err != nil || len(s.zones) == 0 {
		m := collector.Missing{Meter: "rapl", Why: "no powercap zone named package-N under " + s.sys.Full(class) + ": the module is not loaded, or this processor has no RAPL (virtual machines have none)", Mend: load}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.Why, m.Mend = err.Error(), ""
		} else if s.sys.Has("devices/system/cpu/cpu0/regs/identification/midr_el1") {
			m.Why, m.Mend = "this is an ARM processor, which has no RAPL", ""
		}
		return []collector.Missing{m}
	}
	var out []collector.Missing
	dram := false
	for _, z := range s.zones {
		dram = dram || z.what == memory
		_, err := z.read()
		switch {
		case ctx.Err() != nil:
			return out
		case err == nil:
		case errors.Is(err, fs.ErrPermission):
			out = append(out, collector.Missing{
				Meter: z.scope.Name, Why: err.Error(),
				Mend: "systemd-tmpfiles --create /usr/lib/tmpfiles.d/wattledger-rapl.conf   # and the agent's user must be in the group wattledger",
			})
		default:
			out = append(out, collector.Missing{Meter: z.scope.Name, Why: err.Error()})
		}
	}
	if !dram {
		out = append(out, collector.Missing{Meter: "dram0", Why: "the processor has no zone named dram (AMD and desktop parts have none): memory is metered only as part of a node meter"})
	}
	return out
}
