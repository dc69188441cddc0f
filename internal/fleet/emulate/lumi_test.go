package emulate

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

// TestDies: the primary die of a module counts for both in 2^-16 J, the secondary
// reads 0; the wide link tells which two are one module, and no number does.
func TestDies(t *testing.T) {
	s := stand(t, "lumi", "")
	type seen struct {
		counter uint64
		watts   uint16
	}
	look := func(card int) seen {
		b := []byte(s.read(fmt.Sprintf("class/drm/card%d/device/gpu_metrics", card)))
		if len(b) != 120 || binary.LittleEndian.Uint16(b) != 120 || b[2] != 1 || b[3] != 3 {
			t.Fatalf("card%d: %d bytes, format %d.%d", card, len(b), b[2], b[3])
		}
		return seen{counter: binary.LittleEndian.Uint64(b[24:]), watts: binary.LittleEndian.Uint16(b[22:])}
	}
	cards := map[string]int{} // by PCI address
	for card := 1; card <= 8; card++ {
		uevent := s.read(fmt.Sprintf("class/drm/card%d/device/uevent", card))
		_, pci, _ := strings.Cut(uevent, "PCI_SLOT_NAME=")
		if to, err := os.Readlink(fmt.Sprintf("%s/sys/class/drm/card%d/device", s.root, card)); err != nil || to != "../../../"+pci {
			t.Errorf("card%d/device leads to %s, %v", card, to, err)
		}
		cards[pci] = card
	}
	neighbours := 0
	for oam, pair := range [][2]string{
		{"0000:c1:00.0", "0000:c6:00.0"}, {"0000:c9:00.0", "0000:ce:00.0"}, {"0000:d1:00.0", "0000:d6:00.0"}, {"0000:d9:00.0", "0000:de:00.0"},
	} {
		from := s.move(2 * time.Second)
		a, other := look(cards[pair[0]]), look(cards[pair[1]])
		to := s.move(33 * time.Second)
		b := look(cards[pair[0]])
		want := s.truth(fmt.Sprintf("oam%d", oam), from, to)
		got := energy.Microjoules((b.counter - a.counter) * 1_000_000 >> 16)
		if got > want+32 || got+32 < want {
			t.Errorf("OAM %d counted %d uJ; the truth is %d", oam, got, want)
		}
		if other.counter != 0 || other.watts != 0 || a.watts == 0 {
			t.Errorf("OAM %d: primary %d W, secondary %d W and %d", oam, a.watts, other.watts, other.counter)
		}
		if s.read("bus/pci/devices/"+pair[0]+"/serial_number") != s.read("bus/pci/devices/"+pair[1]+"/serial_number") {
			t.Errorf("OAM %d has two serial numbers", oam)
		}
		if d := cards[pair[0]] - cards[pair[1]]; d*d == 1 {
			neighbours++
		}
	}
	if neighbours > 0 {
		t.Errorf("%d modules are two neighbouring cards", neighbours)
	}
	wide := map[string]string{}
	for n := 4; n < 12; n++ {
		for i := range 8 {
			p := s.read(fmt.Sprintf("class/kfd/kfd/topology/nodes/%d/io_links/%d/properties", n, i))
			if strings.Contains(p, "type 11\n") && strings.Contains(p, "max_bandwidth 200000\n") {
				_, to, _ := strings.Cut(p, "node_to ")
				to, _, _ = strings.Cut(to, "\n")
				wide[fmt.Sprint(n)] += to
			}
		}
	}
	if got := fmt.Sprint(wide); got != "map[10:11 11:10 4:5 5:4 6:7 7:6 8:9 9:8]" {
		t.Errorf("wide links %s", got)
	}
	if name := s.read("class/drm/card0/device/vendor"); name != "0x1a03" {
		t.Errorf("card0 is of vendor %s", name)
	}
}

// TestMeterFaults: what a scenario does to a counter of a tree.
func TestMeterFaults(t *testing.T) {
	s := stand(t, "lumi", `
		at 10s for 5s meter oam0 stuck
		at 10s for 5s meter oam1 backwards
		at 10s for 5s meter oam2 blank
		at 10s meter oam3 reset
		at 10s for 5s meter gpu0 zero
	`)
	at := func(after time.Duration, meter string) energy.Microjoules {
		return s.shown.counter(meter, s.start.Add(after))
	}
	if a, b := at(10*time.Second, "oam0"), at(14*time.Second, "oam0"); a != b || at(15*time.Second, "oam0") <= a {
		t.Errorf("stuck: %d, then %d", a, b)
	}
	if a, b := at(9*time.Second, "oam1"), at(11*time.Second, "oam1"); b >= a || at(15*time.Second, "oam1") <= a {
		t.Errorf("backwards: %d, then %d", a, b)
	}
	if v := at(11*time.Second, "oam2"); v != blank {
		t.Errorf("blank: %d", v)
	}
	if v, want := at(12*time.Second, "oam3"), s.truth("oam3", s.start.Add(10*time.Second), s.start.Add(12*time.Second)); v != want {
		t.Errorf("reset: %d; want %d", v, want)
	}
	if v := at(12*time.Second, "gpu0"); v != 0 {
		t.Errorf("zero: %d", v)
	}
	s.move(12 * time.Second)
	if v, _ := s.cray("accel0_energy", "J"); v != 0 {
		t.Errorf("accel0_energy is %d J", v)
	}
}
