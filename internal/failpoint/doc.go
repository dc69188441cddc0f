// Package failpoint names the instants at which a test may kill the process.
//
// In a normal build [Hit] is empty and costs nothing. Built with the tag
// failpoint, a process started with WATTLEDGER_FAILPOINT=name (or name:N) sends
// itself SIGKILL at the N-th passage of that point, so that crash tests can ask
// what the survivor finds on disk and in the ledger:
//
//	go build -tags failpoint ./cmd/...
//	WATTLEDGER_FAILPOINT=spool-before-sync:3 wattledger-agent ...
package failpoint
