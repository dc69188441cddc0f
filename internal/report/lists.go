package report

import (
	"fmt"
	"io"
	"strconv"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
)

// Schemas of the lists for operators.
const (
	QuarantineSchema = "wattledger.quarantine/v1"
	NodesSchema      = "wattledger.nodes/v1"
	EventsSchema     = "wattledger.events/v1"
)

// Quarantine lists windows that could not be booked.
type Quarantine struct {
	Schema  string            `json:"schema"`
	Windows []QuarantinedLine `json:"windows"`
}

// QuarantinedLine is one of them.
type QuarantinedLine struct {
	ID      int64              `json:"id"`
	Cluster string             `json:"cluster"`
	Node    string             `json:"node"`
	Arrived string             `json:"arrived"`
	Start   string             `json:"start"`
	End     string             `json:"end"`
	Energy  energy.Millijoules `json:"energy_mj,string"`
	Reason  string             `json:"reason"`
	Settled bool               `json:"settled"` // re-posted since
}

// QuarantineOf makes the list, of one cluster or ("") of all.
func QuarantineOf(entries []ledger.QuarantineEntry, cluster string) Quarantine {
	out := Quarantine{Schema: QuarantineSchema, Windows: []QuarantinedLine{}}
	for _, e := range entries {
		if cluster == "" || cluster == e.Node.Cluster {
			out.Windows = append(out.Windows, QuarantinedLine{
				ID: e.ID, Cluster: e.Node.Cluster, Node: e.Node.Name, Arrived: stamp(e.AtMS),
				Start: stamp(e.StartMS), End: stamp(e.EndMS), Energy: e.Energy, Reason: e.Reason, Settled: e.Settled,
			})
		}
	}
	return out
}

// Waiting counts the windows that are not settled.
func (q *Quarantine) Waiting() int {
	n := 0
	for _, w := range q.Windows {
		if !w.Settled {
			n++
		}
	}
	return n
}

// WriteQuarantineText writes the list for a terminal.
func WriteQuarantineText(w io.Writer, q *Quarantine) error {
	if len(q.Windows) == 0 {
		return lines(w, "Quarantine is empty.")
	}
	rows := make([][]string, 0, len(q.Windows))
	for _, e := range q.Windows {
		state := "waits"
		if e.Settled {
			state = "settled"
		}
		rows = append(rows, []string{
			strconv.FormatInt(e.ID, 10), state, e.Cluster, e.Node, e.Start, e.End, e.Energy.KWh(), e.Reason,
		})
	}
	err := WriteTable(w, []Column{
		{Title: "id", Right: true},
		{Title: "state"},
		{Title: "cluster", Max: maxName},
		{Title: "node", Max: maxName},
		{Title: "start"},
		{Title: "end"},
		{Title: "kWh", Right: true},
		{Title: "reason"},
	}, rows)
	if err != nil {
		return err
	}
	return lines(w, "", fmt.Sprintf("%d of %d wait. To book one: wattledger quarantine repost ID [--as-unknown]", q.Waiting(), len(q.Windows)))
}

// RepostAnswer says what became of a window that was offered again.
type RepostAnswer struct {
	ID     int64  `json:"id"`
	Status string `json:"status"` // booked, or what else became of it
	Reason string `json:"reason"`
}

// Nodes lists what is known of nodes.
type Nodes struct {
	Schema string     `json:"schema"`
	Nodes  []NodeLine `json:"nodes"`
}

// NodeLine is one node. The incarnation is a string: it may use all 64 bits.
type NodeLine struct {
	Cluster     string  `json:"cluster"`
	Node        string  `json:"node"`
	Incarnation string  `json:"incarnation"`
	Last        *string `json:"last"` // end of the last booked window, null if none
	Fenced      int     `json:"fenced"`
	Conflicts   int     `json:"conflicts"`
}

// NodesOf makes the list, of one cluster or ("") of all.
func NodesOf(nodes []ledger.NodeStatus, cluster string) Nodes {
	out := Nodes{Schema: NodesSchema, Nodes: []NodeLine{}}
	for _, n := range nodes {
		if cluster == "" || cluster == n.Node.Cluster {
			out.Nodes = append(out.Nodes, NodeLine{
				Cluster: n.Node.Cluster, Node: n.Node.Name, Incarnation: strconv.FormatUint(n.Incarnation, 10),
				Last: maybeStamp(n.LastMS), Fenced: n.Fenced, Conflicts: n.Conflicts,
			})
		}
	}
	return out
}

// Events lists what a person should know.
type Events struct {
	Schema string      `json:"schema"`
	Events []EventLine `json:"events"`
}

// EventLine is one event.
type EventLine struct {
	At      string `json:"at"`
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	Kind    string `json:"kind"`
	Meter   string `json:"meter"`
	Detail  string `json:"detail"`
}

// EventsOf makes the list.
func EventsOf(rows []ledger.EventRow) Events {
	out := Events{Schema: EventsSchema, Events: []EventLine{}}
	for _, r := range rows {
		out.Events = append(out.Events, EventLine{
			At: stamp(r.Event.AtMS), Cluster: r.Node.Cluster, Node: r.Node.Name,
			Kind: r.Event.Kind, Meter: r.Event.Meter, Detail: r.Event.Detail,
		})
	}
	return out
}
