package emulate

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// die is one of the two halves of an MI250X module (OAM). The kernel numbers
// cards as drivers get ready: neighbours by number are not of one module.
type die struct {
	index, oam, card, hwmon int
	bus, numa               int
	primary                 bool
}

func dies() []die {
	buses := []int{0xc1, 0xc6, 0xc9, 0xce, 0xd1, 0xd6, 0xd9, 0xde}
	cards := []int{1, 3, 5, 7, 2, 4, 6, 8}
	nodes := []int{3, 3, 1, 1, 0, 0, 2, 2}
	out := make([]die, len(buses))
	for i := range out {
		out[i] = die{index: i, oam: i / 2, card: cards[i], hwmon: 2 + cards[i], bus: buses[i], numa: nodes[i], primary: i%2 == 0}
	}
	return out
}

// addAMD adds what amdgpu shows of eight dies: gpu_metrics 1.3, hwmon, and the
// topology of kfd, where the link within a module is four times as wide. Only the
// primary die of a module reports power and energy, for both.
func (e *Emulator) addAMD() {
	t := e.tree
	t.static("sys/devices/pci0000:00/0000:62:00.0/vendor", "0x1a03") // the BMC's screen is a card, too
	t.link("sys/class/drm/card0", "sys/devices/pci0000:00/0000:62:00.0/drm/card0")
	t.link("sys/devices/pci0000:00/0000:62:00.0/drm/card0/device", "sys/devices/pci0000:00/0000:62:00.0")
	t.static("sys/devices/pci0000:00/0000:00:18.3/hwmon/hwmon0/name", "k10temp")
	t.static("sys/devices/pci0000:00/0000:00:18.3/hwmon/hwmon0/temp1_input", "45250")
	t.link("sys/class/hwmon/hwmon0", "sys/devices/pci0000:00/0000:00:18.3/hwmon/hwmon0")
	hive := fmt.Sprintf("%d", e.seeded("hive"))
	for _, d := range dies() {
		e.addDie(d, hive)
	}
	for n := range 4 {
		dir := fmt.Sprintf("sys/devices/virtual/kfd/kfd/topology/nodes/%d/", n)
		t.static(dir+"gpu_id", "0")
		t.static(dir+"properties", lines("cpu_cores_count 32", "simd_count 0", "location_id 0", "domain 0", "unique_id 0", "hive_id 0"))
	}
	t.link("sys/class/kfd", "sys/devices/virtual/kfd")
}

func (e *Emulator) addDie(d die, hive string) {
	t := e.tree
	pci := fmt.Sprintf("0000:%02x:00.0", d.bus)
	dir := fmt.Sprintf("sys/devices/pci0000:%02x/%s/", d.bus-1, pci)
	number := e.seeded("die", d.index)
	unique := fmt.Sprintf("%016x", number)
	for name, content := range map[string]string{
		"vendor": "0x1002", "device": "0x7408", "subsystem_vendor": "0x1002", "subsystem_device": "0x0b0c",
		"unique_id": unique, "numa_node": strconv.Itoa(d.numa), "product_name": "AMD INSTINCT MI250X (MCM) OAM AC MBA",
		"serial_number":  fmt.Sprintf("PCB0%08d-%04d", e.seed%100_000_000, d.oam),
		"uevent":         lines("DRIVER=amdgpu", "PCI_CLASS=38000", "PCI_ID=1002:7408", "PCI_SLOT_NAME="+pci),
		"xgmi_device_id": unique, "xgmi_hive_info/xgmi_hive_id": hive, "mem_info_vram_total": strconv.Itoa(64 << 30),
	} {
		t.static(dir+name, content)
	}
	util, oam := fmt.Sprintf("util%d", d.index), fmt.Sprintf("oam%d", d.oam)
	used := func(at time.Time) uint64 { return e.shown.used(util, at) }
	t.live(dir+"gpu_busy_percent", 0o444, func(at time.Time) string { return strconv.FormatUint(used(at), 10) })
	t.live(dir+"mem_busy_percent", 0o444, func(at time.Time) string { return strconv.FormatUint(used(at)/2, 10) })
	t.live(dir+"mem_info_vram_used", 0o444, func(at time.Time) string { return strconv.FormatUint(512<<20+used(at)*500<<20, 10) })
	t.blob(dir+"gpu_metrics", func(at time.Time) string { return e.metrics(d, at) })

	hwmon := dir + fmt.Sprintf("hwmon/hwmon%d/", d.hwmon)
	t.static(hwmon+"name", "amdgpu")
	t.static(hwmon+"power1_label", "PPT")
	t.static(hwmon+"power1_cap", "560000000")
	t.static(hwmon+"power1_cap_max", "560000000")
	t.live(hwmon+"power1_average", 0o444, func(at time.Time) string {
		if !d.primary {
			return "0"
		}
		return strconv.FormatUint(e.shown.power(oam, at, time.Second)/1000*1_000_000, 10)
	})
	for i, label := range []string{"edge", "junction", "mem"} {
		t.static(fmt.Sprintf("%stemp%d_label", hwmon, i+1), label)
		t.live(fmt.Sprintf("%stemp%d_input", hwmon, i+1), 0o444, func(at time.Time) string {
			return strconv.Itoa(1000 * (e.celsius(d, at) + 4*i))
		})
	}
	card := fmt.Sprintf("card%d", d.card)
	t.link("sys/class/drm/"+card, dir+"drm/"+card)
	t.link(dir+"drm/"+card+"/device", strings.TrimSuffix(dir, "/"))
	t.link(hwmon+"device", strings.TrimSuffix(dir, "/"))
	t.link(fmt.Sprintf("sys/class/hwmon/hwmon%d", d.hwmon), strings.TrimSuffix(hwmon, "/"))
	t.link("sys/bus/pci/devices/"+pci, strings.TrimSuffix(dir, "/"))
	e.addNode(d, number, hive)
}

// addNode adds the die to kfd's topology.
func (e *Emulator) addNode(d die, unique uint64, hive string) {
	dir := fmt.Sprintf("sys/devices/virtual/kfd/kfd/topology/nodes/%d/", 4+d.index)
	e.tree.static(dir+"gpu_id", strconv.Itoa(4000+d.bus))
	e.tree.static(dir+"properties", lines("cpu_cores_count 0", "simd_count 440", "io_links_count 8", "gfx_target_version 90010", "vendor_id 4098",
		"device_id 29704", fmt.Sprintf("location_id %d", d.bus<<8), "domain 0", fmt.Sprintf("drm_render_minor %d", 127+d.card),
		"hive_id "+hive, fmt.Sprintf("unique_id %d", unique)))
	link := func(i, kind, to, width int) {
		e.tree.static(fmt.Sprintf("%sio_links/%d/properties", dir, i), lines(fmt.Sprintf("type %d", kind), "version_major 0", "version_minor 0",
			fmt.Sprintf("node_from %d", 4+d.index), fmt.Sprintf("node_to %d", to), "weight 15", "min_latency 0", "max_latency 0",
			"min_bandwidth 50000", fmt.Sprintf("max_bandwidth %d", width), "recommended_transfer_size 0", "flags 1"))
	}
	link(0, 2, d.numa, 36000)
	i := 1
	for _, other := range dies() {
		switch {
		case other.index == d.index:
			continue
		case other.oam == d.oam:
			link(i, 11, 4+other.index, 200000)
		default:
			link(i, 11, 4+other.index, 50000+50000*((d.index+other.index)%2))
		}
		i++
	}
}

func (e *Emulator) celsius(d die, at time.Time) int {
	return 32 + int(e.shown.power(fmt.Sprintf("oam%d", d.oam), at, 10*time.Second)/18000)
}

// metrics is gpu_metrics 1.3 (kgd_pp_interface.h): 120 bytes, energy in 2^-16 J.
// What the die does not provide is all ones, as the driver leaves it.
func (e *Emulator) metrics(d die, at time.Time) string {
	b := make([]byte, 120)
	for i := range b {
		b[i] = 0xff
	}
	le := binary.LittleEndian
	put := func(at int, v uint64) { le.PutUint16(b[at:], uint16(v)) }
	put(0, 120)
	b[2], b[3] = 1, 3
	oam, used := fmt.Sprintf("oam%d", d.oam), e.shown.used(fmt.Sprintf("util%d", d.index), at)
	warm := uint64(e.celsius(d, at))
	for i, more := range []uint64{0, 4, 8} { // edge, hotspot, memory
		put(4+2*i, warm+more)
	}
	put(16, used)
	put(18, used/2)
	var counter, watts uint64
	if d.primary {
		watts = e.shown.power(oam, at, time.Second) / 1000
		if v := e.shown.counter(oam, at); v == blank {
			counter = uint64(v)
		} else {
			counter = uint64(v)/1_000_000<<16 + uint64(v)%1_000_000<<16/1_000_000
		}
	}
	put(22, watts)
	le.PutUint64(b[24:], counter)
	le.PutUint64(b[32:], uint64(at.Sub(e.start.Add(-time.Hour))))
	put(40, 800+used*9) // gfxclk, then the current ones
	put(42, 1090)
	put(44, 1600)
	put(54, 800+used*9)
	put(56, 1090)
	put(58, 1600)
	le.PutUint32(b[68:], 0)
	put(74, 16)
	put(76, 160)
	busy := uint64(e.shown.energy(e.shown.index[fmt.Sprintf("util%d", d.index)], at)) / 1_000_000 // percent seconds
	le.PutUint32(b[80:], uint32(busy*1000))
	le.PutUint32(b[84:], uint32(busy*500))
	for i := range 4 {
		put(88+2*i, warm+6)
	}
	le.PutUint64(b[96:], uint64(at.Sub(e.start.Add(-time.Hour)))/10)
	put(104, 805)
	put(106, 830)
	put(108, 1200)
	le.PutUint64(b[112:], 0)
	return string(b)
}
