// Package fleet makes machines whose energy is known: recordings of real nodes,
// moved in time as a whole, and seeded simulated nodes with counters, faults and
// jobs. Both are given as feeds of steps, which drive the agent's own pipeline
// under a virtual clock.
//
// It promises that a simulated counter integrates the simulated power, and that
// the truth of a simulation (see Simulation.Truth) comes from that power and the
// job table by exact arithmetic of its own, never through the pipeline that it
// is there to judge. It computes no energy of a recording: that is the
// pipeline's work.
package fleet
