package amdgpu

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/sysfs/sysfstest"
)

var _ collector.Locator = (*Source)(nil)

// buses of the recorded node, in order; the render nodes are in another.
func buses() []string   { return []string{"c1", "c6", "c9", "ce", "d1", "d6", "d9", "de"} }
func minorsOf() []int   { return []int{132, 133, 130, 131, 134, 135, 128, 129} }
func moduleOf() []int   { return []int{0, 1, 2, 2, 3, 0, 3, 1} } // by index
func (n *node) render() { n.renderBut("") }

func (n *node) renderBut(lost string) {
	for i, bus := range buses() {
		if bus != lost {
			n.Set(dev(bus, fmt.Sprintf("drm/renderD%d/dev", minorsOf()[i])), "226:0\n")
		}
	}
}

// held asks for references and says what they are, "" for nothing.
func (n *node) held(refs ...string) string {
	out := make([]string, 0, len(refs))
	for _, ref := range refs {
		p, ok := n.src.Locate(ref)
		switch {
		case !ok && p != (collector.Place{}):
			n.t.Errorf("%s is nowhere, and at %+v", ref, p)
		case !ok:
			out = append(out, "-")
		default:
			out = append(out, fmt.Sprintf("%s %d", p.Meter, p.Weight))
		}
	}
	return strings.Join(out, ", ")
}

func (n *node) wantHeld(want string, refs ...string) {
	n.t.Helper()
	if got := n.held(refs...); got != want {
		n.t.Errorf("%v is %s; want %s", refs, got, want)
	}
}

// TestLocate: a die is half of its module, by every name it has.
func TestLocate(t *testing.T) {
	n := open(t)
	n.render()
	n.wantHeld("-, -", "index:0", "pci:0000:c1:00.0") // nothing was read yet
	n.must()
	for i, bus := range buses() {
		half := fmt.Sprintf("gpu%d 500000", moduleOf()[i])
		n.wantHeld(half, fmt.Sprintf("index:%d", i))
		n.wantHeld(half, "pci:0000:"+bus+":00.0")
		n.wantHeld(half, "pci:0000:"+strings.ToUpper(bus)+":00.0")
		n.wantHeld(half, fmt.Sprintf("minor:%d", minorsOf()[i]))
		n.wantHeld(half, fmt.Sprintf("minor:%d", minorsOf()[i]-128))
	}
	n.wantHeld("-, -, -, -, -, -, -", "index:8", "minor:8", "minor:127", "minor:136", "index:-1", "GPU-0", "gpu0")

	// one render node is not known: the rank is of no use, the number is
	n = open(t)
	n.renderBut("ce")
	n.must()
	n.wantHeld("-, -, gpu0 500000, gpu2 500000, -", "minor:0", "minor:3", "minor:132", "index:3", "minor:131")

	// by the driver's unique id, if it is one device's
	n = open(t)
	n.Set(dev("c1", "unique_id"), "a1b2c3d4e5f60718\n")
	n.Set(dev("c6", "unique_id"), "77\n")
	n.Set(dev("de", "unique_id"), "77\n")
	n.restart()
	n.must()
	n.wantHeld("gpu0 500000, -", "GPU-a1b2c3d4e5f60718", "GPU-77")
}

// TestLocateLost: a device that is lost keeps its numbers, and so do the others.
func TestLocateLost(t *testing.T) {
	n := open(t)
	n.render()
	n.must()
	n.Remove("sys/class/drm/card3") // ce, the second die of gpu2
	n.step(time.Hour, 90)
	n.must()
	n.wantHeld("gpu2 500000, gpu2 500000, gpu3 500000, gpu0 500000, gpu3 500000", "index:2", "index:3", "index:4", "minor:132", "minor:6")
}

// TestLocateUnpaired: where a die was not matched, no die that stands alone is
// taken for a whole module.
func TestLocateUnpaired(t *testing.T) {
	n := bare(t)
	for i, m := range modules()[:3] {
		n.Set(dev(m[0], "serial_number"), fmt.Sprintf("PCB03-%04d\n", i))
		n.Set(dev(m[1], "serial_number"), fmt.Sprintf("PCB03-%04d\n", i))
	}
	n.must()
	n.wantHeld("gpu0 500000, gpu0 500000, -, -", "pci:0000:c1:00.0", "pci:0000:d6:00.0", "pci:0000:d1:00.0", "pci:0000:d9:00.0")
}

// TestLocateForAnother: beside pm_counters the places are in their meters, if
// there are as many; if not, a job is billed for none rather than for another's.
func TestLocateForAnother(t *testing.T) {
	n := open(t)
	n.render()
	n.src.Witness, n.src.Accelerators = true, 4
	n.must()
	n.wantHeld("gpu0 500000, gpu0 500000, gpu3 500000, gpu3 500000", "index:0", "index:5", "pci:0000:d1:00.0", "minor:0")
	n.wantEvents()
	n.Remove("sys/class/drm/card4") // the first die, after it was numbered
	n.step(time.Hour, 90)
	n.must()
	n.wantHeld("gpu0 500000, gpu1 500000", "index:0", "index:1")

	n = open(t)
	n.src.Witness, n.src.Accelerators = true, 4
	for _, card := range []string{"card4", "card7"} { // c1 and d6: gpu0 is not there at the start
		n.Remove("sys/class/drm/" + card)
	}
	n.must()
	n.wantHeld("-, -", "index:0", "pci:0000:c6:00.0")
	n.wantEvents("scope_unknown ")
	n.step(time.Hour, 90)
	n.must()
	n.wantEvents() // said once

	n = open(t)
	n.src.Witness = true // pm_counters without accelerators
	n.must()
	n.wantHeld("-", "index:0")
	n.wantEvents()
}

// TestLocatePartitions: the partitions of a device are parts of it, in the order
// of their render nodes, and together the whole. Only kfd knows them.
func TestLocatePartitions(t *testing.T) {
	n := &node{Tree: sysfstest.Parse(t, "-- proc/sys/kernel/random/boot_id --\nb\n-- sys/class/kfd/kfd --\n-> ../../devices/virtual/kfd/kfd\n"), t: t, at: time.Unix(1_790_000_000, 0)}
	minor := 128
	for i, bus := range []string{"05", "26"} {
		n.Set(dev(bus, "vendor"), "0x1002\n")
		n.Link(fmt.Sprintf("sys/class/drm/card%d", i+1), "../../devices/pci0000:00/0000:"+bus+":00.0/drm/card"+fmt.Sprint(i+1))
		n.Link(pci+bus+fmt.Sprintf(":00.0/drm/card%d/device", i+1), "../../../0000:"+bus+":00.0")
		n.Set(dev(bus, "gpu_metrics"), string(n.table(1000, 300)))
		for part := range 3 {
			var location int
			if _, err := fmt.Sscanf(bus, "%x", &location); err != nil {
				t.Fatal(err)
			}
			n.Set(fmt.Sprintf("sys/devices/virtual/kfd/kfd/topology/nodes/%d/properties", minor-126),
				fmt.Sprintf("location_id %d\ndomain 0\ndrm_render_minor %d\n", location<<8|part, minor))
			minor++
		}
	}
	n.restart()
	n.must()
	n.wantHeld("gpu0 333333, gpu0 333333, gpu0 333334, gpu1 333333, gpu1 333334", "index:0", "index:1", "index:2", "index:3", "index:5")
	n.wantHeld("gpu0 333334, gpu1 333333, gpu1 333334", "minor:130", "minor:3", "minor:5")
	n.wantHeld("gpu0 1000000, gpu1 1000000", "pci:0000:05:00.0", "pci:0000:26:00.0")
	var sum uint32
	for i := range 3 {
		p, _ := n.src.Locate(fmt.Sprintf("index:%d", i))
		sum += p.Weight
	}
	if d := cmp.Diff(uint32(collector.Whole), sum); d != "" {
		t.Error(d)
	}
}
