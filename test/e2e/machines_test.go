//go:build e2e

package e2e_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// machine is an emulated node with the real agent on it.
type machine struct {
	name, root string
	agent      *process
	url        string
}

// emulated starts the emulator and the agent.
func emulated(t *testing.T, name, url, scenario string) *machine {
	t.Helper()
	m := &machine{name: name, root: t.TempDir(), url: url}
	args := []string{"emulate", "--machine", name, "--root", m.root, "--seed", "11"}
	if scenario != "" {
		file := filepath.Join(t.TempDir(), "scenario.txt")
		if err := os.WriteFile(file, []byte(scenario), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--scenario", file)
	}
	start(t, nil, "wattledger-fleet", args...)
	eventually(t, "the emulated node is ready", func() bool {
		_, err := os.Stat(m.config())
		return err == nil
	})
	m.agent = start(t, nil, "wattledger-agent", "--config", m.config(), "--aggregator", url)
	eventually(t, "the agent listens", func() bool {
		_, err := os.Stat(filepath.Join(m.root, "agent.sock"))
		return err == nil
	})
	return m
}

func (m *machine) config() string { return filepath.Join(m.root, "agent.yaml") }

// edge tells a begin or an end and gives its time, as near as a caller knows.
func (m *machine) edge(t *testing.T, args ...string) time.Time {
	t.Helper()
	before := time.Now()
	args = append([]string{"job", args[0], "--socket", filepath.Join(m.root, "agent.sock")}, args[1:]...)
	out, err := exec.CommandContext(t.Context(), bin(t, "wattledger-agent"), args...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "late") {
		t.Logf("%s: job %v: %v: %s", m.name, args, err, out)
	}
	return before.Add(time.Since(before) / 2)
}

// drew asks the emulator what its meters drew in a span, in joules.
func (m *machine) drew(t *testing.T, from, to time.Time) map[string]float64 {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), bin(t, "wattledger-fleet"), "truth", "--root", m.root,
		"--from", strconv.FormatInt(from.UnixMilli(), 10), "--to", strconv.FormatInt(to.UnixMilli(), 10)).Output()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(string(out))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	joules := map[string]float64{}
	for _, r := range rows[1:] {
		if r[0] != "meter" {
			continue
		}
		v, err := strconv.ParseFloat(r[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		joules[r[1]] = v
	}
	return joules
}

// classes sums meters as the agent books them.
func (m *machine) classes(drawn map[string]float64, gpus ...string) map[string]float64 {
	sum := map[string]float64{}
	for name, j := range drawn {
		switch {
		case strings.HasPrefix(name, "gpu") && (len(gpus) == 0 || slices.Contains(gpus, name)):
			sum["gpu"] += j
		case strings.HasPrefix(name, "package") && m.name != "jupiter", strings.HasPrefix(name, "grace"):
			sum["cpu"] += j
		case strings.HasPrefix(name, "dram"):
			sum["memory"] += j
		}
	}
	switch m.name {
	case "lumi":
		sum["other"] = drawn["node"]
	case "jupiter":
		for name, j := range drawn {
			if strings.HasPrefix(name, "module") {
				sum["other"] += j
			}
		}
	default:
		return sum
	}
	all := m.classesOf(drawn)
	sum["other"] -= all
	return sum
}

// classesOf sums what lies inside the parents.
func (m *machine) classesOf(drawn map[string]float64) float64 {
	var sum float64
	for name, j := range drawn {
		if strings.HasPrefix(name, "gpu") || strings.HasPrefix(name, "grace") ||
			(m.name == "lumi" && (strings.HasPrefix(name, "package") || strings.HasPrefix(name, "dram"))) {
			sum += j
		}
	}
	return sum
}

// energies reads a JSON object of "<name>_mj": "..." as joules.
func energies(t *testing.T, raw map[string]string) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for k, v := range raw {
		out[strings.TrimSuffix(k, "_mj")] = float64(mj(t, v)) / 1000
	}
	return out
}

// jobClasses asks for one job's energy by class, in joules.
func (m *machine) jobClasses(t *testing.T, id string) map[string]float64 {
	t.Helper()
	out, code := cli(t, m.url, "job", id, "--cluster", m.name, "--format", "json")
	if code != 0 {
		t.Fatalf("wattledger job %s: exit %d: %s", id, code, out)
	}
	var j struct {
		Classes map[string]string `json:"classes"`
	}
	if err := json.Unmarshal([]byte(out), &j); err != nil {
		t.Fatal(err)
	}
	return energies(t, j.Classes)
}

// near compares joules: the share of integrated meters, and what the edges of
// counters may cost.
func near(t *testing.T, what string, got, want, share, edges float64) {
	t.Helper()
	if d := math.Abs(got - want); d > share*math.Abs(want)+edges {
		t.Errorf("%s: %.1f J booked, %.1f J drawn: off by %.1f, at most %.1f", what, got, want, d, share*math.Abs(want)+edges)
	}
}

// TestMachines runs the real agent on a node of each machine for a minute, with
// three jobs: one on two GPUs, one of 2 s, and one back to back with the first.
func TestMachines(t *testing.T) {
	for _, name := range []string{"leonardo", "lumi", "jupiter", "dgx-h100"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startAggregator(t, t.TempDir())
			m := emulated(t, name, a.url(), "")
			time.Sleep(5 * time.Second)
			half := strconv.Itoa(m.cpus(t)/2 - 1)
			b1 := m.edge(t, "begin", "--id", "1", "--project", "P", "--user", "u", "--gpus", "0,1", "--cpus", "0-"+half)
			time.Sleep(9 * time.Second)
			b2 := m.edge(t, "begin", "--id", "2", "--project", "Q", "--user", "u", "--gpus", "2", "--cpus", "0-"+strconv.Itoa(m.cpus(t)/4-1))
			time.Sleep(2 * time.Second)
			e2 := m.edge(t, "end", "--id", "2")
			time.Sleep(9 * time.Second)
			e1 := m.edge(t, "end", "--id", "1")
			b3 := m.edge(t, "begin", "--id", "3", "--project", "Q", "--user", "u", "--gpus", "0,1", "--cpus", "0-"+half)
			time.Sleep(20 * time.Second)
			e3 := m.edge(t, "end", "--id", "3")
			time.Sleep(15 * time.Second)
			if code := m.agent.stop(t); code != 0 {
				t.Errorf("the agent ended with %d", code)
			}
			month := time.Now().UTC().Format("2006-01")
			r, _ := reportOf(t, m.url, month, name)
			r.closed(t)
			audited(t, m.url, name)
			// a kW for 100 ms at each edge of each meter, and the hook's own few ms;
			// a coarse counter's whole joules
			const edge = 160
			pair := []string{"gpu0", "gpu1"}
			m.jobMeets(t, "1", b1, e1, pair, 0.5, edge)
			m.jobMeets(t, "2", b2, e2, []string{"gpu2"}, 0.25, edge)
			m.jobMeets(t, "3", b3, e3, pair, 0.5, edge)
		})
	}
}

// cpus is how many the emulated node says it has.
func (m *machine) cpus(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(m.config())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "node_cpus: "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(v))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no node_cpus in the configuration")
	return 0
}

// jobMeets holds a job's classes against what its share of the node drew.
func (m *machine) jobMeets(t *testing.T, id string, from, to time.Time, gpus []string, cpuShare, edge float64) {
	t.Helper()
	got := m.jobClasses(t, id)
	want := m.classes(m.drew(t, from, to), gpus...)
	if want["gpu"] < 50 {
		t.Errorf("job %s: only %.1f J on its GPUs: the test proves little", id, want["gpu"])
	}
	near(t, fmt.Sprintf("job %s gpu", id), got["gpu"], want["gpu"], 0.005, edge*float64(len(gpus)))
	near(t, fmt.Sprintf("job %s cpu", id), got["cpu"], want["cpu"]*cpuShare, 0.005, edge)
	near(t, fmt.Sprintf("job %s memory", id), got["memory"], want["memory"]*cpuShare, 0.005, edge)
	near(t, fmt.Sprintf("job %s other", id), got["other"], want["other"]*cpuShare, 0.005, 4*edge)
}
