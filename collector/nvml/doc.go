// Package nvml reads NVIDIA GPUs through libnvidia-ml: energy counter, power,
// utilisation, temperatures, clocks, throttle times, memory health, Xid events,
// MIG slices and processes.
//
// A physical GPU is one meter, named after the number of its device file (gpu0
// is /dev/nvidia0) and known by its UUID. A MIG slice is no meter: it owns a part
// of the board's energy, which attribution decides (Source.Slices). On a Grace
// Hopper module the one energy counter may cover the module or its GPU; the
// source finds out by comparing it with the power of both (scope probe) and
// books nothing until it knows, nor if neither fits.
//
// The library is treated as something that may hang, vanish or lie:
//
//   - one goroutine, and so one OS thread at a time, calls the GPUs in turn. A call
//     that does not return keeps the thread it is on and costs its GPU alone: it
//     is never started twice, and within 20 ms another one takes the remaining
//     GPUs on. Read collects what was delivered in time (Options.Patience). A
//     driver too slow for one at a time is called for several GPUs at once. The
//     goroutine is not pinned: to hand a tick over to a thread of its own and back
//     would cost more than the calls;
//   - Xids are taken from the driver at each tick without waiting, beside all that;
//   - a GPU that is lost is not called again before it is tried anew, with
//     growing pauses. What a GPU does not support is asked once per epoch;
//   - a value that is blank, of the wrong type or absurd is counted (Stats) and
//     never handed on; an energy counter of zero or all ones is no data;
//   - an entry point that the library lacks is never called;
//   - a library that no longer fits the driver ends in ErrRestart: it stays
//     mapped until the process ends.
//
// # Epochs
//
// The counter runs from the load of the driver. Its epoch is named by the boot
// id, the driver's version and a generation. While the agent has the driver
// open it cannot be unloaded; after a GPU was lost the counter is compared with
// the last value before: if it went on, by no more than the power limit allows,
// the epoch goes on, else the generation is one more. A reset that this takes
// for going on, because the counter has grown past its old value since, books
// less than was drawn and never more. A driver that was reloaded while no agent
// ran shows as a counter that went back, which is seen where readings are
// subtracted.
//
// The linker must bind lazily (no -z now): go-nvml leaves every entry point to
// be found when it is called. link_test.go checks the binaries.
package nvml
