package agent

import (
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/sample"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// HandleOpen takes the aggregator's answer, before any window is sent: a fresh
// state bridges from the ledger's ends, a kept one makes sure that what it holds
// still joins.
func (a *Agent) HandleOpen(o ledger.Opening) error {
	return a.whenMetering(func() error {
		err := a.restamp()
		if err != nil {
			return err
		}
		if a.state.Incarnation == 0 {
			err = a.land(o)
		} else {
			err = a.realign(o)
		}
		if err != nil {
			return err
		}
		if a.state.Incarnation != o.Incarnation {
			a.state.Incarnation = o.Incarnation
			a.save()
		}
		return nil
	})
}

// HandleApart takes the ledger's ends after a refusal and fits the spool to
// them.
func (a *Agent) HandleApart(ends []ledger.End) error {
	return a.whenMetering(func() error { return a.realign(ledger.Opening{Ends: ends}) })
}

// HandleFenced makes sure that this state does not go on by itself.
func (a *Agent) HandleFenced() {
	a.do(func() {
		a.state.Fenced = true
		a.save()
	})
}

// whenMetering runs f, which may change what is spooled, in the loop once there
// was a reading.
func (a *Agent) whenMetering(f func() error) error {
	res := make(chan error, 1)
	ok := a.do(func() {
		run := func() { a.saveBehind(); res <- f() }
		if a.pipe.Tree() == nil {
			a.deferred = append(a.deferred, run)
			return
		}
		run()
	})
	if !ok {
		return fmt.Errorf("cannot take the aggregator's answer: %w", errStopping)
	}
	select {
	case err := <-res:
		return err
	case <-a.done:
		return fmt.Errorf("cannot take the aggregator's answer: %w", errStopping)
	}
}

// land bridges from the books of a state that is lost to this state's own. The
// bridge lies in the old odometers, so it needs no place before what is spooled.
func (a *Agent) land(o ledger.Opening) error {
	newest := map[string]ledger.End{}
	for _, e := range o.Ends {
		if n, ok := newest[e.Meter]; !ok || e.AtMS > n.AtMS {
			newest[e.Meter] = e
		}
	}
	var ends []ledger.End
	to := map[string]Landfall{}
	for name, b := range a.state.Births {
		e, ok := newest[name]
		if !ok || e.Epoch == sample.EpochOf(b.Epoch, b.AtMS*1e6) {
			continue // nothing booked yet, or what is booked is ours
		}
		s, ok := a.pipe.Scope(name)
		if !ok || s.Kind == collector.Power {
			continue // an integral ends with its state
		}
		ends = append(ends, e)
		to[name] = Landfall{
			Scope: s, Epoch: b.Epoch, Raw: energy.Microjoules(b.Raw),
			AtMS: b.AtMS + a.skew.Milliseconds() - b.SkewMS, // by today's idea of the time
		}
	}
	for name, e := range newest {
		if _, born := a.state.Births[name]; !born && e.Raw+e.UJ > 0 {
			a.pipe.Await(e) // it may come back: its counter may have gone on
		}
	}
	slices.SortFunc(ends, func(x, y ledger.End) int { return compareStrings(x.Meter, y.Meter) })
	here := a.state.Jobs.Open()
	ws := Bridge(a.opt.Pipeline, ends, to, KnownAtBothEnds(o.Jobs, o.Holdings, here))
	if len(ws) > 0 {
		a.opt.Log.Info("bridging from the ledger's ends", zap.Int("windows", len(ws)))
		if err := a.append(ws); err != nil {
			return err
		}
	}
	a.pipe.Doubt(a.heldElsewhere(o))
	return nil
}

// heldElsewhere names the devices of jobs that the ledger saw open and that
// nobody has told this state of.
func (a *Agent) heldElsewhere(o ledger.Opening) []string {
	var out []string
	for _, h := range o.Holdings {
		j := o.Jobs[h.Job]
		if slices.ContainsFunc(a.state.Jobs.Open(), func(al jobAllocation) bool { return al.ID == j.ID && al.Restart == j.Restart }) {
			continue
		}
		for _, d := range h.Devices {
			if d.Device != "node" {
				out = append(out, d.Device)
				continue
			}
			for _, n := range a.pipe.Tree().Nodes {
				out = append(out, n.Name)
			}
		}
	}
	return out
}

// realign fits what is spooled and what is open to the ledger's ends.
func (a *Agent) realign(o ledger.Opening) error {
	ends := map[odometer]ledger.End{}
	for _, e := range o.Ends {
		ends[odometer{e.Meter, e.Epoch}] = e
	}
	ended := a.endedMeanwhile(o)
	known := a.state.Jobs.Open()
	if len(o.Jobs) > 0 || len(o.Holdings) > 0 {
		known = KnownAtBothEnds(o.Jobs, o.Holdings, known)
	}
	if a.opt.Spool.Len() > 0 {
		err := a.opt.Spool.Rewrite(func(records [][]byte) ([][]byte, error) {
			return a.realignRecords(records, ends, known, ended)
		})
		if err != nil {
			return fmt.Errorf("cannot fit the spool to the ledger: %w", err)
		}
	}
	virtual := a.pipe.OpenEdges()
	if virtual == nil {
		return nil
	}
	behind, to := gaps(virtual, ends, a.pipe.Scopes())
	if len(behind) > 0 {
		ws := Bridge(a.opt.Pipeline, behind, to, known)
		a.opt.Log.Info("bridging what the ledger lost", zap.Int("windows", len(ws)))
		if err := a.append(ws); err != nil {
			return err
		}
	}
	if a.pipe.Anchor(ends) {
		a.save()
	}
	return nil
}

// realignRecords rewrites spool records; records that join stay as they are.
func (a *Agent) realignRecords(records [][]byte, ends map[odometer]ledger.End, known []jobAllocation, ended map[window.Job]int64) ([][]byte, error) {
	var out [][]byte
	for _, rec := range records {
		f, err := wire.DecodeFragment(rec, nil)
		if err != nil {
			return nil, err
		}
		fitted := Realign(a.opt.Pipeline, f.Windows, ends, a.pipe.Scopes(), known)
		if !disown(fitted, ended) && slices.Equal(fitted, f.Windows) {
			out = append(out, rec)
			continue
		}
		a.opt.Metrics.realigned(len(f.Windows), len(fitted))
		recs, err := encodeRecords(fitted)
		if err != nil {
			return nil, err
		}
		out = append(out, recs...)
	}
	return out, nil
}

// endedMeanwhile ends the jobs that this state holds open although the ledger
// saw them end: the state was rolled back. It gives them by key, with the time.
func (a *Agent) endedMeanwhile(o ledger.Opening) map[window.Job]int64 {
	ended := map[window.Job]int64{}
	if o.LastMS == 0 || o.LastMS <= a.rolledTo {
		return ended
	}
	for _, al := range a.state.Jobs.Open() {
		if al.From >= o.LastMS*1e6 || slices.ContainsFunc(o.Holdings, func(h window.Holding) bool {
			return o.Jobs[h.Job].ID == al.ID && o.Jobs[h.Job].Restart == al.Restart
		}) {
			continue
		}
		if err := a.pipe.Disown(al.ID, time.UnixMilli(o.LastMS)); err != nil {
			continue
		}
		ended[window.Job{ID: al.ID, Restart: al.Restart}] = o.LastMS
		a.pipe.Note(a.now(), "ended_before_rollback", "job "+al.ID+" had ended in the books; this agent's state is older than they are")
		a.opt.Log.Warn("this agent's state is older than the books: a job that it holds open had ended", zap.String("job", al.ID))
	}
	return ended
}

// disown takes what windows post to ended jobs after their end and gives it to
// nobody who is known.
func disown(ws []*window.Window, ended map[window.Job]int64) bool {
	changed := false
	for _, w := range ws {
		for i, p := range w.Postings {
			if p.Job < 0 {
				continue
			}
			j := w.Jobs[p.Job]
			at, gone := ended[window.Job{ID: j.ID, Restart: j.Restart}]
			if !gone || w.StartMS < at {
				continue
			}
			w.Postings[i].Job, w.Postings[i].Use = -1, energy.Unknown
			w.Postings[i].Grade = p.Grade.Worse(energy.Bridged)
			changed = true
		}
		if changed {
			w.Holdings = slices.DeleteFunc(slices.Clone(w.Holdings), func(h window.Holding) bool {
				_, gone := ended[window.Job{ID: w.Jobs[h.Job].ID, Restart: w.Jobs[h.Job].Restart}]
				return gone
			})
		}
	}
	return changed
}

// DropConflict takes a window out of the spool whose ranges the ledger has
// booked with other content: nothing of it is left to book.
func (a *Agent) DropConflict(hash uint64) error {
	return a.whenMetering(func() error {
		return a.opt.Spool.Rewrite(func(records [][]byte) ([][]byte, error) {
			var out [][]byte
			for _, rec := range records {
				f, err := wire.DecodeFragment(rec, nil)
				if err != nil {
					return nil, err
				}
				kept := slices.DeleteFunc(slices.Clone(f.Windows), func(w *window.Window) bool { return wire.Hash(w) == hash })
				if len(kept) == len(f.Windows) {
					out = append(out, rec)
					continue
				}
				a.pipe.Note(a.opt.Now(), "conflict", "a window was dropped: its ranges are booked with other content")
				recs, err := encodeRecords(kept)
				if err != nil {
					return nil, err
				}
				out = append(out, recs...)
			}
			return out, nil
		})
	})
}
