//go:build e2e

package e2e_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3" // to damage the books with

	"github.com/wattledger/wattledger/internal/energy"
)

// TestAuditFindsDamage changes the books behind the aggregator's back, in each
// of the ways an auditor fears; the audit says no and says where.
func TestAuditFindsDamage(t *testing.T) {
	f := func(name, sqlText string, wanted ...string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startAggregator(t, t.TempDir())
			begin := time.Date(2026, 10, 10, 8, 0, 0, 0, time.UTC).Format(time.RFC3339)
			fleetRun(t, "simulate", "--nodes", "2", "--machine", "leonardo", "--faults", "none", "--for", "40m", "--start", begin,
				"--cluster", "sim", "--aggregator", a.url(), "--quiet")
			audited(t, a.url(), "sim")
			a.stop(t)
			db, err := sql.Open("sqlite3", filepath.Join(a.dir, "ledger.db"))
			if err != nil {
				t.Fatal(err)
			}
			res, err := db.ExecContext(t.Context(), sqlText)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := res.RowsAffected(); err != nil || n == 0 {
				t.Fatalf("the damage changed %d rows: %v", n, err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			a.restart(t)
			out, code := cli(t, a.url(), "audit", "--cluster", "sim")
			if code != 1 {
				t.Errorf("exit %d; want 1", code)
			}
			for _, w := range append(wanted, "BOOKS DO NOT CLOSE") {
				if !strings.Contains(out, w) {
					t.Errorf("the audit does not name %q:\n%s", w, tail(out, 1500))
				}
			}
		})
	}
	first := "(SELECT slot, node_id, job_id FROM posting ORDER BY slot, node_id, job_id LIMIT 1)"
	f("one posting off by 1 mJ", "UPDATE posting SET gpu_mj = gpu_mj + 1 WHERE (slot, node_id, job_id) IN "+first, "2026-10-10T08:00:00Z", "lrdn0000", "gpu0", energy.Millijoules(-1).String())
	f("postings deleted", "DELETE FROM posting WHERE (slot, node_id, job_id) IN "+first, "2026-10-10T08:00:00Z", "lrdn0000")
	f("a slot dropped, ranges and postings", "DELETE FROM node_slot WHERE slot = (SELECT min(slot) + 1 FROM node_slot)", "2026-10-10T08:15:00Z", "lrdn0000", "gpu0")
	f("a roll-up off by 1 mJ", "UPDATE project_total SET gpu_mj = gpu_mj + 1 WHERE project_id = (SELECT max(project_id) FROM project_total)", "project_total of project ")
}
