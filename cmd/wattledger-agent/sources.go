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
	"github.com/wattledger/wattledger/internal/energy"
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
			Library: cfg.NVMLLibrary, Now: now, Procfs: cfg.Procfs, State: filepath.Join(cfg.StateDir, "nvml.json"), Processes: cfg.Jobs.Utilisation,
		})
	})
	// where the blade's own counters are read, they are the meters
	blade := hasBlade(cfg)
	if blade && (cfg.IPMI.Enabled && cfg.IPMI.Booked || cfg.Redfish.Enabled && cfg.Redfish.Booked) {
		errs = append(errs, errors.New("sources.ipmi.booked, sources.redfish.booked: this node has pm_counters, which are booked; set booked: false, or sources.cray.enabled: false"))
	}
	add(cfg.RAPL, func() (collector.Source, error) {
		s := rapl.New(sys, proc, now)
		s.Witness = blade
		return s, nil
	})
	add(cfg.Cray, func() (collector.Source, error) { return cray.New(sys, proc, now), nil })
	add(cfg.AMDGPU, func() (collector.Source, error) {
		s := amdgpu.New(sys, proc, now)
		s.Witness, s.Accelerators = blade, accelerators(cfg)
		return s, nil
	})
	add(cfg.Hwmon, func() (collector.Source, error) { return hwmon.New(sys, proc, now), nil })
	add(cfg.IPMI.Enabled, func() (collector.Source, error) { return ipmi.New(ipmiOptions(&cfg.IPMI)) })
	add(cfg.Redfish.Enabled, func() (collector.Source, error) { return redfish.New(redfishOptions(&cfg.Redfish)) })
	add(cfg.Simulated.Enabled, func() (collector.Source, error) { return simulatedSource(cfg) })
	return out, errors.Join(errs...)
}

func ipmiOptions(c *config.IPMI) ipmi.Options {
	return ipmi.Options{
		Device: c.Device, Host: c.Host, Port: c.Port, User: c.User, PasswordFile: c.PasswordFile, CipherSuite: c.CipherSuite,
		Privilege: c.Privilege, Every: c.Every, Timeout: c.Timeout, Limit: energy.Microwatts(c.MaxWatts) * energy.Watt,
		Booked: c.Booked, Now: now,
	}
}

func redfishOptions(c *config.Redfish) redfish.Options {
	return redfish.Options{
		URL: c.URL, User: c.User, PasswordFile: c.PasswordFile, Auth: redfish.Auth(c.Auth),
		CAFile: c.CAFile, ServerName: c.ServerName, Fingerprint: c.Fingerprint, System: c.System, Chassis: c.Chassis,
		Every: c.Every, Timeout: c.Timeout, Limit: energy.Microwatts(c.MaxWatts) * energy.Watt, Booked: c.Booked, Now: now,
	}
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

// hasBlade tells whether the blade's own counters are read.
func hasBlade(cfg *config.Agent) bool {
	return cfg.Cray && exists(filepath.Join(cfg.Sysfs, "cray/pm_counters"))
}

// accelerators counts those that the blade's counters have.
func accelerators(cfg *config.Agent) int {
	found, _ := filepath.Glob(filepath.Join(cfg.Sysfs, "cray/pm_counters/accel[0-9]*_energy"))
	return len(found)
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
