package amdgpu

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
)

// TestPairs: a module is found by what its dies say of themselves, or by the
// links between them; never by their order.
func TestPairs(t *testing.T) {
	n := bare(t)
	if got := n.must(); len(got) != 4 || len(got["gpu0"].Gauges) == 0 {
		t.Errorf("%v", got)
	}
	n.wantEvents("no_partner 0000:ce:00.0", "no_partner 0000:d6:00.0", "no_partner 0000:d9:00.0", "no_partner 0000:de:00.0")
	if got := n.src.Probe(context.Background()); len(got) != 4 {
		t.Errorf("Probe says %+v", got)
	}
	paired := func(what string, n *node) {
		t.Helper()
		n.must()
		n.wantEvents()
		for i, m := range modules() {
			n.Set(dev(m[1], "gpu_busy_percent"), "50\n")
			n.step(time.Second, 90)
			got := n.must()
			for j := range modules() {
				want, ratio := collector.Resting, 0.0
				if i == j {
					want, ratio = collector.Working, 0.25
				}
				r := got[fmt.Sprintf("gpu%d", j)]
				if r.Activity != want || gaugesOf(r)["utilization_ratio"] != ratio {
					t.Errorf("%s: %s works, and gpu%d is %v, %v", what, m[1], j, r.Activity, gaugesOf(r)["utilization_ratio"])
				}
			}
			n.Set(dev(m[1], "gpu_busy_percent"), "0\n")
		}
	}
	paired("serial number", open(t))
	paired("links", bare(t, "testdata/kfd.txtar"))
	n = bare(t)
	for i, m := range modules() {
		n.Set(dev(m[0], "unique_id"), fmt.Sprintf("%016x\n", 0xabc0+i))
		n.Set(dev(m[1], "unique_id"), fmt.Sprintf("%016x\n", 0xabc0+i))
		n.Set(dev(m[0], "serial_number"), "N/A\n") // of no use
		n.Set(dev(m[1], "serial_number"), "N/A\n")
	}
	paired("unique id", n)

	// one serial number for many is none; dies that both count are no pair
	n = bare(t)
	for _, m := range modules()[2:] {
		n.Set(dev(m[0], "serial_number"), "PCB\n")
		n.Set(dev(m[1], "serial_number"), "PCB\n")
	}
	if n.must(); len(n.src.Events()) != 4 {
		t.Error("a serial number of four dies was believed")
	}
	n = open(t)
	n.Set(dev("d6", "gpu_metrics"), string(n.table(5, 80)))
	if got := n.must(); len(got) != 5 {
		t.Errorf("dies that count for themselves: %d meters", len(got))
	}
}

// TestNumbersStay: a module that goes takes its number with it.
func TestNumbersStay(t *testing.T) {
	n := open(t)
	n.must()
	n.step(time.Second, 90)
	n.must()
	n.Remove("sys/class/drm/card4") // c1
	n.step(time.Minute, 90)
	got := n.must()
	if _, there := got["gpu0"]; there || got["gpu1"].Scope.Device != "0000:c6:00.0" {
		t.Errorf("%v", got)
	}
	n.step(2*time.Second, 90)
	n.Link("sys/class/drm/card9", "../../devices/pci0000:00/0000:c1:00.0/drm/card4") // back under another
	n.step(time.Minute, 90)
	if got := n.must(); got["gpu0"].Scope.Device != "0000:c1:00.0" || len(got) != 4 {
		t.Errorf("%v", got)
	}
}
