// Command wattledger-aggregator keeps the energy books of a site: it takes
// windows from agents, books them, and answers questions about the books.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // months are local; a container may know no zones

	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/version"
)

// Exit codes.
const (
	exitFine  = 0
	exitFail  = 1
	exitUsage = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program; ctx ends when it is to stop.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "dashboards" {
		return writeDashboards(args[1:], stdout, stderr)
	}
	f := flag.NewFlagSet("wattledger-aggregator", flag.ContinueOnError)
	f.SetOutput(stderr)
	file := f.String("config", "", "settings (`FILE`, see aggregator.yaml); none are needed on a loopback address")
	check := f.Bool("check-config", false, "check the settings, name every fault, and exit")
	show := f.Bool("version", false, "print the version and exit")
	var flags config.AggregatorFlags
	f.StringVar(&flags.DataDir, "data-dir", "", "where the ledger is (`DIR`, made if absent)")
	f.StringVar(&flags.Listen, "listen", "", "`ADDRESS` for agents and people; port 0 takes any that is free")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitFine
		}
		return exitUsage
	}
	if f.NArg() > 0 {
		_, _ = fmt.Fprintf(stderr, "wattledger-aggregator: %q is not a flag; --help lists them\n", f.Arg(0))
		return exitUsage
	}
	if *show {
		_, _ = fmt.Fprintln(stdout, "wattledger-aggregator", version.String())
		return exitFine
	}
	c, err := config.LoadAggregator(*file, flags)
	if err == nil {
		err = errors.Join(tokensAreFine(c), rulesAreFine(c))
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return exitUsage
	}
	if *check {
		_, _ = fmt.Fprintln(stdout, "the configuration is fine")
		return exitFine
	}
	if err := serve(ctx, c, stdout); err != nil {
		_, _ = fmt.Fprintln(stderr, "wattledger-aggregator:", err)
		return exitFail
	}
	return exitFine
}
