package agent

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// now is the time that is booked: the node's clock, or the aggregator's where
// the node's is not believed.
func (a *Agent) now() time.Time { return a.opt.Now().Add(a.skew) }

// watchClock compares the wall with the monotonic clock since the last tick.
func (a *Agent) watchClock() {
	now := a.opt.Now()
	if !a.prev.IsZero() {
		step := now.Round(0).Sub(a.prev.Round(0)) - now.Sub(a.prev)
		if step > clockStep || step < -clockStep {
			a.stepped(step)
		}
	}
	a.prev = now
}

// stepped takes a step of the node's clock. Where the books ran on a corrected
// clock, the step is (part of) the correction, and the books do not move by it.
func (a *Agent) stepped(step time.Duration) {
	a.opt.Log.Warn("the clock was stepped: windows move, energy does not", zap.Duration("by", step))
	if a.skew == 0 {
		a.pipe.Step(step)
		return
	}
	a.skew -= step
	if a.skew < clockOff && a.skew > -clockOff { // it is right again: what is left is small
		a.pipe.Step(-a.skew)
		a.skew = 0
	}
}

// believeClock corrects a clock that is further off the aggregator's than may
// be. Stamps in memory move along. It waits for the answer to the opening, which
// moves what is spooled, too.
func (a *Agent) believeClock() {
	if a.opt.Offset == nil || !a.opened {
		return
	}
	off, ok := a.opt.Offset()
	if !ok || (off < clockOff && off > -clockOff) {
		return
	}
	if d := off - a.skew; d > time.Minute || d < -time.Minute {
		a.opt.Log.Warn("the clock is far off the aggregator's: its time is used until the clock is set right", zap.Duration("off", off))
		a.pipe.Step(d)
		a.pipe.Note(a.now(), "clock_off", fmt.Sprintf("the node's clock is %s off the aggregator's", off.Round(time.Second)))
		a.skew = off
	}
}

// restamp moves what was spooled under a clock that turned out to be wrong, by
// whole slots, so that a window stays within one; its spread in time is assumed.
// Nothing of it was sent yet.
func (a *Agent) restamp() error {
	before := a.skew
	a.opened = true
	a.believeClock()
	d := (a.skew - before).Round(window.SlotMS * time.Millisecond)
	if d == 0 || a.opt.Spool.Len() == 0 {
		return nil
	}
	err := a.opt.Spool.Rewrite(func(records [][]byte) ([][]byte, error) {
		var out [][]byte
		for _, rec := range records {
			f, err := wire.DecodeFragment(rec, nil)
			if err != nil {
				return nil, err
			}
			for _, w := range f.Windows {
				shift(w, d.Milliseconds())
			}
			recs, err := encodeRecords(f.Windows)
			if err != nil {
				return nil, err
			}
			out = append(out, recs...)
		}
		return out, nil
	})
	if err != nil {
		return fmt.Errorf("cannot stamp anew what was spooled under a wrong clock: %w", err)
	}
	a.save()
	return nil
}

// shift moves a window in time.
func shift(w *window.Window, ms int64) {
	w.StartMS, w.EndMS = w.StartMS+ms, w.EndMS+ms
	for i := range w.Ranges {
		w.Ranges[i].FromMS += ms
		w.Ranges[i].ToMS += ms
	}
	for i := range w.Postings {
		w.Postings[i].Grade = w.Postings[i].Grade.Worse(energy.Bridged)
	}
	for i := range w.Jobs {
		w.Jobs[i].StartMS += ms
		if w.Jobs[i].EndMS != 0 {
			w.Jobs[i].EndMS += ms
		}
	}
	for i := range w.Events {
		w.Events[i].AtMS += ms
	}
	for i := range w.Telemetry {
		w.Telemetry[i].StartMS += ms
	}
}

// endJobsOfEarlierBoot ends the jobs that the state holds open from before a
// reboot, when the books were last written: a job does not outlive its machine.
func (a *Agent) endJobsOfEarlierBoot() {
	st := a.state
	if st.BootID != "" && a.opt.BootID != "" && st.BootID != a.opt.BootID {
		at := time.UnixMilli(st.LastMS)
		for _, al := range st.Jobs.Open() {
			if _, err := a.pipe.End(al.ID, at); err == nil {
				a.pipe.Note(at, "ended_by_reboot", "job "+al.ID+" was running when the node went down")
				a.opt.Log.Warn("a job ended with its machine", zap.String("job", al.ID))
			}
		}
	}
	st.BootID = a.opt.BootID
}
