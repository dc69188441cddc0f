// Package emulate is a node that is not here: live /sys and /proc trees and a
// libnvidia-ml.so.1, for the real agent to read, with known truth.
//
// There is one power trace per machine, a pure function of the wall clock: for
// every meter scope a constant power in each 100 ms, seeded, over ten minutes
// that repeat. Every face integrates it: the emulated counters are sums of the
// trace, so the energy of any meter in any span is known exactly. The trace is in
// ROOT/trace.bin, which both Go and the C library read, little-endian:
//
//	"WLTRACE2"                     8 bytes
//	start, quantum, quanta, meters 8 bytes each: Unix ms, ms, count, count
//	names                          32 bytes each, padded with zeros
//	offsets                        8 bytes each: what a counter showed at the start, uJ
//	sums                           quanta+1 rows of a value for each meter: uJ before each quantum
//
// Names that begin with util are utilisation, 1 % as 1 W. A scenario says what
// goes wrong and when (ParseScenario); faults are functions of the wall clock,
// too. They change what is read, never the truth.
//
// The C library is compiled with cc when the emulator starts; it finds ROOT from
// its own place (ROOT/lib/libnvidia-ml.so.1), or in WATTLEDGER_EMULATE, and
// goes on counting after the emulator has ended. Trees are plain files written in
// place ten times a second; what a plain file cannot do is said at ParseScenario.
package emulate
