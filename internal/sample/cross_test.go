package sample_test

import (
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/sample"
)

// peers-defects: zeus#181, counter 187 J, integrated power 327 J.
func TestCounterAgainstPower(t *testing.T) {
	f := func(what string, counted, power energy.Microwatts, minutes int, want ...string) {
		t.Helper()
		var c sample.Cross
		var got []string
		uj := 5 * energy.KilowattHour
		for s := range minutes*60 + 2 {
			r := collector.Reading{
				Scope: collector.Scope{Name: "gpu0"}, At: time.Unix(1_800_000_000+int64(s), 0), Power: power, HasPower: true,
			}
			if s > 200 { // it mends itself
				power = counted
			}
			if odd := c.Add(r, "e", uj); odd != nil {
				got = append(got, odd.Detail)
				if odd.Over != strings.Contains(odd.Detail, "again") {
					t.Errorf("%s: over = %v: %s", what, odd.Over, odd.Detail)
				}
			}
			uj += energy.Microjoules(counted)
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %q; want %q", what, got, want)
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("%s: %q; want %q", what, got[i], want[i])
			}
		}
	}
	f("equal", 300*energy.Watt, 300*energy.Watt, 3)
	f("within a tenth", 300*energy.Watt, 325*energy.Watt, 3)
	f("apart", 37*energy.Watt, 65*energy.Watt, 3, "disagree")
	f("apart, then mended", 187*energy.Watt, 327*energy.Watt, 7, "disagree", "agree again")
	f("next to nothing", 0, 900_000, 3)
}
