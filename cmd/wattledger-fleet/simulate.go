package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/wattledger/wattledger/internal/fleet"
)

func simulateCommand(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("simulate", flag.ContinueOnError)
	var l link
	l.flags(f)
	machine := f.String("machine", "mixed", "mixed, leonardo, lumi, witness or hgx")
	nodes := f.Int("nodes", 4, "how many nodes")
	length := f.Duration("for", time.Hour, "how long, in simulated time: whole seconds, 10m or more")
	seed := f.Uint64("seed", 7, "the same seed gives the same machine")
	start := f.String("start", "now", "now, last-month, or a time such as 2026-10-05T00:00:00Z")
	truth := f.String("truth", "", "file for the truth: kind,id,joules")
	if err := parse(f, args); err != nil {
		return err
	}
	o, err := l.options()
	if err != nil {
		return err
	}
	layouts, err := layoutsOf(*machine)
	if err != nil {
		return err
	}
	at, err := startOf(*start, o.Now())
	if err != nil {
		return err
	}
	if *start == "now" && (o.Speed <= 0 || o.Speed > 1) {
		at = at.Add(-*length) // faster than it happens: it ends now
	}
	s, err := fleet.Simulate(fleet.SimOptions{Seed: *seed, Nodes: *nodes, Start: at, For: *length, Layouts: layouts})
	if err != nil {
		return wrong("%v", err)
	}
	if *truth != "" {
		if err := writeTruth(*truth, s); err != nil {
			return err
		}
	}
	o.CPUs, o.Grace = 32, 3*time.Second
	o.Name = s.Digest()
	return drive(ctx, o, s.Feeds(), l.quiet)
}

func layoutsOf(machine string) ([]fleet.Layout, error) {
	if machine == "mixed" {
		return nil, nil
	}
	for _, l := range fleet.Layouts() {
		if string(l) == machine {
			return []fleet.Layout{l}, nil
		}
	}
	return nil, wrong("--machine: %q is not mixed or one of %v", machine, fleet.Layouts())
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

func writeTruth(name string, s *fleet.Simulation) error {
	w, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("cannot write the truth: %w", err)
	}
	if err := s.WriteTruth(w); err != nil {
		w.Close()
		return err
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("cannot write the truth to %s: %w", name, err)
	}
	return nil
}
