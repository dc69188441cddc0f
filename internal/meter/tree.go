// Package meter arranges the meters of a node as a tree of scopes, so that a
// parent and its child are never both summed: a root is booked as a whole, its
// children are booked in full and the rest, parent minus children, is a signed
// remainder.
package meter

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
)

// Node is one booked meter in its tree.
type Node struct {
	collector.Scope
	Up       int // index of the booked parent, -1 for a root
	Children []int
}

// Root tells whether the meter is booked as a whole.
func (n Node) Root() bool { return n.Up < 0 }

// Leaf tells whether the meter is a device: nothing booked lies inside it.
func (n Node) Leaf() bool { return len(n.Children) == 0 }

// PostClass is the class its own postings have: the rest's where it has
// children, else its own.
func (n Node) PostClass() energy.Class {
	if n.Leaf() {
		return n.Class
	}
	return n.Rest
}

// Tree holds the booked meters of a node in a fixed order.
type Tree struct {
	Nodes     []Node
	Witnesses []string // compared, never booked: by setting, or demoted
}

// nodeMeter is the meter that contains every other of its node, whatever these
// say of their parents: a source does not know that another meters the node.
const nodeMeter = "node"

// New builds the tree. Gauges and witnesses are left out; a meter whose parent
// is not there lies in the node's, and is a root where that is not booked. It
// fails on two meters of one name and on a ring.
func New(scopes []collector.Scope) (*Tree, error) {
	t := &Tree{}
	byName := make(map[string]collector.Scope)
	for _, s := range scopes {
		if s.Kind == collector.Gauges {
			continue
		}
		if _, twice := byName[s.Name]; twice {
			return nil, fmt.Errorf("cannot build the scope tree: two meters are called %s", s.Name)
		}
		byName[s.Name] = s
	}
	for _, s := range byName {
		if s.Witness {
			t.Witnesses = append(t.Witnesses, s.Name)
			continue
		}
		if s.Rest == energy.GPU && s.Class == energy.Node {
			s.Rest = energy.Other // the zero value of a node's rest is not meant
		}
		t.Nodes = append(t.Nodes, Node{Scope: s, Up: -1})
	}
	slices.Sort(t.Witnesses)
	slices.SortFunc(t.Nodes, func(a, b Node) int { return natural(a.Name, b.Name) })
	return t, t.link(byName)
}

func (t *Tree) link(byName map[string]collector.Scope) error {
	for i := range t.Nodes {
		// a witness between two booked meters is passed over
		parent := t.Nodes[i].Parent
		for hops := 0; parent != ""; hops++ {
			if hops > len(byName) {
				return fmt.Errorf("cannot build the scope tree: %s lies inside itself", t.Nodes[i].Name)
			}
			if p := t.Find(parent); p >= 0 {
				t.Nodes[i].Up = p
				t.Nodes[p].Children = append(t.Nodes[p].Children, i)
				break
			}
			parent = byName[parent].Parent
		}
		if node := t.Find(nodeMeter); t.Nodes[i].Up < 0 && node >= 0 && node != i && t.Nodes[node].Class == energy.Node {
			t.Nodes[i].Up = node
			t.Nodes[node].Children = append(t.Nodes[node].Children, i)
		}
	}
	for i := range t.Nodes {
		for up, hops := t.Nodes[i].Up, 0; up >= 0; up, hops = t.Nodes[up].Up, hops+1 {
			if hops > len(t.Nodes) {
				return fmt.Errorf("cannot build the scope tree: %s lies inside itself", t.Nodes[i].Name)
			}
		}
	}
	return nil
}

// Find gives the index of a meter, -1 if it is not booked.
func (t *Tree) Find(name string) int {
	for i := range t.Nodes {
		if t.Nodes[i].Name == name {
			return i
		}
	}
	return -1
}

// GPU names the GPU, as jobs name it, that a meter's own postings are about; ""
// where they are about none, or one inside it has a meter of its own. The meter
// of a whole module stands for the GPU of its number: module2 for gpu2.
func (t *Tree) GPU(i int) string {
	n := &t.Nodes[i]
	if n.PostClass() != energy.GPU {
		return ""
	}
	for _, c := range n.Children {
		if t.Nodes[c].PostClass() == energy.GPU {
			return ""
		}
	}
	if digits := len(strings.TrimRight(n.Name, "0123456789")); digits < len(n.Name) {
		if name := "gpu" + n.Name[digits:]; t.Find(name) < 0 {
			return name
		}
	}
	return n.Name
}

// natural orders gpu2 before gpu10.
func natural(a, b string) int {
	pa, na := cutNumber(a)
	pb, nb := cutNumber(b)
	return cmp.Or(cmp.Compare(pa, pb), cmp.Compare(na, nb), cmp.Compare(a, b))
}

func cutNumber(s string) (string, int) {
	i := len(s)
	for i > 0 && s[i-1] >= '0' && s[i-1] <= '9' {
		i--
	}
	n := 0
	for _, c := range s[i:] {
		n = min(n*10+int(c-'0'), 1<<30)
	}
	return s[:i], n
}
