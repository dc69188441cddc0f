package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/meter"
)

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
	defer func() { _ = closeSources(ctx, sources) }()
	var scopes []collector.Scope
	from := map[string]string{}
	var missing []collector.Missing
	failed := false
	for _, s := range sources {
		readings, err := readSettled(ctx, s)
		for _, r := range readings {
			scopes = append(scopes, r.Scope)
			from[r.Scope.Name] = s.Name()
		}
		_, device := errors.AsType[*collector.DeviceError](err)
		failed = failed || device
		var told []collector.Missing
		p, probes := s.(collector.Prober)
		if probes {
			told = p.Probe(ctx)
		}
		if err != nil && len(told) == 0 && (device || !probes) {
			fmt.Printf("source %s: %v\n", s.Name(), err)
		}
		missing = append(missing, told...)
	}
	tree, err := meter.New(scopes)
	if err != nil {
		return err
	}
	printTree(tree, from)
	printWitnesses(scopes, from, cfg)
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

// probing is how long a superchip is watched until it is known whether its
// counter is the GPU's or the whole module's.
const probing = 40 * time.Second

// readSettled reads a source once, and a superchip once a second until it is known
// what its counters count: the agent keeps that, a first check does not have it.
func readSettled(ctx context.Context, s collector.Source) ([]collector.Reading, error) {
	began, told := now(), false
	for {
		rctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		readings, err := s.Read(rctx)
		cancel()
		if !undecided(s, readings) || ctx.Err() != nil || now().Sub(began) > probing {
			return readings, err
		}
		if !told {
			fmt.Fprintf(os.Stderr, "Telling GPU from module by their power: up to %s ...\n", probing)
			told = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// undecided tells whether a GPU gives but gauges, and its module nothing.
func undecided(s collector.Source, readings []collector.Reading) bool {
	if s.Name() != "nvml" {
		return false
	}
	metered := map[string]bool{}
	for _, r := range readings {
		if r.Scope.Kind != collector.Gauges {
			metered[strings.TrimLeft(r.Scope.Name, "abcdefghijklmnopqrstuvwxyz")] = true
		}
	}
	for _, r := range readings {
		if number, ok := strings.CutPrefix(r.Scope.Name, "gpu"); ok && !metered[number] {
			return true
		}
	}
	return false
}

func printTree(t *meter.Tree, from map[string]string) {
	if len(t.Nodes) == 0 {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "METER\tSOURCE\tCLASS\tMETHOD\tRESOLUTION\tWRAPS AT\tDEVICE")
	var show func(i, depth int)
	show = func(i, depth int) {
		n := t.Nodes[i]
		method, wraps := "energy counter", "never"
		step := fmt.Sprintf("%g mJ", max(1, float64(n.Resolution))/1000)
		if n.Kind == collector.Power {
			method, step = "power, integrated", "-"
		}
		if n.Modulus > 0 {
			wraps = fmt.Sprintf("%.0f J", float64(n.Modulus.Joules()))
		}
		fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\t%s\t%s\t%s\n", strings.Repeat("  ", depth), n.Name, from[n.Name], n.PostClass(), method, step, wraps, n.Device)
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
}

// printWitnesses names what is compared and never booked, and why it is not.
func printWitnesses(scopes []collector.Scope, from map[string]string, cfg *config.Agent) {
	for _, s := range scopes {
		if s.Witness && s.Kind != collector.Gauges {
			fmt.Printf("%s (%s) is a witness, compared and never booked: %s\n", s.Name, from[s.Name], because(s, from[s.Name], cfg))
		}
	}
}

// because says why a meter is a witness.
func because(s collector.Scope, source string, cfg *config.Agent) string {
	switch {
	case strings.HasSuffix(s.Name, "-suspect"):
		return "its counter and its power do not agree"
	case source == "ipmi", source == "redfish" && s.Class == energy.Node:
		return "sources." + source + ".booked is false"
	case source == "redfish":
		return "a controller's power of one part is too coarse to book"
	case source == "nvml":
		return "whether its counter is the GPU's or the whole module's is not known"
	case source == "hwmon":
		return "the module is booked by its NVML counter"
	case s.Name == "psys":
		return "what a platform counter contains differs from board to board"
	case hasBlade(cfg):
		return "the blade's pm_counters are booked"
	default:
		return "its source says so"
	}
}
