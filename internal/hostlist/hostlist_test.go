package hostlist_test

import (
	"strings"
	"testing"

	"github.com/wattledger/wattledger/internal/hostlist"
)

func TestExpand(t *testing.T) {
	f := func(list, want string) {
		t.Helper()
		got, err := hostlist.Expand(list)
		if text := strings.Join(got, " "); err != nil || text != want {
			t.Errorf("Expand(%q) = %q, %v; want %q", list, text, err, want)
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
		if got, err := hostlist.Expand(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Expand(%q) = %d names, %v; want %q", list, len(got), err, want)
		}
	}
	bad("", "a name is empty")
	bad("a,,b", "a name is empty")
	bad("None assigned", "no name of a host")
	bad("n[1-3", "nothing closes")
	bad("n1-3]", "nothing opens")
	bad("n[3-1]", "not a number or a span")
	bad("n[]", "not a number or a span")
	bad("n[1-x]", "not a number or a span")
	bad("n[1-4000000000]", "more than 200000 hosts")
	bad("n[1-1000]m[1-1000]", "more than 200000 hosts")
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"node[1-3,7],b", "r[1-2]n[01-02]", "a[[1]]", "][", "a[1-99999][1-99999]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := hostlist.Expand(s)
		if len(got) > hostlist.MaxHosts || err != nil && got != nil {
			t.Errorf("%q: %d names, %v", s, len(got), err)
		}
	})
}
