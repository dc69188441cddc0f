package redfish_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/collector/redfish"
	"github.com/wattledger/wattledger/internal/energy"
)

const gpus = "/redfish/v1/Systems/HGX_Baseboard_0/Processors/GPU_SXM_"

func gpuMetrics(n int) string { return fmt.Sprintf("%s%d/EnvironmentMetrics", gpus, n) }

func TestMachines(t *testing.T) {
	f := func(machine string, want map[string]energy.Microwatts, polled int) *site {
		t.Helper()
		b := serve(t, machine)
		s := b.site(nil)
		got := map[string]energy.Microwatts{}
		for name, r := range s.well() {
			got[name] = r.Power
			if !r.HasPower || r.Scope.Kind != collector.Power || !r.Scope.Witness || r.At.IsZero() {
				t.Errorf("%s %s: %+v", machine, name, r)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", machine, d)
		}
		b.requests()
		s.well()
		if r := b.requests(); len(r) != polled {
			t.Errorf("%s: a poll takes the requests %v; want %d", machine, r, polled)
		}
		if n := b.conns.Load(); n != 1 {
			t.Errorf("%s: %d connections; want one that is kept", machine, n)
		}
		if m := s.Probe(t.Context()); len(m) > 0 {
			t.Errorf("%s: missing %+v", machine, m)
		}
		return s
	}
	f("generic", map[string]energy.Microwatts{"node-redfish": watts(412)}, 1)
	f("supplies", map[string]energy.Microwatts{"node-redfish": watts(599.75)}, 2)
	f("hgx-h100", map[string]energy.Microwatts{
		"node-redfish": watts(7450), "gpu1-redfish": watts(601.125), "gpu2-redfish": watts(602.125), "gpu3-redfish": watts(603.125),
		"gpu4-redfish": watts(604.125), "gpu5-redfish": watts(605.125), "gpu6-redfish": watts(606.125), "gpu7-redfish": watts(607.125),
		"gpu8-redfish": watts(608.125),
	}, 9)
	f("gb200", map[string]energy.Microwatts{
		"node-redfish": watts(5230.5), "gpu0-redfish": watts(980), "gpu1-redfish": watts(981), "gpu2-redfish": watts(982),
		"gpu3-redfish": watts(983), "module0-redfish": watts(2300), "module1-redfish": watts(2301),
	}, 7)
}

func TestScopesAndGauges(t *testing.T) {
	r := serve(t, "hgx-h100").site(nil).well()["gpu3-redfish"]
	want := collector.Scope{
		Name: "gpu3-redfish", Class: energy.GPU, Kind: collector.Power, Witness: true,
		Device: "GPU_SXM_3 5c0f1d2e-0000-4000-8000-000000000003",
	}
	if r.Scope != want {
		t.Errorf("scope = %+v; want %+v", r.Scope, want)
	}
	gauges := map[string]float64{}
	for _, g := range r.Gauges {
		gauges[g.Name] = g.Value
	}
	if gauges["energy_joules"] != 3000001.5 || gauges["temperature_celsius"] != 53 || gauges["bmc_response_seconds"] <= 0 {
		t.Errorf("gauges = %v", gauges)
	}
	b := serve(t, "hgx-h100")
	booked := b.site(func(o *redfish.Options) { o.Booked, o.Limit = true, 10_200*energy.Watt })
	node := booked.well()["node"]
	want = collector.Scope{
		Name: "node", Class: energy.Node, Rest: energy.Other, Kind: collector.Power, Limit: 10_200 * energy.Watt, Device: b.server.URL,
	}
	if node.Scope != want || node.Counter != 0 {
		t.Errorf("booked: %+v; want %+v and no counter", node, want)
	}
	if !slices.Contains(node.Gauges, collector.Gauge{Name: "energy_joules", Value: 1234.5 * 3.6e6}) {
		t.Errorf("gauges = %v; want the kWh as joules", node.Gauges)
	}
}

func TestSessionIsKeptAndClosed(t *testing.T) {
	b := serve(t, "generic")
	s := b.site(nil)
	for range 3 {
		s.well()
	}
	if b.logins != 1 || b.open() != 1 {
		t.Errorf("%d logins, %d sessions; want 1, 1", b.logins, b.open())
	}
	if err := s.Close(); err != nil || b.open() != 0 {
		t.Errorf("after Close: %d sessions, %v; want 0", b.open(), err)
	}
	b.requests()
	if r, err := s.next(); len(r) > 0 || err != nil || len(b.requests()) > 0 {
		t.Errorf("a closed source asks: %v, %v", r, err)
	}

	basic := b.site(func(o *redfish.Options) { o.Auth = redfish.Basic })
	basic.well()
	if b.logins != 1 {
		t.Errorf("%d logins after Basic; want none more", b.logins)
	}
	_ = basic.Close()
	if r := b.requests(); slices.ContainsFunc(r, func(q string) bool { return strings.HasPrefix(q, http.MethodDelete) }) {
		t.Errorf("requests = %v; there is no session to close", r)
	}
}

func TestSessionEnds(t *testing.T) {
	b := serve(t, "hgx-h100")
	s := b.site(nil)
	s.well()
	b.with(func() { clear(b.sessions) })
	r, err := s.next()
	if d := s.devices(err); len(r) > 0 || len(d) != 1 || !strings.Contains(d[0], "redfish: ") || !strings.Contains(d[0], "HTTP 401") {
		t.Errorf("readings %v, errors %v; want none and a 401 of redfish", r, d)
	}
	if r := s.well(); len(r) != 9 || b.logins != 2 {
		t.Errorf("%d readings after %d logins; want 9, 2", len(r), b.logins)
	}
}

// TestOneDevice: what is wrong with one GPU's resource costs that GPU, is said
// once, and is over when it is over.
func TestOneDevice(t *testing.T) {
	at := gpuMetrics(5)
	f := func(name, text string, ail func(*bmc)) {
		t.Run(name, func(t *testing.T) {
			b := serve(t, "hgx-h100")
			s := b.site(func(o *redfish.Options) { o.Timeout = time.Second })
			s.well()
			b.mu.Lock()
			was := b.tree[at]
			b.mu.Unlock()
			ail(b)
			for i := range 4 {
				r, err := s.next()
				if _, there := r["gpu5-redfish"]; there || len(r) != 8 {
					t.Fatalf("readings %v; want the 8 others", r)
				}
				d := s.devices(err)
				if i == 0 && (len(d) != 1 || !strings.HasPrefix(d[0], "gpu5-redfish: ") || !strings.Contains(d[0], text)) {
					t.Errorf("errors = %q; want one of gpu5-redfish with %q", d, text)
				}
				if i > 0 && len(d) > 0 && text != "HTTP 404" {
					t.Errorf("errors = %q; it was said", d)
				}
			}
			b.with(func() { b.tree[at], b.status, b.delay = was, map[string]int{}, map[string]time.Duration{} })
			if r := s.well(); len(r) != 9 {
				t.Errorf("%d readings when it is well again; want 9", len(r))
			}
		})
	}
	edit := func(was, is string) func(*bmc) { return func(b *bmc) { b.edit(at, was, is) } }
	f("null", "no value", edit(`605.125`, `null`))
	f("missing member", "no value", edit(`"PowerWatts"`, `"PowerVolts"`))
	f("missing reading", "no value", edit(`"Reading": 605.125`, `"State": "Absent"`))
	f("zero", "0 W", edit(`605.125`, `0`))
	f("negative", "no power", edit(`605.125`, `-3`))
	f("absurd", "no power", edit(`605.125`, `4294967295`))
	f("text", "cannot understand", edit(`605.125`, `"n/a"`))
	f("malformed", "cannot understand", edit(`"PowerWatts": {`, `"PowerWatts": {{`))
	f("cut off", "cannot understand", func(b *bmc) { b.with(func() { b.tree[at] = b.tree[at][:60] }) })
	f("an array", "cannot understand", func(b *bmc) { b.with(func() { b.tree[at] = "[1,2]" }) })
	f("overloaded", "HTTP 503 (Service Unavailable)", func(b *bmc) { b.with(func() { b.status[at] = 503 }) })
	f("fault", "HTTP 500", func(b *bmc) { b.with(func() { b.status[at] = 500 }) })
	f("slow", "no answer in time", func(b *bmc) { b.with(func() { b.delay[at] = time.Minute }) })
}

// TestLookingAgainIsRare: a resource that stays away does not make every poll
// look for all of them.
func TestLookingAgainIsRare(t *testing.T) {
	b := serve(t, "hgx-h100")
	s := b.site(nil)
	s.well()
	b.with(func() { b.status[gpuMetrics(4)] = http.StatusNotFound })
	b.requests()
	for range 30 {
		s.ahead.Add(int64(10 * time.Second))
		_, _ = s.Read(t.Context())
	}
	asked := b.requests()
	systems := 0
	for _, r := range asked {
		if r == "GET /redfish/v1/Systems" {
			systems++
		}
	}
	if systems > 1 || len(asked) < 30*9 {
		t.Errorf("in 5 minutes the systems were listed %d times, in %d requests; want once, and 9 a poll", systems, len(asked))
	}
}

func TestEvents(t *testing.T) {
	b := serve(t, "hgx-h100")
	s := b.site(nil)
	s.well()
	b.with(func() { b.status[gpuMetrics(2)] = 503 })
	for range 5 {
		_, _ = s.next()
	}
	b.with(func() { clear(b.status) })
	s.well()
	var got []string
	for _, e := range s.Events() {
		got = append(got, e.Kind+" "+e.Meter)
	}
	if d := cmp.Diff([]string{"missing_meter gpu2-redfish", "meter_back gpu2-redfish"}, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}

// TestGoneAndFoundAgain: a resource that is no longer there makes the source
// look for all of them again; one that appears is found within the hour.
func TestGoneAndFoundAgain(t *testing.T) {
	b := serve(t, "hgx-h100")
	s := b.site(nil)
	s.well()
	members := "/redfish/v1/Systems/HGX_Baseboard_0/Processors"
	b.with(func() { delete(b.tree, gpuMetrics(8)) })
	b.edit(members, `/GPU_SXM_8"`, `/FPGA_0"`)
	r, err := s.next()
	if d := s.devices(err); len(r) != 8 || len(d) != 1 || !strings.Contains(d[0], "HTTP 404") {
		t.Errorf("%d readings, errors %q; want 8 and a 404", len(r), d)
	}
	if r := s.well(); len(r) != 8 {
		t.Errorf("%d readings; want 8", len(r))
	}
	b.edit(members, `/FPGA_0"`, `/GPU_SXM_8"`)
	b.with(func() { b.tree[gpuMetrics(8)] = `{"PowerWatts":{"Reading":650}}` })
	for i := range 12 {
		if r := s.well(); len(r) == 9 {
			break
		} else if i == 11 {
			t.Errorf("%d readings more than an hour after a GPU came back; want 9", len(r))
		}
	}
}

func TestControllerGoesAndComes(t *testing.T) {
	b := serve(t, "hgx-h100")
	s := b.site(nil)
	s.well()
	b.server.CloseClientConnections()
	b.server.Close()
	r, err := s.next()
	if d := s.devices(err); len(r) > 0 || len(d) != 1 || !strings.HasPrefix(d[0], "redfish: ") {
		t.Errorf("readings %v, errors %q; want none and one of redfish", r, d)
	}
	for range 3 {
		if r, _ := s.next(); len(r) > 0 {
			t.Errorf("readings of a controller that is down: %v", r)
		}
	}
	if m := s.Probe(t.Context()); len(m) != 1 || !strings.Contains(m[0].Mend, "curl -k https://127.0.0.1") {
		t.Errorf("missing = %+v", m)
	}
	b.restart()
	if r := s.well(); len(r) != 9 {
		t.Errorf("%d readings when it is back; want 9", len(r))
	}
}

// TestSlowController: an answer later than the tick is given to a later Read;
// no Read waits for it, and no second poll begins.
func TestSlowController(t *testing.T) {
	b := serve(t, "generic")
	s := b.site(nil)
	b.with(func() { b.all = 150 * time.Millisecond }) // 11 requests to find it
	var readings []collector.Reading
	for i := 0; len(readings) == 0 && i < 100; i++ {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		r, err := s.Read(ctx)
		cancel()
		if took := time.Since(start); err != nil || took > 500*time.Millisecond {
			t.Fatalf("a Read took %s, error %v", took, err)
		}
		readings = append(readings, r...)
	}
	if len(readings) != 1 || readings[0].Power != watts(412) || b.logins != 1 {
		t.Errorf("readings %v after %d logins; want 412 W, 1", readings, b.logins)
	}
	b.requests()
	for range 20 {
		if r, err := s.Read(t.Context()); r != nil || err != nil {
			t.Fatalf("between polls: %v, %v", r, err)
		}
	}
	if r := b.requests(); len(r) > 0 {
		t.Errorf("requests between polls: %v", r)
	}
}

func TestSuppliesAreAllOrNothing(t *testing.T) {
	b := serve(t, "supplies")
	s := b.site(nil)
	s.well()
	at := "/redfish/v1/Chassis/1/PowerSubsystem/PowerSupplies/1/Metrics"
	b.edit(at, `298.25`, `null`)
	r, err := s.next()
	if d := s.devices(err); len(r) > 0 || len(d) != 1 || !strings.Contains(d[0], "no value") {
		t.Errorf("readings %v, errors %q; half of a node is no node", r, d)
	}
	b.edit(at, `null`, `0`) // a supply in standby takes nothing
	if r := s.well()["node-redfish"]; r.Power != watts(301.5) {
		t.Errorf("power = %v; want 301.5 W", r.Power)
	}
}
