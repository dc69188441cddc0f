// Package amdgpu reads AMD GPUs through the files of the kernel's driver, with
// no library of the vendor: energy from gpu_metrics, power and temperatures
// from hwmon (Documentation/gpu/amdgpu/thermal.rst).
//
// A meter is what one energy counter covers. On MI250X that is a module (OAM)
// of two dies, two devices of which one counts for both; on other parts it is a
// device. Each file is read by one reader and a table by one read: shared or
// torn reads are how these counters have been seen to go back.
package amdgpu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/sysfs"
	"github.com/wattledger/wattledger/internal/sysfs/journal"
)

const (
	class  = "class/drm"
	vendor = "0x1002"
	gauges = 6 // at most, of a meter
)

// Source reads the AMD GPUs of a node.
type Source struct {
	// Witness makes every meter one that is compared and not booked, named
	// gpu0-amdgpu and so on: for nodes whose accelerators another source meters.
	Witness bool
	// Accelerators is how many meters gpu0, gpu1, ... that other source has, where
	// Witness is set; 0 if it has none or that is not known.
	Accelerators int

	sys, proc    *sysfs.Root
	now          func() time.Time
	boot         string
	dies         []*die
	meters       []*meter
	numbers      map[string]int                             // by the address of the die that counts
	pairs        map[string]string                          // address of a die to that of the one which counts for it
	renders      map[string][]uint64                        // address to minors of render nodes, of every device ever seen
	accelerators map[string]int                             // by the address of the die that counts: N of the other source's gpuN
	places       atomic.Pointer[map[string]collector.Place] // what Locate looks into
	rescan       sysfs.Rescan
	broken       bool
	journal      journal.Journal
}

// New makes the source. sys and proc are the roots of sysfs and procfs.
func New(sys, proc *sysfs.Root, now func() time.Time) *Source {
	return &Source{
		sys: sys, proc: proc, now: now, numbers: map[string]int{}, pairs: map[string]string{},
		renders: map[string][]uint64{}, accelerators: map[string]int{},
	}
}

// Name is "amdgpu".
func (s *Source) Name() string { return "amdgpu" }

// Events are resets, counters that are not trusted, and what is not known.
func (s *Source) Events() []collector.Event { return s.journal.Events() }

// Read gives a reading of each module.
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
	if len(s.meters) == 0 {
		return nil, fmt.Errorf("there is no AMD GPU under %s", s.sys.Full(class))
	}
	out := make([]collector.Reading, 0, len(s.meters))
	seen := make([]collector.Gauge, 0, gauges*len(s.meters))
	var errs []error
	for _, m := range s.meters {
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		r, ok, err := m.read(s, s.now())
		if err != nil {
			errs = append(errs, &collector.DeviceError{Device: m.scope.Name, Err: err})
			continue
		}
		s.journal.Over("unknown_layout", m.scope.Name)
		if !ok {
			continue
		}
		from := len(seen)
		seen, r.Activity = look(m.dies, seen)
		r.Gauges = seen[from:len(seen):len(seen)]
		out = append(out, r)
	}
	s.broken = len(errs) > 0
	return out, errors.Join(errs...)
}

// scan finds the devices, keeps those that it knows, and makes meters of them.
func (s *Source) scan() error {
	cards, err := s.sys.Entries(class)
	if err != nil {
		return fmt.Errorf("cannot look for AMD GPUs: %w", err)
	}
	known := map[string]*die{}
	for _, d := range s.dies {
		known[d.card+" "+d.address] = d
	}
	s.dies = nil
	for _, card := range cards {
		address, ok := s.device(card)
		if !ok {
			continue
		}
		d := known[card+" "+address]
		if d == nil {
			d = openDie(s.sys, card, address)
		}
		delete(known, card+" "+address)
		d.search()
		s.dies = append(s.dies, d)
	}
	for _, d := range known {
		d.close()
	}
	slices.SortFunc(s.dies, func(a, b *die) int { return strings.Compare(a.address, b.address) })
	for second, first := range partners(s.sys, s.dies) {
		s.pairs[second.address] = first.address
	}
	s.assemble()
	s.settle()
	return nil
}

// device gives the PCI address of a card of AMD; false for any other.
func (s *Source) device(card string) (string, bool) {
	number, ok := strings.CutPrefix(card, "card")
	if _, good := sysfs.ParseUint([]byte(number)); !ok || !good {
		return "", false // a connector, or a render node of the same device
	}
	if id, err := s.sys.Text(class + "/" + card + "/device/vendor"); err != nil || id != vendor {
		return "", false
	}
	address, err := s.sys.Target(class + "/" + card + "/device")
	if err != nil || strings.Count(address, ":") != 2 {
		return "", false // a partition is a platform device: its board has the meter
	}
	return address, true
}

// assemble makes a meter of each die that counts. One that shows 0 and whose
// partner is not known has none: it may be half of a module.
func (s *Source) assemble() {
	had := map[*die]*meter{}
	for _, m := range s.meters {
		had[m.primary] = m
	}
	s.meters = nil
	for _, d := range s.dies {
		if s.pairs[d.address] != "" {
			continue
		}
		if _, numbered := s.numbers[d.address]; !numbered && d.first.zero && d.fault == nil {
			s.journal.State(s.now(), "no_partner", d.address, "the device shows no energy and no device was found that counts for it: it may be the second die of a module")
			continue
		}
		m := had[d]
		if m == nil {
			m = &meter{primary: d, scope: s.scopeOf(d)}
		}
		m.dies = append(m.dies[:0], d)
		for _, second := range s.dies {
			if s.pairs[second.address] == d.address {
				m.dies = append(m.dies, second)
			}
		}
		s.meters = append(s.meters, m)
	}
}

func (s *Source) scopeOf(d *die) collector.Scope {
	k, ok := s.numbers[d.address]
	if !ok {
		k = len(s.numbers)
		s.numbers[d.address] = k
	}
	sc := collector.Scope{
		Name: "gpu" + strconv.Itoa(k), Class: energy.GPU, Kind: collector.Counter,
		Resolution: 16, Limit: d.limit, Device: d.address,
	}
	if s.Witness {
		sc.Name, sc.Witness = sc.Name+"-amdgpu", true
	}
	return sc
}

// Probe says which AMD GPUs have no meter, and why.
func (s *Source) Probe(context.Context) []collector.Missing {
	err := s.scan()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return []collector.Missing{{Meter: s.Name(), Why: err.Error()}}
	}
	if len(s.dies) == 0 {
		m := collector.Missing{Meter: s.Name(), Why: "no device of vendor " + vendor + " under " + s.sys.Full(class) + ", and no AMD GPU on the PCI bus"}
		if at := undriven(s.sys); at != "" {
			m.Why, m.Mend = "there is an AMD GPU at "+at+", and no device of vendor "+vendor+" under "+s.sys.Full(class)+": its driver is not loaded", "modprobe amdgpu"
		}
		return []collector.Missing{m}
	}
	var out []collector.Missing
	for _, m := range s.meters {
		_, err := m.primary.counter()
		switch {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist):
			out = append(out, collector.Missing{Meter: m.scope.Name, Why: err.Error() + ": this kernel's amdgpu has no such table for the device", Mend: "a newer amdgpu driver (amdgpu-dkms)"})
		default:
			out = append(out, collector.Missing{Meter: m.scope.Name, Why: err.Error()})
		}
	}
	for _, d := range s.dies {
		if d.fault == nil && d.first.zero && s.pairs[d.address] == "" {
			out = append(out, collector.Missing{Meter: d.address, Why: "it shows no energy, and no device was found that counts for it (serial number, unique id, links of the kfd topology)"})
		}
	}
	return out
}
