// Command wattledger-fleet replays recorded power, simulates whole machines and
// emulates nodes, against a running aggregator.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/wattledger/wattledger/internal/version"
)

const usage = `wattledger-fleet drives machines that are not here.

  wattledger-fleet replay   --power power.csv.gz --jobs jobs.csv --cluster NAME --aggregator URL
                            [--speed max|FACTOR] [--shift none|last-month|now] [--spool DIR] [--strict]
  wattledger-fleet simulate --machine leonardo|lumi|jupiter|gigafactory --nodes N --for 1h --seed 7
                            --cluster NAME --aggregator URL|none [--start TIME|now|last-month] [--live]
                            [--speed max|FACTOR] [--history 720h] [--late-backlog 24h] [--faults all|none|LIST]
                            [--truth truth.csv] [--gauges all|few] [--connections N] [--batch N] [--stay]
  wattledger-fleet simulate --machine mixed|witness|hgx --nodes N --for 1h --seed 7 --cluster NAME --aggregator URL
                            [--start TIME|now|last-month] [--speed max|FACTOR] [--truth truth.csv] [--spool DIR]
  wattledger-fleet emulate  --machine leonardo|lumi|jupiter|dgx-h100 --root DIR [--seed 7]
                            [--scenario FILE] [--truth truth.csv] [--for 60s]
  wattledger-fleet truth    --root DIR --from TIME --to TIME
  wattledger-fleet version

replay: what was measured elsewhere keeps its own time stamps, moved as a whole by --shift.
simulate: whole machines of any size with their meters, jobs, telemetry and faults, sent as
their agents send; or (mixed, witness, hgx) a few nodes with odd counters through the agent's
own pipeline. --truth writes what the books must hold. Both commands may be run again with the
same options: nothing is booked twice.
--token-file FILE names the aggregator's token where it wants one.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// errUsage: the command line is wrong; the words were printed.
var errUsage = errors.New("usage")

func run(ctx context.Context, args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	var err error
	switch args[0] {
	case "replay":
		err = replayCommand(ctx, args[1:])
	case "simulate":
		err = simulateCommand(ctx, args[1:])
	case "emulate":
		err = emulateCommand(ctx, args[1:])
	case "truth":
		err = truthCommand(args[1:])
	case "version", "--version":
		fmt.Println("wattledger-fleet", version.String())
	case "help", "--help", "-h":
		fmt.Print(usage)
	default:
		fmt.Fprintf(os.Stderr, "wattledger-fleet: there is no command %q\n\n%s", args[0], usage)
		return 2
	}
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	default:
		fmt.Fprintln(os.Stderr, "wattledger-fleet:", err)
		return 1
	}
}
