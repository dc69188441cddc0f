package slurm

import (
	"fmt"
	"strconv"
	"strings"
)

// maxHosts is more than any machine has: a longer list is a mistake.
const maxHosts = 200_000

// Hosts expands a host list as Slurm writes it: "n1,gpu[001-003,7]-ib" is n1,
// gpu001-ib, gpu002-ib, gpu003-ib, gpu7-ib; several brackets multiply.
func Hosts(list string) ([]string, error) {
	var out []string
	for _, item := range splitOutside(list) {
		if item == "" {
			return nil, fmt.Errorf("cannot read the host list %q: a name is empty", list)
		}
		names, err := expand(item, maxHosts-len(out))
		if err != nil {
			return nil, fmt.Errorf("cannot read the host list %q: %w", list, err)
		}
		out = append(out, names...)
	}
	return out, nil
}

// splitOutside cuts at the commas that are in no bracket.
func splitOutside(list string) []string {
	var out []string
	depth, from := 0, 0
	for i, c := range list {
		switch c {
		case '[':
			depth++
		case ']':
			depth--
		case ',':
			if depth == 0 {
				out = append(out, list[from:i])
				from = i + 1
			}
		}
	}
	return append(out, list[from:])
}

// expand multiplies one item's brackets out; the last one runs fastest.
func expand(item string, room int) ([]string, error) {
	head, rest, ok := strings.Cut(item, "[")
	if !ok {
		if strings.Contains(item, "]") {
			return nil, fmt.Errorf("%q has a bracket that nothing opens", item)
		}
		if room < 1 {
			return nil, fmt.Errorf("it names more than %d hosts", maxHosts)
		}
		return []string{item}, nil
	}
	ranges, tail, ok := strings.Cut(rest, "]")
	if !ok {
		return nil, fmt.Errorf("%q has a bracket that nothing closes", item)
	}
	numbers, err := numbersOf(ranges, room)
	if err != nil {
		return nil, err
	}
	tails, err := expand(tail, room)
	if err != nil {
		return nil, err
	}
	if len(numbers)*len(tails) > room {
		return nil, fmt.Errorf("it names more than %d hosts", maxHosts)
	}
	out := make([]string, 0, len(numbers)*len(tails))
	for _, n := range numbers {
		for _, t := range tails {
			out = append(out, head+n+t)
		}
	}
	return out, nil
}

// numbersOf expands "001-003,7"; a leading zero keeps its width.
func numbersOf(ranges string, room int) ([]string, error) {
	var out []string
	for span := range strings.SplitSeq(ranges, ",") {
		low, high, isSpan := strings.Cut(span, "-")
		if !isSpan {
			high = low
		}
		a, err1 := strconv.ParseUint(low, 10, 32)
		b, err2 := strconv.ParseUint(high, 10, 32)
		if err1 != nil || err2 != nil || b < a {
			return nil, fmt.Errorf("%q is not a number or a span such as 001-016", span)
		}
		if b-a >= uint64(max(room-len(out), 0)) {
			return nil, fmt.Errorf("it names more than %d hosts", maxHosts)
		}
		for n := a; n <= b; n++ {
			out = append(out, fmt.Sprintf("%0*d", len(low), n))
		}
	}
	return out, nil
}

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
	names, err := Hosts(hosts)
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
