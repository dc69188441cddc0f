package nvml

import (
	"sync/atomic"
	"time"
)

// function is an entry point, or a few that are called together, for Stats.
type function int32

const (
	fnNone function = iota
	fnInit
	fnShutdown
	fnOpen // handles and identity
	fnFields
	fnEnergy
	fnPower
	fnPowerLimits
	fnUtilization
	fnMemory
	fnTemperature
	fnMargin
	fnClocks
	fnProcesses
	fnProcessUse
	fnMIG
	fnRegister
	numFunctions
)

func (f function) String() string {
	return [numFunctions]string{
		"", "init", "shutdown", "open", "fields", "energy", "power", "power_limits", "utilization", "memory",
		"temperature", "margin", "clocks", "processes", "process_use", "mig", "register_events",
	}[f]
}

// CallStats is what one function of the library has cost since the start.
type CallStats struct {
	Function string
	Calls    uint64
	Failed   uint64 // returned something other than success
	Seconds  float64
	Slowest  float64 // seconds
}

// Stats is what reading costs and what was refused.
type Stats struct {
	Calls []CallStats // functions called at least once, in a fixed order
	// FieldSeconds is what the driver itself says the fields took.
	FieldSeconds float64
	Refused      uint64 // values that were blank, of the wrong type or absurd
	Unknown      uint64 // calls that failed for a reason that may pass (UNKNOWN, TIMEOUT ...)
	Late         uint64 // reads of one GPU that missed the deadline
	Hung         int    // GPUs in a call that does not return, now
	Lost         int    // GPUs that are not called, now
	Dropped      uint64 // events that nobody took in time
	Opened       uint64 // times the driver was opened
}

type counters struct {
	calls                           [numFunctions]callCounter
	fieldUS                         atomic.Int64
	refused, unknown, late, dropped atomic.Uint64
	opened                          atomic.Uint64
}

type callCounter struct {
	calls, failed atomic.Uint64
	ns, slowest   atomic.Int64
}

func (c *counters) add(f function, took time.Duration, result code) {
	k := &c.calls[f]
	k.calls.Add(1)
	if result != success {
		k.failed.Add(1)
	}
	ns := max(took.Nanoseconds(), 0)
	k.ns.Add(ns)
	for old := k.slowest.Load(); ns > old && !k.slowest.CompareAndSwap(old, ns); old = k.slowest.Load() {
	}
}

func (c *counters) stats() Stats {
	out := Stats{
		FieldSeconds: float64(c.fieldUS.Load()) / 1e6,
		Refused:      c.refused.Load(), Unknown: c.unknown.Load(), Late: c.late.Load(),
		Dropped: c.dropped.Load(), Opened: c.opened.Load(),
	}
	for f := range c.calls {
		k := &c.calls[f]
		if n := k.calls.Load(); n > 0 {
			out.Calls = append(out.Calls, CallStats{
				Function: function(f).String(), Calls: n, Failed: k.failed.Load(),
				Seconds: float64(k.ns.Load()) / 1e9, Slowest: float64(k.slowest.Load()) / 1e9,
			})
		}
	}
	return out
}
