package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/ledger/ledgertest"
	"github.com/wattledger/wattledger/internal/window"
)

// crash ends a ledger without a word: what is committed is in the file, and
// nothing else.
func (l *Ledger) crash() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.release()
}

// twins are two ledgers that are told the same. One lets what it booked wait, and
// crashes now and then; the other posts everything at once. They come to the same
// tables.
type twins struct {
	ledger.Ledger // the one that lets it wait: who reads reads it
	other         *Ledger
	t             *testing.T
	dir           string
	r             *rand.Rand
	crashes       int
}

func openTwins(t *testing.T, dir string) *twins {
	h := fnv.New64()
	_, _ = h.Write([]byte(t.Name()))
	w := &twins{t: t, dir: dir, r: rand.New(rand.NewPCG(h.Sum64(), 1))}
	_, err := os.Stat(filepath.Join(dir, fileName))
	old := err == nil
	_, err = os.Stat(filepath.Join(dir, "twin"))
	w.Ledger = open(t, dir)
	if err == nil || !old { // else it is a copy of the first one alone
		w.other = open(t, filepath.Join(dir, "twin"))
	}
	return w
}

func (w *twins) first() *Ledger { return w.Ledger.(*Ledger) } //nolint:forcetypeassert // it is what openTwins put there

// both has the ledgers do the same and compares what they say.
func (w *twins) both(f func(l *Ledger) (any, error)) error {
	if w.r.IntN(3) == 0 && !w.first().closed {
		if err := w.first().crash(); err != nil {
			w.t.Error(err)
		}
		w.Ledger = open(w.t, w.dir)
		w.crashes++
		if w.other != nil { // it reads its tables anew, too
			if err := w.other.Close(); err != nil {
				w.t.Error(err)
			}
			w.other = open(w.t, filepath.Join(w.dir, "twin"))
		}
	}
	got, err := f(w.first())
	if w.other == nil {
		return err
	}
	want, werr := f(w.other)
	if !reflect.DeepEqual(got, want) || fmt.Sprint(err) != fmt.Sprint(werr) {
		w.t.Errorf("%+v, %v; the other says %+v, %v", got, err, want, werr)
	}
	if perr := w.other.readTx(context.Background(), func(*sql.Tx) error { return nil }); perr != nil && !errors.Is(perr, ErrClosed) {
		w.t.Error(perr)
	}
	return err
}

func (w *twins) Open(ctx context.Context, r ledger.OpenRequest) (o ledger.Opening, ok bool, err error) {
	err = w.both(func(l *Ledger) (any, error) {
		o, ok, err = l.Open(ctx, r)
		return fmt.Sprintf("%+v %v", o, ok), err
	})
	return o, ok, err
}

func (w *twins) Book(ctx context.Context, s []ledger.Submission) (rs []ledger.Result, err error) {
	err = w.both(func(l *Ledger) (any, error) {
		rs, err = l.Book(ctx, s)
		return rs, err
	})
	return rs, err
}

func (w *twins) Repost(ctx context.Context, id int64, asUnknown bool) (r ledger.Result, err error) {
	err = w.both(func(l *Ledger) (any, error) {
		r, err = l.Repost(ctx, id, asUnknown)
		return r, err
	})
	return r, err
}

func (w *twins) Assign(ctx context.Context, cluster string, job window.Job, project string) error {
	return w.both(func(l *Ledger) (any, error) { return nil, l.Assign(ctx, cluster, job, project) })
}

func (w *twins) Describe(ctx context.Context, facts []ledger.JobFacts) error {
	return w.both(func(l *Ledger) (any, error) { return nil, l.Describe(ctx, facts) })
}

func (w *twins) PutProjects(ctx context.Context, facts []ledger.ProjectFacts) error {
	return w.both(func(l *Ledger) (any, error) { return nil, l.PutProjects(ctx, facts) })
}

func (w *twins) Mark(ctx context.Context, name string, atMS int64) error {
	return w.both(func(l *Ledger) (any, error) { return nil, l.Mark(ctx, name, atMS) })
}

func (w *twins) Close() error {
	if w.first().closed || w.other == nil {
		return w.Ledger.Close()
	}
	err := errors.Join(w.Ledger.Close(), w.other.Close())
	got, want := dump(w.t, w.dir), dump(w.t, filepath.Join(w.dir, "twin"))
	for _, table := range tables() {
		if got[table] != want[table] {
			w.t.Errorf("%s, after %d crashes:\n%s\nthe other:\n%s", table, w.crashes, got[table], want[table])
		}
	}
	if got["journal"] != "" {
		w.t.Errorf("the journal of a ledger that was closed: %s", got["journal"])
	}
	return err
}

// dump gives what the tables of a ledger's file hold.
func dump(t *testing.T, dir string) map[string]string {
	t.Helper()
	w, err := openWriter(dsn(filepath.Join(dir, fileName), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	out := map[string]string{}
	for _, table := range tables() {
		var rows []string
		err := w.query("SELECT * FROM "+table, func(row []driver.Value) error {
			rows = append(rows, fmt.Sprintf("%v\n", row))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(rows)
		out[table] = strings.Join(rows, "")
	}
	return out
}

// TestJournal is the whole suite, with a ledger that crashes between its
// transactions beside one that posts each of them.
func TestJournal(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T, dir string) ledger.Ledger { return openTwins(t, dir) })
}

// entries tells how many the journal has.
func entries(t *testing.T, l *Ledger) int64 {
	t.Helper()
	row, err := l.w.first("SELECT COUNT(*) FROM journal")
	if err != nil {
		t.Fatal(err)
	}
	return number(row[0])
}

// TestWaiting: plain windows wait; whatever reads, or writes anything else, posts
// them, and so does time.
func TestWaiting(t *testing.T) {
	l := open(t, t.TempDir())
	defer l.Close()
	ctx := context.Background()
	a := ledgertest.NewAgent(cluster, "node1", 1)
	a.Jobs = []window.Job{{ID: "7", Project: "P", StartMS: a.At}}
	a.Open(t, l)
	book := func(want int64) {
		t.Helper()
		ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
		if n := entries(t, l); n != want {
			t.Errorf("%d entries wait; want %d", n, want)
		}
	}
	book(1) // the job is new, the meters are, and its node is present
	book(2)
	b, err := l.Books(ctx, cluster, ledgertest.Start, ledgertest.Start+dayMS, ledgertest.Start+dayMS)
	if err != nil || b.Metered == 0 || len(b.Projects) != 1 || entries(t, l) != 0 {
		t.Errorf("books = %+v, %v, and %d entries wait", b, err, entries(t, l))
	}
	book(1)
	book(2)
	ts, err := l.Totals(ctx)
	if err != nil || len(ts) != 2 || ts[1].Project != "P" || entries(t, l) != 2 {
		t.Errorf("totals = %+v, %v, and %d entries wait", ts, err, entries(t, l))
	}
	ns, err := l.Nodes(ctx)
	if err != nil || len(ns) != 1 || ns[0].LastMS != a.At || entries(t, l) != 2 {
		t.Errorf("nodes = %+v, %v, and %d entries wait", ns, err, entries(t, l))
	}
	if err := l.posted(); err != nil {
		t.Fatal(err)
	}
	again, err := l.Totals(ctx)
	if err != nil || !reflect.DeepEqual(ts, again) {
		t.Errorf("before: %+v; after: %+v, %v", ts, again, err)
	}
	if again, err := l.Nodes(ctx); err != nil || !reflect.DeepEqual(ns, again) {
		t.Errorf("before: %+v; after: %+v, %v", ns, again, err)
	}
	book(1)
	if err := l.Assign(ctx, cluster, window.Job{ID: "7"}, "Q"); err != nil || entries(t, l) != 0 {
		t.Errorf("%v, and %d entries wait behind a correction", err, entries(t, l))
	}
	book(1)
	ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	late := a.Submit(a.Next(step))
	late.NowMS = l.tx.since + waitAtMost
	ledgertest.Want(t, l, ledger.Booked, late)
	if n := entries(t, l); n != 0 {
		t.Errorf("%d entries wait after %d ms", n, int64(waitAtMost))
	}
	l.tx.windows = maxWaiting - 1
	book(0)
	if fs := audit(t, l); len(fs) != 0 {
		t.Errorf("audit found %+v", fs)
	}
}

// TestReaderWhoWaitsForAConnection sees what was booked meanwhile, or nothing of it.
func TestReaderWhoWaitsForAConnection(t *testing.T) {
	l, err := Open(t.TempDir(), Options{Readers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := ledgertest.NewAgent(cluster, "node1", 1)
	a.Open(t, l)
	ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	held, err := l.read.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var r ledger.AuditResult
	done := make(chan error, 1)
	go func() {
		var err error
		r, err = l.Audit(t.Context(), cluster, ledgertest.Start, ledgertest.Start+dayMS)
		done <- err
	}()
	for l.read.Stats().WaitCount == 0 {
		time.Sleep(time.Millisecond)
	}
	for i := range 40 { // so many epochs that old ones retire
		a.Boot(fmt.Sprint("again-", i), false)
		ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(1000)))
	}
	if err := errors.Join(held.Rollback(), <-done); err != nil || len(r.Findings) > 0 {
		t.Errorf("audit found %+v, %v", r.Findings, err)
	}
}

// TestJournalDamaged: what cannot be read is not half posted, and says so.
func TestJournalDamaged(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	a := ledgertest.NewAgent(cluster, "node1", 1)
	a.Open(t, l)
	ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	if err := l.w.script("UPDATE journal SET body = substr(body, 1, length(body) - 1) WHERE id = 2"); err != nil {
		t.Fatal(err)
	}
	if err := l.crash(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "journal") {
		t.Errorf("a ledger with half an entry: %v", err)
	}
	d := dump(t, dir)
	if d["node_slot"] != "" || d["posting"] != "" || strings.Count(d["journal"], "\n") != 2 {
		t.Errorf("posted are %q and %q, and the journal holds %q", d["node_slot"], d["posting"], d["journal"])
	}
}

// TestReadersWhoCannotPost are told, and not given books that lag.
func TestReadersWhoCannotPost(t *testing.T) {
	l := open(t, t.TempDir())
	defer l.Close()
	a := ledgertest.NewAgent(cluster, "node1", 1)
	a.Open(t, l)
	ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	if err := l.w.script("CREATE TEMP TRIGGER boom BEFORE INSERT ON main.posting BEGIN SELECT RAISE(ABORT, 'disk on fire'); END"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := l.Jobs(context.Background(), ledger.JobFilter{}); err == nil || !strings.Contains(err.Error(), "disk on fire") {
			t.Errorf("Jobs = %v", err)
		}
	}
	if err := l.w.script("DROP TRIGGER boom"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Jobs(context.Background(), ledger.JobFilter{}); err == nil {
		t.Error("the journal is tried again at once")
	}
	l.ill = illness{} // a second later
	if ts, err := l.Totals(context.Background()); err != nil || len(ts) == 0 || ts[0].Amounts.Total() == 0 {
		t.Errorf("Totals = %+v, %v", ts, err)
	}
}

// TestPrunedBehindTheJournal: hashes that were pruned while the slot's next window
// waits are not taken for hashes that never were.
func TestPrunedBehindTheJournal(t *testing.T) {
	dir := t.TempDir()
	reopen := func() *Ledger {
		l, err := Open(dir, Options{KeepSeen: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := reopen()
	a, b := ledgertest.NewAgent(cluster, "node1", 1), ledgertest.NewAgent(cluster, "node2", 2)
	a.Open(t, l)
	b.Open(t, l)
	moved := a.Submit(a.Next(step))
	still := a.Submit(&window.Window{
		Catalogue: a.Catalogue, StartMS: a.At, EndMS: a.At + step,
		Absences: []window.Absence{{Class: 0, DeviceMS: 2 * step}, {Class: 1, DeviceMS: step}},
	})
	a.At += step
	ledgertest.Want(t, l, ledger.Booked, moved, still)
	b.At += 3 * 3_600_000
	ledgertest.Want(t, l, ledger.Booked, b.Submit(b.Next(step)))
	if err := l.posted(); err != nil {
		t.Fatal(err)
	}
	ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(step)))
	if n := entries(t, l); n != 1 {
		t.Fatalf("%d entries wait: the test does not test it", n)
	}
	if err := l.crash(); err != nil {
		t.Fatal(err)
	}
	l = reopen()
	defer l.Close()
	ledgertest.Want(t, l, ledger.Duplicate, moved, still)
}

// TestWaitingIsBounded by what it takes: windows of a hostile agent are many and
// large.
func TestWaitingIsBounded(t *testing.T) {
	for name, full := range map[string]func(*tx) int{
		"rows":  func(t *tx) int { defer func() { t.rows = maxWaitingRows }(); return t.rows },
		"bytes": func(t *tx) int { defer func() { t.bytes = maxWaitingBytes }(); return t.bytes },
	} {
		l := open(t, t.TempDir())
		defer l.Close()
		a := ledgertest.NewAgent(cluster, "node1", 1)
		a.Open(t, l)
		ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(1000)))
		ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(1000)))
		if n := entries(t, l); n != 2 {
			t.Errorf("%s: %d entries wait; want 2", name, n)
		}
		before := full(l.tx)
		ledgertest.Want(t, l, ledger.Booked, a.Submit(a.Next(1000)))
		if n := entries(t, l); n != 0 || before == 0 {
			t.Errorf("%s: %d entries wait, and %d were counted before", name, n, before)
		}
	}
}

// TestManyJobsInASlot: their rows are found as those of few.
func TestManyJobsInASlot(t *testing.T) {
	a := &slotAcc{}
	for range 2 {
		for job := range int64(100) {
			s, _ := a.to(job)
			s[0] += job
		}
	}
	for i, p := range a.posts {
		if p.job != int64(i) || p.add[0] != 2*p.job || len(a.posts) != 100 {
			t.Errorf("%d of %d: %+v", i, len(a.posts), p)
		}
	}
}

// TestOpenOnAFullDisk: a ledger that cannot post its journal is opened, and says so
// to whoever needs it; with room again nothing is lost.
func TestOpenOnAFullDisk(t *testing.T) {
	l := open(t, t.TempDir())
	defer l.Close()
	a := ledgertest.NewAgent(cluster, "node1", 1)
	a.Open(t, l)
	var many []ledger.Submission
	for range 300 { // more than fits into the pages that are there
		many = append(many, a.Submit(a.Next(step)))
		a.At += window.SlotMS
	}
	ledgertest.Want(t, l, ledger.Booked, many...)
	l.tx = nil
	row, err := l.w.first("PRAGMA page_count")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.w.script(fmt.Sprint("PRAGMA max_page_count = ", number(row[0]))); err != nil {
		t.Fatal(err)
	}
	if err := l.probe(); err != nil {
		t.Errorf("it is not opened: %v", err)
	}
	if _, err := l.Totals(context.Background()); err == nil || !strings.Contains(err.Error(), "full") || !strings.Contains(err.Error(), "nothing of it is lost") {
		t.Errorf("Totals = %v", err)
	}
	if _, err := l.Book(context.Background(), []ledger.Submission{a.Submit(a.Next(step))}); err == nil {
		t.Error("it books")
	}
	if err := l.w.script("PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	l.ill = illness{} // a second later
	if fs := audit(t, l); len(fs) != 0 {
		t.Errorf("audit found %+v", fs)
	}
	b, err := l.Books(context.Background(), cluster, ledgertest.Start, ledgertest.Start+30*dayMS, ledgertest.Start+30*dayMS)
	if err != nil || b.Metered == 0 || b.Metered != b.Nobody.Total() {
		t.Errorf("books = %+v, %v", b, err)
	}
}

// FuzzReplay: bytes that are no entry are refused, and never more than that.
func FuzzReplay(f *testing.F) {
	l := open(f, f.TempDir())
	f.Cleanup(func() { _ = l.crash() })
	n := &nodeState{id: 1, cluster: &clusterState{id: 1}, lastMS: 5, held: []byte{1}}
	a := &slotAcc{slot: 3, node: n, metered: 7, seen: []uint64{9}, pieces: []piece{{odo: 1, from: 1, to: 8000}}}
	j := &jobState{id: 4, project: 2}
	e := entry{nodes: []*nodeState{n}, accs: []*slotAcc{a}, jobNodes: []*jobNode{{job: j, node: 1}}}
	e.window(n, 3, clusterSums{metered: 7, device: 10})
	e.count(2)
	e.posting(j, true, &window.Posting{Energy: 3, DeviceMS: 5})
	e.posting(j, false, &window.Posting{Use: 2, Energy: 4, DeviceMS: 5})
	f.Add(bytes.Clone(e.pack()))
	f.Fuzz(func(t *testing.T, body []byte) {
		tx := newTx(l, &cache{w: l.w, out: newTableWriters(l.w)})
		r := replay{t: tx, nodes: map[int64]*nodeState{}, accs: map[slotKey]*slotAcc{}, jobs: map[slotKey]*jobNode{}}
		_ = r.entry(body)
	})
}
