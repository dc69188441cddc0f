package hook_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/job/hook"
)

const sec = int64(1e9)

// clock is an hour after the boot "b" at wall time.
func clock(wall int64) hook.Clock {
	return hook.Clock{WallNS: wall, BootNS: 3600*sec + wall%(1000*sec), Boot: "b"}
}

func edge(op, id string, at int64) job.Edge {
	return job.Edge{Op: op, Witness: "prolog", AtNS: at, Job: job.Spec{ID: id}}
}

// reader is a Pending whose agent writes down what it is told.
func reader(dir string, now hook.Clock) (*hook.Pending, *[]job.Edge, *[]string) {
	var told []job.Edge
	var events []string
	return &hook.Pending{
		Dir: dir, Clock: func() hook.Clock { return now },
		Handle: func(_ context.Context, e job.Edge) job.Answer {
			told = append(told, e)
			return job.Answer{OK: true}
		},
		Event: func(kind, detail string) { events = append(events, kind+" "+detail) },
	}, &told, &events
}

func keep(t *testing.T, dir string, e job.Edge, c hook.Clock) {
	t.Helper()
	if err := hook.Keep(dir, e, c); err != nil {
		t.Fatal(err)
	}
}

func TestEdgesWaitInAFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "edges")
	p, told, events := reader(dir, clock(900*sec))
	if n, err := p.Deliver(t.Context()); n != 0 || err != nil {
		t.Errorf("without a folder: %d, %v", n, err)
	}
	full := job.Edge{Op: "begin", Witness: "prolog", Note: "n", Job: job.Spec{ID: "7", Restart: 1, Project: `a "b"`, CPUs: 3, Unplaced: []string{"x"}}}
	keep(t, dir, full, clock(100*sec)) // its time is that of the clock
	keep(t, dir, edge("end", "7", 0), clock(300*sec))
	keep(t, dir, edge("begin", "8", 200*sec), clock(400*sec))
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", st, err)
	}
	n, err := p.Deliver(t.Context())
	full.AtNS = 100 * sec
	want := []job.Edge{full, edge("begin", "8", 200*sec), edge("end", "7", 300*sec)}
	if d := cmp.Diff(want, *told); d != "" || n != 3 || err != nil {
		t.Errorf("delivered %d, %v (-want +got):\n%s", n, err, d)
	}
	if n, err := p.Deliver(t.Context()); n != 0 || err != nil || len(*events) != 0 {
		t.Errorf("a second time: %d, %v, %v", n, err, *events)
	}
}

// The begin of a job is told before its end, whoever hurries.
func TestEdgesOfOneJob(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "edges")
	p, told, _ := reader(dir, clock(900*sec))
	for _, id := range []string{"7", "77", "7_1", "a/../b"} {
		keep(t, dir, edge("begin", id, 100*sec), clock(100*sec))
	}
	for _, id := range []string{"7", "a/../b"} {
		if n, err := p.DeliverJob(t.Context(), id); n != 1 || err != nil || (*told)[len(*told)-1].Job.ID != id {
			t.Errorf("of %s: %d, %v, %v", id, n, err, *told)
		}
	}
}

func TestAnAgentThatCannotTakeEdges(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "edges")
	p, told, events := reader(dir, clock(900*sec))
	keep(t, dir, edge("begin", "7", 100*sec), clock(100*sec))
	keep(t, dir, edge("end", "7", 200*sec), clock(200*sec))
	take := p.Handle
	p.Handle = func(context.Context, job.Edge) job.Answer { return job.Answer{Again: true} }
	if n, err := p.Deliver(t.Context()); n != 0 || err != nil {
		t.Errorf("delivered %d, %v", n, err)
	}
	p.Handle = func(ctx context.Context, e job.Edge) job.Answer {
		take(ctx, e)
		return job.Answer{Message: "no " + e.Op}
	}
	if n, err := p.Deliver(t.Context()); n != 2 || err != nil || len(*told) != 2 {
		t.Errorf("delivered %d, %v; %v: what is refused would be refused for ever", n, err, *told)
	}
	if len(*events) != 2 || !strings.Contains((*events)[0], "edge_refused a kept begin of job 7 was refused: no begin") {
		t.Errorf("the events are %q", *events)
	}
}

func TestUnreadableFilesAreKeptAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "edges")
	p, told, events := reader(dir, clock(900*sec))
	keep(t, dir, edge("begin", "7", 100*sec), clock(100*sec))
	bad := map[string]string{
		"0-1.json": "", "0-2.json": "{", "0-3.json": `{"edge":{"op":"begin","job":{"id":"1"}}}`, "0-4.json": `{"edge":{"op":"kill","at_ns":1,"job":{"id":"1"}}}`,
		"0-5.json": `"` + strings.Repeat("x", 70_000) + `"`,
	}
	for name, text := range bad {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(os.WriteFile(secret, []byte(`{"edge":{"op":"begin","at_ns":1,"job":{"id":"666"}}}`), 0o600),
		os.Symlink(secret, filepath.Join(dir, "0-6.json")), os.Mkdir(filepath.Join(dir, "0-7.json"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Deliver(t.Context()); n != 1 || err != nil || (*told)[0].Job.ID != "7" {
		t.Errorf("delivered %d, %v, %v; the good one alone", n, err, *told)
	}
	if len(*events) != 7 || !strings.Contains((*events)[0], "holds no edge") {
		t.Errorf("%d events: %q", len(*events), *events)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.unreadable"))
	if err != nil || len(left) != 7 {
		t.Errorf("kept aside are %q, %v", left, err)
	}
	for i := range 200 { // not without end
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("1-%d.json", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Deliver(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 100 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
}

// A folder that others can write to, or that is somewhere else, is not used.
func TestFoldersThatCannotBeTrusted(t *testing.T) {
	f := func(what, want string, make func(dir string) error) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "edges")
		if err := make(dir); err != nil {
			t.Fatal(err)
		}
		if err := hook.Keep(dir, edge("begin", "7", 0), clock(sec)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: keeping says %v, want %q", what, err, want)
		}
		p, told, _ := reader(dir, clock(sec))
		if n, err := p.Deliver(t.Context()); n != 0 || err == nil || !strings.Contains(err.Error(), want) || len(*told) != 0 {
			t.Errorf("%s: delivering says %d, %v, want %q", what, n, err, want)
		}
	}
	f("open to others", "must be of user", func(dir string) error {
		return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o770))
	})
	f("a link", "it is a link, or no folder", func(dir string) error {
		return errors.Join(os.Mkdir(dir+"2", 0o700), os.Symlink(dir+"2", dir))
	})
	f("a file", "it is a link, or no folder", func(dir string) error { return os.WriteFile(dir, nil, 0o600) })
	if os.Geteuid() == 0 {
		f("another user's", "belongs to user 65534", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, 65534, 65534))
		})
	}
	if err := hook.Keep(filepath.Join(t.TempDir(), "no", "such", "folder"), edge("end", "7", 0), clock(sec)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("below nothing: %v", err)
	}
}

func TestAFolderIsNotFilledWithoutEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "edges")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 10_000 {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%d.json", i)), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if err := hook.Keep(dir, edge("begin", "7", 0), clock(sec)); err == nil || !strings.Contains(err.Error(), "10000 wait there already") {
		t.Errorf("keeping says %v", err)
	}
}

// The wall clock may be set between an edge and its delivery.
func TestClocksThatAreSet(t *testing.T) {
	f := func(what string, at, now hook.Clock, want int64) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "edges")
		keep(t, dir, edge("begin", "7", 0), at)
		p, told, _ := reader(dir, now)
		if n, err := p.Deliver(t.Context()); n != 1 || err != nil || (*told)[0].AtNS != want {
			t.Errorf("%s: %d, %v: %+v; want it at %d", what, n, err, *told, want)
		}
	}
	f("not set", hook.Clock{1000 * sec, 50 * sec, "b"}, hook.Clock{1100*sec + 3, 150 * sec, "b"}, 1000*sec)
	f("put forward", hook.Clock{1000 * sec, 50 * sec, "b"}, hook.Clock{8700 * sec, 150 * sec, "b"}, 8600*sec)
	f("put back", hook.Clock{1000 * sec, 50 * sec, "b"}, hook.Clock{500 * sec, 150 * sec, "b"}, 400*sec)
	f("no clock since boot", hook.Clock{1000 * sec, 0, "b"}, hook.Clock{500 * sec, 150 * sec, "b"}, 1000*sec)
}

// A machine that went down under a job, before any agent heard of it.
func TestJobsOfAnEarlierBoot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "edges")
	before := func(at int64) hook.Clock { return hook.Clock{WallNS: at, BootNS: at, Boot: "a"} }
	keep(t, dir, edge("begin", "1", 100*sec), before(100*sec))
	keep(t, dir, edge("begin", "2", 110*sec), before(110*sec))
	keep(t, dir, edge("end", "2", 120*sec), before(120*sec))
	after := func(at int64) hook.Clock { return hook.Clock{WallNS: at, BootNS: at - 500*sec, Boot: "b"} }
	keep(t, dir, edge("begin", "3", 800*sec), after(800*sec)) // of this boot
	p, told, _ := reader(dir, after(900*sec))
	if n, err := p.Deliver(t.Context()); n != 4 || err != nil {
		t.Errorf("delivered %d, %v", n, err)
	}
	var got []string
	for _, e := range *told {
		got = append(got, fmt.Sprintf("%s %s %d %s", e.Op, e.Job.ID, e.AtNS/sec, e.Witness))
	}
	want := []string{"begin 1 100 prolog", "end 1 500 file", "begin 2 110 prolog", "end 2 120 prolog", "begin 3 800 prolog"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
}
