package attribution_test

import (
	"testing"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/attribution"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/meter"
	"github.com/wattledger/wattledger/internal/window"
)

const whole = job.Whole

// bench is one window of ten seconds on a node.
type bench struct {
	t  *testing.T
	in attribution.Input
}

func newBench(t *testing.T, scopes ...collector.Scope) *bench {
	t.Helper()
	tree, err := meter.New(scopes)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, in: attribution.Input{
		Tree: tree, Energy: make([]energy.Millijoules, len(tree.Nodes)), Pieces: make([][]attribution.Piece, len(tree.Nodes)),
	}}
}

func gpu(name string) collector.Scope { return collector.Scope{Name: name, Class: energy.GPU} }

func (b *bench) job(id string, from, to int64, cpus uint32, gpus ...window.Share) *bench {
	b.in.Allocations = append(b.in.Allocations, job.Allocation{
		Spec: job.Spec{ID: id, GPUs: gpus, CPUs: cpus}, From: from, To: to,
	})
	return b
}

// burn adds a piece of the window [fromMS, toMS) to a meter.
func (b *bench) burn(name string, fromMS, toMS int64, uj energy.Microjoules, change ...func(*attribution.Piece)) *bench {
	b.t.Helper()
	i := b.in.Tree.Find(name)
	if i < 0 {
		b.t.Fatalf("no meter %s", name)
	}
	p := attribution.Piece{Hold: fromMS * 1e6, FromMS: fromMS, ToMS: toMS, UJ: uj}
	for _, c := range change {
		c(&p)
	}
	b.in.Pieces[i] = append(b.in.Pieces[i], p)
	sum := energy.Microjoules(0)
	for _, p := range b.in.Pieces[i] {
		sum += p.UJ
	}
	b.in.Energy[i] = sum.Millijoules()
	return b
}

func resting(p *attribution.Piece) { p.Activity = collector.Resting }
func working(p *attribution.Piece) { p.Activity = collector.Working }
func unsure(p *attribution.Piece)  { p.Unsure, p.Grade = true, energy.Bridged }
func sampled(p *attribution.Piece) { p.Grade = energy.Sampled }

// want compares the postings; keys are "job class use", "-" for nobody.
func (b *bench) want(what string, want map[string]energy.Millijoules) attribution.Output {
	b.t.Helper()
	out := attribution.Attribute(b.in)
	got := map[string]energy.Millijoules{}
	for _, p := range out.Postings {
		id := "-"
		if p.Job >= 0 {
			id = b.in.Allocations[p.Job].ID
		}
		got[id+" "+p.Class.String()+" "+p.Use.String()] += p.Energy
	}
	for k, mj := range want {
		if got[k] != mj {
			b.t.Errorf("%s: %s has %d mJ, want %d", what, k, got[k], mj)
		}
	}
	for k, mj := range got {
		if _, ok := want[k]; !ok {
			b.t.Errorf("%s: %s has %d mJ that nobody expects", what, k, mj)
		}
	}
	if err := check(b.in, out, 10_000); err != nil {
		b.t.Errorf("%s: %v", what, err)
	}
	return out
}

type mj = map[string]energy.Millijoules

// Lines of facts/peers-defects.md, "Attribution".
func TestPeersDefects(t *testing.T) {
	full := func(device string) window.Share { return window.Share{Device: device, Weight: whole} }
	part := func(device string, w uint32) window.Share { return window.Share{Device: device, Weight: w} }

	newBench(t, gpu("gpu0")).job("a", 0, 0, 0, full("gpu0")).burn("gpu0", 0, 10_000, 900e6, resting).
		want("CEEMS: GPU allocated but idle, 90 W", mj{"a gpu held": 900_000})
	newBench(t, collector.Scope{Name: "gpu0", Class: energy.GPU, Device: "NVIDIA L40S"}).job("a", 0, 0, 0, full("gpu0")).burn("gpu0", 0, 10_000, 3000e6, working).
		want("CEEMS: GPU model not in a built-in table", mj{"a gpu busy": 3_000_000})
	newBench(t, gpu("gpu0")).job("a", 0, 0, 0, part("gpu0", 500_000)).job("b", 0, 0, 0, part("gpu0", 500_000)).burn("gpu0", 0, 10_000, 3000e6).
		want("CEEMS: two shard jobs, half a GPU each", mj{"a gpu busy": 1_500_000, "b gpu busy": 1_500_000})
	newBench(t, gpu("gpu0")).job("a", 0, 0, 0, part("gpu0", 142_857)).burn("gpu0", 0, 10_000, 700e6).
		want("CEEMS: one 1g MIG job alone on the board", mj{"a gpu busy": 100_000, "- gpu idle": 600_000})
	slices := newBench(t, gpu("gpu0"))
	shares := mj{"- gpu idle": 3}
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		slices.job(id, 0, 0, 0, part("gpu0", 142_857))
		shares[id+" gpu busy"] = 428_571
	}
	slices.burn("gpu0", 0, 10_000, 3000e6).want("dcgm-exporter, jobstats: 7 MIG slices sum to the board", shares)
	node := newBench(t, collector.Scope{Name: "node", Class: energy.Node, Rest: energy.Other},
		collector.Scope{Name: "dram0", Class: energy.Memory, Parent: "node"})
	node.in.CPUs = 100
	node.job("cache", 0, 0, 95).burn("node", 0, 10_000, 2200e6).burn("dram0", 0, 10_000, 200e6).
		want("CEEMS: job with 400 GiB page cache", mj{"cache other busy": 1_900_000, "- other idle": 100_000, "cache memory busy": 190_000, "- memory idle": 10_000})
	newBench(t, collector.Scope{Name: "node", Class: energy.Node}).job("a", 0, 0, 0).burn("node", 0, 10_000, 1300e6).
		want("CEEMS: job holds a whole node idle, 130 W", mj{"a node busy": 1_300_000})
	requeued := newBench(t, gpu("gpu0")).job("a", 0, 4e9, 0, full("gpu0")).job("a", 4e9, 0, 0, full("gpu0"))
	requeued.in.Allocations[1].Restart = 1
	out := requeued.burn("gpu0", 0, 4000, 400e6).burn("gpu0", 4000, 10_000, 1200e6).
		want("CEEMS: requeued job", mj{"a gpu busy": 1_600_000})
	if len(out.Postings) != 2 || out.Postings[0].Energy != 400_000 || out.Postings[1].Energy != 1_200_000 {
		t.Errorf("the two runs of a requeued job are %+v; want 400 J and 1200 J apart", out.Postings)
	}
	// slurm-job-exporter, jobstats: held without a process. NotKnown counts as busy.
	newBench(t, gpu("gpu0")).job("a", 0, 0, 0, full("gpu0")).burn("gpu0", 0, 5000, 100e6, resting).burn("gpu0", 5000, 10_000, 300e6).
		want("held, then not known", mj{"a gpu held": 100_000, "a gpu busy": 300_000})
	// aitra-meter: an ended workload is not charged; opencost: idle is what is left.
	newBench(t, gpu("gpu0")).job("a", 0, 3e9, 0, full("gpu0")).burn("gpu0", 0, 3000, 300e6).burn("gpu0", 3000, 10_000, 210e6).
		want("ended workload", mj{"a gpu busy": 300_000, "- gpu idle": 210_000})
	// Kepler: one device's failure costs that device.
	newBench(t, collector.Scope{Name: "package0", Class: energy.CPU}, collector.Scope{Name: "package1", Class: energy.CPU}).
		job("a", 0, 0, 0).burn("package0", 0, 10_000, 500e6).
		burn("package1", 0, 10_000, 0, func(p *attribution.Piece) { p.Missing = true }).
		want("Kepler: one socket's read error", mj{"a cpu busy": 500_000})
}

func TestSharesThatExceedTheDevice(t *testing.T) {
	newBench(t, gpu("gpu0")).job("a", 0, 0, 0, window.Share{Device: "gpu0", Weight: whole}).
		job("b", 0, 0, 0, window.Share{Device: "gpu0", Weight: whole / 2}).burn("gpu0", 0, 10_000, 300e6).
		want("one and a half GPUs", mj{"a gpu busy": 200_000, "b gpu busy": 100_000})
}

func TestUnsureIsUnknownNotIdle(t *testing.T) {
	b := newBench(t, gpu("gpu0"), gpu("gpu1")).job("a", 0, 0, 0, window.Share{Device: "gpu1", Weight: whole})
	b.burn("gpu0", 0, 10_000, 300e6, unsure).burn("gpu1", 0, 10_000, 700e6, unsure).
		want("nobody knows", mj{"- gpu unknown": 300_000, "a gpu busy": 700_000})
}

// A range whose pieces carry no energy keeps its millijoules: unknown.
func TestEnergyWithoutPiecesIsNotLost(t *testing.T) {
	b := newBench(t, gpu("gpu0")).burn("gpu0", 0, 10_000, 0, func(p *attribution.Piece) { p.Missing = true })
	b.in.Energy[0] = 77
	b.want("no piece", mj{"- gpu unknown": 77})
}

func TestSharedClasses(t *testing.T) {
	scopes := []collector.Scope{
		{Name: "node", Class: energy.Node, Rest: energy.Other},
		{Name: "package0", Class: energy.CPU, Parent: "node"},
		{Name: "gpu0", Class: energy.GPU, Parent: "node"},
		{Name: "gpu1", Class: energy.GPU, Parent: "node"},
	}
	b := newBench(t, scopes...).job("a", 0, 0, 0, window.Share{Device: "gpu0", Weight: whole})
	b.burn("node", 0, 10_000, 5000e6).burn("package0", 0, 10_000, 1000e6).burn("gpu0", 0, 10_000, 2000e6).burn("gpu1", 0, 10_000, 600e6).
		want("no CPUs named: its part of the GPUs", mj{
			"a gpu busy": 2_000_000, "- gpu idle": 600_000, "a cpu busy": 500_000, "- cpu idle": 500_000, "a other busy": 700_000, "- other idle": 700_000,
		})
	b.in.Allocations[0].CPUs, b.in.CPUs = 12, 48
	b.want("by its CPUs", mj{
		"a gpu busy": 2_000_000, "- gpu idle": 600_000, "a cpu busy": 250_000, "- cpu idle": 750_000, "a other busy": 350_000, "- other idle": 1_050_000,
	})
	b.in.Allocations[0].Exclusive = true
	b.want("exclusive", mj{"a gpu busy": 2_600_000, "a cpu busy": 1_000_000, "a other busy": 1_400_000})
}

// The parent reads less than its children: books close, signed.
func TestSignedRemainder(t *testing.T) {
	out := newBench(t, collector.Scope{Name: "node", Class: energy.Node}, collector.Scope{Name: "gpu0", Class: energy.GPU, Parent: "node"}).
		job("a", 0, 0, 0).burn("node", 0, 10_000, 900e6, sampled).burn("gpu0", 0, 10_000, 1000e6, resting).
		want("parent below its child", mj{"a gpu held": 1_000_000, "a other busy": -100_000})
	for _, p := range out.Postings {
		if p.Class == energy.Other && p.Grade != energy.Sampled {
			t.Errorf("the remainder is graded %v; the worst of its inputs is sampled", p.Grade)
		}
	}
}

// The child burns while a holds the node, the parent is read in one piece
// earlier than the child's: the rest of each instant is its holder's.
func TestRemainderFollowsWhoHeld(t *testing.T) {
	b := newBench(t, collector.Scope{Name: "node", Class: energy.Node}, collector.Scope{Name: "gpu0", Class: energy.GPU, Parent: "node"})
	b.job("a", 0, 5e9, 0).job("b", 5e9, 0, 0)
	b.burn("node", 0, 5000, 1500e6).burn("node", 5000, 10_000, 200e6)
	b.burn("gpu0", 0, 5000, 1000e6).burn("gpu0", 5000, 10_000, 100e6).
		want("each his own rest", mj{"a gpu busy": 1_000_000, "b gpu busy": 100_000, "a other busy": 500_000, "b other busy": 100_000})

	// the child's reading is late: only one piece is known of it so far, held by a
	b = newBench(t, collector.Scope{Name: "node", Class: energy.Node}, collector.Scope{Name: "gpu0", Class: energy.GPU, Parent: "node"})
	b.job("a", 0, 5e9, 0).job("b", 5e9, 0, 0)
	b.burn("node", 0, 5000, 1500e6).burn("node", 5000, 10_000, 200e6).burn("gpu0", 0, 5000, 1000e6)
	b.burn("gpu0", 5000, 10_000, 0, func(p *attribution.Piece) { p.Missing = true }).
		want("child late", mj{"a gpu busy": 1_000_000, "a other busy": 500_000, "b other busy": 200_000})
}

// GH200: the module holds the package; what is left of it is the GPU's.
func TestModuleWithoutGPUMeter(t *testing.T) {
	scopes := []collector.Scope{
		{Name: "node", Class: energy.Node, Rest: energy.Other},
		{Name: "module0", Class: energy.GPU, Rest: energy.GPU, Parent: "node"},
		{Name: "package0", Class: energy.CPU, Parent: "module0"},
		{Name: "module1", Class: energy.GPU, Rest: energy.GPU, Parent: "node"},
		{Name: "package1", Class: energy.CPU, Parent: "module1"},
	}
	b := newBench(t, scopes...)
	b.job("a", 0, 0, 0, window.Share{Device: "gpu0", Weight: whole}).job("b", 0, 0, 0, window.Share{Device: "gpu1", Weight: whole})
	b.burn("node", 0, 10_000, 10_000e6)
	b.burn("module0", 0, 10_000, 7000e6).burn("package0", 0, 10_000, 1000e6).burn("module1", 0, 10_000, 2000e6).burn("package1", 0, 10_000, 1000e6)
	b.want("two modules, a GPU each", mj{
		"a gpu busy": 6_000_000, "b gpu busy": 1_000_000, "a cpu busy": 1_000_000, "b cpu busy": 1_000_000, "a other busy": 500_000, "b other busy": 500_000,
	})
	b.in.Allocations = b.in.Allocations[:1]
	b.want("one GPU of two", mj{
		"a gpu busy": 6_000_000, "- gpu idle": 1_000_000, "a cpu busy": 1_000_000, "- cpu idle": 1_000_000, "a other busy": 500_000, "- other idle": 500_000,
	})
}

// Shards: the board's rest by what was reserved, what lies above it by what
// each was measured to do. A process outside the jobs changes nobody's bill.
func TestMeasuredUse(t *testing.T) {
	half := func(device string) window.Share { return window.Share{Device: device, Weight: whole / 2} }
	quarter := func(device string) window.Share { return window.Share{Device: device, Weight: whole / 4} }
	measured := func(rest energy.Microjoules, uses ...attribution.Use) func(*attribution.Piece) {
		return func(p *attribution.Piece) { p.Rest, p.Uses = rest, uses }
	}
	two := func() *bench {
		return newBench(t, gpu("gpu0")).job("a", 0, 0, 0, half("gpu0")).job("b", 0, 0, 0, half("gpu0"))
	}
	two().burn("gpu0", 0, 10_000, 3000e6, measured(600e6, attribution.Use{Job: "a", Part: 900_000}, attribution.Use{Job: "b", Part: 100_000})).
		want("nine to one", mj{"a gpu busy": 300_000 + 2_160_000, "b gpu busy": 300_000 + 240_000})
	two().burn("gpu0", 0, 10_000, 3000e6, measured(600e6, attribution.Use{Job: "a", Part: 500_000}, attribution.Use{Job: "thief", Part: 500_000})).
		want("one of no job", mj{"a gpu busy": 300_000 + 2_400_000, "b gpu busy": 300_000})
	two().burn("gpu0", 0, 10_000, 3000e6, measured(600e6, attribution.Use{Job: "thief", Part: 500_000})).
		want("none of the holders", mj{"a gpu busy": 1_500_000, "b gpu busy": 1_500_000})
	two().burn("gpu0", 0, 10_000, 500e6, measured(600e6, attribution.Use{Job: "a", Part: 500_000})).
		want("below its rest", mj{"a gpu busy": 250_000, "b gpu busy": 250_000})
	newBench(t, gpu("gpu0")).job("a", 0, 0, 0, half("gpu0")).job("b", 0, 0, 0, quarter("gpu0")).
		burn("gpu0", 0, 10_000, 3000e6, measured(600e6, attribution.Use{Job: "b", Part: 1})).
		want("a free quarter", mj{"a gpu busy": 300_000, "b gpu busy": 150_000 + 2_400_000, "- gpu idle": 150_000})
}

func TestMemoryFollowsMemory(t *testing.T) {
	b := newBench(t, collector.Scope{Name: "dram0", Class: energy.Memory}, collector.Scope{Name: "package0", Class: energy.CPU})
	b.in.CPUs, b.in.MemoryBytes = 64, 512<<30
	b.job("a", 0, 0, 16).job("b", 0, 0, 16)
	b.in.Allocations[0].MemoryBytes = 384 << 30
	b.burn("dram0", 0, 10_000, 400e6).burn("package0", 0, 10_000, 1600e6).
		want("a said its memory, b did not", mj{
			"a memory busy": 300_000, "b memory busy": 100_000,
			"a cpu busy": 400_000, "b cpu busy": 400_000, "- cpu idle": 800_000,
		})
}

func TestUnplacedMakesTheRestUnknown(t *testing.T) {
	b := newBench(t, gpu("gpu0"), gpu("gpu1"), collector.Scope{Name: "package0", Class: energy.CPU})
	b.in.CPUs = 64
	b.job("a", 0, 5e9, 16).job("b", 0, 0, 16, window.Share{Device: "gpu1", Weight: whole})
	b.in.Allocations[0].Unplaced = []string{"minor:9"}
	b.burn("gpu0", 0, 5000, 100e6).burn("gpu0", 5000, 10_000, 100e6).burn("gpu1", 0, 10_000, 300e6).burn("package0", 0, 10_000, 400e6).
		want("a holds a GPU that nobody can name", mj{
			"- gpu unknown": 100_000, "- gpu idle": 100_000, "b gpu busy": 300_000, "a cpu busy": 100_000, "b cpu busy": 100_000, "- cpu idle": 200_000,
		})
}

// Ten pods have time slices of one GPU of four: together they hold a quarter.
func TestClaimsBeyondTheDeviceHoldNoMoreThanIt(t *testing.T) {
	b := newBench(t, gpu("gpu0"), gpu("gpu1"), gpu("gpu2"), gpu("gpu3"), collector.Scope{Name: "package0", Class: energy.CPU})
	want := mj{"other cpu busy": 250_000, "other gpu busy": 100_000, "- gpu idle": 200_000, "- cpu idle": 500_000}
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		b.job(id, 0, 0, 0, window.Share{Device: "gpu0", Weight: whole})
		want[id+" gpu busy"], want[id+" cpu busy"] = 10_000, 25_000
	}
	b.job("other", 0, 0, 0, window.Share{Device: "gpu1", Weight: whole})
	for _, g := range []string{"gpu0", "gpu1", "gpu2", "gpu3"} {
		b.burn(g, 0, 10_000, 100e6)
	}
	b.burn("package0", 0, 10_000, 1000e6).want("time slices", want)
}

func BenchmarkJobs500(b *testing.B) {
	scopes := []collector.Scope{
		{Name: "package0", Class: energy.CPU}, {Name: "package1", Class: energy.CPU}, {Name: "dram0", Class: energy.Memory}, {Name: "dram1", Class: energy.Memory},
	}
	for i := range 8 {
		scopes = append(scopes, gpu("gpu"+string(rune('0'+i))))
	}
	tree, err := meter.New(scopes)
	if err != nil {
		b.Fatal(err)
	}
	in := attribution.Input{Tree: tree, CPUs: 512, Energy: make([]energy.Millijoules, len(tree.Nodes)), Pieces: make([][]attribution.Piece, len(tree.Nodes))}
	for n := range 500 {
		a := job.Allocation{Spec: job.Spec{ID: "job" + string(rune('a'+n%26)) + string(rune('a'+n/26)), CPUs: 1}}
		if n%10 == 0 {
			a.GPUs = []window.Share{{Device: "gpu" + string(rune('0'+n/10%8)), Weight: whole / 7}}
		}
		in.Allocations = append(in.Allocations, a)
	}
	for i := range in.Pieces {
		for s := range int64(10) {
			in.Pieces[i] = append(in.Pieces[i], attribution.Piece{FromMS: s * 1000, ToMS: s*1000 + 1000, UJ: 300e6})
		}
		in.Energy[i] = 3_000_000
	}
	for b.Loop() {
		attribution.Attribute(in)
	}
}
