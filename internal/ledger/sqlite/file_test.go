package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/ledger/ledgertest"
	"github.com/wattledger/wattledger/internal/window"
)

func values(in []any) []driver.Value {
	out := make([]driver.Value, len(in))
	for i, v := range in {
		out[i] = v
	}
	return out
}

func TestOpenRefuses(t *testing.T) {
	sound := func(t *testing.T) string {
		dir := t.TempDir()
		l := open(t, dir)
		a := ledgertest.NewAgent(cluster, "node1", 1)
		a.Open(t, l)
		ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	f := func(name, want string, damage func(t *testing.T, file string)) {
		t.Run(name, func(t *testing.T) {
			dir := sound(t)
			file := filepath.Join(dir, fileName)
			damage(t, file)
			before, _ := os.ReadFile(file)
			l, err := Open(dir, Options{})
			if err == nil {
				_ = l.Close()
				t.Fatal("it was opened")
			}
			if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), want) {
				t.Errorf("error = %v; want one that says %q", err, want)
			}
			if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
	patch := func(at int64, b ...byte) func(*testing.T, string) {
		return func(t *testing.T, file string) {
			fh, err := os.OpenFile(file, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer fh.Close()
			if _, err := fh.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	f("no SQLite file", "is no SQLite file", func(t *testing.T, file string) {
		if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 5000), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	f("empty file", "cut short", func(t *testing.T, file string) {
		if err := os.Truncate(file, 0); err != nil {
			t.Fatal(err)
		}
	})
	f("cut short", "cut short", func(t *testing.T, file string) {
		if err := os.Truncate(file, 8192); err != nil {
			t.Fatal(err)
		}
	})
	f("another program's", "another program's database", patch(68, 0, 0, 0, 0))
	f("newer", "schema version 99", patch(63, 99))
	f("schema damaged", "restore a backup", patch(100, bytes.Repeat([]byte{0xff}, 900)...))
	f("table damaged", "restore a backup", func(t *testing.T, file string) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		patch(4096, bytes.Repeat([]byte{0xa5}, len(b)-4096)...)(t, file)
	})
}

func TestOneLedgerPerDirectory(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "another aggregator") {
		t.Errorf("a second ledger of one directory: %v", err)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCreateInterrupted: what a crash while making a ledger leaves is no ledger,
// and no obstacle.
func TestCreateInterrupted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b%20?", "c")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, newName), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, fileName)); err != nil {
		t.Error(err)
	}
}

func TestWALWithoutFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName+"-wal"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrUnusable) {
		t.Errorf("a log without its database: %v", err)
	}
}

// TestFailedTransaction: nothing of a transaction that fails stays, in the file
// or in memory, wherever it fails.
func TestFailedTransaction(t *testing.T) {
	for _, table := range []string{"odometer", "presence", "node_slot", "posting", "job", "job_node", "project_total", "cluster_day", "hole", "event"} {
		t.Run(table, func(t *testing.T) {
			l := open(t, t.TempDir())
			defer l.Close()
			a := ledgertest.NewAgent(cluster, "node1", 1)
			a.Open(t, l)
			a.Jobs = []window.Job{{ID: "1", Project: "P", StartMS: 1}}
			ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
			a.Boot("boot-2", false)
			a.Jobs[0].ID = "2"
			a.Catalogue.Meters[2].Leaf, a.Catalogue.ID = false, 9
			w := a.Next(step)
			w.Postings[2].DeviceMS = 0
			s1 := a.Submit(w)
			w = a.Next(step)
			w.Postings[2].DeviceMS = 0
			s2 := a.Submit(w)
			bad := ledgertest.Copy(s2.Window)
			bad.Postings[0].Energy++
			s3 := a.Submit(bad)
			if err := l.w.script("CREATE TEMP TRIGGER boom BEFORE INSERT ON main." + table + " BEGIN SELECT RAISE(ABORT, 'disk on fire'); END"); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := l.Book(context.Background(), []ledger.Submission{s1, s3}); err == nil || !strings.Contains(err.Error(), "disk on fire") {
					t.Fatalf("Book = %v", err)
				}
			}
			if err := l.w.script("DROP TRIGGER boom"); err != nil {
				t.Fatal(err)
			}
			l.ill = illness{} // a second later
			rs := ledgertest.Book(t, l, s1, s3, s2, s1)
			for i, want := range []ledger.Status{ledger.Booked, ledger.Quarantined, ledger.Booked, ledger.Duplicate} {
				if rs[i].Status != want {
					t.Errorf("result %d = %s (%s); want %s", i, rs[i].Status, rs[i].Reason, want)
				}
			}
			if fs := audit(t, l); len(fs) != 0 {
				t.Errorf("audit found %+v", fs)
			}
		})
	}
}

// TestPruned: once hashes are forgotten the ranges alone decide.
func TestPruned(t *testing.T) {
	l, err := Open(t.TempDir(), Options{KeepSeen: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := ledgertest.NewAgent(cluster, "node1", 1)
	a.Open(t, l)
	s1 := a.Submit(a.Next(step))
	still := a.Submit(&window.Window{
		Catalogue: a.Catalogue, StartMS: a.At, EndMS: a.At + step,
		Absences: []window.Absence{{Class: 0, DeviceMS: 2 * step}, {Class: 1, DeviceMS: step}},
	})
	s2 := a.Submit(a.Next(step))
	ledgertest.Want(t, l, ledger.Booked, s1, still, s2)
	a.At += 3 * 3_600_000
	ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	ledgertest.Want(t, l, ledger.Duplicate, s1, still, s2)
	other := ledgertest.Copy(s1.Window)
	other.Jobs = []window.Job{{ID: "clone"}}
	ledgertest.Want(t, l, ledger.Duplicate, a.Submit(other))
	// A window booked late in that slot does not make its list whole.
	a.Boot("boot-2", false)
	a.At = ledgertest.Start + 60_000
	ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	ledgertest.Want(t, l, ledger.Duplicate, a.Submit(other), still)
}

// TestUpgrade: a ledger of the first schema is brought to this one with all that
// it holds, or stays as it was.
func TestUpgrade(t *testing.T) {
	old, err := os.ReadFile("testdata/schema-1.sql")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	w, err := openWriter(dsn(filepath.Join(dir, fileName), url.Values{"_journal_mode": {"WAL"}}))
	if err != nil {
		t.Fatal(err)
	}
	err = w.script("PRAGMA application_id = " + strconv.Itoa(applicationID) + "; PRAGMA user_version = 1;" +
		strings.ReplaceAll(string(old), "CELLS", cells("% INTEGER NOT NULL DEFAULT 0")) + `
		INSERT INTO schema_version VALUES (1); INSERT INTO cluster VALUES (1, '` + cluster + `');
		INSERT INTO project VALUES (1, 1, '', 2), (2, 1, 'P', 0);
		INSERT INTO job VALUES (1, 1, '', 2, 0, 1, '', 0, 0, 0, 0, -1), (2, 1, '7', 1, 0, 2, 'u', 5, 0, 1, 3, 4), (3, 1, '8', 0, 9, 2, '', 0, 0, 0, 0, -1)`)
	if err := errors.Join(err, w.script("CREATE TABLE job_fact (x)"), w.close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "nothing of that was kept") {
		t.Fatalf("a ledger that cannot be brought up: %v", err)
	}
	if w, err = openWriter(dsn(filepath.Join(dir, fileName), nil)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.script("DROP TABLE job_fact"), w.close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l := open(t, dir)
		js, err := l.Jobs(context.Background(), ledger.JobFilter{Cluster: cluster})
		if err != nil || len(js) != 2 || js[1].Job != (window.Job{ID: "7", Restart: 1, Project: "P", User: "u", StartMS: 5}) {
			t.Errorf("jobs = %+v, %v", js, err)
		}
		of := idKey{1, "7"}
		if runs, err := l.tx.c.runs(of); err != nil || len(runs) != 1 || runs[0].told == nil || *runs[0].told != (jobKey{restart: 1}) {
			t.Errorf("runs = %+v, %v; want one that nodes told of", runs, err)
		}
		if runs, err := l.tx.c.runs(idKey{1, "8"}); err != nil || len(runs) != 1 || runs[0].told != nil {
			t.Errorf("runs = %+v, %v; want one that nobody told of", runs, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
