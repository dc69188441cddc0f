// Package hostlist reads lists of hosts as Slurm writes them, in a prolog's
// environment and in its accounting.
package hostlist

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxHosts is more than any machine has: a longer list is a mistake.
const MaxHosts = 200_000

// Expand expands a host list as Slurm writes it: "n1,gpu[001-003,7]-ib" is n1,
// gpu001-ib, gpu002-ib, gpu003-ib, gpu7-ib; several brackets multiply.
func Expand(list string) ([]string, error) {
	var out []string
	for _, item := range Items(list, "[]") {
		if item == "" {
			return nil, fmt.Errorf("cannot read the host list %q: a name is empty", list)
		}
		names, err := multiply(item, MaxHosts-len(out))
		if err != nil {
			return nil, fmt.Errorf("cannot read the host list %q: %w", list, err)
		}
		out = append(out, names...)
	}
	return out, nil
}

// Items cuts a list at the commas that are in no brackets, which are two bytes:
// "[]" or "()".
func Items(list, brackets string) []string {
	var out []string
	depth, from := 0, 0
	for i := range len(list) {
		switch list[i] {
		case brackets[0]:
			depth++
		case brackets[1]:
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

// multiply multiplies one item's brackets out; the last one runs fastest.
func multiply(item string, room int) ([]string, error) {
	head, rest, ok := strings.Cut(item, "[")
	if !ok {
		if strings.Contains(item, "]") {
			return nil, fmt.Errorf("%q has a bracket that nothing opens", item)
		}
		if strings.Contains(item, " ") {
			return nil, fmt.Errorf("%q is no name of a host", item)
		}
		if room < 1 {
			return nil, fmt.Errorf("it names more than %d hosts", MaxHosts)
		}
		return []string{item}, nil
	}
	ranges, tail, ok := strings.Cut(rest, "]")
	if !ok {
		return nil, fmt.Errorf("%q has a bracket that nothing closes", item)
	}
	numbers, err := Numbers(ranges, room)
	if err != nil {
		return nil, err
	}
	tails, err := multiply(tail, room)
	if err != nil {
		return nil, err
	}
	if len(numbers)*len(tails) > room {
		return nil, fmt.Errorf("it names more than %d hosts", MaxHosts)
	}
	out := make([]string, 0, len(numbers)*len(tails))
	for _, n := range numbers {
		for _, t := range tails {
			out = append(out, head+n+t)
		}
	}
	return out, nil
}

// Numbers expands "001-003,7", what stands in a bracket, to room names at most; a
// leading zero keeps its width.
func Numbers(ranges string, room int) ([]string, error) {
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
			return nil, fmt.Errorf("it names more than %d hosts", MaxHosts)
		}
		for n := a; n <= b; n++ {
			out = append(out, fmt.Sprintf("%0*d", len(low), n))
		}
	}
	return out, nil
}
