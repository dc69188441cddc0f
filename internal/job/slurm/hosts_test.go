package slurm

import (
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	f := func(list, want string) {
		t.Helper()
		got, err := Hosts(list)
		if text := strings.Join(got, " "); err != nil || text != want {
			t.Errorf("Hosts(%q) = %q, %v; want %q", list, text, err, want)
		}
	}
	f("n1", "n1")
	f("n1,n2", "n1 n2")
	f("node[1-3]", "node1 node2 node3")
	f("gpu[001-003,7]-ib,x", "gpu001-ib gpu002-ib gpu003-ib gpu7-ib x")
	f("r[0-1]n[8-10]", "r0n8 r0n9 r0n10 r1n8 r1n9 r1n10")
	f("n[098-101]", "n098 n099 n100 n101")
	f("lrdn[0001,0003]", "lrdn0001 lrdn0003")

	bad := func(list, want string) {
		t.Helper()
		if got, err := Hosts(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Hosts(%q) = %d names, %v; want %q", list, len(got), err, want)
		}
	}
	bad("", "a name is empty")
	bad("a,,b", "a name is empty")
	bad("n[1-3", "nothing closes")
	bad("n1-3]", "nothing opens")
	bad("n[3-1]", "not a number or a span")
	bad("n[]", "not a number or a span")
	bad("n[1-x]", "not a number or a span")
	bad("n[1-4000000000]", "more than 200000 hosts")
	bad("n[1-1000]m[1-1000]", "more than 200000 hosts")
}

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
