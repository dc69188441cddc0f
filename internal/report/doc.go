// Package report makes statements out of the books: what a cluster burnt in a
// month, for whom, how well it is known, and whether the books close; what a
// job burnt; what an audit found. It reads the ledger only, and the same ledger
// and period give the same bytes: nothing here knows when it was made, but for
// what is said of jobs that run.
//
// JSON keys (schemas wattledger.report/v1, wattledger.job/v1, wattledger.jobs/v1,
// wattledger.unmetered-jobs/v1 and wattledger.audit/v1) are a promise: more may
// be added, none changes.
// Millijoules are strings, because a month of a large machine passes the 2^53
// that JSON readers keep exact.
package report
