package agent

import (
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/sample"
	"github.com/wattledger/wattledger/internal/window"
)

// savedEvery is how far the state on the disk may be behind the newest window in
// the spool.
const savedEvery = time.Minute

// onDisk says how the state on the disk relates to the one in memory.
type onDisk struct {
	whole  bool   // it was as the one in memory when it was last written, by this process
	behind bool   // windows were spooled since
	edits  uint64 // of the table of jobs, as written
	starts map[string]sample.Start
	lastMS int64
}

// save writes the state as of the open window's start; where windows wait in
// memory, of the start of the first of them: if they are lost with this process,
// the next one meters them again.
func (a *Agent) save() {
	if len(a.pending) == 0 {
		a.state.Starts, a.state.LastMS = a.pipe.Ends()
	}
	a.state.Demoted = a.pipe.Demoted()
	a.state.Doubt = a.pipe.Doubted()
	err := a.state.Save(a.opt.StateDir)
	a.onDisk = onDisk{whole: err == nil, edits: a.state.Jobs.Edits(), starts: a.state.Starts, lastMS: a.state.LastMS}
	if err != nil {
		a.opt.Metrics.StateErrors.Inc()
		a.opt.Log.Error("the state was not saved", zap.Error(err))
	}
}

// saveAfter saves the state after windows were made durable, unless that adds
// nothing: a process that starts takes the state on the disk and moves it on to
// the end of the newest window in the spool (State.catchUp), committed or not,
// since the spool keeps its newest record. Where that gives the state in memory,
// which it does for any window in which every meter has a range, writing it
// would tell twice, with two more fsyncs, what the spool's own fsync has told.
// Whatever a window does not say (jobs, demotions, an incarnation) is written at
// once. And should the spool be lost while the state is not, the ledger's ends
// cut what was booked already, as for any state that is older than the books;
// savedEvery keeps that short.
func (a *Agent) saveAfter(ws []*window.Window) {
	starts, lastMS := a.pipe.Ends()
	if len(ws) != 1 || !a.onDisk.whole || lastMS-a.onDisk.lastMS >= savedEvery.Milliseconds() ||
		a.onDisk.edits != a.state.Jobs.Edits() || !slices.Equal(a.state.Demoted, a.pipe.Demoted()) ||
		!slices.Equal(a.state.Doubt, a.pipe.Doubted()) || !a.onDisk.leadsTo(ws[0], starts, lastMS) {
		a.save()
		return
	}
	a.state.Starts, a.state.LastMS, a.onDisk.behind = starts, lastMS, true
}

// saveBehind saves a state that rests on the newest window in the spool: before
// that is rewritten, or something else becomes its newest record.
func (a *Agent) saveBehind() {
	if a.onDisk.behind {
		a.save()
	}
}

// leadsTo tells whether the state on the disk, moved on to the end of a window, says that
// the odometers stand at starts. What a meter drew then is not compared: it
// shapes what is bridged, and the window tells it as well (drewIn). A counter's
// stamp is that of the window, in ms; an integral's must be exact.
func (d *onDisk) leadsTo(w *window.Window, starts map[string]sample.Start, lastMS int64) bool {
	then := State{Starts: maps.Clone(d.starts), LastMS: d.lastMS}
	then.advance(w)
	integrated := func(name string) bool {
		return slices.ContainsFunc(w.Catalogue.Meters, func(m window.Meter) bool { return m.Integrated && m.Name == name })
	}
	if then.LastMS != lastMS || len(then.Starts) != len(starts) {
		return false
	}
	for name, want := range starts {
		got, ok := then.Starts[name]
		if !integrated(name) {
			got.AtNS, want.AtNS = floorMS(got.AtNS), floorMS(want.AtNS)
		}
		got.Rate, want.Rate = 0, 0
		if !ok || got != want {
			return false
		}
	}
	return true
}
