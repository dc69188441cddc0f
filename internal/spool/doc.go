// Package spool is a crash-safe first-in first-out queue of opaque records in
// one directory: what the agent has booked and the aggregator has not yet.
//
// # Promises
//
// A record is on stable storage before Append returns, and stays until Commit.
// Records are handed out in the order in which they were appended. Nothing is
// ever wiped: what cannot be read is moved aside and reported, and every intact
// record round it is kept. When the spool reaches its limit, old records are made
// smaller by a function of the caller (Options.Merge), never dropped. The newest
// record stays readable (Last) also when it is committed.
//
// # Files
//
//	lock                                  held with flock while open; holds the pid
//	committed                             seq u64, crc32c u32, at 0 and at 512: all up to the larger seq is booked
//	<first 16 hex>-<generation 8 hex>.seg a segment
//	*.tmp                                 unfinished; deleted at Open
//	*.seg.damaged-<n>                     moved aside for a person to look at
//
// A segment is a header and records, little-endian:
//
//	header:  magic "WLSP", version u32, first u64, last u64, generation u32, crc32c u32
//	record:  length u32, seq u64, crc32c u32 (over seq and payload), payload
//
// An ordinary segment has last = 0 and grows by Append. A superseding segment
// is written whole, under a temporary name, and covers the numbers
// [first, last]: once it has its name, every segment of a lower generation that
// begins in that range is void. So the rename is the one instant at which the
// old records become the new ones. A record whose number is not below the first
// of the next segment is void too: its Append has failed.
//
// # Locking
//
// One mutex guards all state and is held over disk writes and over calls of
// Merge, Report and the function given to Rewrite: these must not call the spool
// back. One goroutine appends, one sends (Next, Release, Commit, Rewrite), any
// number observe. Only one process has a directory open.
package spool
