// Package series is the aggregator's own store of series: Prometheus' storage
// and query engine as a library, filled with the windows that were booked, and
// Prometheus' HTTP API, so that Grafana points straight at the aggregator.
//
// It is a view. Nothing of it is booked, and nothing that happens to it touches
// the books: Booked takes a window over and returns at once, whatever the store
// does. While the store is replayed after a start, or its disk is full, windows
// wait in a queue of bounded memory; when that is full the telemetry of the
// oldest is dropped and counted, but not its share in the sums, which are made
// from every window (see package sums). Queries are answered 503, with the
// reason, until the store is open.
//
// What is stored is listed in package metric. A name that is not listed there, a
// time that does not lie in its window, in the future or beyond the retention,
// and series beyond the limit of a node are refused and counted by reason: what
// a broken or hostile agent sends costs itself. The books have accepted its
// energy by then; they have their own checks.
//
// Reads are bounded: see Limits. An answer that refuses a query names the limit
// and its setting.
package series
