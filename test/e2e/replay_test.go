//go:build e2e

package e2e_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/fleet"
)

// replayArgs replays the recording under a job table.
func replayArgs(dir, jobs, url string, more ...string) []string {
	return append([]string{
		"replay", "--power", filepath.Join(dir, "power.csv.gz"), "--jobs", filepath.Join(dir, jobs, "jobs.csv"),
		"--cluster", "h100", "--aggregator", url, "--quiet",
	}, more...)
}

const recordedMonth = "2024-05"

// meetsTruth compares every row of a truth file with the books.
func meetsTruth(t *testing.T, url, month, cluster string, truth []truthRow, tolerance energy.Millijoules) {
	t.Helper()
	r, _ := reportOf(t, url, month, cluster)
	r.closed(t)
	projects := map[string]energy.Millijoules{}
	for _, p := range r.Projects {
		projects[p.Project] = mj(t, p.Energy)
	}
	for _, row := range truth {
		var got energy.Millijoules
		switch row.kind {
		case "job":
			got = jobEnergy(t, url, cluster, row.id)
		case "project":
			got = projects[row.id]
		case "idle":
			got = mj(t, r.Uses["idle_mj"])
		case "total":
			got = mj(t, r.Totals.Booked)
		default:
			continue
		}
		if d := got - row.mj; d > tolerance || d < -tolerance {
			t.Errorf("%s %s: %s mJ booked, truth %s mJ", row.kind, row.id, got, row.mj)
		}
	}
}

func TestRecordingOfManyJobs(t *testing.T) {
	dir := recorded(t)
	a := startAggregator(t, t.TempDir())
	fleetRun(t, replayArgs(dir, "many-jobs", a.url())...)
	truth := readTruth(t, filepath.Join(dir, "many-jobs", "truth.csv"))
	if len(truth) != 59 {
		t.Fatalf("the truth has %d rows, want 52 jobs, 5 projects, idle and total", len(truth))
	}
	meetsTruth(t, a.url(), recordedMonth, "h100", truth, 1000)
	audited(t, a.url(), "h100")

	t.Run("again", func(t *testing.T) {
		_, before := reportOf(t, a.url(), recordedMonth, "h100")
		fleetRun(t, replayArgs(dir, "many-jobs", a.url())...)
		if _, after := reportOf(t, a.url(), recordedMonth, "h100"); after != before {
			t.Errorf("replaying again changed the report:\n%s\nwas\n%s", after, before)
		}
	})
}

func TestRecordingOfOneJob(t *testing.T) {
	dir := recorded(t)
	a := startAggregator(t, t.TempDir())
	fleetRun(t, replayArgs(dir, "one-job", a.url())...)
	meetsTruth(t, a.url(), recordedMonth, "h100", readTruth(t, filepath.Join(dir, "one-job", "truth.csv")), 1000)
	r, _ := reportOf(t, a.url(), recordedMonth, "h100")
	if r.Totals.KWh != "415.255" { // the publisher's own total is 415.22
		t.Errorf("%s kWh; want 415.255", r.Totals.KWh)
	}
	audited(t, a.url(), "h100")
	page, err := http.Get(a.url() + "/?cluster=h100")
	if err != nil {
		t.Fatal(err)
	}
	defer page.Body.Close()
	if b, err := io.ReadAll(page.Body); err != nil || !strings.Contains(string(b), "64 nodes have left the books") {
		t.Errorf("the page does not say that the recorded nodes have left: %v\n%s", err, tail(string(b), 800))
	}
}

// TestKillsDuringReplay kills the aggregator at ten random instants and the
// fleet at three, and wants the very bytes of an undisturbed replay.
func TestKillsDuringReplay(t *testing.T) {
	dir := recorded(t)
	calm := startAggregator(t, t.TempDir())
	fleetRun(t, replayArgs(dir, "many-jobs", calm.url())...)
	_, want := reportOf(t, calm.url(), recordedMonth, "h100")
	calm.stop(t)

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	a := startAggregator(t, t.TempDir())
	// slow enough that the kills fall into it: 57 minutes in about 12 s
	args := replayArgs(dir, "many-jobs", a.url(), "--speed", "300", "--spool", t.TempDir())
	f := start(t, nil, "wattledger-fleet", args...)
	for i := range 10 {
		time.Sleep(time.Duration(200+rng.IntN(800)) * time.Millisecond)
		a.kill()
		if i%3 == 2 && f.running() {
			f.kill()
			f = start(t, nil, "wattledger-fleet", args...)
		}
		a.restart(t)
	}
	eventually(t, "the fleet ends", func() bool { return !f.running() })
	if code := f.cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("wattledger-fleet: exit %d", code)
	}
	if _, got := reportOf(t, a.url(), recordedMonth, "h100"); got != want {
		t.Errorf("the report differs from an undisturbed one:\n%s\nwant\n%s", got, want)
	}
	audited(t, a.url(), "h100")
}

// TestCutConnections puts a proxy between fleet and aggregator that cuts every
// connection after a random number of bytes in either direction.
func TestCutConnections(t *testing.T) {
	dir := recorded(t)
	calm := startAggregator(t, t.TempDir())
	fleetRun(t, replayArgs(dir, "many-jobs", calm.url())...)
	_, want := reportOf(t, calm.url(), recordedMonth, "h100")
	calm.stop(t)

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	a := startAggregator(t, t.TempDir())
	cuts := &cutter{to: a.addr, rng: rand.New(rand.NewPCG(seed, 2))}
	url := cuts.listen(t)
	fleetRun(t, replayArgs(dir, "many-jobs", url)...)
	if cuts.cut < 20 {
		t.Errorf("only %d connections were cut; the test proves little", cuts.cut)
	}
	if _, got := reportOf(t, a.url(), recordedMonth, "h100"); got != want {
		t.Errorf("the report differs from an undisturbed one:\n%s\nwant\n%s", got, want)
	}
	audited(t, a.url(), "h100")
}

// cutter is the proxy.
type cutter struct {
	to  string
	mu  sync.Mutex
	rng *rand.Rand
	cut int
}

func (c *cutter) listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go c.one(in)
		}
	}()
	return "http://" + l.Addr().String()
}

// one lets a connection live for some bytes: most requests of a replay are tens
// of kilobytes, answers a few hundred bytes.
func (c *cutter) one(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer out.Close()
	c.mu.Lock()
	up, down := int64(c.rng.IntN(60_000)), int64(c.rng.IntN(1_500))
	if c.rng.IntN(4) == 0 {
		up, down = 1<<40, 1<<40 // some live
	} else {
		c.cut++
	}
	c.mu.Unlock()
	done := make(chan struct{}, 2)
	go func() { _, _ = io.CopyN(out, in, up); done <- struct{}{} }()
	go func() { _, _ = io.CopyN(in, out, down); done <- struct{}{} }()
	<-done
}

// TestSimulatedNodesMeetTheirTruth goes the whole way with counters: resets,
// wraps, shared GPUs, a parent that reads less than its children, over the end
// of daylight saving time.
func TestSimulatedNodesMeetTheirTruth(t *testing.T) {
	for _, seed := range []uint64{7, 8} {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			begin := time.Date(2026, 10, 24, 23, 30, 0, 0, time.UTC)
			sim, err := fleet.Simulate(fleet.SimOptions{Seed: seed, Nodes: 8, Start: begin, For: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			a := startAggregator(t, t.TempDir())
			truth := filepath.Join(t.TempDir(), "truth.csv")
			args := []string{
				"simulate", "--nodes", "8", "--for", "1h", "--seed", fmt.Sprint(seed), "--start", begin.Format(time.RFC3339),
				"--cluster", "sim", "--aggregator", a.url(), "--truth", truth, "--quiet",
			}
			fleetRun(t, args...)
			r, before := reportOf(t, a.url(), "2026-10", "sim")
			r.closed(t)
			booked := fleet.Booked{
				fleet.TruthKey("idle", ""):  mj(t, r.Uses["idle_mj"]),
				fleet.TruthKey("total", ""): mj(t, r.Totals.Booked),
			}
			for _, p := range r.Projects {
				booked[fleet.TruthKey("project", p.Project)] = mj(t, p.Energy)
			}
			for _, row := range readTruth(t, truth) {
				if row.kind == "job" {
					booked[fleet.TruthKey("job", row.id)] = jobEnergy(t, a.url(), "sim", row.id)
				}
			}
			if len(booked) < 50 {
				t.Fatalf("only %d rows to compare", len(booked))
			}
			for _, d := range fleet.CompareTruth(sim.Truth(), booked, false) {
				t.Error(d)
			}
			audited(t, a.url(), "sim")
			fleetRun(t, args...)
			if _, after := reportOf(t, a.url(), "2026-10", "sim"); after != before {
				t.Error("simulating again changed the report")
			}
			rome, code := cli(t, a.url(), "report", "--month", "2026-10", "--cluster", "sim", "--timezone", "Europe/Rome", "--format", "json")
			if code != 0 || !regexp.MustCompile(`"hours":\s*745\b`).MatchString(rome) {
				t.Errorf("October in Rome has not 745 hours: exit %d\n%s", code, tail(rome, 600))
			}
		})
	}
}

// TestTwoRecordingsOfOneName wants a second recording, or the same one at
// another time, refused: its time would be in the books twice.
func TestTwoRecordingsOfOneName(t *testing.T) {
	t.Parallel()
	dir := recorded(t)
	a := startAggregator(t, t.TempDir())
	fleetRun(t, replayArgs(dir, "many-jobs", a.url())...)
	_, before := reportOf(t, a.url(), recordedMonth, "h100")
	for _, args := range [][]string{replayArgs(dir, "one-job", a.url()), replayArgs(dir, "many-jobs", a.url(), "--shift", "last-month")} {
		p := start(t, nil, "wattledger-fleet", args...)
		eventually(t, "the second replay is refused", func() bool { return !p.running() })
		if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(p.out.String(), "replay it as another cluster") {
			t.Errorf("exit %d: %s", code, tail(p.out.String(), 500))
		}
	}
	if _, after := reportOf(t, a.url(), recordedMonth, "h100"); after != before {
		t.Error("a refused replay changed the report")
	}
	audited(t, a.url(), "h100")
}

// TestSimulationThatEndsNow books all of a simulation at full speed.
func TestSimulationThatEndsNow(t *testing.T) {
	t.Parallel()
	a := startAggregator(t, t.TempDir())
	fleetRun(t, "simulate", "--nodes", "2", "--for", "1h", "--cluster", "now", "--aggregator", a.url(), "--quiet")
	r, _ := reportOf(t, a.url(), time.Now().UTC().Format("2006-01"), "now")
	r.closed(t)
	audited(t, a.url(), "now")
}
