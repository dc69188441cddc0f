package intake_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/wattledger/wattledger/internal/auth"
	"github.com/wattledger/wattledger/internal/intake"
	"github.com/wattledger/wattledger/internal/intake/intaketest"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

func TestNobodyWritesForAnotherNode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	tokens := `
- {name: n1, role: agent, cluster: c, node: n1, token: agent-1-0123456789}
- {name: all, role: agent, cluster: c, node: "*", token: agent-c-0123456789}
- {name: other, role: agent, cluster: d, node: "*", token: agent-d-0123456789}
- {name: grafana, role: reader, token: reader-0123456789}
- {name: boss, role: admin, token: admin-90123456789}
`
	if err := os.WriteFile(path, []byte(tokens), 0o600); err != nil {
		t.Fatal(err)
	}
	guard, err := auth.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, func(o *intake.Options) { o.Guard = guard })
	c, ws := intaketest.Windows(1, 1)
	f := func(authorization, node string, want int) {
		t.Helper()
		open, err := wire.EncodeOpenRequest(ledger.OpenRequest{Node: ledger.Node{Cluster: "c", Name: node}, Nonce: "n", Session: "s"})
		if err != nil {
			t.Fatal(err)
		}
		resp, _ := b.post(wire.PathOpen, open, "Authorization", authorization)
		code, _ := b.send(batch(t, head(node, 1), []*window.Catalogue{c}, ws...), "Authorization", authorization)
		if resp.StatusCode != want || code != want {
			t.Errorf("%q for %s: open %d, windows %d; want %d", authorization, node, resp.StatusCode, code, want)
		}
	}
	f("", "n1", http.StatusUnauthorized)
	f("Bearer nobody-0123456789", "n1", http.StatusUnauthorized)
	f("Basic agent-1-0123456789", "n1", http.StatusUnauthorized)
	f("Bearer agent-1-0123456789", "n2", http.StatusForbidden)
	f("Bearer agent-d-0123456789", "n1", http.StatusForbidden)
	f("Bearer reader-0123456789", "n1", http.StatusForbidden)
	f("Bearer admin-90123456789", "n1", http.StatusForbidden)
	f("Bearer agent-1-0123456789", "n1", http.StatusOK)
	f("bearer  agent-c-0123456789", "n2", http.StatusOK)
	if got := b.metric(intake.MetricForbidden); got != 8 {
		t.Errorf("forbidden = %v; want 8", got)
	}
	if n, _, _ := b.led.Booked(ledger.Node{Cluster: "c", Name: "n2"}); n != 1 {
		t.Errorf("n2 has %d windows; want 1", n)
	}
}
