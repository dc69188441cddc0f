package hook

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

// ParseGPUs reads a list such as "0,1" or, for shares of a GPU, "0:50%,1:25%".
// A number N is the meter gpuN; in its place may stand any other name of a GPU
// that a collector.Locator knows: minor:2, pci:0000:c1:00.0, GPU-..., MIG-...
func ParseGPUs(list string) ([]window.Share, error) {
	if list == "" {
		return nil, nil
	}
	var out []window.Share
	for item := range strings.SplitSeq(list, ",") {
		name, share, shared := cutShare(strings.TrimSpace(item))
		s := window.Share{Device: name, Weight: job.Whole}
		if !reference(name) {
			n, err := strconv.ParseUint(name, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("cannot read %q in the GPU list %q: it is a number, a name such as minor:2 or pci:0000:c1:00.0, or one of them with :percent%%", item, list)
			}
			s.Device = fmt.Sprintf("gpu%d", n)
		}
		if shared {
			var err error
			if s.Weight, err = percent(share); err != nil {
				return nil, fmt.Errorf("cannot read %q in the GPU list %q: %w", item, list, err)
			}
		}
		if slices.ContainsFunc(out, func(o window.Share) bool { return o.Device == s.Device }) {
			return nil, fmt.Errorf("GPU %s is named twice in %q", name, list)
		}
		out = append(out, s)
	}
	return out, nil
}

// reference tells whether a name is one that a collector.Locator knows.
func reference(name string) bool {
	return slices.ContainsFunc([]string{"minor:", "index:", "pci:", "gi:", "capability:", "GPU-", "MIG-"}, func(p string) bool {
		return strings.HasPrefix(name, p) && len(name) > len(p)
	})
}

// cutShare takes the share off: what follows the last colon, where that is a
// percentage, or where a number stands before it.
func cutShare(item string) (name, share string, shared bool) {
	i := strings.LastIndexByte(item, ':')
	if i < 0 || (!strings.HasSuffix(item, "%") && reference(item)) {
		return item, "", false
	}
	return item[:i], item[i+1:], true
}

// percent reads "50%" or "12.5%" as millionths.
func percent(s string) (uint32, error) {
	digits, ok := strings.CutSuffix(s, "%")
	whole, frac, _ := strings.Cut(digits, ".")
	if !ok || len(frac) > 4 {
		return 0, fmt.Errorf("a share is a percentage such as 50%% or 12.5%%, with at most four decimals, not %q", s)
	}
	n, err := strconv.ParseUint(whole+frac+strings.Repeat("0", 4-len(frac)), 10, 32)
	if err != nil || n == 0 || n > job.Whole {
		return 0, fmt.Errorf("%q is not a share above 0%% and up to 100%%", s)
	}
	return uint32(n), nil
}

// ParseCPUs counts the CPUs of a list such as "0-31,64-95".
func ParseCPUs(list string) (uint32, error) {
	if list == "" {
		return 0, nil
	}
	var spans [][2]uint64 // [from, to)
	for item := range strings.SplitSeq(list, ",") {
		lo, hi, span := strings.Cut(strings.TrimSpace(item), "-")
		if !span {
			hi = lo
		}
		a, err1 := strconv.ParseUint(lo, 10, 20)
		b, err2 := strconv.ParseUint(hi, 10, 20)
		if err := errors.Join(err1, err2); err != nil || b < a {
			return 0, fmt.Errorf("cannot read %q in the CPU list %q: it is a number or a span such as 0-31", item, list)
		}
		spans = append(spans, [2]uint64{a, b + 1})
	}
	slices.SortFunc(spans, func(x, y [2]uint64) int { return cmp.Compare(x[0], y[0]) })
	var count, end uint64 // below 2^20: a CPU that is named twice is one
	for _, s := range spans {
		if s[1] > end {
			count += s[1] - max(s[0], end)
			end = s[1]
		}
	}
	return uint32(count), nil
}
