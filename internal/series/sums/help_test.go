package sums_test

import (
	"context"
	"math"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/series/sums"
	"github.com/wattledger/wattledger/internal/window"
)

// begin is a full hour.
const begin = int64(1_790_002_800_000)

// books is a ledger that remembers the windows it was given.
type books struct {
	windows []booked
}

type booked struct {
	node ledger.Node
	w    *window.Window
}

func (b *books) book(n ledger.Node, w *window.Window) { b.windows = append(b.windows, booked{n, w}) }

func (b *books) Totals(context.Context) ([]ledger.ProjectTotal, error) {
	all := map[[2]string]*ledger.ProjectTotal{}
	for _, x := range b.windows {
		for _, p := range x.w.Postings {
			key := [2]string{x.node.Cluster, project(x.w, p)}
			if all[key] == nil {
				all[key] = &ledger.ProjectTotal{Cluster: key[0], Project: key[1]}
			}
			all[key].Amounts.Post(p)
		}
	}
	var out []ledger.ProjectTotal
	for _, t := range all {
		out = append(out, *t)
	}
	return out, nil
}

func project(w *window.Window, p window.Posting) string {
	if p.Job < 0 {
		return ""
	}
	return w.Jobs[p.Job].Project
}

func (b *books) Nodes(context.Context) ([]ledger.NodeStatus, error) {
	last := map[ledger.Node]int64{}
	for _, x := range b.windows {
		last[x.node] = max(last[x.node], x.w.EndMS)
	}
	var out []ledger.NodeStatus
	for n, ms := range last {
		out = append(out, ledger.NodeStatus{Node: n, LastMS: ms})
	}
	return out, nil
}

func (b *books) Books(_ context.Context, cluster string, fromMS, toMS, _ int64) (ledger.Books, error) {
	out := ledger.Books{Cluster: cluster}
	projects := map[string]*ledger.Amounts{}
	for _, x := range b.windows {
		if x.node.Cluster != cluster || x.w.StartMS < fromMS || x.w.StartMS >= toMS {
			continue
		}
		for _, p := range x.w.Postings {
			name := project(x.w, p)
			if name == "" {
				out.Nobody.Post(p)
				continue
			}
			if projects[name] == nil {
				projects[name] = &ledger.Amounts{}
			}
			projects[name].Post(p)
		}
	}
	for name, a := range projects {
		out.Projects = append(out.Projects, ledger.Project{Name: name, Amounts: *a})
	}
	return out, nil
}

// span is the energy booked to a project in [from, to), as a report has it.
func (b *books) span(t *testing.T, cluster, name string, from, to int64) (all, held int64) {
	t.Helper()
	out, err := b.Books(t.Context(), cluster, from, to, to)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range out.Projects {
		if p.Name == name {
			return int64(p.Amounts.Total()), int64(p.Amounts.Use(energy.Held))
		}
	}
	return 0, 0
}

// stored is a store of series: of one time the first value stays.
type stored map[sums.Key]map[int64]float64

func (s stored) put(samples []sums.Sample) {
	for _, x := range samples {
		if s[x.Key] == nil {
			s[x.Key] = map[int64]float64{}
		}
		if _, ok := s[x.Key][x.AtMS]; !ok {
			s[x.Key][x.AtMS] = x.Value
		}
	}
}

// at is the value as a query sees it: the newest of five minutes.
func (s stored) at(k sums.Key, ms int64) (float64, bool) {
	for t := ms; t > ms-300_000; t -= 1000 {
		if v, ok := s[k][t]; ok {
			return v, !math.IsNaN(v)
		}
	}
	return 0, false
}

// gpuNode is a window of a node with one GPU, which is its only meter.
func gpuNode(start, end int64, watts []int64, jobs []window.Job, posts ...window.Posting) *window.Window {
	w := &window.Window{
		Catalogue: &window.Catalogue{ID: 1, Meters: []window.Meter{{Name: "gpu0", Epoch: "e", Class: energy.GPU, Root: true, Leaf: true}}},
		StartMS:   start, EndMS: end, Jobs: jobs, Postings: posts,
	}
	var mj energy.Millijoules
	for _, p := range posts {
		mj += p.Energy
	}
	w.Ranges = []window.Range{{To: energy.Microjoules(mj) * 1000, FromMS: start, ToMS: end}}
	if watts != nil {
		s := window.Series{Name: "power_watts", StartMS: start, StepMS: 1000}
		for _, v := range watts {
			s.Milli = append(s.Milli, v*1000)
		}
		w.Telemetry = append(w.Telemetry, s)
	}
	return w
}
