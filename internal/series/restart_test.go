package series_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/wattledger/wattledger/internal/series"
)

// copied is what a folder holds now, as after a kill.
func copied(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o750)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestAfterAKill: what was stored is there, and series go on.
func TestAfterAKill(t *testing.T) {
	dir := t.TempDir()
	killed := newRig(t, series.Options{Dir: dir}).run()
	killed.live(begin, 12, 2)
	was := killed.value("wattledger_cluster_power_watts", begin+100_000)
	again := copied(t, dir)
	for _, dir := range []string{again, dir} {
		if dir != again {
			killed.stop() // this one ends as it should
		}
		r := newRig(t, series.Options{Dir: dir})
		r.now.Store(begin + 200_000)
		r.run()
		if got := r.value("wattledger_cluster_power_watts", begin+100_000); got != was {
			t.Errorf("%v; want %v", got, was)
		}
		if got := r.value("count_over_time(wattledger_node_power_watts{node=\"n1\"}[120s])", begin+120_000); got != 120 {
			t.Errorf("%v samples; want 120", got)
		}
		r.live(begin+120_000, 12, 2)
		if got := r.value("count_over_time(wattledger_node_power_watts{node=\"n1\"}[240s])", begin+240_000); got != 240 {
			t.Errorf("%v samples; want 240", got)
		}
		r.stop()
	}
}

// TestADamagedStateIsMovedAside and does not stop anything.
func TestADamagedStateIsMovedAside(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sums.json"), []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, series.Options{Dir: dir}).run()
	r.live(begin, 3, 1)
	if b, err := os.ReadFile(filepath.Join(dir, "sums.json.damaged")); err != nil || string(b) != "{half" {
		t.Errorf("%q, %v", b, err)
	}
	if got := r.metric(series.MetricErrors, "state"); got != 1 {
		t.Errorf("%v failures counted; want 1", got)
	}
}
