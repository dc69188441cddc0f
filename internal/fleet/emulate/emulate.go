package emulate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

// Options are what an emulator is started with.
type Options struct {
	Machine  string // one of Machines
	Root     string // a folder that is empty, absent or an emulator's before
	Seed     uint64
	Scenario string // a file, "" for none
	Now      func() time.Time
	Compiler string // "" for cc
}

// Emulator is a running node.
type Emulator struct {
	root   string
	plan   *machine
	start  time.Time
	seed   uint64
	now    func() time.Time
	shown  *clocked
	tree   *tree
	stop   context.CancelFunc
	ended  sync.WaitGroup
	mu     sync.Mutex
	failed error // the last failure of the writer
	end    time.Time
}

const (
	traceFile = "trace.bin"
	nodeFile  = "node.txt" // what the truth needs beside the trace
	nvmlFile  = "nvml.txt"
	yamlFile  = "agent.yaml"
)

// Start builds the node under Root and moves it until Close. Root/agent.yaml is
// written last: where it stands, everything stands.
func Start(o Options) (*Emulator, error) {
	e, err := prepare(o)
	if err != nil {
		return nil, err
	}
	if e.plan.gpus > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := compile(ctx, o.Compiler, filepath.Join(e.root, "lib"), e.shown.faults); err != nil {
			e.tree.close()
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	e.ended.Go(func() { e.run(ctx) })
	if err := e.writeConfig(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// prepare builds the node as it is at its start, without the library.
func prepare(o Options) (*Emulator, error) {
	plan, err := machineOf(o.Machine)
	if err != nil {
		return nil, err
	}
	if o.Now == nil {
		return nil, errors.New("cannot emulate a node without a clock")
	}
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return nil, fmt.Errorf("cannot find %s: %w", o.Root, err)
	}
	e := &Emulator{root: root, plan: plan, seed: o.Seed, now: o.Now, start: o.Now().Truncate(quantum)}
	var faults []Fault
	if o.Scenario != "" {
		f, err := os.Open(o.Scenario)
		if err != nil {
			return nil, fmt.Errorf("cannot read the scenario: %w", err)
		}
		faults, err = ParseScenario(o.Scenario, f, o.Machine, e.start)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	for _, f := range faults {
		if f.Kind == "minors" {
			plan.minors = f.Minors
		}
	}
	if err := empty(root); err != nil {
		return nil, err
	}
	e.shown = &clocked{trace: newTrace(plan, o.Seed, e.start), plan: plan, faults: faults}
	return e, e.build(o.Scenario)
}

// empty makes root an emulator's folder without a node, but keeps an agent's state.
func empty(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read %s: %w", root, err)
	}
	if _, err := os.Stat(filepath.Join(root, nodeFile)); err != nil && len(entries) > 0 {
		return fmt.Errorf("%s is neither empty nor a folder that was emulated in before", root)
	}
	for _, name := range []string{yamlFile, "sys", "proc", "lib", traceFile, nvmlFile} {
		if err := os.RemoveAll(filepath.Join(root, name)); err != nil {
			return fmt.Errorf("cannot clear %s: %w", root, err)
		}
	}
	for _, name := range []string{"sys", "proc", "state"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			return fmt.Errorf("cannot make %s: %w", root, err)
		}
	}
	return nil
}

// build writes everything but the library and agent.yaml.
func (e *Emulator) build(scenario string) error {
	node := fmt.Sprintf("machine %s\nseed %d\nstart %d\n", e.plan.name, e.seed, e.start.UnixMilli())
	if err := os.WriteFile(filepath.Join(e.root, nodeFile), []byte(node), 0o644); err != nil {
		return fmt.Errorf("cannot write %s: %w", nodeFile, err)
	}
	if err := e.shown.write(filepath.Join(e.root, traceFile)); err != nil {
		return err
	}
	if e.plan.gpus > 0 {
		if err := os.WriteFile(filepath.Join(e.root, nvmlFile), e.plan.nvmlText(e.seed, e.shown.faults), 0o644); err != nil {
			return fmt.Errorf("cannot write %s: %w", nvmlFile, err)
		}
	}
	e.tree = &tree{root: e.root, links: map[string]string{}}
	e.addProc()
	switch {
	case e.plan.cray:
		e.addCray()
		e.addAMD()
	case e.plan.grace > 0:
		e.addGrace()
	default:
		e.addRAPL()
	}
	if err := e.tree.create(e.now().Truncate(quantum)); err != nil {
		return err
	}
	for _, f := range e.shown.faults {
		if f.File != "" {
			if err := e.tree.rule(f); err != nil {
				return fmt.Errorf("%s:%w", scenario, err)
			}
		}
	}
	return nil
}

// run writes the trees ten times a second, on the tenths.
func (e *Emulator) run(ctx context.Context) {
	defer e.tree.close()
	for {
		now := e.now()
		next := now.Truncate(quantum).Add(quantum)
		select {
		case <-ctx.Done():
			return
		case <-time.After(next.Sub(now)):
		}
		if err := e.tree.update(e.now().Truncate(quantum)); err != nil {
			e.mu.Lock()
			e.failed = err
			e.mu.Unlock()
		}
	}
}

// Close ends the movement of the trees. The node's folder stays, and the truth
// of any span can still be asked for. The error is the last that the writer had.
func (e *Emulator) Close() error {
	e.stop()
	e.ended.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.end.IsZero() {
		e.end = e.now()
	}
	return e.failed
}

// Root is the folder of the node.
func (e *Emulator) Root() string { return e.root }

// Started is when the node began, a whole tenth of a second.
func (e *Emulator) Started() time.Time { return e.start }

// Config is the configuration of an agent for this node.
func (e *Emulator) Config() string { return filepath.Join(e.root, yamlFile) }

// Library is the emulated NVML, "" for a machine without.
func (e *Emulator) Library() string {
	if e.plan.gpus == 0 {
		return ""
	}
	return filepath.Join(e.root, "lib", soname)
}

// Meters are the scopes whose energy is known.
func (e *Emulator) Meters() []Meter { return slices.Clone(e.plan.meters) }

// Faults are those of the scenario.
func (e *Emulator) Faults() []Fault { return slices.Clone(e.shown.faults) }

// Truth is the energy that the scope of a meter drew in [from, to).
func (e *Emulator) Truth(meter string, from, to time.Time) (energy.Microjoules, error) {
	return e.Node().Energy(meter, from, to)
}

// Node is the truth of this node.
func (e *Emulator) Node() *Node { return &Node{plan: e.plan, trace: e.shown.trace, Start: e.start} }

// lines is a file of several lines.
func lines(words ...string) string { return strings.Join(words, "\n") }

// seeded is a number of this node that looks drawn.
func (e *Emulator) seeded(words ...any) uint64 {
	return binary.LittleEndian.Uint64(hash(append([]any{e.plan.name, e.seed}, words...)...))
}
