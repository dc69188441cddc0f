package sender

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/failpoint"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/spool"
	"github.com/wattledger/wattledger/internal/wire"
)

// errReopen: the aggregator does not know the session.
var errReopen = errors.New("open again")

// Run delivers until ctx ends (nil), the spool is closed, or another agent takes
// over (ErrFenced).
func (s *Sender) Run(ctx context.Context) error {
	for {
		err := s.open(ctx)
		for err == nil {
			err = s.deliver(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case !errors.Is(err, errReopen):
			return err
		}
	}
}

// open introduces the agent until it is answered.
func (s *Sender) open(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		body, err := wire.EncodeOpenRequest(ledger.OpenRequest{
			Node: s.opts.Node, Incarnation: s.incarnation, Nonce: s.opts.Nonce, Session: s.opts.Session, NowMS: s.opts.Now().UnixMilli(),
		})
		if err != nil {
			return fmt.Errorf("cannot introduce this agent: %w", err)
		}
		r := s.post(ctx, wire.PathOpen, body)
		s.count(r)
		if r.code == http.StatusGone && r.ours() {
			return ErrFenced
		}
		if err = r.why(); r.code == http.StatusOK && r.proto {
			var o ledger.Opening
			var now int64
			if o, now, err = wire.DecodeOpening(r.body); err == nil {
				s.stamp(now)
				if err = s.opts.OnOpen(o); err == nil {
					s.incarnation = o.Incarnation
					clear(s.confirmed)
					s.pause.reset()
					return nil
				}
			}
		}
		if ctx.Err() == nil {
			s.opts.Log.Warn("cannot open at the aggregator; trying again", zap.String("url", s.opts.URL), zap.Error(err))
		}
		if err := s.wait(ctx, &s.pause, r.after); err != nil {
			return err
		}
	}
}

// ours tells whether a refusal is the aggregator's own, not one of a proxy.
func (r reply) ours() bool { return r.proto || r.reason != "" }

func (s *Sender) count(r reply) {
	switch {
	case r.code == http.StatusOK && r.proto:
		s.metrics.requests.WithLabelValues(resultOK).Inc()
		s.metrics.lastSuccess.Set(float64(s.opts.Now().UnixMilli()) / 1e3)
	case r.code >= 400 && r.code < 500 && r.code != http.StatusTooManyRequests:
		s.metrics.requests.WithLabelValues(resultRefused).Inc()
	default:
		s.metrics.requests.WithLabelValues(resultRetry).Inc()
	}
}

// deliver sends one request and does what its answer asks for.
func (s *Sender) deliver(ctx context.Context) error {
	if err := s.opts.Spool.Wait(ctx); err != nil {
		return err
	}
	_, last, records, err := s.opts.Spool.Next(s.opts.MaxBytes, s.limit)
	if errors.Is(err, spool.ErrEmpty) {
		return nil
	}
	if errors.Is(err, spool.ErrClosed) {
		return err
	}
	if err != nil {
		s.opts.Log.Error("cannot read the spool; trying again", zap.Error(err))
		return s.wait(ctx, &s.pause, 0)
	}
	c := &cargo{last: last, records: records}
	if bad, err := c.load(s); err != nil {
		return s.unreadable(ctx, c, bad, err)
	}
	failpoint.Hit(failpoint.SenderBeforeSend)
	r := s.post(ctx, wire.PathWindows, c.body)
	s.count(r)
	return s.answered(ctx, c, r)
}

// answered does what an answer asks for.
func (s *Sender) answered(ctx context.Context, c *cargo, r reply) error {
	var resp wire.Response
	if r.proto && r.code != 0 {
		var err error
		if resp, err = wire.DecodeResponse(r.body); err != nil {
			return s.again(ctx, reply{err: err})
		}
		s.stamp(resp.NowMS)
	}
	if r.code != http.StatusFailedDependency {
		s.lacking = false
	}
	switch {
	case r.code == http.StatusOK && r.proto,
		r.code == http.StatusConflict && r.proto && len(resp.Results) > 0:
		return s.booked(ctx, c, resp.Results)
	case r.code == http.StatusGone && r.ours():
		return ErrFenced
	case r.code == http.StatusPreconditionRequired && r.ours():
		s.opts.Spool.Release()
		return s.reopen(ctx)
	case r.code == http.StatusFailedDependency && r.ours():
		return s.catalogues(ctx, c)
	case r.code == http.StatusUnsupportedMediaType && !s.plain:
		s.plain = true // somebody on the way does not know zstd
		return nil
	case (r.code == http.StatusBadRequest && r.reason == wire.ReasonMalformed) ||
		(r.code == http.StatusRequestEntityTooLarge && (r.ours() || len(c.records) > 1)):
		return s.split(ctx, c, r.why().Error())
	}
	return s.again(ctx, r)
}

// reopen ends the session; after the first time only after a pause.
func (s *Sender) reopen(ctx context.Context) error {
	if s.reopening.times++; s.reopening.times > 1 {
		if err := s.wait(ctx, &s.reopening, 0); err != nil {
			return err
		}
	}
	return errReopen
}

// again waits and leaves everything as it is: what was sent may be booked.
func (s *Sender) again(ctx context.Context, r reply) error {
	if ctx.Err() == nil {
		s.opts.Log.Warn("the aggregator did not take the windows; trying again", zap.String("url", s.opts.URL), zap.Error(r.why()))
	}
	return s.wait(ctx, &s.pause, r.after)
}

// catalogues sends everything along next time; if that was done already, a
// record names a catalogue that it does not bring.
func (s *Sender) catalogues(ctx context.Context, c *cargo) error {
	clear(s.confirmed)
	if !s.lacking {
		s.lacking = true
		return nil
	}
	return s.split(ctx, c, "it names a catalogue that it does not bring")
}

// split halves the next request. A single record is kept aside.
func (s *Sender) split(ctx context.Context, c *cargo, reason string) error {
	s.opts.Spool.Release()
	if n := len(c.records); n > 1 {
		s.limit = n / 2
		return nil
	}
	return s.aside(ctx, c.last, c.records[0], reason)
}

// unreadable: our own record bad cannot be taken apart.
func (s *Sender) unreadable(ctx context.Context, c *cargo, bad int, err error) error {
	s.opts.Spool.Release()
	if bad > 0 {
		s.limit = bad // what is before it goes first
		return nil
	}
	_, last, records, nextErr := s.opts.Spool.Next(0, 1)
	if nextErr != nil {
		return s.again(ctx, reply{err: nextErr})
	}
	s.opts.Spool.Release()
	return s.aside(ctx, last, records[0], err.Error())
}

func (s *Sender) aside(ctx context.Context, seq spool.Seq, record []byte, reason string) error {
	s.opts.Log.Error("a record cannot be read by the aggregator and is kept aside", zap.Uint64("seq", uint64(seq)), zap.String("reason", reason))
	if err := s.opts.OnRefused(record, reason); err != nil {
		return s.again(ctx, reply{err: fmt.Errorf("cannot keep a refused record: %w", err)})
	}
	s.lacking = false
	return s.commit(seq)
}
