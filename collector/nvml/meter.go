package nvml

import (
	"fmt"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

// scope is what the energy of a board covers.
type scope uint8

const (
	scopeUndecided scope = iota
	scopePower           // no counter: power is integrated
	scopeOfGPU           // the counter is the GPU's
	scopeOfModule        // the counter is the module's
	scopeBoth            // a counter of each
	scopeProbing         // not known yet
	scopeUnknown         // neither fits: a witness
)

// meter is what the energy of a board means. The worker's.
type meter struct {
	scope       scope
	gpuLimit    energy.Microwatts
	moduleLimit energy.Microwatts
	epoch       string
	generation  int
	probe       probe
	lastMJ      uint64 // the counter when it was last read
	lastAt      time.Time
	compare     bool // with the next value: the handle is new
	note        string
	own, module collector.Scope
}

// counts tells whether the board's energy counter is known to be there.
func (m *meter) counts() bool { return m.scope > scopePower }

func (m *meter) epochNote() string {
	if m.note == "" {
		return "it answers again"
	}
	return m.note
}

// attach finds out, after the first values of a new handle, what the board's
// meter is.
func (b *board) attach(v *sample) code {
	if c := b.limits(); c != success {
		return c
	}
	b.s.mu.Lock()
	driver, boot := b.s.driver, b.s.boot
	known := b.s.memory.of(b.id.uuid, boot, driver)
	b.s.mu.Unlock()
	b.generation = known.Generation
	b.epoch = fmt.Sprintf("%s-%s-%d", boot, driver, b.generation)
	b.compare = b.lastMJ > 0
	b.note = ""
	if b.scope == scopeUndecided {
		b.scope = b.first(v, known.Scope)
		switch b.scope {
		case scopeProbing:
			b.tell(v.at, "scope_probing", fmt.Sprintf("its counter may be the module's: compared with the power of both for %.0f s, not booked until then", probeFor.Seconds()))
		case scopePower:
			b.tell(v.at, "no_energy_counter", "power is read each second and integrated")
		default:
		}
	}
	b.describe()
	b.slots = nil // what is needed has changed
	return success
}

func (b *board) tell(at time.Time, kind, detail string) {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.s.tell(at, kind, b.name, detail)
}

// first says what to take the counter for before anything has been compared.
func (b *board) first(v *sample, known string) scope {
	switch {
	case b.cannot[fnEnergy]: // and the fields do not know it either
		return scopePower
	case !isSuperchip(b.id.product) && (!v.slots[slotModuleInstant].ok || v.slots[slotModuleInstant].n == 0):
		return scopeOfGPU
	}
	switch known {
	case "gpu":
		return scopeOfGPU
	case "module":
		return scopeOfModule
	case "both":
		return scopeBoth
	}
	return scopeProbing
}

// limits asks for the most that GPU and module can draw, half as much again to
// allow for the sensors and for what is drawn between two settings.
func (b *board) limits() code {
	var enforced, most uint32
	if _, dire := b.try(fnPowerLimits, func() (c code) { enforced, most, c = b.dev.PowerLimits(); return c }); dire != success {
		return dire
	}
	b.gpuLimit = anyLimit
	if n := max(enforced, most); n > 0 && n < 10_000_000 {
		b.gpuLimit = energy.Microwatts(n) * 1500
	}
	b.moduleLimit = b.gpuLimit + graceLimit
	if b.noFields {
		return success
	}
	f := []field{{ID: fieldPowerMaxLimit, Scope: scopeModule}}
	began := b.begin(fnFields)
	c := b.end(fnFields, began, b.dev.Fields(f))
	if n, ok := f[0].uint(); c == success && f[0].Code == success && ok && n > 0 && n < 20_000_000 {
		b.moduleLimit = max(energy.Microwatts(n)*1500, b.gpuLimit)
	}
	if c.fate().dire() {
		return c
	}
	return success
}

// describe makes the scopes that every reading of this meter carries.
func (b *board) describe() {
	b.own = collector.Scope{
		Name: b.name, Class: energy.GPU, Kind: collector.Counter,
		Limit: b.gpuLimit, Resolution: energy.Millijoule, Device: b.id.uuid,
	}
	b.module = collector.Scope{
		Name: fmt.Sprintf("module%d", b.number), Class: energy.GPU, Rest: energy.GPU, Kind: collector.Counter,
		Limit: b.moduleLimit, Resolution: energy.Millijoule, Device: b.id.uuid,
	}
	switch b.scope {
	case scopePower:
		b.own.Kind, b.own.Resolution = collector.Power, 0
	case scopeProbing:
		b.own.Kind, b.own.Resolution = collector.Gauges, 0
	case scopeUnknown:
		b.own.Witness, b.own.Limit = true, b.moduleLimit
	case scopeBoth:
		b.own.Parent, b.module.Rest = b.module.Name, energy.Other
	default:
	}
}

// readings makes of a sample what the agent is given.
func (b *board) readings(v *sample) ([]collector.Reading, error) {
	own := collector.Reading{Scope: b.own, At: v.at, Activity: b.activity(v), Gauges: b.takeGauges(v)}
	own.Power, own.HasPower = b.gpuPower(v)
	if b.scope == scopePower {
		own.Epoch = b.epoch
		if !own.HasPower {
			return nil, errNoEnergy
		}
		return []collector.Reading{own}, nil
	}
	uj, ok := b.counter(v.slots[slotEnergy])
	if ok {
		b.follow(v)
	}
	if b.scope == scopeProbing {
		b.weigh(v)
		return []collector.Reading{own}, nil
	}
	own.Epoch, own.Counter = b.epoch, uj
	switch b.scope {
	case scopeOfModule:
		if own.HasPower {
			own.Gauges = append(own.Gauges, collector.Gauge{Name: "gpu_power_watts", Value: float64(own.Power) / 1e6})
		}
		own.Scope = b.module
		own.Power, own.HasPower = b.modulePower(v)
	case scopeBoth:
		return b.both(v, own)
	default:
	}
	if !ok {
		return nil, errBlank
	}
	return []collector.Reading{own}, nil
}

// both gives the module and the GPU inside it, each by its own counter.
func (b *board) both(v *sample, own collector.Reading) ([]collector.Reading, error) {
	module := collector.Reading{Scope: b.module, At: v.at, Epoch: b.epoch, Activity: own.Activity}
	module.Power, module.HasPower = b.modulePower(v)
	var ok1, ok2 bool
	own.Counter, ok1 = b.counter(v.slots[slotGPUEnergy])
	module.Counter, ok2 = b.counter(v.slots[slotModuleEnergy])
	if !ok1 || !ok2 {
		return nil, errBlank // a parent without its child would be booked for both
	}
	return []collector.Reading{module, own}, nil
}

// counter is a counter's value in microjoules; zero, all ones and what no
// odometer can hold are none.
func (b *board) counter(x value) (energy.Microjoules, bool) {
	if !x.ok {
		return 0, false
	}
	if x.n == 0 || x.n > uint64(energy.MaxOdometer/energy.Millijoule) {
		b.refuse()
		return 0, false
	}
	return energy.Microjoules(x.n) * energy.Millijoule, true
}

// follow watches the counter over handles: whether it has gone on since the
// board was lost.
func (b *board) follow(v *sample) {
	n := v.slots[slotEnergy].n
	if b.compare {
		b.compare = false
		limit := max(b.gpuLimit, b.moduleLimit)
		most := energy.Most(limit, v.at.Sub(b.lastAt).Nanoseconds()+time.Second.Nanoseconds(), energy.Millijoule)
		if n < b.lastMJ || energy.Microjoules(n-b.lastMJ)*energy.Millijoule > most {
			b.generation++
			b.remember()
			b.epoch = fmt.Sprintf("%s-%s-%d", b.s.boot, b.s.driver, b.generation)
			b.note = fmt.Sprintf("its energy counter began anew: %d mJ after %d mJ", n, b.lastMJ)
			b.tell(v.at, "counter_reset", b.note)
		} else {
			b.note = "its energy counter has gone on: nothing is lost"
		}
	}
	b.lastMJ, b.lastAt = n, v.at
}

// takeGauges gives the utilisation, and the slow values that have come since
// the last reading. None is given twice.
func (b *board) takeGauges(v *sample) []collector.Gauge {
	out := b.pending
	b.pending = nil
	if v.used.ok {
		out = append(out, collector.Gauge{Name: "utilization_ratio", Value: float64(v.used.n) / 100})
	}
	return out
}
