package accounting

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// start is when the tests begin.
var start = time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)

// books keep what a poller writes.
type books struct {
	marks     map[string]int64
	facts     []ledger.JobFacts
	projects  []ledger.ProjectFacts
	unmetered []ledger.JobFacts
	fails     error
}

func (b *books) Describe(_ context.Context, f []ledger.JobFacts) error {
	b.facts = append(b.facts, f...)
	return b.fails
}

func (b *books) PutProjects(_ context.Context, f []ledger.ProjectFacts) error {
	b.projects = f
	return b.fails
}

func (b *books) Unmetered(context.Context, string, int64, int64) ([]ledger.JobFacts, error) {
	return b.unmetered, b.fails
}

func (b *books) Mark(_ context.Context, name string, ms int64) error {
	if b.fails == nil {
		b.marks[name] = ms
	}
	return b.fails
}

func (b *books) LastMark(_ context.Context, name string) (int64, error) { return b.marks[name], nil }

// source answers with a job per span, or fails.
type source struct {
	mu    sync.Mutex
	spans []string
	fails error
	tree  error
	notes []string
}

func (s *source) Name() string { return "a source" }

func (s *source) Jobs(_ context.Context, from, to time.Time) (Answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return Answer{}, s.fails
	}
	s.spans = append(s.spans, fmt.Sprintf("%s..%s", from.Sub(start), to.Sub(start)))
	return Answer{Jobs: []ledger.JobFacts{{Job: window.Job{ID: "1"}}}, Notes: s.notes}, nil
}

func (s *source) Projects(context.Context) ([]ledger.ProjectFacts, error) {
	return []ledger.ProjectFacts{{Name: "physics", Parent: "root", Title: "from Slurm"}}, s.tree
}

// bench is a poller with everything that it touches.
type bench struct {
	*Poller
	at     time.Time
	books  *books
	source *source
	logs   *observer.ObservedLogs
	m      *Metrics
}

func newBench(t *testing.T, change func(*Options)) *bench {
	t.Helper()
	b := &bench{at: start, books: &books{marks: map[string]int64{}}, source: &source{}}
	b.again(t, change)
	return b
}

// again starts a new poller on the same books.
func (b *bench) again(t *testing.T, change func(*Options)) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	var err error
	if b.m, err = NewMetrics(prometheus.NewPedanticRegistry()); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Cluster: "c", Source: b.source, Ledger: b.books, Every: time.Minute, History: 9 * time.Hour,
		Now: func() time.Time { return b.at }, Metrics: b.m, Log: zap.New(core),
	}
	if change != nil {
		change(&o)
	}
	if b.Poller, err = New(o); err != nil {
		t.Fatal(err)
	}
	b.logs = logs
}

// spans gives what was asked since the last time.
func (b *bench) asked() string {
	s := strings.Join(b.source.spans, " ")
	b.source.spans = nil
	return s
}

func (b *bench) polls(result string) int {
	return int(testutil.ToFloat64(b.m.polls.WithLabelValues("c", result)))
}

// TestCatchingUp: each moment is read, over outages and restarts, in spans that
// are kept one by one.
func TestCatchingUp(t *testing.T) {
	b := newBench(t, nil)
	f := func(what string, forward time.Duration, want string) {
		t.Helper()
		b.at = b.at.Add(forward)
		b.Poll(t.Context())
		if got := b.asked(); got != want {
			t.Errorf("%s: asked %s; want %s", what, got, want)
		}
		if ms := b.books.marks["accounting/c"]; b.source.fails == nil && forward >= 0 && ms != b.at.UnixMilli() {
			t.Errorf("%s: the mark is at %s", what, time.UnixMilli(ms).Sub(start))
		}
	}
	f("the first time", 0, "-33h0m0s..-27h0m0s -27h0m0s..-21h0m0s -21h0m0s..-15h0m0s -15h0m0s..-9h0m0s -9h0m0s..-3h0m0s -3h0m0s..0s")
	f("the next", time.Minute, "-10m0s..1m0s")
	f("the time before, once more", 29*time.Minute, "-33h0m0s..-27h0m0s -27h0m0s..-21h0m0s -21h0m0s..-15h0m0s -15h0m0s..-9h0m0s -9h0m0s..-3h0m0s -3h0m0s..30m0s")
	f("then not", time.Minute, "20m0s..31m0s")
	b.source.fails = ErrUnreachable
	f("an outage", time.Minute, "")
	f("and on", 7*time.Hour, "")
	b.source.fails = nil
	f("over", time.Minute, "21m0s..6h21m0s 6h21m0s..7h33m0s")
	f("on", time.Minute, "7h23m0s..7h34m0s")
	f("what came late", 30*time.Minute, "21m0s..6h21m0s 6h21m0s..8h4m0s")
	f("on again", time.Minute, "7h54m0s..8h5m0s")
	f("the daily look back", 24*time.Hour, "7h54m0s..13h54m0s 13h54m0s..19h54m0s 19h54m0s..25h54m0s 25h54m0s..31h54m0s 31h54m0s..32h5m0s")
	b.at = b.at.Add(time.Hour)
	b.again(t, nil)
	f("a new process", 0, "8h5m0s..14h5m0s 14h5m0s..20h5m0s 20h5m0s..26h5m0s 26h5m0s..32h5m0s 32h5m0s..33h5m0s")
	f("a clock put back", -time.Hour, "31h55m0s..32h5m0s")
	if got := b.books.facts[0]; got.Cluster != "c" || got.SeenMS != start.UnixMilli() {
		t.Errorf("facts = %+v", got)
	}
}

// TestStopsHalfway: what was read before a failure is not read again.
func TestStopsHalfway(t *testing.T) {
	b := newBench(t, nil)
	b.books.fails = errors.New("disk full")
	b.Poll(t.Context())
	if b.polls(resultFailed) != 1 || len(b.books.marks) != 0 {
		t.Errorf("%d failed, marks %v; want a failure and no mark", b.polls(resultFailed), b.books.marks)
	}
	b.books.fails = nil
	b.asked()
	spans := 0
	b.o.Source = sourceFunc(func(from, to time.Time) (Answer, error) {
		if spans++; spans == 4 {
			return Answer{}, ErrUnreachable
		}
		return b.source.Jobs(t.Context(), from, to)
	})
	b.failing, b.deepAt = "", start.Add(time.Hour)
	b.o.History = 30 * time.Hour
	b.Poll(t.Context())
	if got, ms := b.asked(), b.books.marks["accounting/c"]; strings.Count(got, "..") != 3 || ms != start.Add(-12*time.Hour-10*time.Minute).UnixMilli() {
		t.Errorf("asked %s, mark %s", got, time.UnixMilli(ms).Sub(start))
	}
}

// sourceFunc is a source made of one function.
type sourceFunc func(from, to time.Time) (Answer, error)

func (f sourceFunc) Name() string { return "a function" }

func (f sourceFunc) Jobs(_ context.Context, from, to time.Time) (Answer, error) { return f(from, to) }

func (f sourceFunc) Projects(context.Context) ([]ledger.ProjectFacts, error) { return nil, nil }

// TestFailuresAreToldOnce: one line for a row of failures, one when it is over;
// a refusal is told from an outage; tries become rarer.
func TestFailuresAreToldOnce(t *testing.T) {
	b := newBench(t, nil)
	f := func(fails error, pauses ...time.Duration) {
		t.Helper()
		b.source.fails = fails
		for i, want := range pauses {
			if got := b.Poll(t.Context()); got != want {
				t.Errorf("pause %d after %v = %s; want %s", i, fails, got, want)
			}
			b.at = b.at.Add(time.Minute)
		}
	}
	m := time.Minute
	f(nil, m, m)
	f(fmt.Errorf("dial: %w", ErrUnreachable), m, 2*m, 4*m, 8*m, 10*m, 10*m)
	f(fmt.Errorf("HTTP 200: %w", ErrRefused), 10*m, 10*m)
	f(nil, m, m)
	f(errors.New("no JSON"), m)
	var got []string
	for _, e := range b.logs.All() {
		kind, _ := e.ContextMap()["kind"].(string)
		got = append(got, e.Level.String()+" "+kind)
	}
	if d := cmp.Diff([]string{"warn unreachable", "warn refused", "info ", "warn failed"}, got); d != "" {
		t.Errorf("log: %s", d)
	}
	if b.polls(resultOK) != 4 || b.polls(resultUnreachable) != 6 || b.polls(resultRefused) != 2 || b.polls(resultFailed) != 1 {
		t.Errorf("polls: %d ok, %d unreachable, %d refused, %d failed", b.polls(resultOK), b.polls(resultUnreachable), b.polls(resultRefused), b.polls(resultFailed))
	}
}

// TestNotes: what is not well though it was read is told once.
func TestNotes(t *testing.T) {
	b := newBench(t, nil)
	b.source.notes = []string{"3 jobs could not be understood"}
	b.Poll(t.Context())
	b.Poll(t.Context())
	b.source.notes = nil
	b.Poll(t.Context())
	if n := b.logs.Len(); n != 1 || b.polls(resultOK) != 3 {
		t.Errorf("%d lines, %d ok", n, b.polls(resultOK))
	}
}

// TestUnmetered: jobs that nothing was booked for are counted, and told once
// each.
func TestUnmetered(t *testing.T) {
	b := newBench(t, nil)
	hour := time.Hour.Milliseconds()
	job := func(id string, from, to int64, nodes ...string) ledger.JobFacts {
		return ledger.JobFacts{Job: window.Job{ID: id, StartMS: start.UnixMilli() + from, EndMS: start.UnixMilli() + to}, Nodes: nodes}
	}
	b.books.unmetered = []ledger.JobFacts{
		job("1", -2*hour, -hour, "a", "b"), job("2", -hour, -1000, "a"), // it ended just now: windows may be on their way
	}
	b.Poll(t.Context())
	b.Poll(t.Context())
	f := func(lines int, jobs, seconds float64) {
		t.Helper()
		if n := b.logs.Len(); n != lines {
			t.Errorf("%d lines; want %d: %v", n, lines, b.logs.All())
		}
		if got := testutil.ToFloat64(b.m.unmetered.WithLabelValues("c")); got != jobs {
			t.Errorf("%g jobs; want %g", got, jobs)
		}
		if got := testutil.ToFloat64(b.m.unmeteredNodeTime.WithLabelValues("c")); got != seconds {
			t.Errorf("%g s; want %g", got, seconds)
		}
	}
	f(1, 1, 7200)
	b.books.unmetered = append(b.books.unmetered, job("3", -2*hour, -hour, "a", "b", "c", "d", "e", "f", "g"))
	b.Poll(t.Context())
	f(2, 2, 7200+7*3600)
	if got := b.logs.All()[1].ContextMap()["its_nodes"]; got != "a b c d e and 2 more" {
		t.Errorf("nodes = %v", got)
	}
	b.books.unmetered = nil
	b.Poll(t.Context())
	f(2, 0, 0)
}

// TestAccountTree: what the list of projects says goes before what the source
// says; neither keeps the other, or jobs, from being read.
func TestAccountTree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "projects.csv")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("project,title\nphysics,Proteins\nextra,More\n")
	b := newBench(t, func(o *Options) { o.ProjectsFile = path })
	f := func(lines int, want ...string) {
		t.Helper()
		b.Poll(t.Context())
		var got []string
		for _, p := range b.books.projects {
			got = append(got, p.Cluster+" "+p.Name+" "+p.Parent+" "+p.Title)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if n := b.logs.Len(); n != lines {
			t.Errorf("%d lines; want %d: %v", n, lines, b.logs.All())
		}
		b.books.projects = nil
		b.at = b.at.Add(time.Hour)
	}
	f(0, "c physics root Proteins", "c extra  More")
	write("project,title\nphysics\nphysics,again\n")
	f(1, "c physics root from Slurm")
	f(1, "c physics root from Slurm")
	write("project,title\nphysics,Proteins\n")
	b.source.tree = errors.New("sacctmgr is away")
	f(2, "c physics root Proteins")
	f(2, "c physics root Proteins")
	if b.polls(resultOK) != 5 {
		t.Errorf("%d polls ok; want 5", b.polls(resultOK))
	}
	b.again(t, func(o *Options) { o.Source, o.ProjectsFile = nil, path })
	f(0, "c physics  Proteins")
}

// TestRun: it polls at its period and stops with its context.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.o.Now = time.Now
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx) }()
		time.Sleep(5*time.Minute + time.Second)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil || b.polls(resultOK) != 6 {
			t.Errorf("%d polls, %v; want 6", b.polls(resultOK), err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Options{Cluster: "c"}); err == nil {
		t.Error("a poller without a ledger was made")
	}
}

func TestMetricsAreSound(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m, err := NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	m.begin("c")
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	if _, err := NewMetrics(reg); err == nil {
		t.Error("the same metrics were registered twice")
	}
}
