package slurm

import (
	"fmt"
	"strconv"
	"strings"
)

// maxHosts bounds how many names a list of hosts may stand for.
const maxHosts = 1 << 17

// hosts writes a list of hosts out: "a[1-3,07],b" is a1 a2 a3 a07 b. Brackets may
// come more than once in a name; numbers keep their leading zeros. What Slurm
// writes for no hosts gives none.
func hosts(s string) ([]string, error) {
	s = strings.TrimSpace(s)
	switch s {
	case "", "None assigned", "None", "(null)":
		return nil, nil
	}
	var out []string
	for _, part := range splitHosts(s) {
		names, err := expand(part, maxHosts-len(out))
		if err != nil {
			return nil, fmt.Errorf("list of nodes %.80q: %w", s, err)
		}
		out = append(out, names...)
	}
	return out, nil
}

// splitHosts splits at commas outside of brackets.
func splitHosts(s string) []string {
	var out []string
	depth, begin := 0, 0
	for i, r := range s {
		switch {
		case r == '[':
			depth++
		case r == ']':
			depth--
		case r == ',' && depth == 0:
			out = append(out, s[begin:i])
			begin = i + 1
		}
	}
	return append(out, s[begin:])
}

func expand(s string, most int) ([]string, error) {
	before, rest, ok := strings.Cut(s, "[")
	if !ok {
		if s == "" || strings.ContainsAny(s, "] ") {
			return nil, fmt.Errorf("%q is no name", s)
		}
		if most < 1 {
			return nil, fmt.Errorf("more than %d names", maxHosts)
		}
		return []string{s}, nil
	}
	inside, after, ok := strings.Cut(rest, "]")
	if !ok {
		return nil, fmt.Errorf("%q: a bracket is not closed", s)
	}
	tails := []string{""}
	if after != "" {
		var err error
		if tails, err = expand(after, most); err != nil {
			return nil, err
		}
	}
	var out []string
	for r := range strings.SplitSeq(inside, ",") {
		lo, hi, isRange := strings.Cut(r, "-")
		if !isRange {
			hi = lo
		}
		a, err1 := strconv.ParseUint(lo, 10, 32)
		b, err2 := strconv.ParseUint(hi, 10, 32)
		if err1 != nil || err2 != nil || b < a {
			return nil, fmt.Errorf("%q is no range of numbers", r)
		}
		if (b-a+1)*uint64(len(tails)) > uint64(most-len(out)) {
			return nil, fmt.Errorf("more than %d names", maxHosts)
		}
		for n := a; n <= b; n++ {
			name := before + fmt.Sprintf("%0*d", len(lo), n)
			for _, tail := range tails {
				out = append(out, name+tail)
			}
		}
	}
	return out, nil
}
