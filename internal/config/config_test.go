package config_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/config"
)

var update = flag.Bool("update", false, "rewrite testdata from what the code says now")

// TestFaults: every fault is named at once, each with what would be right.
func TestFaults(t *testing.T) {
	f := func(name string, err error) {
		t.Helper()
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		golden := filepath.Join("testdata", name+".faults")
		got := err.Error() + "\n"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, readErr := os.ReadFile(golden)
		if readErr != nil || got != string(want) {
			t.Errorf("%s: got:\n%s\nwant (%s, -update rewrites):\n%s%v", name, got, golden, want, readErr)
		}
	}
	_, err := config.LoadAggregator("testdata/aggregator-bad.yaml", config.AggregatorFlags{})
	f("aggregator-bad", err)
	_, err = config.LoadAgent("testdata/agent-bad.yaml", config.AgentFlags{})
	f("agent-bad", err)
	_, err = config.LoadAgent("testdata/controllers-bad.yaml", config.AgentFlags{Node: "n1"})
	f("controllers-bad", err)
	_, err = config.LoadAgent("testdata/controllers-seldom.yaml", config.AgentFlags{Node: "n1"})
	f("controllers-seldom", err)
	_, err = config.LoadAggregator("", config.AggregatorFlags{DataDir: "testdata", Listen: ":9440"})
	f("aggregator-open", err)
}

// TestExamples: the files that are installed are right, and mean the defaults.
func TestExamples(t *testing.T) {
	dir := t.TempDir()
	f := func(name string) string {
		b, err := os.ReadFile(filepath.Join("../../packaging/config", name))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer("# data_dir: /var/lib/wattledger", "data_dir: "+dir, "# state_dir: /var/lib/wattledger-agent", "state_dir: "+dir).Replace(string(b))
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a, err := config.LoadAggregator(f("aggregator.yaml"), config.AggregatorFlags{})
	if err != nil {
		t.Fatal(err)
	}
	if a.DataDir != dir || a.CommitEvery != 150*time.Millisecond || a.ZoneOf("x") != time.UTC {
		t.Errorf("%+v", a)
	}
	g, err := config.LoadAgent(f("agent.yaml"), config.AgentFlags{Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	if g.Cluster != "demo" || g.Node != "n1" || g.Every != time.Second || g.Window != 10*time.Second || g.SpoolBytes != 32<<20 || !g.Host || g.Simulated.Enabled {
		t.Errorf("%+v", g)
	}
}

func TestFlagsOverrideAndZones(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	text := "data_dir: /proc/nowhere\ntimezone: Europe/Berlin\nclusters:\n- {name: leonardo, timezone: Europe/Rome}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := config.LoadAggregator(path, config.AggregatorFlags{DataDir: filepath.Join(dir, "made", "later"), Listen: "[::1]:0"})
	if err != nil {
		t.Fatal(err)
	}
	if a.ZoneOf("leonardo").String() != "Europe/Rome" || a.ZoneOf("lumi").String() != "Europe/Berlin" || a.Listen != "[::1]:0" {
		t.Errorf("%+v", a)
	}
	if _, err := os.Stat(filepath.Join(dir, "made")); err == nil {
		t.Error("checking has made a folder")
	}
	g, err := config.LoadAgent("", config.AgentFlags{Cluster: "c", AggregatorURL: "https://a:9440/"})
	if err != nil || g.AggregatorURL != "https://a:9440" || g.Node == "" {
		t.Errorf("%+v, %v", g, err)
	}
}

// TestFolderThatCannotBeWritten: /proc looks writable to root, and is not.
func TestFolderThatCannotBeWritten(t *testing.T) {
	_, err := config.LoadAggregator("", config.AggregatorFlags{DataDir: "/proc/nowhere"})
	if err == nil || !strings.Contains(err.Error(), "data_dir: /proc/nowhere is not a folder that this user can write: /proc: ") {
		t.Errorf("err = %v", err)
	}
}
