// Package site simulates whole machines at their real size: thousands of nodes
// with their meters, a job mix, faults and telemetry, as windows on the wire.
//
// Package fleet drives the agent's own pipeline, which is the way to try the
// pipeline; that costs too much for 25,000 nodes beside an aggregator. A site
// makes the windows itself: power is constant for a second (in history for ten),
// edges of jobs fall on any millisecond, energy is whole microjoules, and each
// window is cut, split and rounded as agents do it. What goes over the wire is
// what agents send: the same encoding, catalogues once, one request per node and
// window, over kept connections.
//
// The same options give the same site: schedule, power, faults, windows to the
// byte and truth. So a run that was stopped may be started again with the same
// options, and nothing is booked twice.
//
// The truth is what the books must hold, to the millijoule: the sum of what was
// acknowledged. That it is also what the power and the schedule say is tested
// apart from the code that makes windows.
package site
