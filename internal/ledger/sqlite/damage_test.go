package sqlite

import (
	"context"
	"strings"
	"testing"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/ledger/ledgertest"
	"github.com/wattledger/wattledger/internal/window"
)

const (
	step    = int64(10_000)
	dayMS   = int64(86_400_000)
	cluster = "leonardo"
)

// whole gives a ledger of two nodes over three slots, to be damaged.
func whole(t *testing.T) (*Ledger, *ledgertest.Agent) {
	l := open(t, t.TempDir())
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	a, b := ledgertest.NewAgent(cluster, "node1", 1), ledgertest.NewAgent(cluster, "node2", 2)
	for _, x := range []*ledgertest.Agent{a, b} {
		x.Jobs = []window.Job{{ID: "71001", Project: "P", StartMS: x.At}}
		x.Open(t, l)
		for i := range 9 {
			x.At = ledgertest.Start + int64(i)*window.SlotMS/3
			ledgertest.Want(t, l, ledger.Booked, x.Submit(x.Next(step)))
		}
	}
	if fs := audit(t, l); len(fs) != 0 {
		t.Fatalf("sound books: %+v", fs)
	}
	return l, a
}

func audit(t *testing.T, l *Ledger) []ledger.Finding {
	t.Helper()
	r, err := l.Audit(context.Background(), cluster, ledgertest.Start, ledgertest.Start+dayMS)
	if err != nil {
		t.Fatal(err)
	}
	return r.Findings
}

const slot1 = ledgertest.Start + window.SlotMS

func TestAuditFindsDamage(t *testing.T) {
	slot := window.Slot(slot1)
	f := func(name, kind, node, meter string, slotMS int64, diff energy.Millijoules, script string, args ...any) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			l, _ := whole(t)
			var vals []any
			vals = append(vals, args...)
			if err := l.w.exec(script, values(vals)...); err != nil {
				t.Fatal(err)
			}
			for _, got := range audit(t, l) {
				if got.Kind == kind && got.Cluster == cluster && got.Node == node && strings.Contains(got.Meter, meter) &&
					got.SlotMS == slotMS && (diff == 0 || got.Difference == diff) && got.Detail != "" {
					return
				}
			}
			t.Errorf("audit found %+v; want %s of %s %s in slot %d with %d mJ", audit(t, l), kind, node, meter, slotMS, diff)
		})
	}
	id := "(SELECT id FROM node WHERE name = 'node1')"
	f("posting off by 1 mJ", "difference", "node1", "node", slot1, -1,
		"UPDATE posting SET gpu_mj = gpu_mj + 1 WHERE slot = ? AND node_id = "+id+" AND gpu_mj > 0 AND node_id || job_id = (SELECT MIN(node_id || job_id) FROM posting p WHERE p.slot = posting.slot AND p.node_id = posting.node_id AND p.gpu_mj > 0)", slot)
	f("postings deleted", "difference", "node1", "node", slot1, 0, "DELETE FROM posting WHERE slot = ? AND node_id = "+id, slot)
	f("metered side deleted", "difference", "node1", "node", slot1, 0, "DELETE FROM node_slot WHERE slot = ? AND node_id = "+id, slot)
	f("metered side deleted, chain", "chain", "node1", "gpu0", slot1, 0, "DELETE FROM node_slot WHERE slot = ? AND node_id = "+id, slot)
	f("last slot deleted, chain", "chain", "node1", "package0", slot1+window.SlotMS, 0, "DELETE FROM node_slot WHERE slot = ? AND node_id = "+id, slot+1)
	f("first slot deleted, chain", "chain", "node1", "node", ledgertest.Start, 0, "DELETE FROM node_slot WHERE slot = ? AND node_id = "+id, slot-1)
	f("metered off by 1 mJ", "difference", "node1", "node", slot1, -1, "UPDATE node_slot SET metered_mj = metered_mj + 1 WHERE slot = ? AND node_id = "+id, slot)
	f("grade off by 1 mJ", "difference", "node1", "node", slot1, 0, "UPDATE posting SET bridged_mj = 1 WHERE slot = ? AND node_id = "+id, slot)
	f("device time off by 1 ms", "device_time", "node1", "", slot1, 0, "UPDATE posting SET cpu_ms = cpu_ms + 1 WHERE slot = ? AND node_id = "+id, slot)
	f("presence lost", "device_time", "node1", "", ledgertest.Start, 0, "DELETE FROM presence WHERE node_id = "+id)
	f("job_node", "rollup", "node1", "", slot1+window.SlotMS, -1, "UPDATE job_node SET gpu_mj = gpu_mj + 1 WHERE node_id = "+id)
	f("job_node deleted", "rollup", "node1", "", slot1+window.SlotMS, 0, "DELETE FROM job_node WHERE node_id = "+id)
	f("project_slot", "rollup", "", "", slot1, -1, "UPDATE project_slot SET other_mj = other_mj + 1 WHERE slot = ? AND project_id = (SELECT id FROM project WHERE name = 'P')", slot)
	f("project_slot deleted", "rollup", "", "", slot1, 0, "DELETE FROM project_slot WHERE slot = ?", slot)
	f("project_day", "rollup", "", "", ledgertest.Start, 1, "UPDATE project_day SET gpu_mj = gpu_mj - 1 WHERE project_id = (SELECT id FROM project WHERE name = 'P')")
	f("project_total", "rollup", "", "", ledgertest.Start, 1, "UPDATE project_total SET gpu_mj = gpu_mj - 1 WHERE project_id = (SELECT id FROM project WHERE name = 'P')")
	f("cluster_slot", "rollup", "", "", slot1, 1, "UPDATE cluster_slot SET metered_mj = metered_mj - 1 WHERE slot = ?", slot)
	f("cluster_day", "rollup", "", "", ledgertest.Start, 1, "UPDATE cluster_day SET metered_mj = metered_mj - 1")
	f("unbooked", "rollup", "", "", slot1, -1, "UPDATE cluster_slot SET unbooked_mj = 1 WHERE slot = ?", slot)
}

// TestAuditFindsDroppedWindow: a window's range, postings and roll-ups are gone
// as if it had never been, and only the chain knows.
func TestAuditFindsDroppedWindow(t *testing.T) {
	for _, last := range []bool{false, true} {
		l, a := whole(t)
		w := a.Next(step)
		err := l.update(context.Background(), func(t *tx) error {
			n, err := t.c.node(a.Node)
			for i, r := range w.Ranges {
				n.ends[i].end.UJ, n.ends[i].slot = r.To, window.Slot(w.StartMS)
			}
			t.touchNode(n)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if !last {
			ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
		}
		found := map[string]energy.Millijoules{}
		for _, f := range audit(t, l) {
			if f.Kind != "chain" || f.Node != "node1" || f.SlotMS != window.Slot(w.StartMS)*window.SlotMS {
				t.Errorf("last %v: unexpected %+v", last, f)
			}
			found[f.Meter] = f.Difference
		}
		for i, r := range w.Ranges {
			if m := a.Catalogue.Meters[i].Name; found[m] != r.Energy() {
				t.Errorf("last %v: chain of %s lacks %d mJ; want %d", last, m, found[m], r.Energy())
			}
		}
	}
}

// TestAuditFindsDoubleBooking: the same range in two slots.
func TestAuditFindsDoubleBooking(t *testing.T) {
	l, _ := whole(t)
	slot := window.Slot(slot1)
	err := l.w.exec("INSERT INTO node_slot SELECT slot + 2, node_id, metered_mj, device_ms, pieces FROM node_slot WHERE slot = ?", slot)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range audit(t, l) {
		if f.Kind == "chain" && f.Node == "node1" && f.Meter == "gpu0" && f.Difference < 0 && f.SlotMS == slot1+2*window.SlotMS {
			return
		}
	}
	t.Errorf("audit found %+v; want gpu0 booked twice", audit(t, l))
}
