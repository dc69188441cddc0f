package simulated

import (
	"strconv"
	"strings"

	"github.com/wattledger/wattledger/collector"
)

// Locate finds a GPU by its number, which is its minor number and its index.
func (s *Source) Locate(ref string) (collector.Place, bool) {
	kind, digits, ok := strings.Cut(ref, ":")
	n, err := strconv.ParseUint(digits, 10, 16)
	if !ok || err != nil || (kind != "minor" && kind != "index") || n >= uint64(s.o.GPUs) {
		return collector.Place{}, false
	}
	return collector.Place{Meter: "gpu" + strconv.FormatUint(n, 10), Weight: collector.Whole}, true
}
