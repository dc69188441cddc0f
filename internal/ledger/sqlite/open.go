package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

const (
	maxPast   = 16   // sessions remembered as fenced
	maxEvents = 1000 // kept per node
)

func checkOpen(r ledger.OpenRequest) error {
	switch {
	case r.Node.Cluster == "" || r.Node.Name == "":
		return errors.New("a cluster and a node name are needed")
	case len(r.Node.Cluster) > window.MaxName || len(r.Node.Name) > window.MaxName:
		return fmt.Errorf("no name may be longer than %d bytes", window.MaxName)
	case r.Session == "" || len(r.Session) > window.MaxName || len(r.Nonce) > window.MaxName:
		return fmt.Errorf("a session is needed, and it and the nonce may not be longer than %d bytes", window.MaxName)
	case r.Incarnation > 1<<62:
		return fmt.Errorf("incarnation %d is out of range", r.Incarnation)
	}
	return nil
}

func (t *tx) newNode(r ledger.OpenRequest) (*nodeState, error) {
	cl, err := t.c.cluster(r.Node.Cluster, true)
	if err != nil {
		return nil, err
	}
	// A node with an incarnation that this ledger never saw: the ledger was
	// lost. It is taken over, so that older copies of the agent stay fenced.
	n := &nodeState{
		id: t.c.id("node"), cluster: cl, name: r.Node,
		incarnation: max(1, r.Incarnation), nonce: r.Nonce, session: r.Session,
	}
	if err := t.putNode(n); err != nil {
		return nil, err
	}
	t.c.nodes[r.Node] = n
	t.touchNode(n)
	return n, nil
}

// enter decides on the open request of a known node.
func (t *tx) enter(n *nodeState, r ledger.OpenRequest) (bool, error) {
	inc, nonce := n.incarnation, n.nonce
	switch {
	case slices.Contains(n.past, r.Session) && r.Session != n.session:
		return false, t.fence(n, r.NowMS, "a session that was taken over opened again")
	case r.Incarnation == 0 && r.Nonce != n.nonce:
		inc, nonce = n.incarnation+1, r.Nonce
	case r.Incarnation == 0:
	case r.Incarnation < n.incarnation:
		return false, t.fence(n, r.NowMS, fmt.Sprintf("incarnation %d opened, the node is at %d", r.Incarnation, n.incarnation))
	case r.Incarnation > n.incarnation:
		inc, nonce = r.Incarnation, r.Nonce // this ledger was restored from a backup
	}
	if inc == n.incarnation && r.Session == n.session {
		return true, nil
	}
	if r.Session != n.session {
		n.past = append(n.past, n.session)
		n.past = n.past[max(0, len(n.past)-maxPast):]
	}
	n.incarnation, n.nonce, n.session = inc, nonce, r.Session
	return true, t.putNode(n)
}

// fence counts a refusal.
func (t *tx) fence(n *nodeState, atMS int64, detail string) error {
	n.fenced++
	if err := t.event(n, window.Event{AtMS: atMS, Kind: "fenced", Detail: detail}); err != nil {
		return err
	}
	return t.putNode(n)
}

func (t *tx) putNode(n *nodeState) error {
	past, err := json.Marshal(n.past)
	if err != nil {
		return err
	}
	return t.w.exec(`INSERT INTO node(id, cluster_id, name, incarnation, nonce, session, past, fenced, conflicts)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET incarnation = excluded.incarnation, nonce = excluded.nonce,
		session = excluded.session, past = excluded.past, fenced = excluded.fenced, conflicts = excluded.conflicts`,
		n.id, n.cluster.id, n.name.Name, int64(n.incarnation), n.nonce, n.session, string(past), n.fenced, n.conflicts)
}

// event stores an event and forgets the oldest of the node's.
func (t *tx) event(n *nodeState, e window.Event) error {
	err := t.w.exec("INSERT INTO event(id, node_id, at_ms, kind, meter, detail) VALUES (?, ?, ?, ?, ?, ?)",
		t.c.id("event"), n.id, e.AtMS, cut(e.Kind), cut(e.Meter), cut(e.Detail))
	if err != nil {
		return err
	}
	if n.events++; n.events < maxEvents/10 {
		return nil
	}
	n.events = 0
	return t.w.exec(`DELETE FROM event WHERE node_id = ? AND id <= (
		SELECT id FROM event WHERE node_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)`, n.id, n.id, int64(maxEvents))
}

// cut bounds a text that came from outside.
func cut(s string) string {
	if len(s) > window.MaxName {
		s = s[:window.MaxName]
	}
	return strings.ToValidUTF8(s, "?")
}

func (n *nodeState) opening() (ledger.Opening, error) {
	o := ledger.Opening{Incarnation: n.incarnation, Ends: n.allEnds(), LastMS: n.lastMS}
	var err error
	if o.Jobs, o.Holdings, err = decodeHeld(n.held); err != nil {
		return o, fmt.Errorf("cannot read what node %s held: %w", n.name.Name, err)
	}
	return o, nil
}

func (n *nodeState) allEnds() []ledger.End {
	ends := make([]ledger.End, len(n.ends))
	for i, o := range n.ends {
		ends[i] = o.end
	}
	return ends
}
