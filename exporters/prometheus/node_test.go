package prometheus_test

import (
	"strings"
	"testing"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/exporters/prometheus"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

var noon = time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)

func look() prometheus.Look {
	gpu := collector.Scope{Name: "gpu0", Class: energy.GPU, Device: "GPU-1"}
	return prometheus.Look{
		Readings: []collector.Reading{
			{Scope: gpu, At: noon, Power: 412_500_000, HasPower: true, Gauges: []collector.Gauge{
				{Name: "utilization_ratio", Value: 0.93},
				{Name: "temperature_celsius", Value: 61},
				{Name: "throttle_thermal_seconds_total", Value: 4.5},
				{Name: "ecc_uncorrected_total", Value: 2},
				{Name: "of_no_family", Value: 1},
			}},
			{Scope: collector.Scope{Name: "package0", Class: energy.CPU, Device: "intel-rapl:0"}, At: noon},
			{
				Scope: collector.Scope{Name: "node-bmc", Class: energy.Node, Kind: collector.Power, Witness: true}, At: noon, Power: 2_000_000_000,
				Gauges: []collector.Gauge{{Name: "temperature_celsius", Value: 31}},
			},
			{
				Scope: collector.Scope{Name: "host", Kind: collector.Gauges}, At: noon,
				Gauges: []collector.Gauge{{Name: "cpu_utilization_ratio", Value: 0.25}, {Name: "temperature_celsius", Value: 30}},
			},
		},
		Odometer: func(m string) (energy.Microjoules, bool) {
			uj, ok := map[string]energy.Microjoules{"gpu0": 1_234_500_000, "package0": 1_000_000}[m]
			return uj, ok
		},
		Jobs: func() []job.Allocation {
			return []job.Allocation{
				{Spec: job.Spec{ID: "71001", Project: "EUHPC_A01", GPUs: []window.Share{{Device: "gpu0", Weight: job.Whole / 4}}}},
				{Spec: job.Spec{ID: "71002", Project: "EUHPC_A02", Exclusive: true}},
			}
		},
	}
}

const page = `
wattledger_agent_events_total{kind="xid"} 1
wattledger_gpu_ecc_errors_total{gpu="gpu0",kind="uncorrected"} 2
wattledger_gpu_energy_joules_total{gpu="gpu0"} 1234.5
wattledger_gpu_power_watts{gpu="gpu0"} 412.5
wattledger_gpu_temperature_celsius{gpu="gpu0"} 61
wattledger_gpu_throttle_seconds_total{gpu="gpu0",reason="thermal"} 4.5
wattledger_gpu_utilization_ratio{gpu="gpu0"} 0.93
wattledger_gpu_xid_errors_total{class="hardware",gpu="gpu0",xid="79"} 1
wattledger_meter_energy_joules_total{meter="package0"} 1
wattledger_meter_info{class="cpu",device="intel-rapl:0",kind="counter",meter="package0",role="booked"} 1
wattledger_meter_info{class="gpu",device="GPU-1",kind="counter",meter="gpu0",role="booked"} 1
wattledger_meter_info{class="node",device="",kind="power",meter="node-bmc",role="witness"} 1
wattledger_meter_power_watts{meter="node-bmc"} 2000
wattledger_node_cpu_utilization_ratio 0.25
wattledger_node_temperature_celsius 30
`

// values gives the page as "family{labels} value" lines, and what is wrong with
// it as promtool sees it.
func values(t *testing.T, c client.Collector) string {
	t.Helper()
	reg := client.NewPedanticRegistry()
	if err := reg.Register(c); err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text, out strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(text.String()) {
		if !strings.HasPrefix(line, "#") {
			out.WriteString(line)
		}
	}
	return out.String()
}

func TestNodePage(t *testing.T) {
	now := noon
	n := prometheus.NewNode(func() time.Time { return now }, false)
	n.Observe(look())
	n.Event(collector.Event{Kind: "xid", Meter: "gpu0", Detail: "Xid 79 (hardware), GPU instance 3"})
	if got := values(t, n); got != strings.TrimPrefix(page, "\n") {
		t.Errorf("the page is\n%s\nwant\n%s", got, page)
	}
	later := look()
	later.Readings = later.Readings[1:2]
	now = noon.Add(50 * time.Second)
	later.Readings[0].At = now
	n.Observe(later)
	now = noon.Add(70 * time.Second)
	if got := values(t, n); strings.Contains(got, "gpu0\"}") && strings.Contains(got, "power") || !strings.Contains(got, "package0") {
		t.Errorf("a minute later without a reading of gpu0 the page is\n%s", got)
	}
}

func TestJobsOnlyWhereAsked(t *testing.T) {
	n := prometheus.NewNode(func() time.Time { return noon }, true)
	n.Observe(look())
	got := values(t, n)
	for _, want := range []string{
		`wattledger_gpu_job_share{gpu="gpu0",job="71001",project="EUHPC_A01"} 0.25`,
		`wattledger_gpu_job_share{gpu="node",job="71002",project="EUHPC_A02"} 1`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not on the page:\n%s", want, got)
		}
	}
	if strings.Contains(page, "EUHPC") {
		t.Error("the other page names projects")
	}
}
