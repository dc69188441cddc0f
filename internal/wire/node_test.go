package wire_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/series/metric"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

const (
	goldenHash      = 0x48969b735ff518c7
	goldenCatalogue = 0x2cfecd38d8a1ab27
)

// node is a window of a node of 4 GPUs, 2 packages with memory and a node
// meter, with two jobs, 1 s power of 5 meters and 12 gauges.
func node() *window.Window {
	c := &window.Catalogue{Policy: "allocation/v1"}
	meter := func(name, parent string, class energy.Class, modulus energy.Microjoules, leaf bool) {
		c.Meters = append(c.Meters, window.Meter{
			Name: name, Epoch: "boot-1f6c2a9e-7d5b-4c1e-9d0a-3f2b1c0d9e8f", Parent: parent, Class: class,
			Root: parent == "", Leaf: leaf, Modulus: modulus,
		})
	}
	meter("node", "", energy.Other, 0, false)
	for i := range 4 {
		meter(fmt.Sprintf("gpu%d", i), "node", energy.GPU, 0, true)
	}
	for i := range 2 {
		meter(fmt.Sprintf("package%d", i), "node", energy.CPU, 262_143_328_850, true)
		meter(fmt.Sprintf("dram%d", i), "node", energy.Memory, 65_712_999_613, true)
	}
	c.ID = wire.CatalogueID(c)
	r := rand.New(rand.NewPCG(7, 7))
	w := &window.Window{Catalogue: c, StartMS: 1_790_000_000_000, EndMS: 1_790_000_010_000}
	watts := []uint64{2400, 400, 410, 390, 395, 180, 22, 175, 21}
	for i, m := range c.Meters {
		from := energy.Microjoules(9_000_000_000_000 + r.Uint64N(1e12))
		to := from + energy.Microjoules(watts[i]*10_000_000+r.Uint64N(1e6))
		x := window.Range{
			Meter: i, From: from, To: to, Raw: to,
			FromMS: w.StartMS + r.Int64N(20), ToMS: w.EndMS + r.Int64N(20),
		}
		if m.Modulus > 0 {
			x.Raw = to % m.Modulus
		}
		w.Ranges = append(w.Ranges, x)
	}
	jobsOf(w)
	telemetryOf(w, r, watts)
	return w
}

func jobsOf(w *window.Window) {
	for i := range 2 {
		w.Jobs = append(w.Jobs, window.Job{
			ID: fmt.Sprint(7100123 + i), SubmitMS: 1_789_990_000_000, Project: "EUHPC_A01_001", User: "u00123", StartMS: 1_789_995_000_000,
		})
		for _, p := range []window.Posting{
			{Class: energy.GPU, Energy: 8_000_123, DeviceMS: 20_000},
			{Class: energy.CPU, Energy: 1_750_345, DeviceMS: 10_000},
			{Class: energy.Memory, Energy: 215_123, DeviceMS: 10_000},
			{Class: energy.Other, Energy: 2_035_123},
		} {
			p.Job = i
			w.Postings = append(w.Postings, p)
		}
		w.Holdings = append(w.Holdings, window.Holding{Job: i, Devices: []window.Share{
			{Device: fmt.Sprintf("gpu%d", 2*i), Weight: 1_000_000},
			{Device: fmt.Sprintf("gpu%d", 2*i+1), Weight: 1_000_000},
			{Device: "cpu", Weight: 500_000},
			{Device: "memory", Weight: 500_000},
			{Device: "other", Weight: 500_000},
		}})
	}
}

func telemetryOf(w *window.Window, r *rand.Rand, watts []uint64) {
	for i := range 5 {
		s := window.Series{Meter: i, Name: "power_watts", StartMS: w.StartMS, StepMS: 1000}
		for range 10 {
			s.Milli = append(s.Milli, int64(watts[i])*1000+r.Int64N(20_000)-10_000)
		}
		w.Telemetry = append(w.Telemetry, s)
	}
	gauge := func(meter int, name string, mean, spread int64) {
		w.Telemetry = append(w.Telemetry, window.Series{
			Meter: meter, Name: name, StartMS: w.StartMS, StepMS: 10_000,
			Milli: []int64{mean}, Max: mean + r.Int64N(spread), Last: mean - r.Int64N(spread),
		})
	}
	for i := range 4 {
		gauge(1+i, "utilization_ratio", 873, 100)
		gauge(1+i, "temperature_celsius", 61_400, 3000)
	}
	gauge(-1, "cpu_utilization_ratio", 412, 200)
	gauge(-1, "memory_used_bytes", 213_123_123_200_000, 1_000_000_000)
	gauge(-1, "load1", 31_250, 2000)
	gauge(-1, "load5", 30_250, 2000)
}

// TestSize: 6 MB of body per node and day are 694 bytes per window of 10 s.
func TestSize(t *testing.T) {
	size := func(change func(w *window.Window)) int {
		w := node()
		change(w)
		return len(body(t, nil, w))
	}
	coarse := func(w *window.Window) {
		for i := range 5 {
			for k, v := range w.Telemetry[i].Milli {
				w.Telemetry[i].Milli[k] = v / 100 * 100
			}
		}
	}
	oneJob := func(w *window.Window) {
		w.Jobs, w.Holdings, w.Postings = w.Jobs[:1], w.Holdings[:1], w.Postings[:4]
	}
	h, _ := wire.AppendHead(nil, head())
	w := node()
	t.Logf("head %d, catalogue (sent once) %d, two jobs: energy %d, telemetry off", len(h),
		len(body(t, []*window.Catalogue{w.Catalogue}, w))-len(body(t, nil, w)), size(func(w *window.Window) { w.Telemetry = nil })-len(h))
	one := size(oneJob)
	t.Logf("request of one window: one job %d, one job and power to 0.1 W %d, two jobs %d, two jobs and power to 0.1 W %d bytes",
		one, size(func(w *window.Window) { oneJob(w); coarse(w) }), size(func(*window.Window) {}), size(coarse))
	if one > 690 {
		t.Errorf("a window of 4 GPUs takes %d bytes; want <= 690", one)
	}
	if two := size(coarse); two > 690 {
		t.Errorf("a window of 4 GPUs with two jobs and power to 0.1 W takes %d bytes; want <= 690", two)
	}
}

func BenchmarkEncode(b *testing.B) {
	w := node()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.EncodeFragment(nil, []*window.Window{w}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	w := node()
	raw := body(b, nil, w)
	known := func(uint64) *window.Catalogue { return w.Catalogue }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.DecodeBatch(raw, known); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	w := node()
	b.ReportAllocs()
	for b.Loop() {
		wire.Hash(w)
	}
}

// TestNamesOfAgentsAreNumbers: what is stored as a series travels as a number;
// as text its names would be most of a window.
func TestNamesOfAgentsAreNumbers(t *testing.T) {
	for _, s := range metric.Sources() {
		if wire.SeriesNumber(s.Wire) == 0 {
			t.Errorf("%s travels as text; append it to names.go", s.Wire)
		}
	}
}
