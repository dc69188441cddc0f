package amdgpu

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/sysfs"
)

// firstRender is the least minor number of a render node.
const firstRender = 128

// Locate finds a device under the names that workload managers have for it:
//
//	index:3            the fourth device by PCI address, as rocm-smi counts
//	minor:131          the device of /dev/dri/renderD131
//	minor:3            the fourth render node of AMD devices: Slurm's number of a
//	                   GPU where gres.conf has File=/dev/dri/renderD[128-135]
//	pci:0000:c1:00.0   the device at that address
//	GPU-a1b2...        the device of that unique_id
//
// A die of a module is its part of the module's meter (MI250X: one half, and
// both dies are the whole), a partition its part of its device. Devices that
// were seen once keep their numbers while they are lost.
//
// As witnesses (Witness) the meters that are booked are another source's; then
// the place is in its meter gpuN, of the module that is the N-th by PCI address,
// which is how pm_counters number accelerators. Where there are not as many
// modules as that source has accelerators, nothing is placed: a guess would bill
// one job for another.
func (s *Source) Locate(ref string) (collector.Place, bool) {
	places := s.places.Load()
	if places == nil {
		return collector.Place{}, false
	}
	if strings.HasPrefix(ref, "pci:") {
		ref = strings.ToLower(ref)
	}
	p, ok := (*places)[ref]
	return p, ok
}

// unit is what a workload manager counts as a GPU: a device, or a partition.
type unit struct {
	minor uint64 // of its render node, 0 where it is not known
	place collector.Place
	known bool // the place
}

// settle makes the list that Locate looks into, after a scan.
func (s *Source) settle() {
	s.count()
	for _, d := range s.dies {
		s.renders[d.address] = nil
	}
	maps.Copy(s.renders, renders(s.sys, s.dies))
	places := map[string]collector.Place{}
	var units []unit
	for _, address := range slices.Sorted(maps.Keys(s.renders)) {
		whole, known := s.placeOf(address)
		if known {
			places["pci:"+address] = whole
		}
		minors := s.renders[address]
		for j := range max(len(minors), 1) {
			u := unit{place: collector.Place{Meter: whole.Meter, Weight: part(whole.Weight, j, max(len(minors), 1))}, known: known}
			if len(minors) > 0 {
				u.minor = minors[j]
			}
			units = append(units, u)
		}
	}
	s.byUnique(places)
	number(units, places)
	s.places.Store(&places)
}

// number adds the names that are numbers.
func number(units []unit, places map[string]collector.Place) {
	add := func(kind string, n uint64, u unit) {
		if u.known {
			places[kind+strconv.FormatUint(n, 10)] = u.place
		}
	}
	all := true
	for i, u := range units {
		add("index:", uint64(i), u)
		all = all && u.minor >= firstRender
		if u.minor >= firstRender {
			add("minor:", u.minor, u)
		}
	}
	if !all {
		return // one without a render node would shift the others
	}
	byMinor := slices.Clone(units)
	slices.SortStableFunc(byMinor, func(a, b unit) int { return int(a.minor) - int(b.minor) })
	for i, u := range byMinor[:min(len(byMinor), firstRender)] {
		add("minor:", uint64(i), u)
	}
}

// byUnique adds the names made of the driver's unique_id, where it is of one
// device alone.
func (s *Source) byUnique(places map[string]collector.Place) {
	of := map[string][]string{}
	for _, d := range s.dies {
		if d.unique != "" {
			of[d.unique] = append(of[d.unique], d.address)
		}
	}
	for unique, addresses := range of {
		if p, ok := places["pci:"+addresses[0]]; ok && len(addresses) == 1 {
			places["GPU-"+unique] = p
		}
	}
}

// placeOf gives the part of which meter a device is; false where it has none
// that is sure.
func (s *Source) placeOf(address string) (collector.Place, bool) {
	primary := s.primaryOf(address)
	k, numbered := s.numbers[primary]
	if !numbered {
		return collector.Place{}, false
	}
	if s.Witness {
		if k, numbered = s.accelerators[primary]; !numbered {
			return collector.Place{}, false
		}
	}
	var module []string
	alone := false // a die that counts nothing, and for which none was found
	for a := range s.renders {
		if s.primaryOf(a) == primary {
			module = append(module, a)
		}
		_, counts := s.numbers[s.primaryOf(a)]
		alone = alone || !counts
	}
	if len(module) == 1 && alone {
		return collector.Place{}, false // it may be the second die of this very module
	}
	slices.Sort(module)
	return collector.Place{
		Meter:  "gpu" + strconv.Itoa(k),
		Weight: part(collector.Whole, slices.Index(module, address), len(module)),
	}, true
}

// primaryOf is the die that counts for a die.
func (s *Source) primaryOf(address string) string {
	if first := s.pairs[address]; first != "" {
		return first
	}
	return address
}

// part is the i-th of n parts, which together are the whole.
func part(whole uint32, i, n int) uint32 {
	upTo := func(i int) uint32 { return uint32(uint64(whole) * uint64(i) / uint64(n)) }
	return upTo(i+1) - upTo(i)
}

// count numbers the modules as pm_counters do, once all of them are there.
func (s *Source) count() {
	if !s.Witness || s.Accelerators == 0 || len(s.accelerators) > 0 {
		return
	}
	if len(s.meters) != s.Accelerators {
		s.journal.State(s.now(), "scope_unknown", "", "the node has "+strconv.Itoa(s.Accelerators)+" accelerators that are booked, and "+
			strconv.Itoa(len(s.meters))+" modules of amdgpu: which is which is not known, and jobs that name a device of amdgpu are billed for none of them")
		return
	}
	s.journal.Over("scope_unknown", "")
	for i, m := range s.meters {
		s.accelerators[m.primary.address] = i
	}
}

// renders gives the minor numbers of the render nodes of each device, in order:
// one, or one for each of its partitions, which are no PCI devices and are found
// in kfd's topology (drm_render_minor; the function of their location_id is the
// number of the partition).
func renders(sys *sysfs.Root, dies []*die) map[string][]uint64 {
	out := map[string][]uint64{}
	add := func(address string, minor uint64) {
		if minor >= firstRender && !slices.Contains(out[address], minor) {
			out[address] = append(out[address], minor)
		}
	}
	known := map[string]bool{}
	for _, d := range dies {
		known[d.address] = true
		names, _ := sys.Entries(class + "/" + d.card + "/device/drm")
		for _, name := range names {
			if digits, ok := strings.CutPrefix(name, "renderD"); ok {
				if minor, ok := sysfs.ParseUint([]byte(digits)); ok {
					add(d.address, minor)
				}
			}
		}
	}
	names, _ := sys.Entries(nodes)
	for _, n := range names {
		p := properties(sys, nodes+"/"+n+"/properties")
		address := addressOf(p)
		if address != "" && !known[address] {
			address = address[:len(address)-1] + "0"
		}
		if minor, ok := sysfs.ParseUint([]byte(p["drm_render_minor"])); ok && known[address] {
			add(address, minor)
		}
	}
	for _, minors := range out {
		slices.Sort(minors)
	}
	return out
}
