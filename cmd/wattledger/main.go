// Command wattledger is the command line for people: statements, jobs, the
// audit and quarantine, all asked from an aggregator over its JSON API.
//
// It exits with 0 if all is fine, with 1 if the answer is no (nothing found,
// the books do not close, the aggregator cannot be reached), with 2 if it was
// asked wrongly.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/wattledger/wattledger/internal/version"
)

const (
	exitFine  = 0
	exitNo    = 1
	exitUsage = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Getenv)
	stop()
	os.Exit(code)
}

// usageError is a question that was asked wrongly.
type usageError struct{ words string }

func (e *usageError) Error() string { return e.words }

func misused(format string, args ...any) error {
	return &usageError{words: fmt.Sprintf(format, args...)}
}

// noError is the answer no, after what was to be said has been said.
type noError struct{}

func (noError) Error() string { return "no" }

// command is one sub-command.
type command struct {
	name, usage, what string
	run               func(context.Context, *call) error
}

func commands() []command {
	return []command{
		{
			"report", "report [--month 2026-10] [--cluster C] [--project P] [--timezone Z] [--format table|json|csv|html] [-o FILE]",
			"the statement of a month (last month unless --month is given)", runReport,
		},
		{
			"job", "job ID [--cluster C] [--run N] [--wait 1m] [--format text|short|json] [-o FILE]",
			"what a job burnt, where, how well that is known, and hints", runJob,
		},
		{
			"jobs", "jobs [--project P] [--user U] [--cluster C] [--since T] [--until T] [--sort start|energy] [--limit N] [--missing] [--format table|json|csv] [-o FILE]",
			"jobs, newest or largest first; --missing: those of the scheduler that the books hold nothing of", runJobs,
		},
		{
			"audit", "audit [--from T] [--to T] [--cluster C] [--format table|json] [-o FILE]",
			"recompute both sides of the books; exit 1 and say where, if they do not close", runAudit,
		},
		{
			"quarantine", "quarantine [list] [--cluster C] [--format table|json] [-o FILE] | quarantine repost ID [--as-unknown]",
			"windows that could not be booked; book one into its hole", runQuarantine,
		},
		{"version", "version", "print the version", runVersion},
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer, env func(string) string) int {
	if len(args) == 0 {
		help(stderr)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		help(stdout)
		return exitFine
	case "--version", "-version":
		args = []string{"version"}
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		err := c.run(ctx, newCall(c, args[1:], stdout, env))
		return explain(stdout, stderr, c, err)
	}
	fmt.Fprintf(stderr, "wattledger: there is no command %q; wattledger help lists them\n", args[0])
	return exitUsage
}

// explain says what went wrong and gives the exit code for it.
func explain(stdout, stderr io.Writer, c command, err error) int {
	var usage *usageError
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, errHelp):
		fmt.Fprintf(stdout, "Usage: wattledger %s\n\n%s\n\n%s", c.usage, c.what, flagsHelp)
		return exitFine
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "wattledger %s: %s\nUsage: wattledger %s\n", c.name, usage.words, c.usage)
		return exitUsage
	case errors.As(err, new(noError)):
		return exitNo
	}
	fmt.Fprintf(stderr, "wattledger %s: %v\n", c.name, err)
	return exitNo
}

func help(w io.Writer) {
	fmt.Fprint(w, "wattledger shows the energy books of a cluster.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  wattledger %s\n        %s\n", c.usage, c.what)
	}
	fmt.Fprint(w, "\n"+flagsHelp)
}

const flagsHelp = `Every command that asks the aggregator takes:
  --url URL          its address; or WATTLEDGER_URL (default http://127.0.0.1:9440)
  --token-file FILE  file with the token it wants
  --timeout 60s      how long to wait for an answer
  -o FILE            write there instead of to the terminal; whole or not at all

Times (T) are 2026-10-31T12:00:00Z, a date (midnight in the cluster's zone, or
UTC if no cluster is named), or how long ago: -24h, -7d.
A site's own certificate authority is read from SSL_CERT_FILE.
Exit codes: 0 fine, 1 the answer is no, 2 asked wrongly.
`

func runVersion(_ context.Context, c *call) error {
	if rest, err := c.parse(); err != nil || len(rest) > 0 {
		return errors.Join(err, noMore(rest))
	}
	_, err := fmt.Fprintln(c.stdout, "wattledger", version.String())
	return err
}

func noMore(rest []string) error {
	if len(rest) == 0 {
		return nil
	}
	return misused("%q is one word too many", rest[0])
}
