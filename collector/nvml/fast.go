package nvml

import (
	"errors"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

// slot is a field of the batch that is read every tick.
type slot uint8

const (
	slotEnergy slot = iota
	slotGPUEnergy
	slotModuleEnergy
	slotAverage
	slotInstant
	slotModuleAverage
	slotModuleInstant
	numSlots
)

func (s slot) field() field {
	return [numSlots]field{
		slotEnergy:        {ID: fieldEnergy},
		slotGPUEnergy:     {ID: fieldScopedEnergy, Scope: scopeGPU},
		slotModuleEnergy:  {ID: fieldScopedEnergy, Scope: scopeModule},
		slotAverage:       {ID: fieldPowerAverage, Scope: scopeGPU},
		slotInstant:       {ID: fieldPowerInstant, Scope: scopeGPU},
		slotModuleAverage: {ID: fieldPowerAverage, Scope: scopeModule},
		slotModuleInstant: {ID: fieldPowerInstant, Scope: scopeModule},
	}[s]
}

// value is a number that may be missing.
type value struct {
	n  uint64
	ok bool
}

// sample is what one round of fast calls gave.
type sample struct {
	at    time.Time
	slots [numSlots]value // mJ, mW
	usage value           // of power, where the fields are not to be had, mW
	used  value           // utilisation, percent
}

var (
	errNoEnergy = errors.New("neither an energy counter nor a power reading")
	errBlank    = errors.New("the energy counter shows no value")
	errSlow     = errors.New("the answer took too long to say when it was true")
)

// fast reads energy, power and utilisation. The code is the worst that says
// something about the device.
func (b *board) fast() ([]collector.Reading, code, error) {
	var v sample
	began := b.s.o.Now()
	c := b.readFields(&v)
	took := b.s.o.Now().Sub(began)
	v.at = began.Add(took / 2)
	if c != success && (c.fate().dire() || c.fate() == hiccup) {
		return nil, c, c
	}
	c = b.readUsage(&v)
	if c.fate().dire() {
		return nil, c, c
	}
	if took > maxCall {
		return nil, success, errSlow
	}
	if b.fresh {
		if c := b.attach(&v); c.fate().dire() {
			return nil, c, c
		}
		b.fresh = false
	}
	readings, err := b.readings(&v)
	return readings, success, err
}

// readFields asks for the batch in one call, and for energy by its own entry
// point where the fields cannot tell it.
func (b *board) readFields(v *sample) code {
	if b.slots == nil {
		b.compose()
	}
	if !b.noFields && len(b.batch) > 0 {
		began := b.begin(fnFields)
		c := b.end(fnFields, began, b.dev.Fields(b.batch))
		switch {
		case c == success:
			if c = b.decode(v); c != success {
				return c
			}
		case c.fate() == unsupported && c != invalidArgument || c.fate() == denied:
			b.noFields = true
		default:
			return worse(c)
		}
	}
	if (b.noFields || b.dead[slotEnergy]) && !b.cannot[fnEnergy] {
		return b.readEnergy(v)
	}
	return success
}

// worse lets a code that says nothing of its own be a hiccup.
func worse(c code) code {
	if f := c.fate(); f.dire() || f == hiccup {
		return c
	}
	return unknownError
}

// compose lists the fields that are still worth asking for.
func (b *board) compose() {
	b.batch, b.slots = b.batch[:0], make([]slot, 0, numSlots)
	for i := range numSlots {
		if !b.dead[i] && b.needs(i) {
			b.batch, b.slots = append(b.batch, i.field()), append(b.slots, i)
		}
	}
}

// needs tells whether a slot is of use: those of the module only where there
// may be one, and nothing of a scope that has been decided against.
func (b *board) needs(i slot) bool {
	switch i {
	case slotGPUEnergy, slotModuleEnergy:
		return b.fresh || b.scope == scopeProbing || b.scope == scopeBoth
	case slotModuleAverage, slotModuleInstant:
		return b.fresh || b.scope == scopeProbing || b.scope == scopeBoth || b.scope == scopeOfModule
	default:
		return true
	}
}

// decode takes the values out of the batch.
func (b *board) decode(v *sample) code {
	shrunk := false
	for i := range b.batch {
		f, slot := &b.batch[i], b.slots[i]
		b.s.count.fieldUS.Add(max(f.LatencyUS, 0))
		switch fate := f.Code.fate(); {
		case fate == fine:
			n, ok := f.uint()
			if !ok {
				b.refuse()
			}
			v.slots[slot] = value{n, ok}
		case fate == unsupported || fate == denied:
			if slot == slotEnergy && b.counts() {
				return worse(f.Code) // it was supported: something else is wrong
			}
			b.dead[slot], b.denied = true, b.denied || fate == denied
			shrunk = true
		case fate.dire(), slot == slotEnergy && fate == hiccup:
			return f.Code
		}
	}
	if shrunk {
		b.slots = nil
	}
	return success
}

func (b *board) readEnergy(v *sample) code {
	began := b.begin(fnEnergy)
	n, c := b.dev.Energy()
	switch c = b.end(fnEnergy, began, c); {
	case c == success:
		v.slots[slotEnergy] = value{n, true}
	case (c.fate() == unsupported || c.fate() == denied) && c != invalidArgument && !b.counts():
		b.cannot[fnEnergy], b.denied = true, b.denied || c.fate() == denied
	default:
		return worse(c)
	}
	return success
}

// readUsage asks for power by its own entry point, where the fields do not tell
// it, and for utilisation.
func (b *board) readUsage(v *sample) code {
	if b.noFields || b.dead[slotAverage] && b.dead[slotInstant] {
		var mw uint32
		ok, dire := b.try(fnPower, func() (c code) { mw, c = b.dev.Power(); return c })
		if dire != success {
			return dire
		}
		v.usage = value{uint64(mw), ok && mw != ^uint32(0)}
	}
	if b.cannot[fnUtilization] {
		return success
	}
	began := b.begin(fnUtilization)
	percent, c := b.dev.Utilization()
	switch fate := b.end(fnUtilization, began, c).fate(); {
	case fate == fine && percent <= 100:
		v.used = value{uint64(percent), true}
	case fate == fine:
		b.refuse()
	case fate == unsupported || fate == denied:
		b.cannot[fnUtilization] = true
	case fate.dire():
		return c
	}
	return success
}

// power is what the scope draws, averaged by the hardware where it can; ok is
// false for none, zero, or more than the scope can draw.
func (b *board) power(v *sample, limit energy.Microwatts, from ...value) (energy.Microwatts, bool) {
	for _, x := range from {
		if !x.ok || x.n == 0 {
			continue
		}
		uw := energy.Microwatts(x.n) * 1000
		if limit > 0 && uw > limit || x.n > 1e12 {
			b.refuse()
			continue
		}
		return uw, true
	}
	return 0, false
}

func (b *board) gpuPower(v *sample) (energy.Microwatts, bool) {
	return b.power(v, b.gpuLimit, v.slots[slotAverage], v.slots[slotInstant], v.usage)
}

func (b *board) modulePower(v *sample) (energy.Microwatts, bool) {
	return b.power(v, b.moduleLimit, v.slots[slotModuleAverage], v.slots[slotModuleInstant])
}

// activity says whether the GPU works: by its utilisation, or by its processes
// where that is not to be had.
func (b *board) activity(v *sample) collector.Activity {
	switch {
	case v.used.ok && v.used.n > 0:
		return collector.Working
	case v.used.ok:
		return collector.Resting
	case b.cannot[fnUtilization]:
		return b.processes
	}
	return collector.NotKnown
}
