//go:build e2e

package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector/simulated"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/failpoint"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/wire"
)

// node is a live agent on simulated counters that go on whatever happens to it.
type node struct {
	*process
	dir    string
	config string
	source *simulated.Source // the truth
	url    string
}

const (
	liveCluster = "live"
	liveNode    = "n1"
	liveWindow  = 2 * time.Second
)

// newNode writes a configuration: two GPUs, a package that wraps half a minute
// into the test, a dram; windows of 2 s.
func newNode(t *testing.T, url string) *node {
	t.Helper()
	n := &node{dir: t.TempDir(), url: url}
	if err := os.Chmod(n.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// package0 draws some 170 W of its 262 kJ: a start 25 minutes ago wraps soon
	began := time.Now().Add(-25 * time.Minute).Truncate(time.Second)
	s, err := simulated.New(simulated.Options{Seed: 5, GPUs: 2, Start: began, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	n.source = s
	n.config = filepath.Join(n.dir, "agent.yaml")
	text := fmt.Sprintf(`cluster: %s
node: %s
aggregator: {url: %s}
state_dir: %s
socket: %s
socket_group: ""
listen: ""
window: %s
node_cpus: 65536 # one CPU is next to nothing: job 1 is its GPU
sources:
  host: {enabled: false}
  simulated: {enabled: true, seed: 5, gpus: 2, start: %s}
log: {level: info}
`, liveCluster, liveNode, url, n.state(), n.socket(), liveWindow, began.UTC().Format(time.RFC3339))
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) state() string  { return filepath.Join(n.dir, "state") }
func (n *node) socket() string { return filepath.Join(n.dir, "agent.sock") }

// up starts the agent; it may end at once where a failpoint is set.
func (n *node) up(t *testing.T, env ...string) {
	t.Helper()
	if err := os.MkdirAll(n.state(), 0o700); err != nil {
		t.Fatal(err)
	}
	n.process = start(t, env, "wattledger-agent", "--config", n.config)
}

// job tells the agent a begin or an end until it takes it: a workload manager
// whose hook failed tries again.
func (n *node) job(t *testing.T, args ...string) {
	t.Helper()
	eventually(t, "the agent takes job "+strings.Join(args, " "), func() bool {
		out, err := exec.CommandContext(t.Context(), bin(t, "wattledger-agent"),
			append([]string{"job", args[0], "--socket", n.socket()}, args[1:]...)...).CombinedOutput()
		if err == nil || strings.Contains(string(out), "already running") || strings.Contains(string(out), "no such job") {
			return true
		}
		if !n.running() {
			n.up(t)
		}
		return false
	})
}

// ends asks the ledger where the books of the node stand. It opens the node's
// books, so it fences the agent: for the end of a test.
func ends(t *testing.T, url string) []ledger.End {
	t.Helper()
	body, err := wire.EncodeOpenRequest(ledger.OpenRequest{
		Node: ledger.Node{Cluster: liveCluster, Name: liveNode}, Nonce: "the-test", Session: "the-test", NowMS: time.Now().UnixMilli(),
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.Post(url+wire.PathOpen, "application/x-protobuf", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("open: %s: %s %v", r.Status, b, err)
	}
	o, _, err := wire.DecodeOpening(b)
	if err != nil {
		t.Fatal(err)
	}
	return o.Ends
}

// span is how far a meter is booked: from the first odometer's begin to the
// newest end, Unix ms.
type span struct{ from, to int64 }

func spans(t *testing.T, list []ledger.End) map[string]span {
	t.Helper()
	out := map[string]span{}
	for _, e := range list {
		_, at, _ := strings.Cut(e.Epoch, "@")
		ms, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			t.Fatalf("epoch %q of %s: %v", e.Epoch, e.Meter, err)
		}
		s, seen := out[e.Meter]
		if !seen || ms < s.from {
			s.from = ms
		}
		s.to = max(s.to, e.AtMS)
		out[e.Meter] = s
	}
	return out
}

// drawn is the truth of a meter between two stamps.
func (n *node) drawn(meter string, fromMS, toMS int64) energy.Millijoules {
	return energy.Span(n.source.Counter(meter, time.UnixMilli(fromMS)), n.source.Counter(meter, time.UnixMilli(toMS)))
}

// closes holds the whole of the books against the counters: every joule that
// they counted from the first reading to the last is booked, once.
func (n *node) closes(t *testing.T) report {
	t.Helper()
	month := time.Now().UTC().Format("2006-01")
	r, _ := reportOf(t, n.url, month, liveCluster)
	r.closed(t)
	audited(t, n.url, liveCluster)
	list := ends(t, n.url)
	var want energy.Millijoules
	for meter, s := range spans(t, list) {
		want += n.drawn(meter, s.from, s.to)
	}
	// each odometer rounds down to a millijoule at its ends
	if d := mj(t, r.Totals.Booked) - want; d > energy.Millijoules(len(list)) || d < -energy.Millijoules(len(list)) {
		t.Errorf("booked %s mJ, the counters drew %s mJ: off by %d", r.Totals.Booked, want, d)
	}
	if want < 1_000_000 {
		t.Errorf("the counters drew only %s mJ: the test proves little", want)
	}
	return r
}

// settle stops the agent once everything is delivered.
func (n *node) settle(t *testing.T) {
	t.Helper()
	eventually(t, "the agent stops with an empty spool", func() bool {
		if !n.running() {
			n.up(t)
			time.Sleep(2 * liveWindow)
		}
		return n.stop(t) == 0 && !strings.Contains(tail(n.out.String(), 2000), "stopping with windows in the spool")
	})
}

// jobIsRight holds job 1 on gpu0 against the counter, within one window.
func (n *node) jobIsRight(t *testing.T, begun, ended time.Time) {
	t.Helper()
	got := jobEnergy(t, n.url, liveCluster, "1")
	want := n.drawn("gpu0", begun.UnixMilli(), ended.UnixMilli())
	if d := got - want; d > 700_000*energy.Millijoules(liveWindow/time.Second) || d < -700_000*energy.Millijoules(liveWindow/time.Second) {
		t.Errorf("job 1: %s mJ booked, %s mJ drawn: off by more than a window", got, want)
	}
	if got == 0 {
		t.Error("nothing was booked to job 1")
	}
}

// TestAgentFailpoints kills the agent at every named point of its pipeline, with
// its state kept and with its state deleted.
func TestAgentFailpoints(t *testing.T) {
	for _, name := range failpoint.AgentNames() {
		if slices.Contains([]string{failpoint.SpoolBeforeRename, failpoint.SpoolAfterRename}, name) {
			continue // compaction: TestCompactionFailpoints
		}
		for _, kept := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s state kept %v", name, kept), func(t *testing.T) {
				t.Parallel()
				a := startAggregator(t, t.TempDir())
				n := newNode(t, a.url())
				n.up(t)
				n.job(t, "begin", "--id", "1", "--project", "P", "--user", "u", "--gpus", "0", "--cpus", "0")
				begun := time.Now()
				time.Sleep(liveWindow * 3 / 2)
				n.stop(t)
				n.up(t, failpoint.Env+"="+name+":3")
				if strings.Contains(name, "state") { // written at once for a job edge, for a window seldom
					for i := range 3 {
						for _, op := range []string{"begin", "end"} {
							eventually(t, "a job edge is taken", func() bool {
								args := []string{"job", op, "--socket", n.socket(), "--id", fmt.Sprint(100 + i), "--gpus", "1", "--cpus", "1"}
								return exec.Command(bin(t, "wattledger-agent"), args...).Run() == nil || !n.running()
							})
						}
					}
				}
				eventually(t, "the failpoint "+name, func() bool { return !n.running() })
				if n.cmd.ProcessState.ExitCode() >= 0 {
					t.Fatalf("the agent ended by itself: %s", n.out)
				}
				if !kept {
					if err := os.RemoveAll(n.state()); err != nil {
						t.Fatal(err)
					}
				}
				n.up(t)
				time.Sleep(liveWindow * 3 / 2)
				n.job(t, "end", "--id", "1")
				ended := time.Now()
				time.Sleep(liveWindow)
				n.settle(t)
				r := n.closes(t)
				if kept {
					if r.Uses["unknown_mj"] != "0" {
						t.Errorf("unknown %s mJ with the state kept", r.Uses["unknown_mj"])
					}
					n.jobIsRight(t, begun, ended)
				}
			})
		}
	}
}

// TestCompactionFailpoints kills the agent while it merges old windows of an
// outage: the aggregator is down, the spool is small.
func TestCompactionFailpoints(t *testing.T) {
	for _, name := range []string{failpoint.SpoolBeforeRename, failpoint.SpoolAfterRename} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startAggregator(t, t.TempDir())
			n := newNode(t, a.url())
			text, err := os.ReadFile(n.config)
			if err != nil {
				t.Fatal(err)
			}
			text = bytes.Replace(text, []byte("window: 2s"), []byte("window: 1s\nspool: {max_bytes: 8KiB}"), 1)
			if err := os.WriteFile(n.config, text, 0o600); err != nil {
				t.Fatal(err)
			}
			n.up(t)
			n.job(t, "begin", "--id", "1", "--project", "P", "--user", "u", "--gpus", "0", "--cpus", "0")
			begun := time.Now()
			time.Sleep(liveWindow)
			n.stop(t)
			a.kill()
			n.up(t, failpoint.Env+"="+name)
			eventually(t, "the failpoint "+name, func() bool { return !n.running() })
			if n.cmd.ProcessState.ExitCode() >= 0 {
				t.Fatalf("the agent ended by itself: %s", n.out)
			}
			n.up(t)
			time.Sleep(liveWindow)
			a.restart(t)
			time.Sleep(liveWindow)
			n.job(t, "end", "--id", "1")
			ended := time.Now()
			n.settle(t)
			r := n.closes(t)
			if r.Uses["unknown_mj"] != "0" {
				t.Errorf("unknown %s mJ with the state kept", r.Uses["unknown_mj"])
			}
			n.jobIsRight(t, begun, ended)
		})
	}
}

// TestAggregatorFailpoints kills the aggregator at every named point.
func TestAggregatorFailpoints(t *testing.T) {
	for _, name := range failpoint.AggregatorNames() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startAggregator(t, t.TempDir(), failpoint.Env+"="+name+":2")
			n := newNode(t, a.url())
			n.up(t)
			n.job(t, "begin", "--id", "1", "--project", "P", "--user", "u", "--gpus", "0", "--cpus", "0")
			begun := time.Now()
			eventually(t, "the failpoint "+name, func() bool { return !a.running() })
			time.Sleep(liveWindow)
			a.restart(t)
			time.Sleep(liveWindow)
			n.job(t, "end", "--id", "1")
			ended := time.Now()
			n.settle(t)
			r := n.closes(t)
			if r.Uses["unknown_mj"] != "0" {
				t.Errorf("unknown %s mJ", r.Uses["unknown_mj"])
			}
			n.jobIsRight(t, begun, ended)
		})
	}
}

// TestClonedState runs two agents on copies of one state folder under one name.
func TestClonedState(t *testing.T) {
	t.Parallel()
	a := startAggregator(t, t.TempDir())
	n := newNode(t, a.url())
	n.up(t)
	time.Sleep(2 * liveWindow)
	n.stop(t)
	clone := *n
	clone.dir = t.TempDir()
	copyTree(t, n.state(), clone.state())
	text, err := os.ReadFile(n.config)
	if err != nil {
		t.Fatal(err)
	}
	clone.config = filepath.Join(clone.dir, "agent.yaml")
	if err := os.WriteFile(clone.config, bytes.ReplaceAll(text, []byte(n.dir), []byte(clone.dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	n.up(t)
	time.Sleep(2 * liveWindow)
	clone.up(t)
	eventually(t, "the first agent is fenced", func() bool { return !n.running() })
	if code := n.cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("the fenced agent ended with %d; want 3", code)
	}
	n.up(t)
	eventually(t, "the fenced agent does not go on", func() bool { return !n.running() })
	if code := n.cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(n.out.String(), "taken over") {
		t.Errorf("a fenced agent started again: exit %d: %s", code, n.out)
	}
	time.Sleep(liveWindow)
	clone.settle(t)
	clone.closes(t)
}

// TestStateRolledBack puts an old copy of the state folder back, as a restored
// disk does.
func TestStateRolledBack(t *testing.T) {
	t.Parallel()
	a := startAggregator(t, t.TempDir())
	n := newNode(t, a.url())
	n.up(t)
	n.job(t, "begin", "--id", "1", "--project", "P", "--user", "u", "--gpus", "0", "--cpus", "0")
	begun := time.Now()
	time.Sleep(2 * liveWindow)
	n.stop(t)
	old := filepath.Join(t.TempDir(), "old")
	copyTree(t, n.state(), old)
	n.up(t)
	time.Sleep(3 * liveWindow)
	n.kill()
	if err := os.RemoveAll(n.state()); err != nil {
		t.Fatal(err)
	}
	copyTree(t, old, n.state())
	n.up(t)
	time.Sleep(2 * liveWindow)
	n.job(t, "end", "--id", "1")
	ended := time.Now()
	n.settle(t)
	n.closes(t)
	n.jobIsRight(t, begun, ended)
}

// TestLedgerRestored puts yesterday's books back: what they lost is bridged from
// the counters, nothing is booked twice, nothing is blocked.
func TestLedgerRestored(t *testing.T) {
	t.Parallel()
	a := startAggregator(t, t.TempDir())
	n := newNode(t, a.url())
	n.up(t)
	n.job(t, "begin", "--id", "1", "--project", "P", "--user", "u", "--gpus", "0", "--cpus", "0")
	begun := time.Now()
	time.Sleep(2 * liveWindow)
	a.stop(t)
	old := filepath.Join(t.TempDir(), "old")
	copyTree(t, a.dir, old)
	a.restart(t)
	time.Sleep(3 * liveWindow)
	a.stop(t)
	if err := os.RemoveAll(a.dir); err != nil {
		t.Fatal(err)
	}
	copyTree(t, old, a.dir)
	a.restart(t)
	time.Sleep(2 * liveWindow)
	n.job(t, "end", "--id", "1")
	ended := time.Now()
	n.settle(t)
	r := n.closes(t)
	if r.Grades["bridged_mj"] == "0" {
		t.Error("nothing is said to be bridged")
	}
	n.jobIsRight(t, begun, ended)
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestRollbackRevivesNoJob puts back a state in which a job runs that has ended
// in the books since: it is charged for its own time and no more.
func TestRollbackRevivesNoJob(t *testing.T) {
	t.Parallel()
	a := startAggregator(t, t.TempDir())
	n := newNode(t, a.url())
	n.up(t)
	n.job(t, "begin", "--id", "1", "--project", "P", "--user", "u", "--gpus", "0", "--cpus", "0")
	begun := time.Now()
	time.Sleep(2 * liveWindow)
	n.stop(t)
	old := filepath.Join(t.TempDir(), "old")
	copyTree(t, n.state(), old)
	n.up(t)
	time.Sleep(2 * liveWindow)
	n.job(t, "end", "--id", "1")
	ended := time.Now()
	time.Sleep(4 * liveWindow)
	n.kill()
	if err := os.RemoveAll(n.state()); err != nil {
		t.Fatal(err)
	}
	copyTree(t, old, n.state())
	n.up(t)
	time.Sleep(4 * liveWindow)
	n.settle(t)
	n.closes(t)
	n.jobIsRight(t, begun, ended)
	if events := eventsOf(t, n.url, liveCluster); !strings.Contains(events, "ended_before_rollback ") {
		t.Errorf("nothing says that the state was rolled back:\n%s", events)
	}
}
