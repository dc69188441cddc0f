package meter_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/meter"
)

// shape writes a tree as "name<parent" in its order.
func shape(t *meter.Tree) string {
	var out []string
	for _, n := range t.Nodes {
		s := n.Name
		if n.Up >= 0 {
			s += "<" + t.Nodes[n.Up].Name
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func scope(name, parent string, class energy.Class) collector.Scope {
	return collector.Scope{Name: name, Parent: parent, Class: class}
}

func witness(s collector.Scope) collector.Scope { s.Witness = true; return s }

func TestTree(t *testing.T) {
	f := func(what, want string, scopes ...collector.Scope) *meter.Tree {
		t.Helper()
		for range 2 { // the order in which meters are met changes nothing
			tree, err := meter.New(scopes)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if got := shape(tree); got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
			slices.Reverse(scopes)
		}
		tree, _ := meter.New(scopes)
		for i, n := range tree.Nodes {
			if !slices.IsSorted(n.Children) || n.Leaf() != (len(n.Children) == 0) || n.Root() != (n.Up < 0) {
				t.Errorf("%s: %+v is out of shape", what, n)
			}
			for _, c := range n.Children {
				if tree.Nodes[c].Up != i {
					t.Errorf("%s: %s is not inside %s", what, tree.Nodes[c].Name, n.Name)
				}
			}
			if tree.Find(n.Name) != i {
				t.Errorf("%s: %s is not found", what, n.Name)
			}
		}
		return tree
	}
	f("no meter", "")
	f("natural order", "gpu0 gpu2 gpu10 package0", scope("gpu10", "", 0), scope("package0", "", energy.CPU), scope("gpu2", "", 0), scope("gpu0", "", 0))
	f("the node's meter contains those of sources that do not know it", "gpu0<node grace0<node node",
		scope("node", "", energy.Node), scope("gpu0", "", 0), scope("grace0", "module0", energy.CPU))
	f("a witness of the node contains nothing", "gpu0 package0",
		witness(scope("node-bmc", "", energy.Node)), scope("gpu0", "", 0), scope("package0", "", energy.CPU))
	f("a node that is demoted contains nothing", "gpu0 package0",
		witness(scope("node", "", energy.Node)), scope("gpu0", "", 0), scope("package0", "", energy.CPU))
	f("a parent that is not there", "gpu0 gpu1", scope("gpu0", "module0", 0), scope("gpu1", "module0", 0))
	f("a gauge is no meter", "gpu0", scope("gpu0", "", 0), collector.Scope{Name: "gpu0", Kind: collector.Gauges})
	n := f("three levels", "gpu0<module0 module0<node node package0<module0",
		scope("node", "", energy.Node), scope("module0", "node", energy.GPU), scope("package0", "module0", energy.CPU), scope("gpu0", "module0", energy.GPU))
	for name, want := range map[string]energy.Class{"node": energy.Other, "package0": energy.CPU, "gpu0": energy.GPU} {
		if got := n.Nodes[n.Find(name)].PostClass(); got != want {
			t.Errorf("the postings of %s are of class %v, want %v", name, got, want)
		}
	}
	alone := f("a node alone", "node", scope("node", "", energy.Node))
	if got := alone.Nodes[0].PostClass(); got != energy.Node {
		t.Errorf("a node metered only as a whole posts %v", got)
	}
	gone := f("a witness between is passed over", "gpu0<node node",
		scope("node", "", energy.Node), witness(scope("module0", "node", energy.GPU)), scope("gpu0", "module0", 0))
	if !slices.Equal(gone.Witnesses, []string{"module0"}) || gone.Find("module0") != -1 {
		t.Errorf("the witnesses are %v", gone.Witnesses)
	}
	f("a witness on top", "gpu0 gpu1", witness(scope("node", "", energy.Node)), scope("gpu0", "node", 0), scope("gpu1", "node", 0))
}

func TestTreesThatCannotBe(t *testing.T) {
	f := func(want string, scopes ...collector.Scope) {
		t.Helper()
		if _, err := meter.New(scopes); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New says %v, want %q in it", err, want)
		}
	}
	f("two meters are called gpu0", scope("gpu0", "", 0), scope("gpu0", "node", 0))
	f("lies inside itself", scope("a", "a", 0))
	f("lies inside itself", scope("a", "b", 0), scope("b", "c", 0), scope("c", "a", 0))
	f("lies inside itself", scope("a", "b", 0), witness(scope("b", "c", 0)), witness(scope("c", "b", 0)))
}
