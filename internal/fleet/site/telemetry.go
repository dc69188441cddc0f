package site

import (
	"fmt"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/window"
)

// note adds to the energy of a second of the window.
func (b *builder) note(i, slot int, uj int64) {
	for len(b.seconds[i]) <= slot {
		b.seconds[i] = append(b.seconds[i], 0)
	}
	b.seconds[i][slot] += uj
}

// telemetry adds what agents send to be looked at: the power of node and GPUs
// at 1 s, and gauges of the window.
func (b *builder) telemetry(n *node, from, to int64) {
	b.milli = b.milli[:0]
	seconds := int((to - from) / 1000)
	for i := range b.s.m.defs {
		if c := b.s.m.defs[i].Class; (c != energy.GPU && c != energy.Node) || seconds == 0 {
			continue
		}
		start := len(b.milli)
		for k := range seconds {
			uw := int64(0)
			if k < len(b.seconds[i]) {
				uw = b.seconds[i][k] // uJ in a second
			}
			b.milli = append(b.milli, (uw+50_000)/100_000*100)
		}
		b.w.Telemetry = append(b.w.Telemetry, window.Series{
			Meter: i, Name: "power_watts", StartMS: from + n.skew, StepMS: 1000, Milli: b.milli[start:],
		})
	}
	b.nodeGauges(n, from, to)
	for i := range b.s.m.defs {
		switch d := &b.s.m.defs[i]; {
		case !d.device():
		case b.s.m.gauges == gaugesAMD:
			b.amdGauges(n, i, d.unit, from, to)
		default:
			b.nvmlGauges(n, i, d.unit, from, to)
		}
	}
}

// gauge adds one value: mean, highest and last of the window, in thousandths.
func (b *builder) gauge(meter int, name string, mean, most, last int64) {
	start := len(b.milli)
	b.milli = append(b.milli, mean)
	b.w.Telemetry = append(b.w.Telemetry, window.Series{
		Meter: meter, Name: name, StartMS: b.w.StartMS, StepMS: b.w.EndMS - b.w.StartMS,
		Milli: b.milli[start:], Max: most, Last: last,
	})
}

func (b *builder) flat(meter int, name string, v int64) { b.gauge(meter, name, v, v, v) }

func (b *builder) nodeGauges(n *node, from, to int64) {
	m, span := b.s.m, to-from
	var busy int64
	for g := range m.gpus {
		busy += b.busy[g]
	}
	held := int64(m.gpus - b.free)
	share := busy * 1000 / (span * int64(m.gpus)) // of the GPUs
	used := 20 + share*3/10 + held*60/int64(m.gpus)
	if m.gauges == gaugesAMD {
		b.flat(-1, "power_limit_watts", 2_754_000)
	}
	b.flat(-1, "clock_offset_seconds", n.skew)
	b.gauge(-1, "cpu_utilization_ratio", used, min(1000, used*11/10), used)
	b.flat(-1, "load1", used*64)
	b.flat(-1, "load15", used*62)
	b.flat(-1, "load5", used*63)
	b.flat(-1, "memory_total_bytes", m.nodeBytes*1000)
	b.flat(-1, "memory_used_bytes", m.nodeBytes/20*(1+held*3)*1000)
	// 20 kB a window would be much, and a spool holds a hundred megabytes
	b.flat(-1, "spool_used_ratio", min(1000, int64(len(n.link.pending))/4))
}

// nvmlGauges are those of collector/nvml, in the order of their names.
func (b *builder) nvmlGauges(n *node, i, gpu int, from, to int64) {
	m, l := b.s.m, &b.loads[gpu]
	span := to - from
	load := b.busy[gpu] * 1000 / span
	mean, most := b.watts(i)
	hot := b.hot(n, gpu, from, to)
	temp := b.temperature(n, gpu, mean, hot)
	used := int64(0)
	if l.held {
		used = m.gpuBytes / 100 * int64(20+mix(n.seed+uint64(gpu))%60)
	}
	sm := m.smHertz
	switch {
	case load == 0:
		sm = 345_000_000
	case hot:
		sm = sm * 6 / 10
	}
	if b.s.m.defs[i].part == ofModule {
		chip := m.gpuPower(l, 500)
		b.gauge(i, "gpu_power_watts", chip, chip, chip)
	}
	if b.s.o.FewGauges {
		b.flat(i, "clock_sm_hertz", sm*1000)
		b.flat(i, "ecc_uncorrected_total", 0)
		b.gauge(i, "memory_temperature_celsius", temp+6000, temp+7000, temp+6000)
		b.flat(i, "memory_used_bytes", used*1000)
		b.flat(i, "power_limit_watts", m.gpu.most/watt*1000)
		b.gauge(i, "temperature_celsius", temp, temp+(most-mean)/30_000*1000, temp)
		b.flat(i, b.s.throttles["power"], b.throttled(n, gpu, "power"))
		b.flat(i, b.s.throttles["thermal"], b.throttled(n, gpu, "thermal"))
		b.gauge(i, "utilization_ratio", load*95/100, min(1000, load*105/100), load*97/100)
		return
	}
	uptime := to / 1000 % 10_000_000
	b.flat(i, "clock_memory_hertz", m.memHertz*1000)
	b.gauge(i, "clock_sm_hertz", sm*1000, sm*1000, sm*1000)
	b.flat(i, "ecc_corrected_total", int64(mix(n.seed+uint64(gpu)*77)%3)*1000)
	b.flat(i, "ecc_uncorrected_total", 0)
	b.gauge(i, "memory_temperature_celsius", temp+6000, temp+7000, temp+6000)
	b.flat(i, "memory_total_bytes", m.gpuBytes*1000)
	b.flat(i, "memory_used_bytes", used*1000)
	b.flat(i, "nvlink_receive_bytes_total", uptime*load*1_000_000*1000)
	b.flat(i, "nvlink_transmit_bytes_total", uptime*load*1_000_000*1000)
	b.flat(i, "power_limit_watts", m.gpu.most/watt*1000)
	b.flat(i, "recovery_action", b.recovery(n, gpu, from))
	for _, name := range [...]string{"remapped_rows_corrected_total", "remapped_rows_failure", "remapped_rows_pending", "remapped_rows_uncorrected_total"} {
		b.flat(i, name, 0)
	}
	b.gauge(i, "temperature_celsius", temp, temp+(most-mean)/30_000*1000, temp)
	b.flat(i, "temperature_margin_celsius", 92_000-temp)
	for _, reason := range throttleReasons() {
		b.flat(i, b.s.throttles[reason], b.throttled(n, gpu, reason))
	}
	b.gauge(i, "utilization_ratio", load*95/100, min(1000, load*105/100), load*97/100)
}

func (b *builder) throttled(n *node, gpu int, reason string) int64 {
	switch reason {
	case "thermal", "software_thermal":
		return n.thermal[gpu]
	case "power":
		return n.thermal[gpu] / 4
	}
	return 0
}

// amdGauges are those of collector/amdgpu.
func (b *builder) amdGauges(n *node, i, gpu int, from, to int64) {
	m := b.s.m
	load := b.busy[gpu] * 1000 / (to - from)
	mean, _ := b.watts(i)
	temp := b.temperature(n, gpu, mean, b.hot(n, gpu, from, to))
	b.flat(i, "edge_temperature_celsius", temp-5000)
	b.gauge(i, "memory_temperature_celsius", temp+4000, temp+5000, temp+4000)
	b.flat(i, "memory_total_bytes", m.gpuBytes*1000)
	used := int64(0)
	if b.loads[gpu].held {
		used = m.gpuBytes / 100 * int64(20+mix(n.seed+uint64(gpu))%60)
	}
	b.flat(i, "memory_used_bytes", used*1000)
	b.gauge(i, "temperature_celsius", temp, temp+1000, temp)
	b.gauge(i, "utilization_ratio", load*95/100, min(1000, load*105/100), load*97/100)
}

// watts gives the mean and the highest power of a meter in the window, in
// milliwatts.
func (b *builder) watts(i int) (mean, most int64) {
	for _, uj := range b.seconds[i] {
		mean += uj
		most = max(most, uj)
	}
	return mean / int64(max(1, len(b.seconds[i]))) / 1000, most / 1000
}

// temperature in thousandths of a degree: of the water, of the power, of the
// place.
func (b *builder) temperature(n *node, gpu int, mw int64, hot bool) int64 {
	t := 30_000 + mw*36_000/b.s.m.gpu.most + int64(mix(n.seed+uint64(gpu)*31)%7)*1000
	if hot {
		t = 89_000 + int64(gpu)*1000
	}
	return t
}

func (b *builder) hot(n *node, gpu int, from, to int64) bool {
	f := n.faults[faultThermal]
	return f != nil && f.gpu == gpu && f.from < to && from < f.to
}

// recovery is what the driver asks for after an Xid that a reset mends.
func (b *builder) recovery(n *node, gpu int, ms int64) int64 {
	f := n.faults[faultXid]
	if f != nil && f.gpu == gpu && f.number == 119 && ms < f.from+20*minuteMS {
		return 1000
	}
	return 0
}

// complain adds the events that faults bring.
func (b *builder) complain(n *node, from, to int64) {
	for k, f := range n.faults {
		if f == nil || f.from < from || f.from >= to {
			continue
		}
		gpu, meter := fmt.Sprint("gpu", f.gpu), fmt.Sprint("gpu", f.gpu)
		if b.s.m.tree.Find(meter) < 0 {
			meter = fmt.Sprint("module", f.gpu)
		}
		switch faultKind(k) {
		case faultXid:
			n.event(f.from, "xid", gpu, collector.Xid(f.number).String())
		case faultStuck:
			n.event(f.from, "stuck", meter, "its counter stands still while it draws power: the time is missing")
		default:
		}
	}
}
