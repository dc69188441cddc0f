// Package outbox keeps telemetry for a receiver that may be slow, wrong or away:
// a ring of records on disk, and the loop that delivers them.
//
// # Promises
//
// What Append has taken survives the death of the process at once, and the
// death of the machine after SyncEvery. Records are delivered in the order of
// Append, one request at a time, until the receiver takes or refuses them: at
// least once. A receiver that takes the same value of the same instant twice
// must not mind. When the ring is full the oldest records give way; what is not
// delivered is counted by reason, never silent.
//
// Receivers may forget what they have answered for: VictoriaMetrics writes to
// disk each 5 s. After a connection broke, what was delivered in the last Rewind
// is therefore sent again.
//
// This is no place for energy that must be booked: package spool never drops.
//
// # Files
//
//	lock            held with flock while open
//	cursor          two slots: what is settled, what is kept for a rewind
//	<16 hex>.ring   a segment, named by the position of its first record
//
// A record has a position: how many values were appended before it. A segment
// is nothing but records, little-endian:
//
//	magic "WLO1", position u64, values u32, length u32, crc32c u32, payload
//
// The checksum covers all but itself. A reader looks for the next intact record
// behind a damaged one; the positions tell how many values are gone. A segment
// is never appended to by another process than the one that began it, so a torn
// tail stays where it is and is passed over.
package outbox
