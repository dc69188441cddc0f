package slurm

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/wattledger/wattledger/internal/hostlist"
)

// cpusOfNode is how many CPUs a job holds on one node of its list, from Slurm's
// compressed form: "16(x2),8" is 16, 16, 8.
func cpusOfNode(counts, hosts, node string) (uint32, error) {
	place, err := placeOf(hosts, node)
	if err != nil {
		return 0, err
	}
	at := 0
	for item := range strings.SplitSeq(counts, ",") {
		n, times, err := repeated(item)
		if err != nil {
			return 0, fmt.Errorf("cannot read %q in the CPUs per node %q: it is a number, or number(xTIMES)", item, counts)
		}
		if at += times; place < at {
			return n, nil
		}
	}
	return 0, fmt.Errorf("the CPUs per node %q end before node %s, which is number %d of %s", counts, node, place+1, hosts)
}

func repeated(item string) (n uint32, times int, err error) {
	count, times64, isMany := strings.Cut(strings.TrimSuffix(item, ")"), "(x")
	if isMany != strings.HasSuffix(item, ")") {
		return 0, 0, strconv.ErrSyntax
	}
	c, err := strconv.ParseUint(count, 10, 20)
	if err != nil || !isMany {
		return uint32(c), 1, err
	}
	t, err := strconv.ParseUint(times64, 10, 20)
	return uint32(c), int(t), err
}

// placeOf is where a node stands in a host list, from 0.
func placeOf(hosts, node string) (int, error) {
	names, err := hostlist.Expand(hosts)
	if err != nil {
		return 0, err
	}
	for i, name := range names {
		if name == node {
			return i, nil
		}
	}
	return 0, fmt.Errorf("node %q is not in the host list %q", node, hosts)
}
