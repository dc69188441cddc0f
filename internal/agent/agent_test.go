package agent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/agent"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/job/hook"
	"github.com/wattledger/wattledger/internal/spool"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// board is a source of one GPU at 300 W whose counter outlives every agent.
type board struct {
	born  time.Time
	takes atomic.Int64 // ns a read takes
	reads atomic.Int64
}

func clock() time.Time { return time.Now() }

func (b *board) Name() string { return "board" }

func (b *board) Read(context.Context) ([]collector.Reading, error) {
	b.reads.Add(1)
	time.Sleep(time.Duration(b.takes.Load()))
	now := clock()
	return []collector.Reading{{
		Scope: collector.Scope{Name: "gpu0", Class: energy.GPU, Limit: 700 * energy.Watt}, At: now, Epoch: "boot",
		Counter: 77*energy.Joule + energy.Most(300*energy.Watt, now.Sub(b.born).Nanoseconds(), 0),
	}}, nil
}

// daemon is an agent with its folders.
type daemon struct {
	*testing.T
	*agent.Agent
	sp     *spool.Spool
	dir    string
	cancel context.CancelFunc
	ended  chan error
}

func start(t *testing.T, b collector.Source, dir string, fs spool.FS, early ...job.Edge) *daemon {
	t.Helper()
	return startWith(t, b, dir, fs, func(*agent.Options) {}, early...)
}

func startWith(t *testing.T, b collector.Source, dir string, fs spool.FS, change func(*agent.Options), early ...job.Edge) *daemon {
	t.Helper()
	sp, err := spool.Open(spool.Options{Dir: filepath.Join(dir, "spool"), NoSync: true, Merge: agent.Merge, FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	opt := agent.Options{
		Pipeline: options(), StateDir: dir, Every: time.Second, Sources: []collector.Source{b}, Spool: sp,
		Now: clock, Log: zap.NewNop(), Metrics: agent.NewMetrics(nil, []string{"board"}),
	}
	change(&opt)
	a, err := agent.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range early {
		if ans := a.Take(e); !ans.OK {
			t.Fatalf("taking %+v: %s", e, ans.Message)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &daemon{T: t, Agent: a, sp: sp, dir: dir, cancel: cancel, ended: make(chan error, 1)}
	go func() { d.ended <- a.Run(ctx) }()
	return d
}

// stop ends it in good order and gives the windows of its spool.
func (d *daemon) stop() []*window.Window {
	d.Helper()
	d.cancel()
	if err := <-d.ended; err != nil {
		d.Error(err)
	}
	time.Sleep(time.Second) // a read in progress ends
	ws := spooled(d.T, d.sp)
	if err := d.sp.Close(); err != nil {
		d.Error(err)
	}
	return ws
}

func spooled(t testing.TB, sp *spool.Spool) []*window.Window {
	t.Helper()
	var ws []*window.Window
	err := sp.Rewrite(func(records [][]byte) ([][]byte, error) {
		for _, rec := range records {
			f, err := wire.DecodeFragment(rec, nil)
			if err != nil {
				return nil, err
			}
			ws = append(ws, f.Windows...)
		}
		return records, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

func (d *daemon) tell(op, id string) (hook.Answer, time.Duration) {
	began := clock()
	r := hook.Request{Op: op, Job: job.Spec{ID: id, GPUs: []window.Share{{Device: "gpu0", Weight: job.Whole}}}}
	ans := d.Handle(context.Background(), r)
	return ans, clock().Sub(began)
}

func TestAgentAnswersAfterTheReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &board{born: clock()}
		b.takes.Store(int64(20 * time.Millisecond))
		d := start(t, b, t.TempDir(), nil)
		time.Sleep(3500 * time.Millisecond)
		before := b.reads.Load()
		if ans, took := d.tell("begin", "a"); !ans.OK || ans.Bridged || took != 20*time.Millisecond {
			t.Errorf("begin: %+v after %v; want an answer with the reading, after 20 ms", ans, took)
		}
		if n := b.reads.Load() - before; n != 1 {
			t.Errorf("a begin took %d readings", n)
		}
		for op, id := range map[string]string{"begin": "a", "end": "nobody"} {
			if ans, took := d.tell(op, id); ans.OK || ans.Message == "" || took != 0 {
				t.Errorf("%s of %s: %+v after %v; want a refusal at once", op, id, ans, took)
			}
		}
		time.Sleep(2 * time.Second)
		before = b.reads.Load()
		var both sync.WaitGroup
		for _, id := range []string{"b", "c"} {
			both.Go(func() {
				if ans, _ := d.tell("begin", id); !ans.OK || ans.Bridged {
					t.Errorf("begin of %s: %+v", id, ans)
				}
			})
			time.Sleep(15 * time.Millisecond)
		}
		both.Wait()
		if n := b.reads.Load() - before; n != 1 {
			t.Errorf("two begins within 50 ms took %d readings", n)
		}
		time.Sleep(5 * time.Second)
		d.stop()
	})
}

func TestAgentDoesNotKeepAPrologWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &board{born: clock()}
		d := start(t, b, t.TempDir(), nil)
		time.Sleep(3500 * time.Millisecond)
		b.takes.Store(int64(300 * time.Millisecond))
		ans, took := d.tell("begin", "a")
		if !ans.OK || !ans.Bridged || took != 80*time.Millisecond {
			t.Errorf("begin with a slow source: %+v after %v; want a bridged answer at 80 ms", ans, took)
		}
		time.Sleep(30 * time.Second)
		n := newNode(t, options())
		n.take(d.stop())
		if n.events("late_edge") != 1 {
			t.Errorf("%d events of a late edge, want one", n.events("late_edge"))
		}
		if got := n.books()["job a/0"]; got < 300*29_500 || got > 300*31_000 {
			t.Errorf("job a has %d mJ of 30 s at 300 W", got)
		}
	})
}

// Killed and started again with its state: nothing is unknown, nothing lost.
func TestAgentKilledAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &board{born: clock()}
		dir, kept := t.TempDir(), t.TempDir()
		d := start(t, b, dir, nil)
		time.Sleep(3500 * time.Millisecond)
		if ans, _ := d.tell("begin", "a"); !ans.OK {
			t.Error(ans)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if err := os.CopyFS(filepath.Join(kept, "all"), os.DirFS(dir)); err != nil { // what is on disk when SIGKILL comes
			t.Fatal(err)
		}
		d.stop()
		time.Sleep(40 * time.Second)
		again := start(t, b, filepath.Join(kept, "all"), nil)
		time.Sleep(25 * time.Second)
		if ans, _ := again.tell("end", "a"); !ans.OK || ans.Bridged {
			t.Errorf("end after the restart: %+v", ans)
		}
		total := 300 * energy.Millijoules(clock().Sub(b.born).Milliseconds())
		n := newNode(t, options())
		n.take(again.stop())
		got := n.books()
		if got["use unknown"] != 0 || total-got["total"] > 1 || got["total"] > total {
			t.Errorf("%v; want all of %d mJ and nothing unknown", got, total)
		}
		if want := total - 300*3_500; got["job a/0"] < want-300 || got["job a/0"] > want+300 {
			t.Errorf("job a has %d mJ, want %d", got["job a/0"], want)
		}
	})
}

// fullDisk takes no write while full is set.
type fullDisk struct {
	spool.FS
	full *atomic.Bool
}

type fullFile struct {
	spool.File
	full *atomic.Bool
}

func (f fullDisk) OpenFile(name string, flag int) (spool.File, error) {
	file, err := f.FS.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return fullFile{file, f.full}, nil
}

func (f fullFile) WriteAt(p []byte, off int64) (int, error) {
	if f.full.Load() {
		return 0, syscall.ENOSPC
	}
	return f.File.WriteAt(p, off)
}

func TestAgentWithAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &board{born: clock()}
		var full atomic.Bool
		d := start(t, b, t.TempDir(), fullDisk{spool.OS(), &full})
		time.Sleep(30 * time.Second)
		full.Store(true)
		time.Sleep(40 * time.Minute)
		full.Store(false)
		time.Sleep(30 * time.Second)
		total := 300 * energy.Millijoules(clock().Sub(b.born).Milliseconds())
		n := newNode(t, options())
		n.take(d.stop())
		if got := n.books()["total"]; total-got > 1 || got > total {
			t.Errorf("%d mJ came through a full disk, of %d", got, total)
		}
	})
}

// The spool takes nothing, a job begins, and the agent stops: what waited in
// memory is metered again from where the spool ends.
func TestAgentThatStopsWithAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &board{born: clock()}
		var full atomic.Bool
		dir := t.TempDir()
		d := start(t, b, dir, fullDisk{spool.OS(), &full})
		time.Sleep(30 * time.Second)
		full.Store(true)
		time.Sleep(40 * time.Second)
		if ans, _ := d.tell("begin", "a"); !ans.OK {
			t.Error(ans)
		}
		time.Sleep(40 * time.Second)
		d.cancel()
		if err := errors.Join(<-d.ended, d.sp.Close()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		d = start(t, b, dir, nil)
		time.Sleep(30 * time.Second)
		total := 300 * energy.Millijoules(clock().Sub(b.born).Milliseconds())
		n := newNode(t, options())
		n.take(d.stop()) // which sees that ranges adjoin
		if got := n.books(); total-got["total"] > 301 || got["total"] > total || got["job a/0"] < 300*65_000 {
			t.Errorf("%v came through, of %d mJ", got, total)
		}
	})
}

func TestFencedAgentDoesNotStart(t *testing.T) {
	if _, err := agent.New(agent.Options{StateDir: fenced(t)}); !errors.Is(err, agent.ErrFenced) {
		t.Errorf("a fenced agent started: %v", err)
	}
}

// fenced is a state folder that another agent took over from.
func fenced(t *testing.T) string {
	dir := t.TempDir()
	s, fresh, err := agent.LoadState(dir)
	if err != nil || !fresh {
		t.Fatal(fresh, err)
	}
	s.Fenced = true
	if err := s.Save(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDamagedStateIsMovedAside(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "state.json")
	if err := os.WriteFile(name, []byte(`{"nonce":"x","jo`), 0o600); err != nil {
		t.Fatal(err)
	}
	s, fresh, err := agent.LoadState(dir)
	if err != nil || !fresh || s.Nonce == "x" || s.Nonce == "" {
		t.Errorf("state %+v, fresh %v, %v", s, fresh, err)
	}
	if b, err := os.ReadFile(name + ".damaged"); err != nil || len(b) == 0 {
		t.Errorf("the damaged state is gone: %q, %v", b, err)
	}
}
