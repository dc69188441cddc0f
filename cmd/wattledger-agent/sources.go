package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/collector/amdgpu"
	"github.com/wattledger/wattledger/collector/cray"
	"github.com/wattledger/wattledger/collector/host"
	"github.com/wattledger/wattledger/collector/hwmon"
	"github.com/wattledger/wattledger/collector/ipmi"
	"github.com/wattledger/wattledger/collector/nvml"
	"github.com/wattledger/wattledger/collector/rapl"
	"github.com/wattledger/wattledger/collector/redfish"
	"github.com/wattledger/wattledger/collector/simulated"
	"github.com/wattledger/wattledger/internal/agent"
	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/meter"
	"github.com/wattledger/wattledger/internal/sysfs"
)

// sourcesOf lists the sources that the configuration asks for. This is the one
// place where they are named.
func sourcesOf(cfg *config.Agent) ([]collector.Source, error) {
	sys, proc := sysfs.Open(cfg.Sysfs), sysfs.Open(cfg.Procfs)
	var out []collector.Source
	var errs []error
	add := func(wanted bool, open func() (collector.Source, error)) {
		if !wanted {
			return
		}
		s, err := open()
		if err != nil {
			errs = append(errs, err)
			return
		}
		out = append(out, s)
	}
	add(cfg.Host, func() (collector.Source, error) { return &host.Source{Procfs: cfg.Procfs, Now: now}, nil })
	add(cfg.NVML, func() (collector.Source, error) {
		return nvml.New(nvml.Options{
			Library: cfg.NVMLLibrary, Now: now, Procfs: cfg.Procfs, State: filepath.Join(cfg.StateDir, "nvml.json"),
		})
	})
	// where the blade's own counters are read, they are the meters
	blade := cfg.Cray && exists(filepath.Join(cfg.Sysfs, "cray/pm_counters"))
	add(cfg.RAPL, func() (collector.Source, error) {
		s := rapl.New(sys, proc, now)
		s.Witness = blade
		return s, nil
	})
	add(cfg.Cray, func() (collector.Source, error) { return cray.New(sys, proc, now), nil })
	add(cfg.AMDGPU, func() (collector.Source, error) {
		s := amdgpu.New(sys, proc, now)
		s.Witness = blade
		return s, nil
	})
	add(cfg.Hwmon, func() (collector.Source, error) { return hwmon.New(sys, proc, now), nil })
	add(cfg.IPMI.Enabled, func() (collector.Source, error) {
		return ipmi.New(ipmi.Options{
			Device: cfg.IPMI.Device, Host: cfg.IPMI.Host, Port: cfg.IPMI.Port, User: cfg.IPMI.User,
			PasswordFile: cfg.IPMI.PasswordFile, Booked: cfg.IPMI.Booked, Now: now,
		})
	})
	add(cfg.Redfish.Enabled, func() (collector.Source, error) {
		return redfish.New(redfish.Options{
			URL: cfg.Redfish.URL, User: cfg.Redfish.User, PasswordFile: cfg.Redfish.PasswordFile, CAFile: cfg.Redfish.CAFile,
			Fingerprint: cfg.Redfish.Fingerprint, Booked: cfg.Redfish.Booked, Now: now,
		})
	})
	add(cfg.Simulated.Enabled, func() (collector.Source, error) { return simulatedSource(cfg) })
	return out, errors.Join(errs...)
}

func simulatedSource(cfg *config.Agent) (collector.Source, error) {
	start := cfg.Simulated.Start
	if start.IsZero() {
		start = now()
	}
	return simulated.New(simulated.Options{
		Seed: cfg.Simulated.Seed, GPUs: cfg.Simulated.GPUs, Start: start,
		// whole milliseconds, as stamps are booked: the truth of a span can be asked for
		Now: func() time.Time { return now().Truncate(time.Millisecond) },
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// closeSources lets go of the hardware. A GPU driver's client that dies inside
// a call can freeze a GPU, so calls in flight are waited for.
func closeSources(ctx context.Context, sources []collector.Source) error {
	var errs []error
	for _, s := range sources {
		switch c := s.(type) {
		case interface {
			Close(ctx context.Context) error
		}:
			errs = append(errs, c.Close(ctx))
		case io.Closer:
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
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
		for _, r := range readings {
			scopes = append(scopes, r.Scope)
			from[r.Scope.Name] = s.Name()
		}
		p, probes := s.(collector.Prober)
		if _, device := errors.AsType[*collector.DeviceError](err); device {
			failed = true
		}
		if err != nil && (failed || !probes) {
			fmt.Printf("source %s: %v\n", s.Name(), err)
		}
		if probes {
			missing = append(missing, p.Probe(ctx)...)
		}
	}
	defer func() { _ = closeSources(ctx, sources) }()
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
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitFine
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, errNo):
		return exitFailed
	}
	fmt.Fprintln(os.Stderr, "wattledger-agent:", err)
	switch {
	case errors.Is(err, agent.ErrFenced):
		return exitFenced
	case errors.Is(err, nvml.ErrRestart):
		return exitDriver
	}
	return exitFailed
}
