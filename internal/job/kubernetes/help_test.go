package kubernetes_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// gather finds a series by its metric and label values.
func gather(t testing.TB, n *node, name string, values ...string) prometheus.Collector {
	t.Helper()
	families, err := n.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "found"})
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			same := len(m.GetLabel()) == len(values)
			for i, l := range m.GetLabel() {
				same = same && l.GetValue() == values[i]
			}
			if same {
				g.Set(m.GetCounter().GetValue() + m.GetGauge().GetValue())
				return g
			}
		}
	}
	t.Fatalf("no series %s %v", name, values)
	return nil
}

// serveTLS serves over TLS and writes the certificate authority to a file.
func serveTLS(t *testing.T, ca *string, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	*ca = filepath.Join(t.TempDir(), "ca.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(*ca, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return srv.URL
}
