package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/fleet"
	"github.com/wattledger/wattledger/internal/fleet/site"
)

// pipelined are the machines that go through the agent's own pipeline.
func pipelined() []string { return []string{"mixed", string(fleet.Witness), string(fleet.HGX)} }

// simulation holds the flags of simulate.
type simulation struct {
	link
	machine, start, truth, faults, gauges string
	nodes, connections, batch             int
	length, history, backlog              time.Duration
	seed                                  uint64
	live, stay                            bool
}

func (f *simulation) flags(set *flag.FlagSet) {
	f.link.flags(set)
	set.StringVar(&f.machine, "machine", "mixed", strings.Join(append(site.Machines(), pipelined()...), ", "))
	set.IntVar(&f.nodes, "nodes", 0, "how many nodes (default: 4, of gigafactory 25000)")
	set.DurationVar(&f.length, "for", time.Hour, "how long, in simulated time, whole 10 s; 0 until it is stopped")
	set.Uint64Var(&f.seed, "seed", 7, "the same seed gives the same machine")
	set.StringVar(&f.start, "start", "now", "now, last-month, or a time such as 2026-10-05T00:00:00Z")
	set.StringVar(&f.truth, "truth", "", "file for what the books must hold: kind,id,joules")
	set.BoolVar(&f.live, "live", false, "as it happens, until it is stopped: --start now --speed 1 --for 0 --stay")
	set.StringVar(&f.faults, "faults", "all", "all, none, or some of "+strings.Join(site.Faults(), ","))
	set.StringVar(&f.gauges, "gauges", "all", "all that agents send, or few: ten series of a GPU")
	set.DurationVar(&f.history, "history", 0, "energy of so long before, sent first, in windows of 15 minutes")
	set.DurationVar(&f.backlog, "late-backlog", 0, "so long before in full, sent first, as agents do after an outage")
	set.IntVar(&f.connections, "connections", 0, "kept connections that the nodes share (default: one each, up to 4096)")
	set.IntVar(&f.batch, "batch", 0, "windows of a node in one request at --speed max (default: 30)")
	set.BoolVar(&f.stay, "stay", false, "at the end the nodes do not say that they leave, and are missed")
}

func simulateCommand(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("simulate", flag.ContinueOnError)
	var f simulation
	f.flags(set)
	if err := parse(set, args); err != nil {
		return err
	}
	if slices.Contains(pipelined(), f.machine) {
		only := []string{"live", "faults", "history", "late-backlog", "gauges", "connections", "batch", "stay"}
		var given string
		set.Visit(func(g *flag.Flag) {
			if slices.Contains(only, g.Name) {
				given = g.Name
			}
		})
		if given != "" {
			return wrong("--%s: not with --machine %s, which goes through the agent's pipeline", given, f.machine)
		}
		return pipelineCommand(ctx, &f)
	}
	return siteCommand(ctx, &f)
}

// siteCommand simulates a whole machine.
func siteCommand(ctx context.Context, f *simulation) error {
	if f.live {
		f.start, f.speed, f.length, f.stay = "now", "1", 0, true
	}
	l, err := f.options()
	if err != nil {
		return err
	}
	faults, err := site.ParseFaults(f.faults)
	if err != nil {
		return wrong("--faults: %v", err)
	}
	if f.gauges != "all" && f.gauges != "few" {
		return wrong("--gauges: %q is neither all nor few", f.gauges)
	}
	if f.nodes == 0 {
		f.nodes = 4
		if f.machine == "gigafactory" {
			f.nodes = site.Size(f.machine)
		}
	}
	at, err := startOf(f.start, l.Now())
	if err != nil {
		return err
	}
	if f.start == "now" && (l.Speed <= 0 || l.Speed > 1) {
		at = at.Add(-f.length) // faster than it happens: it ends now
	}
	if f.length == 0 && l.Speed != 1 && f.start == "now" {
		return wrong("--for 0: without an end it goes at --speed 1, or it would run into the future")
	}
	s, err := site.New(site.Options{
		Machine: f.machine, Nodes: f.nodes, Seed: f.seed, Start: at.Truncate(10 * time.Second), For: f.length,
		History: f.history, Backlog: f.backlog, Faults: faults, FewGauges: f.gauges == "few", Cluster: l.Cluster, URL: urlOf(l.URL), Token: l.Token,
		Speed: l.Speed, Connections: f.connections, Batch: f.batch, Final: !f.stay, Truth: f.truth != "", Now: time.Now,
	})
	if err != nil {
		return wrong("%v", err)
	}
	return runSite(ctx, s, f)
}

// runSite runs a site and writes the truth of what became of it.
func runSite(ctx context.Context, s *site.Site, f *simulation) error {
	began := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	tick := time.NewTicker(apart)
	defer tick.Stop()
	live := f.history+f.backlog == 0
	before, looks := []site.Progress{s.Progress()}, 0
	for {
		select {
		case err := <-ended:
			p := s.Progress()
			if !f.quiet {
				fmt.Fprintf(os.Stderr, "%d nodes up to %s: %d windows delivered in %.1f s, ack p50 %s p99 %s\n", p.Nodes, p.Delivered.Format(time.DateTime), p.Windows,
					time.Since(began).Seconds(), round(p.P50), round(p.P99))
			}
			if p.Undelivered > 0 {
				fmt.Fprintf(os.Stderr, "%d windows were made and not acknowledged; the truth is without them\n", p.Undelivered)
			}
			if err == nil && f.truth != "" {
				err = writeTruth(f.truth, s.Truth())
			}
			return err
		case <-tick.C:
			p := s.Progress()
			if !live && p.Live {
				live = true
				fmt.Printf("history of %s: %d nodes from %s on, %d windows booked within %.0f s\n", f.machine, p.Nodes,
					s.Start().Format(time.DateTime), p.Windows, time.Since(began).Seconds())
			}
			before = append(before[max(0, len(before)-20):], p)
			if looks++; !f.quiet && looks%often == 0 {
				progress(before)
			}
		}
	}
}

// A site is looked at so often, and every so many looks are a line.
const (
	apart = 500 * time.Millisecond
	often = 4
)

// progress is one line, of the last looks.
func progress(looks []site.Progress) {
	p, before := looks[len(looks)-1], looks[0]
	seconds := float64(len(looks)-1) * apart.Seconds()
	fmt.Fprintf(os.Stderr, "%s  %d nodes  x%.1f real time  %.0f windows/s  lag %.1f s  ack p50 %s p99 %s  repeated %d  retries %d\n",
		p.Delivered.Format(time.DateTime), p.Nodes, p.Delivered.Sub(before.Delivered).Seconds()/seconds,
		float64(p.Windows-before.Windows)/seconds, p.Lag.Seconds(), round(p.P50), round(p.P99), p.Repeated, p.Retries)
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// urlOf: "none" is no aggregator at all; windows are made and thrown away.
func urlOf(url string) string {
	if url == nowhere {
		return ""
	}
	return url
}

// pipelineCommand simulates nodes through the agent's own pipeline.
func pipelineCommand(ctx context.Context, f *simulation) error {
	o, err := f.options()
	if err != nil {
		return err
	}
	var layouts []fleet.Layout
	if f.machine != "mixed" {
		layouts = []fleet.Layout{fleet.Layout(f.machine)}
	}
	at, err := startOf(f.start, o.Now())
	if err != nil {
		return err
	}
	if f.start == "now" && (o.Speed <= 0 || o.Speed > 1) {
		at = at.Add(-f.length) // faster than it happens: it ends now
	}
	if f.nodes == 0 {
		f.nodes = 4
	}
	s, err := fleet.Simulate(fleet.SimOptions{Seed: f.seed, Nodes: f.nodes, Start: at, For: f.length, Layouts: layouts})
	if err != nil {
		return wrong("%v", err)
	}
	if f.truth != "" {
		if err := writeTruth(f.truth, s.Truth()); err != nil {
			return err
		}
	}
	o.CPUs, o.Grace = 32, 3*time.Second
	o.Name = s.Digest()
	return drive(ctx, o, s.Feeds(), f.quiet)
}

func startOf(word string, now time.Time) (time.Time, error) {
	switch word {
	case "now":
		return now.Truncate(time.Second), nil
	case "last-month":
		now = now.UTC()
		return time.Date(now.Year(), now.Month()-1, 10, 8, 0, 0, 0, time.UTC), nil
	}
	t, err := time.Parse(time.RFC3339, word)
	if err != nil {
		return t, wrong("--start: %q is not now, last-month or a time such as 2026-10-05T00:00:00Z", word)
	}
	return t, nil
}

func writeTruth(name string, rows []fleet.TruthRow) error {
	w, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("cannot write the truth: %w", err)
	}
	if err := fleet.WriteTruth(w, rows); err != nil {
		w.Close()
		return err
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("cannot write the truth to %s: %w", name, err)
	}
	return nil
}
