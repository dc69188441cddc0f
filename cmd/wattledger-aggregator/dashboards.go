package main

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/wattledger/wattledger/dashboards"
)

// writeDashboards is the subcommand that writes what Grafana needs into a folder.
func writeDashboards(args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("wattledger-aggregator dashboards", flag.ContinueOnError)
	f.SetOutput(stderr)
	out := f.String("out", "", "where to write them (`DIR`, made if absent)")
	url := f.String("url", "", "the aggregator's `ADDRESS` as Grafana reaches it; without, Grafana takes it from WATTLEDGER_URL in its environment")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitFine
		}
		return exitUsage
	}
	if f.NArg() > 0 {
		_, _ = fmt.Fprintf(stderr, "wattledger-aggregator dashboards: %q is not a flag; --help lists them\n", f.Arg(0))
		return exitUsage
	}
	if *out == "" {
		_, _ = fmt.Fprintln(stderr, "wattledger-aggregator dashboards: --out is needed: the folder to write to")
		return exitUsage
	}
	written, err := dashboards.Write(*out, *url)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "wattledger-aggregator:", err)
		return exitFail
	}
	for _, name := range written {
		_, _ = fmt.Fprintln(stdout, name)
	}
	return exitFine
}
