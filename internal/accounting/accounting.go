// Package accounting reads what a workload manager's own accounting says of
// jobs and projects, and keeps it with the books: names, accounts, states, real
// start and end, the account tree. It completes and corrects what nodes told; it
// never touches energy. Where the other side cannot be reached, metadata comes
// later, and nothing else happens.
//
// A sub-package per workload manager implements Source.
package accounting

import (
	"context"
	"errors"
	"time"

	"github.com/wattledger/wattledger/internal/ledger"
)

// Source is a workload manager's accounting, as it is seen of one cluster.
type Source interface {
	// Name says what is read and where, for people.
	Name() string
	// Jobs gives the runs that were there at some time of [from, to): those that
	// ended in it and those that still run. Runs that never started are among them
	// if they ended in it.
	Jobs(ctx context.Context, from, to time.Time) (Answer, error)
	// Projects gives the accounts with the account above each.
	Projects(ctx context.Context) ([]ledger.ProjectFacts, error)
}

// Answer is what a source gave.
type Answer struct {
	Jobs []ledger.JobFacts
	// Notes are what a person should know though there is an answer: records that
	// could not be read, a second source that did not answer.
	Notes []string
}

// Errors that a source wraps, so that a refusal and an outage are told apart.
var (
	// ErrRefused: the other side is there and does not let us in.
	ErrRefused = errors.New("access was refused")
	// ErrUnreachable: nobody answered, or not in time.
	ErrUnreachable = errors.New("not reachable")
)

// reason is the word that metrics use for an error of a source.
func reason(err error) string {
	switch {
	case err == nil:
		return resultOK
	case errors.Is(err, ErrRefused):
		return resultRefused
	case errors.Is(err, ErrUnreachable):
		return resultUnreachable
	}
	return resultFailed
}
