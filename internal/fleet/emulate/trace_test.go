package emulate

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

func TestEnergyIsTheSumOfThePower(t *testing.T) {
	for _, name := range Machines() {
		m, err := machineOf(name)
		if err != nil {
			t.Fatal(err)
		}
		start := time.UnixMilli(1_790_000_000_000)
		tr := newTrace(m, 7, start)
		rng := rand.New(rand.NewPCG(1, 2))
		for range 200 {
			i := rng.IntN(len(tr.names))
			from := start.Add(time.Duration(rng.IntN(1_500_000)) * time.Millisecond)
			to := from.Add(time.Duration(rng.IntN(3000)) * time.Millisecond)
			var want energy.Microjoules // a millisecond at a time
			for at := from; at.Before(to); at = at.Add(time.Millisecond) {
				q := at.Sub(tr.start) / quantum % quanta
				want += (tr.sum[i][q+1] - tr.sum[i][q]) / 100
			}
			if got := tr.energy(i, to) - tr.energy(i, from); got != want {
				t.Fatalf("%s %s from %s to %s: %d uJ; want %d", name, tr.names[i], from, to, got, want)
			}
		}
		if got := tr.energy(0, tr.start); got != 0 {
			t.Errorf("%d uJ at the start", got)
		}
	}
}

func TestTraceSurvivesItsFile(t *testing.T) {
	m, err := machineOf("jupiter")
	if err != nil {
		t.Fatal(err)
	}
	a := newTrace(m, 7, time.UnixMilli(1_790_000_000_000))
	path := filepath.Join(t.TempDir(), traceFile)
	if err := a.write(path); err != nil {
		t.Fatal(err)
	}
	b, err := readTrace(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range a.names {
		at := a.start.Add(1234567 * time.Millisecond)
		if b.names[i] != name || a.energy(i, at) != b.energy(i, at) || a.offset[i] != b.offset[i] {
			t.Errorf("%s came back as %s with %d uJ for %d", name, b.names[i], b.energy(i, at), a.energy(i, at))
		}
	}
}

// TestPartsAndWholes: parents draw more than their children, gpus stay below
// their limit, another seed is another trace.
func TestPartsAndWholes(t *testing.T) {
	for _, name := range Machines() {
		m, err := machineOf(name)
		if err != nil {
			t.Fatal(err)
		}
		tr, other := newTrace(m, 7, time.UnixMilli(0)), newTrace(m, 8, time.UnixMilli(0))
		for _, parent := range m.meters {
			i := tr.index[parent.Name]
			for q := range quanta {
				var parts energy.Microjoules
				for _, k := range m.meters {
					if k.Parent == parent.Name {
						parts += tr.sum[tr.index[k.Name]][q+1] - tr.sum[tr.index[k.Name]][q]
					}
				}
				whole := tr.sum[i][q+1] - tr.sum[i][q]
				if whole == 0 || whole < parts {
					t.Fatalf("%s %s draws %d uJ in quantum %d, its parts %d", name, parent.Name, whole, q, parts)
				}
				if limit := profileOf(m.profile).limit; strings.HasPrefix(parent.Name, "gpu") && whole > energy.Microjoules(limit)*102_000 {
					t.Fatalf("%s %s draws %d uJ in quantum %d, its limit is %d W", name, parent.Name, whole, q, limit)
				}
			}
			if tr.sum[i][quanta] == other.sum[other.index[parent.Name]][quanta] {
				t.Errorf("%s %s: two seeds, one energy", name, parent.Name)
			}
		}
	}
}

// TestSlopesCanBeIntegrated: one look a second at a power meter that has no
// counter tells its energy over 20 s within 0.4 %.
func TestSlopesCanBeIntegrated(t *testing.T) {
	m, err := machineOf("jupiter")
	if err != nil {
		t.Fatal(err)
	}
	tr := newTrace(m, 7, time.UnixMilli(0))
	for _, name := range []string{"grace0", "cpu3", "sysio1"} {
		i := tr.index[name]
		for first := time.Duration(0); first < 560*time.Second; first += 7100 * time.Millisecond {
			from := tr.start.Add(time.Second + first)
			var sum float64 // joules, along the line
			for s := range 20 {
				a, b := from.Add(time.Duration(s)*time.Second), from.Add(time.Duration(s+1)*time.Second)
				sum += float64(tr.mean(i, a, quantum)+tr.mean(i, b, quantum)) / 2000
			}
			want := float64(tr.energy(i, from.Add(20*time.Second))-tr.energy(i, from)) / 1e6
			if off := sum/want - 1; off > 0.004 || off < -0.004 {
				t.Errorf("%s from %s: %.1f J by samples, %.1f J in truth: %.2f %% off", name, first, sum, want, 100*off)
			}
		}
	}
}

func TestTruthOfASpan(t *testing.T) {
	now := time.UnixMilli(1_790_000_000_050)
	e, err := prepare(Options{Machine: "lumi", Root: t.TempDir(), Seed: 7, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer e.tree.close()
	from, to := e.Started().Add(1234*time.Millisecond), e.Started().Add(700*time.Second)
	n, err := OpenNode(e.Root())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range e.Meters() {
		a, err := e.Truth(m.Name, from, to)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := n.Energy(m.Name, from, to); err != nil || a != b || a == 0 {
			t.Errorf("%s: %d uJ of the running node, %d (%v) of the one in the folder", m.Name, a, b, err)
		}
	}
	var out strings.Builder
	if err := n.Write(&out, from, to); err != nil {
		t.Fatal(err)
	}
	a, _ := n.Energy("node", from, to)
	rows := strings.Split(strings.TrimSpace(out.String()), "\n")
	if rows[0] != "kind,id,joules" || rows[1] != "meter,node,"+joules(a) || rows[len(rows)-1] != "total,,"+joules(a) {
		t.Errorf("the rows of the truth are\n%s", out.String())
	}
	for _, f := range []func() (energy.Microjoules, error){
		func() (energy.Microjoules, error) { return n.Energy("gpu4", from, to) },
		func() (energy.Microjoules, error) { return n.Energy("node", to, from) },
		func() (energy.Microjoules, error) { return n.Energy("node", e.Started().Add(-time.Second), to) },
	} {
		if _, err := f(); err == nil {
			t.Error("a question without an answer was answered")
		}
	}
}
