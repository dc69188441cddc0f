package sender

import (
	"context"
	"net/http"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/failpoint"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/spool"
	"github.com/wattledger/wattledger/internal/wire"
)

// cargo is what one request carries.
type cargo struct {
	last    spool.Seq
	records [][]byte
	windows []int // of each record
	body    []byte
	named   []uint64 // catalogues of the records
}

// load takes the records apart and makes the body: catalogues that the
// aggregator has are left out. bad is the record that cannot be read.
func (c *cargo) load(s *Sender) (bad int, err error) {
	c.body, err = wire.AppendHead(nil, wire.Head{
		Node: s.opts.Node, Incarnation: s.incarnation, Session: s.opts.Session, NowMS: s.opts.Now().UnixMilli(),
	})
	if err != nil {
		return 0, err
	}
	sent := map[uint64]bool{}
	for i, rec := range c.records {
		p, err := wire.SplitFragment(rec)
		if err != nil {
			return i, err
		}
		for _, cat := range p.Catalogues {
			if !sent[cat.ID] {
				sent[cat.ID] = true
				c.named = append(c.named, cat.ID)
				if !s.confirmed[cat.ID] {
					c.body = append(c.body, cat.Field...)
				}
			}
		}
		for _, w := range p.Windows {
			c.body = append(c.body, w...)
		}
		c.windows = append(c.windows, len(p.Windows))
	}
	return 0, nil
}

// booked lets go of the records whose windows are all taken; if a window was
// refused, the agent is asked what to do about it.
func (s *Sender) booked(ctx context.Context, c *cargo, results []ledger.Result) error {
	failpoint.Hit(failpoint.SenderAfterAck)
	taken := 0
	for taken < len(results) && isTaken(results[taken].Status) {
		if results[taken].Status == ledger.Quarantined {
			s.opts.OnQuarantined(results[taken])
		}
		taken++
	}
	whole, rest := 0, taken // records taken as a whole, and windows beyond them
	for whole < len(c.records) && rest >= c.windows[whole] {
		rest -= c.windows[whole]
		whole++
	}
	s.metrics.windows.Add(float64(taken))
	if taken > 0 {
		s.pause.reset()
		s.reopening = pause{}
	}
	if whole > 0 {
		s.apart = 0
		if err := s.commitFirst(c, whole); err != nil {
			s.opts.Log.Warn("the mark of the spool was not written: a restart sends again", zap.Error(err))
		}
	}
	if whole == len(c.records) {
		s.limit = min(s.opts.MaxRecords, 2*s.limit)
		s.confirm(c)
		return nil
	}
	if taken == len(results) { // fewer results than windows and no refusal
		return s.again(ctx, reply{code: http.StatusOK})
	}
	s.opts.Spool.Release()
	return s.refused(ctx, c.records[whole], rest, results[taken])
}

func isTaken(st ledger.Status) bool {
	return st == ledger.Booked || st == ledger.Duplicate || st == ledger.Quarantined
}

// commitFirst lets go of the first n records. They may be numbered with gaps, so
// the spool is asked for the number of the n-th.
func (s *Sender) commitFirst(c *cargo, n int) error {
	if n == len(c.records) {
		return s.commit(c.last)
	}
	_, last, records, err := s.opts.Spool.Next(s.opts.MaxBytes, n)
	if err != nil || len(records) > n {
		return err
	}
	return s.commit(last)
}

// confirm notes the catalogues that need not be sent again in this session.
func (s *Sender) confirm(c *cargo) {
	const most = 1024
	if len(s.confirmed) > most {
		clear(s.confirmed)
	}
	for _, id := range c.named {
		s.confirmed[id] = true
	}
}

// refused asks the agent about a window that is apart or in conflict: the i-th
// of a record that now is the head of the spool.
func (s *Sender) refused(ctx context.Context, record []byte, i int, r ledger.Result) error {
	var err error
	switch r.Status {
	case ledger.Fenced:
		return ErrFenced
	case ledger.Reopen:
		return s.reopen(ctx)
	case ledger.Apart:
		err = s.opts.OnApart(r.Ends)
	default:
		s.opts.Log.Error("a window is booked with other content", zap.String("reason", r.Reason))
		err = s.conflict(record, i, r)
	}
	s.apart++
	if err != nil {
		return s.again(ctx, reply{err: err})
	}
	if s.apart >= patience {
		s.opts.Log.Warn("the aggregator refuses the same windows again; trying on", zap.Stringer("status", r.Status), zap.Int("times", s.apart))
		return s.wait(ctx, &s.pause, 0)
	}
	return nil
}

// patience is how often the same head is sent again without a pause.
const patience = 3

func (s *Sender) conflict(record []byte, i int, r ledger.Result) error {
	f, err := wire.DecodeFragment(record, nil)
	if err != nil {
		return err
	}
	if i >= len(f.Windows) {
		return nil
	}
	return s.opts.OnConflict(wire.Hash(f.Windows[i]), r)
}
