package failpoint_test

import (
	"regexp"
	"slices"
	"testing"

	"github.com/wattledger/wattledger/internal/failpoint"
)

func TestNamesAreUniqueAndWellFormed(t *testing.T) {
	form := regexp.MustCompile(`^[a-z]+(-[a-z]+)+$`)
	seen := map[string]bool{}
	for _, name := range failpoint.Names() {
		if seen[name] {
			t.Errorf("%q is listed twice", name)
		}
		seen[name] = true
		if !form.MatchString(name) {
			t.Errorf("%q is not lower case words joined by dashes", name)
		}
	}
	if len(seen) != 19 {
		t.Errorf("%d names; want 19", len(seen))
	}
	both := slices.Concat(failpoint.AgentNames(), failpoint.AggregatorNames())
	if !slices.Equal(both, failpoint.Names()) {
		t.Errorf("Names() = %v; want the agent's, then the aggregator's: %v", failpoint.Names(), both)
	}
}

func TestNamesMayBeChangedByTheCaller(t *testing.T) {
	failpoint.Names()[0] = "spoilt"
	if got := failpoint.Names()[0]; got != failpoint.AgentAfterReading {
		t.Errorf("first name = %q after a caller wrote into the list", got)
	}
}

func TestHitOfAnUnarmedPointReturns(t *testing.T) {
	t.Setenv(failpoint.Env, "")
	for _, name := range failpoint.Names() {
		failpoint.Hit(name)
	}
}
