package emulate

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

// Node is the truth of an emulated node, running or not.
type Node struct {
	Start time.Time // when the emulator began

	plan  *machine
	trace *trace
}

// OpenNode reads the truth of the node in a folder.
func OpenNode(root string) (*Node, error) {
	text, err := os.ReadFile(filepath.Join(root, nodeFile))
	if err != nil {
		return nil, fmt.Errorf("no node was emulated in %s: %w", root, err)
	}
	var name string
	var seed uint64
	var start int64
	if _, err := fmt.Sscanf(string(text), "machine %s\nseed %d\nstart %d\n", &name, &seed, &start); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", nodeFile, err)
	}
	n := &Node{Start: time.UnixMilli(start)}
	if n.plan, err = machineOf(name); err != nil {
		return nil, err
	}
	n.trace, err = readTrace(filepath.Join(root, traceFile))
	return n, err
}

// Meters are the scopes whose energy is known.
func (n *Node) Meters() []Meter { return slices.Clone(n.plan.meters) }

// Energy is what the scope of a meter drew in [from, to).
func (n *Node) Energy(meter string, from, to time.Time) (energy.Microjoules, error) {
	i, ok := n.trace.index[meter]
	switch {
	case !ok || !n.plan.has(meter):
		return 0, fmt.Errorf("the node has no meter %s", meter)
	case to.Before(from):
		return 0, errors.New("the span ends before it begins")
	case from.Before(n.Start):
		return 0, fmt.Errorf("the node began only at %s", n.Start.UTC().Format(time.RFC3339Nano))
	}
	return n.trace.energy(i, to) - n.trace.energy(i, from), nil
}

// Write writes the truth of a span as CSV: kind,id,joules. Kinds are meter, one
// row for each scope, and total: the sum of the scopes that contain everything
// that is metered, once.
func (n *Node) Write(w io.Writer, from, to time.Time) error {
	rows := [][]string{{"kind", "id", "joules"}}
	var total energy.Microjoules
	for _, m := range n.plan.meters {
		e, err := n.Energy(m.Name, from, to)
		if err != nil {
			return err
		}
		rows = append(rows, []string{"meter", m.Name, joules(e)})
		if m.Root {
			total += e
		}
	}
	rows = append(rows, []string{"total", "", joules(total)})
	if err := csv.NewWriter(w).WriteAll(rows); err != nil {
		return fmt.Errorf("cannot write the truth: %w", err)
	}
	return nil
}

func joules(e energy.Microjoules) string { return fmt.Sprintf("%d.%06d", e/1e6, e%1e6) }
