package emulate

import (
	"fmt"
	"strconv"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

// scan is how often the Cray controller renews its counters.
const scan = quantum

// addCray adds /sys/cray/pm_counters: whole joules and watts, each file with its
// own stamp (the files of one scan lie up to 90 ms apart), freshness that counts
// scans and is written after them, and startup that names the controller's life.
func (e *Emulator) addCray() {
	const dir = "sys/cray/pm_counters/"
	t := e.tree
	lag := time.Duration(0)
	show := func(name, unit string, value func(at time.Time) uint64) {
		behind := lag
		lag += 11 * time.Millisecond
		if lag > 90*time.Millisecond {
			lag = 2 * time.Millisecond
		}
		t.live(dir+name, 0o444, func(at time.Time) string {
			at = e.scanned(at)
			up := e.startup(at)
			if at = at.Add(-behind); at.Before(up) {
				at = up
			}
			return fmt.Sprintf("%d %s %d us", value(at), unit, at.UnixMicro())
		})
	}
	meter := func(prefix, meter string) {
		show(prefix+"power", "W", func(at time.Time) uint64 {
			return (e.shown.power(meter, at, scan) + 500) / 1000
		})
		show(prefix+"energy", "J", func(at time.Time) uint64 {
			v := e.shown.counter(meter, at)
			if v == blank {
				return uint64(v)
			}
			return uint64(v / energy.Joule)
		})
	}
	t.static(dir+"version", "3")
	t.static(dir+"raw_scan_hz", strconv.Itoa(int(time.Second/scan)))
	t.static(dir+"generation", "12")
	t.static(dir+"power_cap", "0 W")
	t.live(dir+"startup", 0o444, func(at time.Time) string { return strconv.FormatInt(e.startup(at).UnixMicro(), 10) })
	meter("", "node")
	meter("cpu_", "package0")
	meter("memory_", "dram0")
	for i := range 4 {
		meter(fmt.Sprintf("accel%d_", i), fmt.Sprintf("gpu%d", i))
		t.static(fmt.Sprintf("%saccel%d_power_cap", dir, i), "560 W")
	}
	show("cpu0_temp", "C", func(at time.Time) uint64 { return 30 + e.shown.power("package0", at, 10*time.Second)/8000 })
	t.live(dir+"freshness", 0o444, func(at time.Time) string {
		at = e.scanned(at)
		return strconv.FormatInt(int64(at.Sub(e.startup(at))/scan), 10)
	})
}

// scanned is when the controller scanned last.
func (e *Emulator) scanned(at time.Time) time.Time {
	for i := range e.shown.faults {
		if f := &e.shown.faults[i]; f.Kind == "freshness" && f.active(at) {
			return f.From.Truncate(scan)
		}
	}
	return at
}

// startup is when the controller that counts at an instant began to.
func (e *Emulator) startup(at time.Time) time.Time {
	last := e.start.Add(-55*24*time.Hour - 123_457*time.Microsecond)
	for i := range e.shown.faults {
		f := &e.shown.faults[i]
		if f.Kind == "startup" && !f.From.After(at) && f.From.After(last) {
			last = f.From
		}
	}
	return last
}
