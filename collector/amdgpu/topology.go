package amdgpu

import (
	"fmt"
	"strings"

	"github.com/wattledger/wattledger/internal/sysfs"
)

const nodes = "class/kfd/kfd/topology/nodes"

// partners finds, for each die that counts nothing, the die of the same module
// that counts for both: by the module's serial number, by the driver's unique
// id, or by the link between them, which is the widest that either has. Order
// and numbers of cards mean nothing: a mask or a lost device shifts them.
//
// A partner must count, and must be the partner of one die alone.
func partners(sys *sysfs.Root, dies []*die) map[*die]*die {
	out := map[*die]*die{}
	taken := map[*die]bool{}
	pair := func(a, b *die) {
		if a == nil || b == nil || a == b || !a.first.zero || !b.first.counted || out[a] != nil || taken[b] {
			return
		}
		out[a], taken[b] = b, true
	}
	for _, key := range []func(*die) string{
		func(d *die) string { return d.serial },
		func(d *die) string { return d.unique },
	} {
		groups := map[string][]*die{}
		for _, d := range dies {
			if k := key(d); k != "" {
				groups[k] = append(groups[k], d)
			}
		}
		for _, g := range groups {
			if len(g) == 2 { // a serial number that many share is a placeholder
				pair(g[0], g[1])
				pair(g[1], g[0])
			}
		}
	}
	widest := widestLinks(sys)
	byAddress := map[string]*die{}
	for _, d := range dies {
		byAddress[d.address] = d
	}
	for _, d := range dies {
		if to, ok := widest[d.address]; ok && widest[to] == d.address {
			pair(d, byAddress[to])
		}
	}
	return out
}

// widestLinks gives for each device the one at the other end of its widest xGMI
// link, where there is one widest. The dies of an MI250X are joined by four
// links, dies of different modules by one or two.
func widestLinks(sys *sysfs.Root) map[string]string {
	const xgmi = "11"
	names, err := sys.Entries(nodes)
	if err != nil {
		return nil
	}
	address := map[string]string{} // by node number
	for _, n := range names {
		if a := addressOf(properties(sys, nodes+"/"+n+"/properties")); a != "" {
			address[n] = a
		}
	}
	out := map[string]string{}
	for _, n := range names {
		links, err := sys.Entries(nodes + "/" + n + "/io_links")
		if err != nil || address[n] == "" {
			continue
		}
		best, to, several := uint64(0), "", false
		for _, l := range links {
			p := properties(sys, nodes+"/"+n+"/io_links/"+l+"/properties")
			width, ok := sysfs.ParseUint([]byte(p["max_bandwidth"]))
			if !ok || width == 0 || p["type"] != xgmi {
				continue
			}
			if width > best {
				best, to, several = width, address[p["node_to"]], false
			} else if width == best {
				several = true
			}
		}
		if to != "" && !several {
			out[address[n]] = to
		}
	}
	return out
}

// addressOf is the PCI address in the properties of a node, "" for a processor.
func addressOf(p map[string]string) string {
	loc, ok := sysfs.ParseUint([]byte(p["location_id"]))
	if !ok || loc == 0 {
		return ""
	}
	domain, _ := sysfs.ParseUint([]byte(p["domain"]))
	return fmt.Sprintf("%04x:%02x:%02x.%x", domain, loc>>8&0xff, loc>>3&0x1f, loc&7)
}

// properties are lines of a name and a value.
func properties(sys *sysfs.Root, name string) map[string]string {
	f := sys.Sized(name, 4096)
	defer f.Close()
	text, err := f.Text()
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			out[k] = v
		}
	}
	return out
}

// undriven gives the PCI address of a GPU of AMD, "" if there is none: a display
// controller (class 03) or a processing accelerator (class 12).
func undriven(sys *sysfs.Root) string {
	const bus = "bus/pci/devices"
	addresses, _ := sys.Entries(bus)
	for _, a := range addresses {
		if id, err := sys.Text(bus + "/" + a + "/vendor"); err != nil || id != vendor {
			continue
		}
		kind, err := sys.Text(bus + "/" + a + "/class")
		if err == nil && (strings.HasPrefix(kind, "0x03") || strings.HasPrefix(kind, "0x12")) {
			return a
		}
	}
	return ""
}
