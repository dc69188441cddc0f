package slurm

import (
	"strings"
	"testing"
)

func TestCPUsOfNode(t *testing.T) {
	f := func(counts, hosts, node string, want uint32, wantErr string) {
		t.Helper()
		got, err := cpusOfNode(counts, hosts, node)
		if got != want || (err == nil) != (wantErr == "") || (err != nil && !strings.Contains(err.Error(), wantErr)) {
			t.Errorf("cpusOfNode(%q, %q, %q) = %d, %v; want %d, %q", counts, hosts, node, got, err, want, wantErr)
		}
	}
	f("16", "node1", "node1", 16, "")
	f("16(x2),8", "node[1-3]", "node1", 16, "")
	f("16(x2),8", "node[1-3]", "node2", 16, "")
	f("16(x2),8", "node[1-3]", "node3", 8, "")
	f("3,1", "node[1-2]", "node2", 1, "")
	f("128(x3456)", "lrdn[0001-3456]", "lrdn3456", 128, "")
	f("16", "node[1-2]", "node3", 0, `node "node3" is not in the host list`)
	f("16", "node[1-2]", "node2", 0, "end before node node2")
	f("16(x2", "node1", "node1", 0, "number(xTIMES)")
	f("16x2)", "node1", "node1", 0, "number(xTIMES)")
	f("", "node1", "node1", 0, "number(xTIMES)")
	f("-4", "node1", "node1", 0, "number(xTIMES)")
	f("4000000000", "node1", "node1", 0, "number(xTIMES)")
	f("16", "", "node1", 0, "a name is empty")
}
