package main

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/attribution"
	"github.com/wattledger/wattledger/internal/config"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/fleet/emulate"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/meter"
	"github.com/wattledger/wattledger/internal/window"
)

// TestDiesOfLUMI: on a node whose booked meters are pm_counters, a job that names
// dies owns its part of the modules: both dies the whole, one die half.
func TestDiesOfLUMI(t *testing.T) {
	e, err := emulate.Start(emulate.Options{Machine: "lumi", Root: filepath.Join(t.TempDir(), "node"), Seed: 5, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg := &config.Agent{Sysfs: filepath.Join(e.Root(), "sys"), Procfs: filepath.Join(e.Root(), "proc"), Cray: true, AMDGPU: true, RAPL: true, Hwmon: true}
	tree, locate := look(t, cfg)
	lots := func(refs ...string) []window.Share {
		t.Helper()
		sums := map[string]uint32{}
		for _, ref := range refs {
			p, ok := locate(ref)
			if !ok || tree.Find(p.Meter) < 0 {
				t.Fatalf("%s is at %+v, %t: no meter that is booked", ref, p, ok)
			}
			sums[p.Meter] += p.Weight
		}
		var out []window.Share
		for i := range 4 {
			if name := fmt.Sprintf("gpu%d", i); sums[name] > 0 {
				out = append(out, window.Share{Device: name, Weight: sums[name]})
			}
		}
		return out
	}
	f := func(what string, job1, job2 []window.Share, want map[string]energy.Millijoules) {
		t.Helper()
		if d := cmp.Diff(want, bill(tree, job1, job2)); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	f("dies 0 and 1", lots("index:0", "index:1"), nil, map[string]energy.Millijoules{"a busy": 1000, "- idle": 3000})
	f("die 0", lots("index:0"), nil, map[string]energy.Millijoules{"a busy": 500, "- idle": 3500})
	f("a die each of one module", lots("index:4"), lots("index:5"), map[string]energy.Millijoules{"a busy": 500, "b busy": 500, "- idle": 3000})
	f("dies 1 and 2, of two modules", lots("index:1", "index:2"), lots("pci:0000:c1:00.0"), map[string]energy.Millijoules{"a busy": 1000, "b busy": 500, "- idle": 2500})
	// card1 is die 0 and card2 is die 4: the order of render nodes is another
	f("render nodes 0 and 1", lots("minor:0", "minor:1"), lots("index:0", "index:4"), map[string]energy.Millijoules{"a busy": 1000, "b busy": 1000, "- idle": 2000})
	f("by device files", lots("minor:128", "minor:130"), nil, map[string]energy.Millijoules{"a busy": 1000, "- idle": 3000})
	f("all", lots("minor:0", "minor:1", "minor:2", "minor:3", "minor:4", "minor:5", "minor:6", "minor:7"), nil, map[string]energy.Millijoules{"a busy": 4000})
}

// look reads the sources once.
func look(t *testing.T, cfg *config.Agent) (*meter.Tree, func(string) (collector.Place, bool)) {
	t.Helper()
	sources, err := sourcesOf(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var scopes []collector.Scope
	for _, s := range sources {
		readings, _ := s.Read(t.Context()) // some of them find nothing here
		for _, r := range readings {
			scopes = append(scopes, r.Scope)
		}
	}
	tree, err := meter.New(scopes)
	if err != nil {
		t.Fatal(err)
	}
	return tree, func(ref string) (collector.Place, bool) {
		for _, s := range sources {
			if l, ok := s.(collector.Locator); ok {
				if p, ok := l.Locate(ref); ok {
					return p, true
				}
			}
		}
		return collector.Place{}, false
	}
}

// bill splits a second in which every module used a joule.
func bill(tree *meter.Tree, job1, job2 []window.Share) map[string]energy.Millijoules {
	in := attribution.Input{Tree: tree, Energy: make([]energy.Millijoules, len(tree.Nodes)), Pieces: make([][]attribution.Piece, len(tree.Nodes))}
	for i, n := range tree.Nodes {
		if n.Class == energy.GPU {
			in.Energy[i] = 1000
			in.Pieces[i] = []attribution.Piece{{ToMS: 1000, UJ: energy.Joule}}
		}
	}
	for i, gpus := range [][]window.Share{job1, job2} {
		if len(gpus) > 0 {
			in.Allocations = append(in.Allocations, job.Allocation{Spec: job.Spec{ID: string(rune('a' + i)), GPUs: gpus}})
		}
	}
	sums := map[string]energy.Millijoules{}
	for _, p := range attribution.Attribute(in).Postings {
		if p.Class != energy.GPU || p.Energy == 0 {
			continue
		}
		who := "-"
		if p.Job >= 0 {
			who = in.Allocations[p.Job].ID
		}
		sums[who+" "+p.Use.String()] += p.Energy
	}
	return sums
}
