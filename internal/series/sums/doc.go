// Package sums adds up what nodes send, second by second and joule by joule, for
// projects and clusters, so that nobody has to add up a fleet's raw series when
// a dashboard is drawn. It knows windows and the ledger, no database and no
// clock.
//
// # When a sum is complete
//
// Time goes in steps of 10 s. A step of a cluster is emitted, once and in order,
// when every node that is waited for has booked a window that ends at the step
// or later; a node that does not is waited for for Options.Wait, counted from
// when the first sign came that the step is over, and is then lost: not waited
// for until it has caught up. The edge of a slot waits 15 s in any case, for nodes that
// nobody waits for yet, and so do the first steps of a cluster. Nothing of the future is emitted.
//
// # Energy
//
// A counter at T holds all energy of windows that end at T or before, in the
// ledger's own millijoules: T is stamped at window ends, and windows never cross
// a slot. So the counter at an hour's end less the counter at its start is that
// hour of the books, whatever the order in which nodes came, unless data was
// late. Energy that comes for a step that is emitted already goes to the next
// one: it raises later samples, never past ones, and is counted.
//
// The counters start from the ledger's totals and never from zero. A state (see
// State) says what was emitted; Recover compares it with the books of the slots
// since and takes up what was booked and not emitted. Without a state the
// counters begin at the edge of the slot that the books have come to, with what
// the ledger held there.
//
// A counter never goes down: a remainder is signed, so what was shown is kept
// until the sum has passed it. Energy that is given to another project
// afterwards stays where it was posted; reports know better.
//
// # Power
//
// The power of a node in a second is the sum of its 1-second readings, moved as
// a whole so that its mean over the window is the energy that was booked for the
// window: meters without 1-second readings are in it. A project has the part of
// it that it has of the window's postings. A sum misses the nodes that are late:
// the number of nodes in it is a series, and what came too late is counted.
package sums
