package site

import (
	"fmt"
	"net/http"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/wire"
)

// agentLink is what the agent of a node knows of its link.
type agentLink struct {
	boot        int // of the state it has
	open        bool
	met         bool // the books were asked how far they are
	past        bool // the books know a later boot: all of this one is in them
	incarnation uint64
	known       uint64 // the catalogue that the aggregator has
	knows       uint64 // that it has once the request under way is taken
	resumeMS    int64  // the books hold all before; 0 where they held nothing
	pending     []built
}

// booted: the node came back without the state of its agent.
func (l *agentLink) booted(_ *Site, _ *node) { l.open = false }

// nonce names the agent's state: that of the site, node and boot.
func (l *agentLink) nonce(s *Site, n *node) string {
	return fmt.Sprintf("%s-%d-%d", s.digest, n.index, l.boot)
}

// open introduces the agent, and finds out how far the books are.
func (w *worker) open(n *node) error {
	l := &n.link
	l.boot, l.past = l.pending[0].boot, false
	request := ledger.OpenRequest{
		Node: ledger.Node{Cluster: w.s.o.Cluster, Name: n.name}, Nonce: l.nonce(w.s, n), Session: l.nonce(w.s, n),
		NowMS: w.s.o.Now().UnixMilli() + n.skew,
	}
	body, err := wire.EncodeOpenRequest(request)
	if err != nil {
		return err
	}
	w.body = append(w.body[:0], body...)
	code, answer, err := w.ask(wire.PathOpen, n)
	switch {
	case err != nil:
		return err
	case code == http.StatusGone:
		l.open, l.past = true, true
		return nil
	case code != http.StatusOK:
		return fmt.Errorf("cannot open for node %s: the aggregator answers %d: %s", n.name, code, shorten(answer))
	}
	o, _, err := wire.DecodeOpening(answer)
	if err != nil {
		return fmt.Errorf("cannot open for node %s: %w", n.name, err)
	}
	l.open, l.incarnation, l.known = true, o.Incarnation, 0
	if l.met {
		return nil
	}
	l.met = true
	return w.resume(n, o)
}

// resume passes over what the books hold already, if it is of this site.
func (w *worker) resume(n *node, o ledger.Opening) error {
	l := &n.link
	begins := w.s.first + n.skew
	if o.LastMS <= begins {
		return nil
	}
	for _, e := range o.Ends {
		if len(e.Epoch) < len(w.s.digest) || e.Epoch[:len(w.s.digest)] != w.s.digest {
			return fmt.Errorf("the books already hold node %s up to %s, and not from this simulation: choose another --cluster, or a later --start",
				n.name, time.UnixMilli(o.LastMS).UTC().Format(time.RFC3339))
		}
	}
	l.resumeMS = o.LastMS
	return nil
}

// exchange sends the request that load made and takes its results.
func (w *worker) exchange(n *node, count int) error {
	code, answer, err := w.ask(wire.PathWindows, n)
	if err != nil {
		return err
	}
	switch code {
	case http.StatusOK:
	case http.StatusFailedDependency: // it has forgotten the catalogue
		n.link.known = 0
		w.s.retries.Add(1)
		return nil
	case http.StatusPreconditionRequired: // it does not know the session
		n.link.open = false
		w.s.retries.Add(1)
		return nil
	default:
		return w.refused(n, code, answer)
	}
	r, err := wire.DecodeResponse(answer)
	if err != nil || len(r.Results) != count {
		return fmt.Errorf("node %s: the aggregator answers %d windows with %d results: %w", n.name, count, len(r.Results), err)
	}
	for _, x := range r.Results {
		switch x.Status {
		case ledger.Booked:
		case ledger.Duplicate:
			w.s.repeated.Add(1)
		default:
			return fmt.Errorf("node %s: a window was %s: %s", n.name, x.Status, x.Reason)
		}
	}
	n.link.known = n.link.knows
	if f := n.faults[faultDuplicate]; f != nil && n.link.pending[0].endMS-n.skew > f.from && n.link.pending[0].endMS-n.skew <= f.to {
		if err := w.again(n, count); err != nil {
			return err
		}
	}
	w.booked(n, count)
	return nil
}

// again sends the request once more, as an agent does that did not hear the
// answer: every window has to be known.
func (w *worker) again(n *node, count int) error {
	code, answer, err := w.ask(wire.PathWindows, n)
	if err != nil {
		return err
	}
	r, err := wire.DecodeResponse(answer)
	if code != http.StatusOK || err != nil || len(r.Results) != count {
		return nil // sent in vain: the books hold it already
	}
	for _, x := range r.Results {
		if x.Status != ledger.Duplicate {
			return fmt.Errorf("node %s: a window that was sent twice was %s: %s", n.name, x.Status, x.Reason)
		}
		w.s.repeated.Add(1)
	}
	return nil
}

func (w *worker) refused(n *node, code int, answer []byte) error {
	why := shorten(answer)
	if r, err := wire.DecodeResponse(answer); err == nil && len(r.Results) > 0 {
		x := r.Results[len(r.Results)-1]
		why = x.Status.String() + ": " + x.Reason
	}
	return fmt.Errorf("node %s: the aggregator refuses its windows with %d: %s", n.name, code, why)
}

// ask posts the body until there is an answer that means something.
func (w *worker) ask(path string, n *node) (code int, answer []byte, err error) {
	pause := 50 * time.Millisecond
	for {
		begin := w.s.o.Now()
		code, answer, err = w.conn.post(w.send, path, w.packed(), len(w.body) >= compressAt)
		if err == nil && code != http.StatusServiceUnavailable && code != http.StatusBadGateway && code != http.StatusGatewayTimeout {
			if path == wire.PathWindows {
				w.s.acks.add(w.s.o.Now().Sub(begin))
				w.s.bytes.Add(int64(len(w.body)))
			}
			return code, answer, nil
		}
		w.s.retries.Add(1)
		if w.send.Err() != nil {
			return 0, nil, w.send.Err()
		}
		// agents do not come back all at once
		if err := sleep(w.send, pause+pause*time.Duration(mix(n.seed+uint64(begin.UnixNano()))%1000)/1000); err != nil {
			return 0, nil, err
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// packed is the body as it is sent.
func (w *worker) packed() []byte {
	if len(w.body) < compressAt {
		return w.body
	}
	if w.zip == nil {
		// bounded memory and one goroutine: there may be thousands of workers
		z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10))
		if err != nil {
			return w.body
		}
		w.zip = z
	}
	return w.zip.EncodeAll(w.body, nil)
}

func shorten(b []byte) string {
	if len(b) > 200 {
		b = b[:200]
	}
	return string(b)
}
