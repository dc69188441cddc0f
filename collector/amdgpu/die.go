package amdgpu

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/sysfs"
)

// die is one device of the driver, its files kept open.
type die struct {
	card, address  string
	serial, unique string // "" where not known

	metrics *sysfs.File
	layout  *layout
	first   metrics // of the last search
	fault   error   // of the last search

	power             *sysfs.File // nil where there is none
	limit             energy.Microwatts
	busy, used, total *sysfs.File
	temps             [3]*sysfs.File // edge, junction, memory

	clock, firmware uint64 // of the last table
}

// openDie finds the files of a card. What is optional and not there is nil.
func openDie(sys *sysfs.Root, card, address string) *die {
	dir := class + "/" + card + "/device"
	d := &die{card: card, address: address, limit: 2000 * energy.Watt, metrics: sys.Sized(dir+"/gpu_metrics", tableSize)}
	d.serial = identity(sys, dir+"/serial_number")
	d.unique = identity(sys, dir+"/unique_id")
	optional := func(name string) *sysfs.File {
		if !sys.Has(name) {
			return nil
		}
		return sys.File(name)
	}
	d.busy = optional(dir + "/gpu_busy_percent")
	d.used, d.total = optional(dir+"/mem_info_vram_used"), optional(dir+"/mem_info_vram_total")
	chips, _ := sys.Entries(dir + "/hwmon")
	for _, chip := range chips {
		hw := dir + "/hwmon/" + chip
		for _, name := range []string{"/power1_average", "/power1_input"} {
			if d.power == nil {
				d.power = optional(hw + name)
			}
		}
		for i, name := range []string{"/temp1_input", "/temp2_input", "/temp3_input"} {
			if d.temps[i] == nil {
				d.temps[i] = optional(hw + name)
			}
		}
		for _, name := range []string{"/power1_cap_max", "/power1_cap"} {
			if uw, err := sys.Uint(hw + name); err == nil && uw > 0 && uw < uint64(2500*energy.Watt) {
				d.limit = max(500*energy.Watt, 2*energy.Microwatts(uw))
				break
			}
		}
	}
	return d
}

// identity is a text that tells a board from another, "" for a placeholder.
func identity(sys *sysfs.Root, name string) string {
	text, err := sys.Text(name)
	if err != nil || strings.Trim(text, "0xX- ") == "" || strings.EqualFold(text, "N/A") || strings.EqualFold(text, "unknown") {
		return ""
	}
	return text
}

func (d *die) close() {
	for _, f := range []*sysfs.File{d.metrics, d.power, d.busy, d.used, d.total, d.temps[0], d.temps[1], d.temps[2]} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// table reads gpu_metrics by one read, as the driver makes it by one.
func (d *die) table() (metrics, error) {
	b, err := d.metrics.Bytes()
	if err != nil {
		return metrics{}, err
	}
	if !d.layout.is(b) {
		l, err := layoutOf(b)
		if err != nil {
			return metrics{}, fmt.Errorf("cannot use %s: %w", d.metrics.Full(), err)
		}
		d.layout = l
	}
	m, err := d.layout.decode(b)
	if err != nil {
		return m, fmt.Errorf("cannot use %s: %w", d.metrics.Full(), err)
	}
	return m, nil
}

// counter gives the table of a die that must count.
func (d *die) counter() (metrics, error) {
	m, err := d.table()
	switch {
	case err != nil:
		return m, err
	case m.counterIsOutOfSize:
		return m, fmt.Errorf("%s: the energy counter is beyond any device's life", d.metrics.Full())
	case !m.counted:
		return m, fmt.Errorf("%s has no energy: %w", d.metrics.Full(), errNoData)
	}
	if d.power != nil {
		uw, err := d.power.Uint()
		if err == nil && uw > 0 && uw < uint64(10*d.limit) {
			m.power, m.powered = energy.Microwatts(uw), true
		}
	}
	return m, nil
}

// restarted tells that a clock in the table went back: the driver or its
// firmware was started anew, and the counter with it.
func (d *die) restarted(m metrics) bool {
	back := m.clock > 0 && m.clock < d.clock || m.firmware > 0 && m.firmware < d.firmware
	if m.clock > 0 {
		d.clock = m.clock
	}
	if m.firmware > 0 {
		d.firmware = m.firmware
	}
	return back
}

// share of time that the die was busy, 0 to 100; false where it is not known.
func (d *die) share() (uint64, bool) {
	if d.busy == nil {
		return 0, false
	}
	v, err := d.busy.Uint()
	return v, err == nil && v <= 100
}

// look adds what is worth to be looked at of the dies of a module: the hottest,
// the mean of what is busy, the sum of memory.
func look(dies []*die, out []collector.Gauge) ([]collector.Gauge, collector.Activity) {
	names := [3]string{"edge_temperature_celsius", "temperature_celsius", "memory_temperature_celsius"}
	for i, name := range names {
		hottest, known := int64(0), false
		for _, d := range dies {
			if d.temps[i] == nil {
				continue
			}
			if v, err := d.temps[i].Int(); err == nil && v > -60_000 && v < 200_000 {
				if !known || v > hottest {
					hottest, known = v, true
				}
			}
		}
		if known {
			out = append(out, collector.Gauge{Name: name, Value: float64(hottest) / 1000})
		}
	}
	var used, total, busy uint64
	memory, known := true, 0
	for _, d := range dies {
		if v, ok := d.share(); ok {
			busy += v
			known++
		}
		u, ok1 := amount(d.used)
		t, ok2 := amount(d.total)
		used, total, memory = used+u, total+t, memory && ok1 && ok2
	}
	if memory {
		out = append(out, collector.Gauge{Name: "memory_used_bytes", Value: float64(used)}, collector.Gauge{Name: "memory_total_bytes", Value: float64(total)})
	}
	activity := collector.NotKnown
	switch {
	case busy > 0:
		activity = collector.Working
	case known == len(dies): // all of them are known to rest
		activity = collector.Resting
	}
	if known == len(dies) {
		out = append(out, collector.Gauge{Name: "utilization_ratio", Value: float64(busy) / float64(100*known)})
	}
	return out, activity
}

func amount(f *sysfs.File) (uint64, bool) {
	if f == nil {
		return 0, false
	}
	v, err := f.Uint()
	return v, err == nil
}

// search reads the table for what there is to know before pairs are made.
func (d *die) search() {
	d.first, d.fault = d.table()
}

// meter is one module: a die that counts and the ones it counts for.
type meter struct {
	scope   collector.Scope
	primary *die
	dies    []*die
	epoch   string
	begun   bool
	trust   trust
}

// read gives a reading; ok is false where the counter is not trusted yet. The
// first is given all the same: it claims nothing.
func (m *meter) read(s *Source, at time.Time) (r collector.Reading, ok bool, err error) {
	t, err := m.primary.counter()
	if err != nil {
		if errors.Is(err, errRefused) {
			s.journal.State(at, "unknown_layout", m.scope.Name, err.Error())
		}
		return r, false, err
	}
	if m.epoch == "" {
		m.epoch = s.boot + "/" + m.primary.address
	}
	if m.primary.restarted(t) {
		m.epoch = fmt.Sprintf("%s/%s/%d", s.boot, m.primary.address, at.UnixMilli())
		m.trust.span = false
		s.journal.Add(at, "gpu_reset", m.scope.Name, "the table's clock went back: the counter begins anew")
	}
	if f := m.trust.see(at, t.counter, t.power, t.powered); f.kind != "" {
		s.journal.Add(at, f.kind, m.scope.Name, f.detail)
	}
	r = collector.Reading{Scope: m.scope, At: at, Epoch: m.epoch, Counter: t.counter, Power: t.power, HasPower: t.powered}
	if m.trust.suspect {
		r.Scope.Name, r.Scope.Witness = m.scope.Name+"-suspect", true
		return r, true, nil
	}
	first := !m.begun
	m.begun = true
	return r, first || m.trust.verified, nil
}
