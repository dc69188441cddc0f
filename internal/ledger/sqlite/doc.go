// Package sqlite keeps the books in one SQLite file (WAL, every commit synced).
//
// One connection writes, under one mutex; a pool of read-only connections
// answers. The file is guarded by a lock file, so that two aggregators never
// share a data directory.
//
// The grain is (slot, node, job): narrow rows of integers, one column per class
// for busy and held energy. Energy of nobody is posted to three reserved jobs
// per cluster (idle, system, unknown), whose main columns are that use.
// Roll-ups (job x node, project x slot, project x day, cluster x slot, cluster x
// day, project totals) move in the transaction that moves the postings, so a
// report reads thousands of rows where the books hold millions.
//
// What is metered comes from odometer ranges (node_slot.pieces), what is booked
// from postings; neither is ever derived from the other. Audit recomputes both.
//
// A transaction of plain windows writes one row of the journal; the rows that it
// moves wait in memory and are posted later, before anybody reads them (docs/adr/0013).
//
// What was decided from is cached per node in memory. A transaction that fails
// drops all of it and posts what the journal holds; nothing else can stay behind.
package sqlite
