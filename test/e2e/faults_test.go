//go:build e2e

package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/fleet/emulate"
)

// TestFaultsAreNamedAndInventNothing breaks an emulated node in many ways at
// once. Each fault is reported by name, the books close, and no more is booked
// than was drawn.
func TestFaultsAreNamedAndInventNothing(t *testing.T) {
	f := func(name, scenario string, seconds int, wanted map[string]string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startAggregator(t, t.TempDir())
			m := emulated(t, name, a.url(), scenario)
			time.Sleep(time.Duration(seconds) * time.Second)
			if code := m.agent.stop(t); code != 0 {
				t.Errorf("the agent ended with %d", code)
			}
			r, _ := reportOf(t, m.url, time.Now().UTC().Format("2006-01"), name)
			r.closed(t)
			audited(t, m.url, name)
			node, err := emulate.OpenNode(m.root)
			if err != nil {
				t.Fatal(err)
			}
			drawn := m.drew(t, node.Start, time.Now())
			total := m.classes(drawn)
			var most float64
			for _, j := range total {
				most += j
			}
			if got := float64(mj(t, r.Totals.Booked)) / 1000; got > most*1.005 || got < most/2 {
				t.Errorf("%.1f J booked, %.1f J drawn", got, most)
			}
			seen := eventsOf(t, m.url, name)
			for kind, meter := range wanted {
				if !strings.Contains(seen, kind+" "+meter+"\n") {
					t.Errorf("no event %s of meter %q among:\n%s", kind, meter, seen)
				}
			}
		})
	}
	f("dgx-h100", `at 8s for 5s gpu 3 lost
at 10s for 6s gpu 1 hang
at 12s gpu 2 xid 48
at 14s for 1s gpu 4 absurd
at 16s for 1s gpu 5 backwards
at 18s meter package1 reset
at 20s gpu 6 reset
`, 35, map[string]string{
		"gpu_lost": "gpu3", "gpu_hung": "gpu1", "xid": "gpu2", "implausible": "gpu4", "backwards": "gpu5",
	})
	f("leonardo", `at 9s for 6s gpu 3 lost
at 10s for 5s gpu 1 hang
at 14s meter package1 reset
at 16s for 2s meter dram0 absurd
`, 35, map[string]string{"gpu_lost": "gpu3", "gpu_hung": "gpu1", "implausible": "package1"})
	f("jupiter", `at 8s for 3s meter grace2 zero
at 14s for 5s gpu 0 hang
at 15s gpu 2 xid 79
`, 35, map[string]string{"no_reading": "grace2", "gpu_hung": "gpu0", "xid": "gpu2"})
	f("lumi", `at 8s startup
at 14s for 6s freshness stuck
at 22s for 3s file sys/cray/pm_counters/accel2_energy garbage
`, 35, map[string]string{"new_epoch": "node", "no_reading": "gpu2"})
}

// eventsOf lists the events of a cluster, "kind meter" a line.
func eventsOf(t *testing.T, url, cluster string) string {
	t.Helper()
	resp, err := http.Get(url + "/api/v1/events?cluster=" + cluster)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Events []struct {
			Kind  string `json:"kind"`
			Meter string `json:"meter"`
		} `json:"events"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	var out strings.Builder
	for _, e := range doc.Events {
		out.WriteString(e.Kind + " " + e.Meter + "\n")
	}
	return out.String()
}
