//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

// programs are built once, with failpoints in them; without the environment
// variable a failpoint does nothing.
type programs struct {
	once sync.Once
	dir  string
	err  error
}

var built programs

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// bin gives the path of one of our programs.
func bin(t testing.TB, name string) string {
	t.Helper()
	built.once.Do(func() {
		built.dir, built.err = os.MkdirTemp("", "wattledger-e2e-") //nolint:usetesting // it outlives the test that builds
		if built.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-tags", "failpoint", "-o", built.dir+"/", "./cmd/...")
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("cannot build the programs: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, name)
}

// recorded is the folder of the recording of real nodes; a test that wants it
// says so where it is not there.
func recorded(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("WATTLEDGER_RECORDING")
	if dir == "" {
		dir = "../../../shared/data/mlperf-gpt3-64x8h100"
	}
	if _, err := os.Stat(filepath.Join(dir, "power.csv.gz")); err != nil {
		t.Skipf("no recording at %s: set WATTLEDGER_RECORDING to its folder", dir)
	}
	return dir
}

// process is a program of ours that runs.
type process struct {
	cmd  *exec.Cmd
	out  *output
	gone chan struct{}
	err  error
}

// output keeps what a program says.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start runs a program until the test ends or stops it.
func start(t testing.TB, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(bin(t, name), args...), out: &output{}, gone: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.gone)
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.gone
		if t.Failed() {
			t.Logf("%s said:\n%s", name, tail(p.out.String(), 4000))
		}
	})
	return p
}

func tail(s string, n int) string {
	if len(s) > n {
		return "... " + s[len(s)-n:]
	}
	return s
}

func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.gone:
	default:
		_ = p.cmd.Process.Signal(s)
	}
}

// kill ends the program at once.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.gone
}

// stop asks the program to end and gives its exit code.
func (p *process) stop(t testing.TB) int {
	t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.gone:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s did not stop within 30 s:\n%s", p.cmd.Path, tail(p.out.String(), 4000))
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) running() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// eventually waits until a condition holds; what says what was waited for.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for this and it did not come: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// aggregator is a running wattledger-aggregator; it can be killed and started
// again on the same books and port.
type aggregator struct {
	*process
	dir, addr string
	config    string // file, "" for none
}

func startAggregator(t testing.TB, dir string, env ...string) *aggregator {
	t.Helper()
	return startConfigured(t, dir, "", env...)
}

// startConfigured starts one with the settings of a text.
func startConfigured(t testing.TB, dir, settings string, env ...string) *aggregator {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &aggregator{dir: dir, addr: l.Addr().String()}
	l.Close()
	if settings != "" {
		a.config = filepath.Join(t.TempDir(), "aggregator.yaml")
		if err := os.WriteFile(a.config, []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a.restart(t, env...)
	return a
}

func (a *aggregator) restart(t testing.TB, env ...string) {
	t.Helper()
	args := []string{"--data-dir", a.dir, "--listen", a.addr}
	if a.config != "" {
		args = append(args, "--config", a.config)
	}
	a.process = start(t, env, "wattledger-aggregator", args...)
	eventually(t, "the aggregator answers", func() bool {
		if !a.running() {
			if len(env) > 0 { // a failpoint may have fired already
				return true
			}
			t.Fatalf("the aggregator ended: %s", a.out)
		}
		r, err := http.Get(a.url() + "/readyz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

func (a *aggregator) url() string { return "http://" + a.addr }

// cli runs a command of wattledger and gives its output and exit code.
func cli(t testing.TB, url string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin(t, "wattledger"), args...)
	cmd.Env = append(os.Environ(), "WATTLEDGER_URL="+url)
	out, err := cmd.Output()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if e, failed := errors.AsType[*exec.ExitError](err); failed && len(out) == 0 {
		out = e.Stderr
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// report is what tests need of wattledger.report/v1.
type report struct {
	Totals struct {
		Metered    string `json:"metered_mj"`
		Booked     string `json:"booked_mj"`
		Unbooked   string `json:"unbooked_mj"`
		Difference string `json:"difference_mj"`
		KWh        string `json:"kwh"`
	} `json:"totals"`
	Uses     map[string]string `json:"uses"`
	Grades   map[string]any    `json:"grades"`
	Projects []struct {
		Project string `json:"project"`
		Energy  string `json:"energy_mj"`
	} `json:"projects"`
}

// reportOf asks for a month's report; raw is its bytes.
func reportOf(t testing.TB, url, month, cluster string) (r report, raw string) {
	t.Helper()
	raw, code := cli(t, url, "report", "--month", month, "--cluster", cluster, "--format", "json")
	if code != 0 {
		t.Fatalf("wattledger report: exit %d: %s", code, raw)
	}
	if err := json.Unmarshal([]byte(raw), &r); err != nil {
		t.Fatal(err)
	}
	return r, raw
}

func mj(t testing.TB, s string) energy.Millijoules {
	t.Helper()
	m, err := energy.ParseMillijoules(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// closed fails the test unless the books of a report close without a rest.
func (r report) closed(t testing.TB) {
	t.Helper()
	if r.Totals.Difference != "0" || r.Totals.Unbooked != "0" || r.Totals.Metered != r.Totals.Booked {
		t.Errorf("the books do not close: %+v", r.Totals)
	}
}

// audited fails the test unless the audit is content.
func audited(t testing.TB, url, cluster string) {
	t.Helper()
	if out, code := cli(t, url, "audit", "--cluster", cluster); code != 0 {
		t.Errorf("wattledger audit: exit %d\n%s", code, out)
	}
}

// truthRow is a line of a truth file.
type truthRow struct {
	kind, id string
	mj       energy.Millijoules
}

func readTruth(t testing.TB, name string) []truthRow {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil || len(lines) < 2 {
		t.Fatalf("%s: %d lines, %v", name, len(lines), err)
	}
	var rows []truthRow
	for _, l := range lines[1:] {
		rows = append(rows, truthRow{kind: l[0], id: l[1], mj: mj(t, strings.Replace(l[2], ".", "", 1))})
	}
	return rows
}

// jobEnergy asks for one job.
func jobEnergy(t testing.TB, url, cluster, id string) energy.Millijoules {
	t.Helper()
	out, code := cli(t, url, "job", id, "--cluster", cluster, "--format", "json")
	if code != 0 {
		t.Fatalf("wattledger job %s: exit %d: %s", id, code, out)
	}
	var j struct {
		Energy string `json:"energy_mj"`
		Runs   []struct {
			Energy string `json:"energy_mj"`
		} `json:"runs"`
	}
	if err := json.Unmarshal([]byte(out), &j); err != nil {
		t.Fatal(err)
	}
	sum := mj(t, j.Energy)
	for _, r := range j.Runs {
		sum += mj(t, r.Energy)
	}
	return sum
}

// fleetRun replays or simulates to the end.
func fleetRun(t testing.TB, args ...string) {
	t.Helper()
	p := start(t, nil, "wattledger-fleet", args...)
	select {
	case <-p.gone:
	case <-time.After(5 * time.Minute):
		t.Fatal("wattledger-fleet did not end within five minutes")
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("wattledger-fleet: exit %d: %s", code, p.out)
	}
}
