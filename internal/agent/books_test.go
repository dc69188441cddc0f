package agent_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/agent"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/fleet"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

// recording is the folder of the recording of real nodes; the test says so and
// is skipped where it is absent.
func recording(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("WATTLEDGER_RECORDING")
	if dir == "" {
		dir = "../../../shared/data/mlperf-gpt3-64x8h100"
	}
	if _, err := os.Stat(filepath.Join(dir, "power.csv.gz")); err != nil {
		t.Skipf("no recording at %s: set WATTLEDGER_RECORDING", dir)
	}
	return dir
}

// sums are what windows book, by kind and id as truth files name them.
type sums map[string]energy.Millijoules

func (s sums) window(t *testing.T, w *window.Window) {
	t.Helper()
	if err := window.Check(w); err != nil {
		t.Fatalf("window [%d, %d): %v", w.StartMS, w.EndMS, err)
	}
	for _, p := range w.Postings {
		s["total/"] += p.Energy
		s["use/"+p.Use.String()] += p.Energy
		if p.Job < 0 {
			continue
		}
		j := w.Jobs[p.Job]
		s["job/"+j.ID] += p.Energy
		s["project/"+j.Project] += p.Energy
	}
	s["idle/"] = s["use/idle"]
}

// run drives a pipeline with a feed and hands every window to take.
func run(t *testing.T, f fleet.Feed, opt agent.PipelineOptions, take func(*window.Window)) {
	t.Helper()
	p := agent.NewPipeline(opt, &job.Table{})
	each := func(ws []*window.Window) {
		for _, w := range ws {
			take(w)
		}
	}
	for {
		st, err := f.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range st.Ends {
			if _, err := p.End(id, st.At); err != nil {
				t.Error(err)
			}
		}
		for _, b := range st.Begins {
			if err := p.Begin(b, st.At); err != nil {
				t.Error(err)
			}
		}
		each(p.Observe(st.At, st.Readings))
	}
	each(p.Flush())
}

func replayOptions() agent.PipelineOptions {
	return agent.PipelineOptions{
		Window: 10 * time.Second, MaxGap: 30 * time.Second, Grace: 30 * time.Second, PowerEpoch: "test",
	}
}

// readTruth reads kind,id,joules with three decimals.
func readTruth(t *testing.T, name string) []fleet.TruthRow {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []fleet.TruthRow
	for _, l := range lines[1:] {
		mj, err := energy.ParseMillijoules(strings.Replace(l[2], ".", "", 1))
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, fleet.TruthRow{Kind: l[0], ID: l[1], Energy: mj})
	}
	return rows
}

func TestRealRecordingMeetsItsTruth(t *testing.T) {
	dir := recording(t)
	for _, jobs := range []string{"many-jobs", "one-job"} {
		r, err := fleet.OpenRecording(filepath.Join(dir, "power.csv.gz"), filepath.Join(dir, jobs, "jobs.csv"), fleet.RecordingOptions{Strict: true})
		if err != nil {
			t.Fatal(err)
		}
		got := sums{}
		for _, f := range r.Feeds() {
			run(t, f, replayOptions(), func(w *window.Window) { got.window(t, w) })
		}
		truth := readTruth(t, filepath.Join(dir, jobs, "truth.csv"))
		if len(truth) == 0 {
			t.Fatal("the truth file is empty")
		}
		for _, row := range truth {
			if d := got[row.Kind+"/"+row.ID] - row.Energy; d > 1000 || d < -1000 {
				t.Errorf("%s: %s %s is off by %d mJ of %d", jobs, row.Kind, row.ID, d, row.Energy)
			}
		}
	}
}

func TestSimulatedCountersMeetTheirTruth(t *testing.T) {
	for seed := uint64(1); seed <= 3; seed++ {
		s, err := fleet.Simulate(fleet.SimOptions{
			Seed: seed, Nodes: 8, Start: time.Unix(1_790_000_000, 0), For: 40 * time.Minute,
		})
		if err != nil {
			t.Fatal(err)
		}
		got := sums{}
		opt := replayOptions()
		opt.CPUs, opt.Grace = 32, 3*time.Second
		for _, f := range s.Feeds() {
			run(t, f, opt, func(w *window.Window) { got.window(t, w) })
		}
		booked := fleet.Booked{}
		for k, v := range got {
			kind, id, _ := strings.Cut(k, "/")
			if kind != "use" {
				booked[fleet.TruthKey(kind, id)] = v
			}
		}
		for _, d := range fleet.CompareTruth(s.Truth(), booked, false) {
			t.Errorf("seed %d: %v", seed, d)
		}
	}
}
