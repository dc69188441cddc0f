package ledgertest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

func testOpenIncarnations(t *testing.T, open Opener) {
	l := open.fresh(t)
	a := NewAgent(cluster, "node1", 7)
	try := func(what string, wantOK bool, want uint64) {
		t.Helper()
		o, ok, err := l.Open(bg(), a.OpenRequest())
		if err != nil || ok != wantOK || ok && o.Incarnation != want {
			t.Fatalf("%s: %d, %v, %v; want %d, %v", what, o.Incarnation, ok, err, want, wantOK)
		}
	}
	try("a new node", true, 1)
	try("the same request", true, 1)
	a.Session = "session-2"
	try("the same nonce, another process", true, 1)
	a.Incarnation, a.Session = 1, "session-3"
	try("resumed", true, 1)
	a.Incarnation, a.Nonce, a.Session = 0, "nonce-2", "session-4"
	try("state lost", true, 2)
	try("and again", true, 2)
	a.Incarnation, a.Session = 1, "session-5"
	try("an old incarnation", false, 0)
	a.Incarnation, a.Session = 9, "session-6"
	try("newer than the ledger: it was restored", true, 9)
	a.Incarnation, a.Session = 8, "session-7"
	try("an incarnation that was passed over", false, 0)
	ns, err := l.Nodes(bg())
	if err != nil || len(ns) != 1 || ns[0].Incarnation != 9 || ns[0].Fenced != 2 {
		t.Errorf("Nodes = %+v, %v", ns, err)
	}
	for _, r := range []ledger.OpenRequest{{}, {Node: a.Node}, {Node: ledger.Node{Cluster: "c"}, Session: "s"}} {
		if _, _, err := l.Open(bg(), r); err == nil {
			t.Errorf("Open(%+v) gave no error", r)
		}
	}
}

func testOpenSessions(t *testing.T, open Opener) {
	l, a := open.start(t)
	w := a.Next(step)
	Want(t, l, ledger.Booked, a.Submit(w))
	first := *a
	a.Session = "session-2"
	a.Open(t, l)
	s := first.Submit(first.Next(step))
	Want(t, l, ledger.Fenced, s)
	if _, ok, err := l.Open(bg(), first.OpenRequest()); ok || err != nil {
		t.Errorf("a session that was taken over opens again: %v, %v", ok, err)
	}
	s.Session = "never seen"
	Want(t, l, ledger.Reopen, s)
	s.Incarnation = 0
	Want(t, l, ledger.Fenced, s)
	s.Session, s.Incarnation = a.Session, a.Incarnation
	Want(t, l, ledger.Booked, s)
	// Sixteen sessions back are known as fenced.
	for i := range 20 {
		a.Session = "later-" + string(rune('a'+i))
		a.Open(t, l)
	}
	s.Session = "later-d"
	Want(t, l, ledger.Fenced, s)
	s.Session = "later-a"
	Want(t, l, ledger.Reopen, s)
	es, err := l.Events(bg(), ledger.EventFilter{Cluster: cluster})
	if err != nil || len(es) != 4 || es[0].Event.Kind != "fenced" {
		t.Errorf("Events = %+v, %v", es, err)
	}
}

// testOpenState: the answer holds what a bridge needs, over a restart too.
func testOpenState(t *testing.T, open Opener) {
	dir := t.TempDir()
	l, a := open(t, dir), NewAgent(cluster, "node1", 7)
	if o := a.Open(t, l); len(o.Ends) != 0 || len(o.Jobs) != 0 || o.LastMS != 0 {
		t.Errorf("a new node = %+v", o)
	}
	a.Jobs = []window.Job{
		{ID: "1", Restart: 2, SubmitMS: 3, Project: "P", User: "u", StartMS: Start},
		{ID: "2", StartMS: Start, EndMS: Start + 5},
		{ID: "3", StartMS: Start, EndMS: Start + 6},
	}
	w := a.Next(step)
	w.Holdings = []window.Holding{{Job: 2, Devices: []window.Share{{Device: "gpu0", Weight: 5}, {Device: "cpu", Weight: 7}}}}
	Want(t, l, ledger.Booked, a.Submit(w))
	o := a.Open(t, l)
	wantJobs := []window.Job{w.Jobs[0], w.Jobs[2]}
	if !reflect.DeepEqual(o.Jobs, wantJobs) || len(o.Holdings) != 1 || o.Holdings[0].Job != 1 ||
		!reflect.DeepEqual(o.Holdings[0].Devices, w.Holdings[0].Devices) || o.LastMS != w.EndMS || len(o.Ends) != 4 {
		t.Errorf("opening = %+v", o)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	defer l.Close()
	if again := a.Open(t, l); !reflect.DeepEqual(again, o) {
		t.Errorf("after a restart = %+v; want %+v", again, o)
	}
}

func testReopen(t *testing.T, open Opener) {
	dir := t.TempDir()
	l, a := open(t, dir), NewAgent(cluster, "node1", 7)
	a.Open(t, l)
	w1 := a.Next(step)
	Want(t, l, ledger.Booked, a.Submit(w1))
	before := month(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	defer l.Close()
	if after := month(t, l); !reflect.DeepEqual(before, after) {
		t.Errorf("books after a restart = %+v; want %+v", after, before)
	}
	w2 := a.Next(step) // the session goes on
	Want(t, l, ledger.Booked, a.Submit(w2))
	closes(t, l, w1.Metered()+w2.Metered())
}

// testRestored: the ledger is put back to a copy that was taken earlier.
func testRestored(t *testing.T, open Opener) {
	dir, backup := t.TempDir(), t.TempDir()
	l, a := open(t, dir), NewAgent(cluster, "node1", 7)
	a.Open(t, l)
	w1 := a.Next(step)
	Want(t, l, ledger.Booked, a.Submit(w1))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := copyDir(backup, dir); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	a.Nonce, a.Incarnation, a.Session = "nonce-2", 0, "session-2" // a new incarnation after the copy
	a.Open(t, l)
	s2, s3 := a.Submit(a.Next(step)), a.Submit(a.Next(step))
	Want(t, l, ledger.Booked, s2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, backup)
	defer l.Close()
	Want(t, l, ledger.Reopen, s3)
	if o := a.Open(t, l); o.Incarnation != 2 || o.LastMS != w1.EndMS {
		t.Errorf("opening at the restored ledger = %+v", o)
	}
	rs := Want(t, l, ledger.Apart, s3)
	if rs[0].Ends[0].UJ != w1.Ranges[0].To {
		t.Errorf("ends = %+v; want those of the copy", rs[0].Ends)
	}
	Want(t, l, ledger.Booked, s2, s3)
	closes(t, l, w1.Metered()+s2.Window.Metered()+s3.Window.Metered())
}

func copyDir(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, d.Name()), b, 0o600)
	})
}

func testClosed(t *testing.T, open Opener) {
	l, a := open.start(t)
	s := a.Submit(a.Next(step))
	ctx, cancel := context.WithCancel(bg())
	cancel()
	if _, err := l.Book(ctx, []ledger.Submission{s}); !errors.Is(err, context.Canceled) {
		t.Errorf("Book after its context ended = %v", err)
	}
	Want(t, l, ledger.Booked, s)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Book(bg(), []ledger.Submission{s}); err == nil {
		t.Error("a closed ledger books")
	}
	if _, err := l.Books(bg(), cluster, Start, Start, Start); err == nil {
		t.Error("a closed ledger answers")
	}
}
