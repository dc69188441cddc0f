package agent_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/agent"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// acknowledge is what the sender does: all that is spooled is booked.
func (d *daemon) acknowledge() {
	d.Helper()
	_, seq, err := d.sp.Last()
	if err == nil {
		err = d.sp.Commit(seq)
	}
	if err != nil {
		d.Fatal(err)
	}
}

// newest is the newest window in the spool.
func (d *daemon) newest() *window.Window {
	d.Helper()
	rec, _, err := d.sp.Last()
	if err != nil {
		d.Fatal(err)
	}
	f, err := wire.DecodeFragment(rec, nil)
	if err != nil {
		d.Fatal(err)
	}
	return f.Windows[len(f.Windows)-1]
}

// killed gives the folder as SIGKILL would leave it, and the state in it.
func (d *daemon) killed() (string, agent.State) {
	d.Helper()
	synctest.Wait()
	dir := filepath.Join(d.TempDir(), "killed")
	if err := os.CopyFS(dir, os.DirFS(d.dir)); err != nil {
		d.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		d.Fatal(err)
	}
	var s agent.State
	if err := json.Unmarshal(b, &s); err != nil {
		d.Fatal(err)
	}
	return dir, s
}

// goesOn starts an agent on the folder and sees that its books begin where
// others ended.
func (d *daemon) goesOn(b *board, dir string, last *window.Window) {
	d.Helper()
	again := start(d.T, b, dir, nil)
	time.Sleep(21 * time.Second)
	ws := again.stop()
	if len(ws) == 0 || ws[0].StartMS != last.EndMS || ws[0].Ranges[0].From != last.Ranges[0].To {
		d.Errorf("the last window was %+v, the first of the next process is %+v", last, ws[:min(1, len(ws))])
		return
	}
	got := energy.Millijoules(0)
	for _, w := range ws {
		for _, p := range w.Postings {
			if p.Job >= 0 {
				got += p.Energy
			}
		}
	}
	if want := 300 * energy.Millijoules(ws[len(ws)-1].EndMS-last.EndMS); got < want-1 || got > want+1 {
		d.Errorf("the job has %d mJ after the restart, want %d", got, want)
	}
}

// The state is not written with each window: the newest record of the spool says
// where the odometers stand, booked or not. It is never far behind.
func TestStateBehindTheSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &board{born: clock()}
		d := start(t, b, t.TempDir(), nil)
		time.Sleep(3 * time.Second)
		d.tell("begin", "a")
		behind := 0
		for range 14 {
			time.Sleep(10 * time.Second)
			synctest.Wait()
			d.acknowledge()
			last := d.newest()
			dir, state := d.killed()
			switch late := last.EndMS - state.LastMS; {
			case late > 0 && late < time.Minute.Milliseconds():
				behind++
			case late != 0:
				t.Errorf("the state is %d ms behind the spool", late)
			}
			d.goesOn(b, dir, last)
		}
		d.stop()
		if behind < 8 {
			t.Errorf("after %d of 14 windows the state was not written", behind)
		}
	})
}

// A conflict takes the newest window out of the spool: the state must not rest
// on it any more.
func TestStateBeforeTheSpoolIsRewritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &board{born: clock()}
		d := start(t, b, t.TempDir(), nil)
		time.Sleep(3 * time.Second)
		d.tell("begin", "a")
		time.Sleep(45 * time.Second)
		synctest.Wait()
		last := d.newest()
		if _, state := d.killed(); state.LastMS == last.EndMS {
			t.Fatal("the state is not behind: nothing is tested")
		}
		if err := d.DropConflict(wire.Hash(last)); err != nil {
			t.Fatal(err)
		}
		dir, state := d.killed()
		if state.LastMS != last.EndMS {
			t.Errorf("the state is of %d, the window that was dropped ended at %d", state.LastMS, last.EndMS)
		}
		d.acknowledge()
		d.stop()
		again := start(t, b, dir, nil)
		time.Sleep(21 * time.Second)
		for _, w := range again.stop() {
			if w.EndMS > last.StartMS && w.StartMS < last.EndMS {
				t.Errorf("[%d, %d) is booked again", w.StartMS, w.EndMS)
			}
		}
	})
}

// A job that had ended in the books, of which this state did not know: no window
// of ours says so.
func TestStateOfAJobThatHadEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, &board{born: clock()}, t.TempDir(), nil)
		time.Sleep(3 * time.Second)
		d.tell("begin", "a")
		if err := d.HandleOpen(ledger.Opening{Incarnation: 7}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if err := d.HandleOpen(ledger.Opening{Incarnation: 7, LastMS: clock().UnixMilli()}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if _, state := d.killed(); len(state.Jobs.Open()) != 0 {
			t.Errorf("on the disk %+v is open", state.Jobs.Open())
		}
		d.stop()
	})
}

// A counter that began anew is no part of the window before.
func TestStateOfANewEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &renewed{board: &board{born: clock()}}
		d := start(t, src, t.TempDir(), nil)
		time.Sleep(33500 * time.Millisecond)
		src.later.Store(true)
		time.Sleep(time.Second)
		if _, state := d.killed(); !strings.HasPrefix(state.Starts["gpu0"].Epoch, "later@") {
			t.Errorf("the odometer on the disk is %+v", state.Starts["gpu0"])
		}
		d.stop()
	})
}

// renewed is a board whose driver can be loaded anew.
type renewed struct {
	*board
	later atomic.Bool
}

func (r *renewed) Read(ctx context.Context) ([]collector.Reading, error) {
	rs, err := r.board.Read(ctx)
	if r.later.Load() {
		rs[0].Epoch = "later"
	}
	return rs, err
}

// Killed while the state is behind: what the meter drew last shapes the outage
// all the same. It is not the mean of the window.
func TestOutageAfterAWindowThatWasNotSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &stepped{board: &board{}, at: clock()}
		src.set(600)
		d := start(t, src, t.TempDir(), nil)
		time.Sleep(25 * time.Second)
		src.set(60)
		time.Sleep(6 * time.Second)
		dir, state := d.killed()
		if last := d.newest(); state.LastMS == last.EndMS {
			t.Fatal("the state is not behind: nothing is tested")
		}
		d.stop()
		time.Sleep(20 * time.Second)
		began := clock()
		src.set(600)
		time.Sleep(25 * time.Second)
		d = start(t, src, dir, nil, job.Edge{Op: "begin", Witness: "file", Job: heldAs("gpu0"), AtNS: began.UnixNano()})
		time.Sleep(5 * time.Second)
		d.told(job.Edge{Op: "end", Witness: "epilog", Job: job.Spec{ID: "1"}})
		got := uses(d.stop())["1 busy"]
		if want := energy.Millijoules(30 * 600_000); got < want-want/200 || got > want+want/200 {
			t.Errorf("the job has %d mJ, want %d within half a percent", got, want)
		}
	})
}

// TestBookedLongAfterTheState: a window that is booked and ends an hour after the
// state was told before the clock was put back. The next process does not begin an
// hour ahead.
func TestBookedLongAfterTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &board{born: clock()}
		d := start(t, b, t.TempDir(), nil)
		time.Sleep(33 * time.Second)
		synctest.Wait()
		d.acknowledge()
		last := d.newest()
		dir, state := d.killed()
		d.stop()
		state.LastMS -= time.Hour.Milliseconds()
		text, err := json.Marshal(state)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "state.json"), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		again := start(t, b, dir, nil)
		time.Sleep(21 * time.Second)
		if ws := again.stop(); len(ws) == 0 || ws[0].StartMS >= last.EndMS {
			t.Errorf("it begins at %+v, after %d", ws[:min(1, len(ws))], last.EndMS)
		}
	})
}
