package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/collector/host"
	"github.com/wattledger/wattledger/collector/simulated"
	"github.com/wattledger/wattledger/internal/agent"
	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/meter"
)

// sourcesOf lists the sources that the configuration asks for. This is the one
// place where they are named.
func sourcesOf(cfg *config.Agent) ([]collector.Source, error) {
	var out []collector.Source
	if cfg.Host {
		out = append(out, &host.Source{Procfs: cfg.Procfs, Now: now})
	}
	if cfg.Simulated.Enabled {
		start := cfg.Simulated.Start
		if start.IsZero() {
			start = now()
		}
		s, err := simulated.New(simulated.Options{
			Seed: cfg.Simulated.Seed, GPUs: cfg.Simulated.GPUs, Start: start,
			// whole milliseconds, as stamps are booked: the truth of a span can be asked for
			Now: func() time.Time { return now().Truncate(time.Millisecond) },
		})
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func cpusOf(cfg *config.Agent) uint32 {
	if cfg.NodeCPUs > 0 {
		return uint32(cfg.NodeCPUs)
	}
	return uint32(runtime.NumCPU())
}

// loadConfig reads the configuration that the flags name. Every fault is
// printed before anything starts.
func loadConfig(name string, args []string) (*config.Agent, error) {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	path := f.String("config", "", "configuration file")
	var flags config.AgentFlags
	f.StringVar(&flags.AggregatorURL, "aggregator", "", "address of the aggregator; overrides the file")
	f.StringVar(&flags.Cluster, "cluster", "", "cluster this node is part of; overrides the file")
	f.StringVar(&flags.Node, "node", "", "name of this node; overrides the file")
	f.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	if err := parse(f, args); err != nil {
		return nil, err
	}
	cfg, err := config.LoadAgent(*path, flags)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return nil, errUsage
	}
	return cfg, nil
}

func checkConfigCommand(args []string) error {
	if _, err := loadConfig("check-config", args); err != nil {
		return err
	}
	fmt.Println("The configuration is fine.")
	return nil
}

// checkCommand reads every source once and prints the scope tree.
func checkCommand(ctx context.Context, args []string) error {
	cfg, err := loadConfig("check", args)
	if err != nil {
		return err
	}
	sources, err := sourcesOf(cfg)
	if err != nil {
		return err
	}
	var scopes []collector.Scope
	from := map[string]string{}
	var missing []collector.Missing
	failed := false
	for _, s := range sources {
		rctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		readings, err := s.Read(rctx)
		cancel()
		if err != nil {
			failed = true
			fmt.Printf("source %s: %v\n", s.Name(), err)
		}
		for _, r := range readings {
			scopes = append(scopes, r.Scope)
			from[r.Scope.Name] = s.Name()
		}
		if p, ok := s.(collector.Prober); ok {
			missing = append(missing, p.Probe(ctx)...)
		}
	}
	tree, err := meter.New(scopes)
	if err != nil {
		return err
	}
	printTree(tree, from)
	for _, m := range missing {
		fmt.Printf("missing: %s: %s\n", m.Meter, m.Why)
		if m.Mend != "" {
			fmt.Printf("         mend it: %s\n", m.Mend)
		}
	}
	if len(tree.Nodes) == 0 {
		fmt.Println("\nNo energy meter was found: nothing would be booked. Enable a source in the configuration (sources.*).")
		return errNo
	}
	if failed {
		return errNo
	}
	return nil
}

func printTree(t *meter.Tree, from map[string]string) {
	if len(t.Nodes) == 0 {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "METER\tSOURCE\tCLASS\tMETHOD\tWRAPS AT\tDEVICE")
	var show func(i, depth int)
	show = func(i, depth int) {
		n := t.Nodes[i]
		method, wraps := "energy counter", "never"
		if n.Kind == collector.Power {
			method = "power, integrated"
		}
		if n.Modulus > 0 {
			wraps = fmt.Sprintf("%.0f J", float64(n.Modulus.Joules()))
		}
		fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\t%s\t%s\n", strings.Repeat("  ", depth), n.Name, from[n.Name], n.PostClass(), method, wraps, n.Device)
		for _, c := range n.Children {
			show(c, depth+1)
		}
	}
	for i := range t.Nodes {
		if t.Nodes[i].Root() {
			show(i, 0)
		}
	}
	w.Flush()
	for _, name := range t.Witnesses {
		fmt.Printf("%s is a witness: compared, never booked\n", name)
	}
}

// code prints what went wrong and gives the exit code.
func code(err error) int {
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, errNo):
		return exitFailed
	}
	fmt.Fprintln(os.Stderr, "wattledger-agent:", err)
	if errors.Is(err, agent.ErrFenced) {
		return exitFenced
	}
	return exitFailed
}
