package sums_test

import (
	"math"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/series/metric"
	"github.com/wattledger/wattledger/internal/series/sums"
	"github.com/wattledger/wattledger/internal/window"
)

func named(name string) ledger.Node { return ledger.Node{Cluster: "c", Name: name} }

func projectKey(name, project string) sums.Key {
	return sums.Key{Metric: name, Cluster: "c", Project: project}
}

// busy is 10 s of a node at so many watts, for a job of a project.
func busy(start int64, project string, watts int64) *window.Window {
	return gpuNode(start, start+10_000, []int64{watts, watts, watts, watts, watts, watts, watts, watts, watts, watts},
		[]window.Job{{ID: "1", Project: project}}, window.Posting{Energy: energy.Millijoules(watts * 10_000)})
}

// machine is a set of sums whose samples are stored.
type machine struct {
	*sums.Sums
	stored stored
}

func newMachine(o sums.Options) *machine { return &machine{sums.New(o), stored{}} }

func (m *machine) advance(now int64) {
	for more := true; more; {
		var out []sums.Sample
		out, more = m.Advance(now, nil)
		m.stored.put(out)
	}
}

func (m *machine) want(t *testing.T, k sums.Key, at int64, want float64) {
	t.Helper()
	if got, ok := m.stored.at(k, begin+at*1000); !ok || math.Abs(got-want) > 1e-9 {
		t.Errorf("%s of %q at %d s = %v, %v; want %v", k.Metric, k.Project, at, got, ok, want)
	}
}

// TestALateNode is waited for, then is lost, and its energy comes with a later
// step.
func TestALateNode(t *testing.T) {
	m := newMachine(sums.Options{Wait: time.Minute})
	key := projectKey(metric.ProjectEnergy, "A")
	for i := range int64(3) {
		m.Fold(named("n0"), busy(begin+i*10_000, "A", 100), begin+i*10_000+11_000)
		m.Fold(named("n1"), busy(begin+i*10_000, "A", 50), begin+i*10_000+11_000)
	}
	for i := int64(3); i < 12; i++ { // n1 is silent
		now := begin + i*10_000 + 11_000
		m.Fold(named("n0"), busy(begin+i*10_000, "A", 100), now)
		m.advance(now)
		if at := m.Standings()[0].EmittedMS; i < 9 && at != begin+30_000 || i >= 10 && at != begin+i*10_000+10_000 {
			t.Errorf("window %d: emitted until %d s", i, (at-begin)/1000)
		}
	}
	m.want(t, key, 30, 30*150)
	m.want(t, key, 110, 30*150+80*100)
	m.want(t, projectKey(metric.ProjectPower, "A"), 40, 100)
	m.want(t, sums.Key{Metric: metric.ClusterPowerNodes, Cluster: "c"}, 30, 2)
	m.want(t, sums.Key{Metric: metric.ClusterPowerNodes, Cluster: "c"}, 40, 1)
	m.want(t, sums.Key{Metric: metric.ClusterRamp, Cluster: "c"}, 35, -5)
	now := begin + 131_000
	for i := int64(3); i < 13; i++ {
		m.Fold(named("n1"), busy(begin+i*10_000, "A", 50), now)
	}
	m.advance(now)
	m.want(t, key, 120, 30*150+90*100) // the past stays
	m.Fold(named("n0"), busy(begin+120_000, "A", 100), now)
	m.advance(now)
	m.want(t, key, 130, 130*150)
	if s := m.Stats(); s.LateWindows != 9 || s.LateEnergy != 9*500_000 || s.LateSeconds != 90 || s.LostNodes != 1 {
		t.Errorf("%+v", s)
	}
}

// TestNoNodeIsWaitedForThatSaidItLeaves, and none that is alone.
func TestALeavingNode(t *testing.T) {
	m := newMachine(sums.Options{})
	for i := range int64(4) {
		now := begin + i*10_000 + 11_000
		m.Fold(named("n0"), busy(begin+i*10_000, "A", 100), now)
		if i < 2 {
			w := busy(begin+i*10_000, "A", 50)
			w.Final = i == 1
			m.Fold(named("n1"), w, now)
		}
		m.advance(now)
		if at := m.Standings()[0].EmittedMS; i > 1 && at != begin+i*10_000+10_000 {
			t.Errorf("emitted until %d s", (at-begin)/1000)
		}
	}
}

// TestNothingOfTheFuture is emitted, and nobody's clock hurries a step.
func TestAClockThatIsAhead(t *testing.T) {
	m := newMachine(sums.Options{Wait: time.Minute})
	for i := range int64(10) {
		now := begin + i*10_000 + 11_000
		m.Fold(named("ahead"), busy(begin+240_000+i*10_000, "A", 1), now)
		m.Fold(named("n0"), busy(begin+i*10_000, "B", 100), now)
		m.advance(now)
		if at := m.Standings()[0].EmittedMS; i > 1 && at != begin+i*10_000+10_000 {
			t.Errorf("emitted until %d s of %d", (at-begin)/1000, i*10+11)
		}
	}
	if s := m.Stats(); s.LateWindows != 0 || s.LostNodes != 0 {
		t.Errorf("%+v", s)
	}
}

func TestPowerIsSharedAsPostingsAre(t *testing.T) {
	m := newMachine(sums.Options{Jobs: 10})
	w := gpuNode(begin, begin+10_000, []int64{100, 100, 100, 100, 100, 300, 300, 300, 300, 300},
		[]window.Job{{ID: "1", Project: "A"}, {ID: "2", Project: "B"}},
		window.Posting{Job: 0, Energy: 1_500_000}, window.Posting{Job: 1, Use: energy.Held, Energy: 500_000},
		window.Posting{Job: -1, Use: energy.Idle, Energy: 500_000})
	m.Fold(named("n0"), w, begin+11_000)
	m.advance(begin + 26_000)
	// 250 W were booked, 200 W read: 50 W of meters without seconds are spread.
	m.want(t, sums.Key{Metric: metric.ClusterPower, Cluster: "c"}, 3, 150)
	m.want(t, sums.Key{Metric: metric.ClusterPower, Cluster: "c"}, 7, 350)
	m.want(t, projectKey(metric.ProjectPower, "A"), 3, 150*0.6)
	m.want(t, projectKey(metric.ProjectPower, "A"), 7, 350*0.6)
	m.want(t, projectKey(metric.ProjectPower, "B"), 7, 350*0.2)
	m.want(t, projectKey(metric.ProjectHeldEnergy, "B"), 10, 500)
	m.want(t, projectKey(metric.ProjectHeldEnergy, "A"), 10, 0)
	m.want(t, sums.Key{Metric: metric.ClusterEnergy, Cluster: "c", Class: "gpu", Use: "idle"}, 10, 500)
	m.want(t, sums.Key{Metric: metric.JobPower, Cluster: "c", Job: "1", Project: "A"}, 10, 150)
	m.want(t, sums.Key{Metric: metric.JobEnergy, Cluster: "c", Job: "2", Project: "B"}, 10, 500)
	m.Fold(named("n0"), busy(begin+10_000, "B", 10), begin+26_000)
	m.advance(begin + 26_000)
	if v, ok := m.stored.at(projectKey(metric.ProjectPower, "A"), begin+20_000); ok {
		t.Errorf("A still has %v W after its job", v)
	}
	m.want(t, projectKey(metric.ProjectEnergy, "A"), 0, 0) // so that a difference to the hour's start exists
}

// TestMeansAreNotToldEachSecond: of windows that hold nothing but a mean, each
// step has one second; where a node tells its seconds, the step has all.
func TestMeansAreNotToldEachSecond(t *testing.T) {
	m := newMachine(sums.Options{})
	mean := func(start, end int64) *window.Window {
		w := busy(start, "A", 100)
		w.EndMS, w.Telemetry = end, nil
		w.Postings[0].Energy = energy.Millijoules(100 * (end - start))
		w.Ranges[0].To = energy.Microjoules(100_000 * (end - start))
		return w
	}
	m.Fold(named("n0"), mean(begin, begin+900_000), begin+901_000)
	m.Fold(named("n1"), busy(begin, "A", 50), begin+901_000)
	m.advance(begin + 2_000_000)
	all := sums.Key{Metric: metric.ClusterPower, Cluster: "c"}
	for _, k := range []sums.Key{all, projectKey(metric.ProjectPower, "A")} {
		if n := len(m.stored[k]); n != 10+89 {
			t.Errorf("%d samples of %s; want 10 of the first step and one of each other", n, k.Metric)
		}
		for at, want := range map[int64]float64{3: 150, 10: 150, 20: 100, 21: 100, 900: 100} {
			m.want(t, k, at, want)
		}
	}
	m.want(t, projectKey(metric.ProjectEnergy, "A"), 900, 900*100+500)
	m.want(t, sums.Key{Metric: metric.ClusterPowerNodes, Cluster: "c"}, 900, 1)
}

// TestNodePower: of nested meters with seconds the outermost counts; without
// any the mean stands for all; a node without meters has none.
func TestNodePower(t *testing.T) {
	f := func(what string, w *window.Window, detailed, ok bool, want ...float64) {
		t.Helper()
		got, d, o := sums.NodePower(w, nil)
		if d != detailed || o != ok || len(got) != len(want) {
			t.Fatalf("%s: %v %v %v; want %v %v %v", what, got, d, o, want, detailed, ok)
		}
		for i := range got {
			if math.Abs(got[i]-want[i]) > 1e-9 {
				t.Errorf("%s: %v; want %v", what, got, want)
			}
		}
	}
	w := busy(begin, "A", 100)
	w.EndMS = begin + 2_000
	w.Telemetry[0].Milli = []int64{90_000, 110_000}
	w.Ranges[0].To = 200_000_000
	f("counter", w, true, true, 90, 110)
	w.Catalogue.Meters = append(w.Catalogue.Meters, window.Meter{Name: "gpu0-die", Parent: "gpu0", Class: energy.GPU})
	inner := w.Telemetry[0]
	inner.Meter = 1
	w.Telemetry = append(w.Telemetry, inner)
	f("a meter and its part", w, true, true, 90, 110)
	w.Telemetry = nil
	f("no seconds", w, false, true, 100, 100)
	w.Ranges = nil
	f("nothing metered", w, false, false)
}

// TestLimits: projects and jobs beyond them are in the cluster's sums alone.
func TestLimits(t *testing.T) {
	m := newMachine(sums.Options{Projects: 2, Jobs: 1})
	for i, p := range []string{"A", "B", "C"} {
		w := busy(begin, p, 100)
		w.Jobs[0].ID = p
		m.Fold(named(p), w, begin+11_000+int64(i))
	}
	m.advance(begin + 30_000)
	m.want(t, sums.Key{Metric: metric.ClusterEnergy, Cluster: "c", Class: "gpu", Use: "busy"}, 10, 3000)
	if _, ok := m.stored.at(projectKey(metric.ProjectEnergy, "C"), begin+10_000); ok {
		t.Error("C has a series")
	}
	if s := m.Stats(); s.RefusedProjects != 1 || s.RefusedJobs != 2 {
		t.Errorf("%+v", s)
	}
}

// TestMovedEnergyStaysWhereItWasPosted: after a restart, too, while what was
// booked and not seen comes.
func TestMovedEnergyStaysWhereItWasPosted(t *testing.T) {
	var b books
	m := newMachine(sums.Options{})
	for i := range int64(300) { // most of an hour
		w := busy(begin+i*10_000, "(unassigned)", 100)
		b.book(named("n0"), w)
		m.Fold(named("n0"), w, begin+i*10_000+11_000)
		m.advance(begin + i*10_000 + 30_000)
	}
	m.advance(begin + 3_100_000)
	state, err := m.State()
	if err != nil {
		t.Fatal(err)
	}
	b.windows[2].w.Jobs[0].Project = "P" // assigned since; its slot is over
	unseen := busy(begin+3_000_000, "Q", 7)
	b.book(named("n0"), unseen)
	restart := func(state []byte) {
		t.Helper()
		if m.Sums, err = sums.Recover(t.Context(), &b, state, sums.Options{}, begin+3_200_000); err != nil {
			t.Fatal(err)
		}
		m.advance(begin + 3_300_000)
	}
	restart(state)
	m.want(t, projectKey(metric.ProjectEnergy, "(unassigned)"), 3010, 300_000)
	m.want(t, projectKey(metric.ProjectEnergy, "Q"), 3010, 70)
	if v, ok := m.stored.at(projectKey(metric.ProjectEnergy, "P"), begin+3_010_000); ok {
		t.Errorf("P got %v J that were posted to another project", v)
	}
	if m.Stats().RecoveredEnergy < 70_000 {
		t.Errorf("%+v", m.Stats())
	}
	if _, err := sums.Recover(t.Context(), &b, []byte(`{"version":9}`), sums.Options{}, 0); err == nil {
		t.Error("a state of another version is taken")
	}
}

// TestGaps: where nobody sent anything, the edges of slots have values; after
// days of nothing there is no catching up.
func TestGaps(t *testing.T) {
	m := newMachine(sums.Options{})
	m.Fold(named("n0"), busy(begin, "A", 100), begin+11_000)
	m.advance(begin + 30_000)
	m.Fold(named("n0"), busy(begin+7_200_000, "A", 100), begin+7_211_000)
	m.advance(begin + 7_230_000)
	key := projectKey(metric.ProjectEnergy, "A")
	for at := int64(900); at <= 7_200; at += 900 {
		m.want(t, key, at, 1000)
	}
	m.want(t, key, 7_210, 2000)
	if n := len(m.stored[key]); n > 20 {
		t.Errorf("%d samples for a gap of two hours", n)
	}
	year := int64(365 * 86_400)
	m.Fold(named("n0"), busy(begin+year*1000, "A", 100), begin+year*1000+11_000)
	m.advance(begin + year*1000 + 30_000)
	m.want(t, key, year+10, 3000)
	if n := len(m.stored[key]); n > 30 {
		t.Errorf("%d samples for a gap of a year", n)
	}
}

// TestManyStepsAreBounded: a node that keeps everybody waiting does not fill the
// memory.
func TestManyStepsAreBounded(t *testing.T) {
	m := newMachine(sums.Options{Wait: 1000 * time.Hour})
	m.Fold(named("stuck"), busy(begin, "A", 1), begin+11_000)
	now := begin + 12_000
	for i := range int64(9000) {
		now = begin + i*10_000 + 11_000
		m.Fold(named("n0"), busy(begin+i*10_000, "A", 100), now)
	}
	m.advance(now)
	if st := m.Standings()[0]; st.Steps > 8641 || m.Stats().ForcedSteps == 0 {
		t.Errorf("%+v", st)
	}
}
