package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/fleet/emulate"
)

// emulateCommand keeps an emulated node moving until it is told to stop.
func emulateCommand(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("emulate", flag.ContinueOnError)
	machine := f.String("machine", "", "the node: "+strings.Join(emulate.Machines(), "|"))
	root := f.String("root", "", "folder for its files; made if absent")
	seed := f.Uint64("seed", 7, "what its power is drawn from")
	scenario := f.String("scenario", "", "file with what goes wrong, and when")
	truth := f.String("truth", "", "file that is written at the end with what each meter's scope drew")
	last := f.Duration("for", 0, "how long; until SIGTERM where it is left out")
	if err := parse(f, args); err != nil {
		return err
	}
	switch {
	case *machine == "":
		return wrong("--machine is missing: %s", strings.Join(emulate.Machines(), ", "))
	case *root == "":
		return wrong("--root is missing: an empty folder")
	case *last < 0:
		return wrong("--for: %s is not a duration", *last)
	}
	e, err := emulate.Start(emulate.Options{Machine: *machine, Root: *root, Seed: *seed, Scenario: *scenario, Now: time.Now})
	if err != nil {
		return err
	}
	fmt.Printf("a %s node moves in %s since %s, %d faults to come\n", *machine, e.Root(), stamp(e.Started()), len(e.Faults()))
	fmt.Printf("  wattledger-agent check --config %s\n  wattledger-agent --config %s\n", e.Config(), e.Config())
	var over <-chan time.Time
	if *last > 0 {
		over = time.After(*last)
	}
	select {
	case <-ctx.Done():
	case <-over:
	}
	end := time.Now().Truncate(time.Millisecond)
	err = e.Close()
	fmt.Printf("ended at %s\n  wattledger-fleet truth --root %s --from %s --to %s\n", stamp(end), e.Root(), stamp(e.Started()), stamp(end))
	if *truth != "" {
		err = errors.Join(err, writeNode(*truth, e.Node(), e.Started(), end))
	}
	return err
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// writeNode puts the truth in a file that is there only when it is whole.
func writeNode(name string, n *emulate.Node, from, to time.Time) error {
	w, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("cannot write the truth: %w", err)
	}
	err = errors.Join(n.Write(w, from, to), w.Chmod(0o644), w.Close())
	if err != nil {
		return fmt.Errorf("cannot write the truth to %s: %w", name, err)
	}
	return os.Rename(w.Name(), name)
}
