package emulate

import (
	"math"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

// clocked is the trace with its faults: what meters of the trees show.
type clocked struct {
	*trace
	plan   *machine
	faults []Fault
}

// Ranges of RAPL's counters: 32 bits of 61.035 uJ, and of 15.3 uJ for dram.
const (
	packageRange energy.Microjoules = 262_143_328_850
	dramRange    energy.Microjoules = 65_712_999_613
)

// modulus is where the counter of a meter wraps.
func (m *machine) modulus(meter string) energy.Microjoules {
	switch {
	case m.sockets == 0:
	case strings.HasPrefix(meter, "package"):
		return packageRange
	case strings.HasPrefix(meter, "dram"):
		return dramRange
	}
	return 0
}

const (
	blank   = energy.Microjoules(math.MaxUint64)
	setBack = 10_000_000_000            // uJ: how far a backwards counter goes back
	absurd  = 1_000_000_000_000_000     // uJ: what an absurd counter shows too much
	wattage = uint64(4_000_000_000_000) // mW: an absurd power
)

// fault finds a fault of a meter that is there at an instant.
func (c *clocked) fault(meter, kind string, at time.Time) *Fault {
	for i := range c.faults {
		f := &c.faults[i]
		if f.Meter == meter && f.Kind == kind && f.active(at) {
			return f
		}
	}
	return nil
}

// counter is what the energy counter of a meter shows, faults and wraps included.
func (c *clocked) counter(meter string, at time.Time) energy.Microjoules {
	if c.fault(meter, "blank", at) != nil {
		return blank
	}
	if c.fault(meter, "zero", at) != nil {
		return 0
	}
	back, high := c.fault(meter, "backwards", at) != nil, c.fault(meter, "absurd", at) != nil
	if f := c.fault(meter, "stuck", at); f != nil {
		at = f.From
	}
	i := c.index[meter]
	v := c.energy(i, at)
	if restart := c.restart(meter, at); !restart.IsZero() {
		v -= c.energy(i, restart)
	} else {
		v += c.offset[i]
	}
	if mod := c.plan.modulus(meter); mod > 0 {
		v %= mod
	}
	switch {
	case back && v > setBack:
		v -= setBack
	case back:
		v /= 2
	}
	if high {
		v += absurd
	}
	return v
}

// restart is when the counter last began at 0, zero for never.
func (c *clocked) restart(meter string, at time.Time) time.Time {
	var last time.Time
	for i := range c.faults {
		f := &c.faults[i]
		t, ok := f.restart()
		cray := f.Kind == "startup" && !strings.HasPrefix(meter, "oam")
		if ok && (f.Meter == meter || cray) && !t.After(at) && t.After(last) {
			last = t
		}
	}
	return last
}

// power is the mean power that a meter shows, mW.
func (c *clocked) power(meter string, at time.Time, window time.Duration) uint64 {
	switch {
	case c.fault(meter, "absurd", at) != nil:
		return wattage
	case c.fault(meter, "zero", at) != nil, c.fault(meter, "blank", at) != nil:
		return 0
	}
	if f := c.fault(meter, "stuck", at); f != nil {
		at = f.From
	}
	return c.mean(c.index[meter], at, window)
}

// used is how busy a device is, 0 to 100.
func (c *clocked) used(name string, at time.Time) uint64 {
	return (c.mean(c.index[name], at, time.Second) + 500) / 1000
}
