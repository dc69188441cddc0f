package redfish_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector/redfish"
)

func TestTrust(t *testing.T) {
	b := serve(t, "generic")
	sum := sha256.Sum256(b.server.Certificate().Raw)
	pin := hex.EncodeToString(sum[:])
	f := func(name string, change func(*redfish.Options), refused, mend string) {
		t.Helper()
		b.requests()
		s := b.site(change)
		if refused == "" {
			s.well()
			return
		}
		r, err := s.next()
		if d := s.devices(err); len(r) > 0 || len(d) != 1 || !strings.Contains(d[0], refused) {
			t.Errorf("%s: readings %v, errors %q; want one with %q", name, r, d, refused)
		}
		if m := s.Probe(t.Context()); len(m) != 1 || !strings.Contains(m[0].Mend, mend) {
			t.Errorf("%s: missing = %+v; want the mend %q", name, m, mend)
		}
		if seen := b.requests(); len(seen) > 0 {
			t.Errorf("%s: a controller that is not believed was asked %v", name, seen)
		}
	}
	f("authority", nil, "", "")
	f("pinned", func(o *redfish.Options) { o.CAFile, o.Fingerprint = "", pin }, "", "")
	f("pinned with colons", func(o *redfish.Options) {
		o.CAFile, o.Fingerprint = "", strings.ToUpper(pin[:2]+":"+pin[2:])
	}, "", "")
	f("other name", func(o *redfish.Options) { o.ServerName = "bmc.example.org" }, "bmc.example.org", "sources.redfish.ca_file")
	f("name given", func(o *redfish.Options) { o.ServerName = "example.com" }, "", "")
	f("unknown authority", func(o *redfish.Options) { o.CAFile = "" }, "unknown authority", pin)
	f("other certificate", func(o *redfish.Options) {
		o.CAFile, o.Fingerprint = "", strings.Repeat("ab", sha256.Size)
	}, pin, "sources.redfish.fingerprint")
}

func TestWrongAccount(t *testing.T) {
	b := serve(t, "generic")
	wrong := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(wrong, []byte("guess"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(*redfish.Options){
		func(o *redfish.Options) { o.PasswordFile = wrong },
		func(o *redfish.Options) { o.PasswordFile, o.Auth = wrong, redfish.Basic },
		func(o *redfish.Options) { o.User, o.PasswordFile = "", "" },
	} {
		s := b.site(change)
		r, err := s.next()
		if d := s.devices(err); len(r) > 0 || len(d) != 1 || !strings.Contains(d[0], "HTTP 401") {
			t.Errorf("readings %v, errors %q; want a 401", r, d)
		}
		if m := s.Probe(t.Context()); len(m) != 1 || !strings.Contains(m[0].Mend, "password_file") {
			t.Errorf("missing = %+v", m)
		}
	}
	absent := b.site(func(o *redfish.Options) { o.PasswordFile = "/nonexistent" })
	if m := absent.Probe(t.Context()); len(m) != 1 || !strings.Contains(m[0].Mend, "chgrp wattledger") {
		t.Errorf("missing = %+v", m)
	}
}

// TestNobodyElseGetsTheToken: neither a redirection nor a link leads the source,
// and its credentials, to another server.
func TestNobodyElseGetsTheToken(t *testing.T) {
	thief := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s was sent to somebody else with %v", r.Method, r.URL, r.Header)
	}))
	defer thief.Close()
	b := serve(t, "hgx-h100")
	s := b.site(nil)
	s.well()
	b.with(func() { b.moved[gpuMetrics(1)] = thief.URL + "/redfish" })
	if r, _ := s.next(); len(r) > 8 {
		t.Errorf("%d readings of a redirected controller", len(r))
	}
	b.with(func() { clear(b.moved) })
	s.well()
	b.edit("/redfish/v1/Systems/HGX_Baseboard_0/Processors/GPU_SXM_1", gpuMetrics(1), "@"+strings.TrimPrefix(thief.URL, "https://")+"/x")
	s.Probe(t.Context())
	r, err := s.next()
	if d := s.devices(err); len(r) != 8 || len(d) != 1 || !strings.Contains(d[0], "no path") {
		t.Errorf("%d readings, errors %q; want 8 and one that is no path", len(r), d)
	}
	// A redirection within the controller is followed.
	b.edit("/redfish/v1/Systems/HGX_Baseboard_0/Processors/GPU_SXM_1", "@"+strings.TrimPrefix(thief.URL, "https://")+"/x", "/redfish/v1/short")
	b.with(func() { b.moved["/redfish/v1/short"] = gpuMetrics(1) })
	s.Probe(t.Context())
	if r := s.well(); len(r) != 9 {
		t.Errorf("%d readings; want 9", len(r))
	}
}

// TestNoGuess: where it is not plain which power is the node's, there is none.
func TestNoGuess(t *testing.T) {
	f := func(name, text string, change func(*bmc), mended func(*redfish.Options)) {
		t.Helper()
		b := serve(t, "generic")
		change(b)
		s := b.site(nil)
		r, err := s.next()
		d := s.devices(err)
		if len(r) > 0 || len(d) == 0 || !strings.Contains(strings.Join(d, "\n"), text) {
			t.Errorf("%s: readings %v, errors %q; want none and %q", name, r, d, text)
		}
		e := s.Events()
		if len(e) != 1 || e[0].Kind != "scope_unknown" || e[0].Meter != "node-redfish" {
			t.Errorf("%s: events = %+v; want scope_unknown of node-bmc", name, e)
		}
		if r := b.site(mended).well(); len(r) != 1 {
			t.Errorf("%s: mended: %v; want one reading", name, r)
		}
	}
	second := func(b *bmc) {
		b.edit("/redfish/v1/Systems", `"@odata.id": "/redfish/v1/Systems/1"`, `"@odata.id": "/redfish/v1/Systems/1"},{"@odata.id": "/redfish/v1/Systems/2"`)
		b.with(func() { b.tree["/redfish/v1/Systems/2"] = `{"Id":"2"}` })
	}
	f("two systems", "sources.redfish.system", second, func(o *redfish.Options) { o.System = "1" })
	f("a shared chassis", "holds the systems 1, 2", func(b *bmc) {
		b.edit("/redfish/v1/Chassis/1", `"@odata.id": "/redfish/v1/Systems/1"`, `"@odata.id": "/redfish/v1/Systems/1"},{"@odata.id": "/redfish/v1/Systems/2"`)
	}, func(o *redfish.Options) { o.Chassis = "1" })
	f("two chassis", "sources.redfish.chassis", func(b *bmc) {
		for _, at := range []string{"/redfish/v1/Chassis", "/redfish/v1/Systems/1"} {
			b.edit(at, `"@odata.id": "/redfish/v1/Chassis/1"`, `"@odata.id": "/redfish/v1/Chassis/1"},{"@odata.id": "/redfish/v1/Chassis/2"`)
		}
		b.with(func() { b.tree["/redfish/v1/Chassis/2"] = b.tree["/redfish/v1/Chassis/1"] })
	}, func(o *redfish.Options) { o.Chassis = "1" })
}

func TestOptions(t *testing.T) {
	f := func(o redfish.Options, want ...string) {
		t.Helper()
		o.Now = time.Now
		_, err := redfish.New(o)
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%+v: error %v; want one with %q", o, err, w)
			}
		}
		if len(want) == 0 && err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	f(redfish.Options{URL: "https://169.254.0.17"})
	f(redfish.Options{URL: "https://[fe80::1%25usb0]:8443/", User: "u", PasswordFile: "p"})
	f(redfish.Options{URL: "http://127.0.0.1:8000"})
	f(redfish.Options{}, "url:")
	f(redfish.Options{URL: "http://bmc"}, "loopback")
	f(redfish.Options{URL: "https://user:secret@bmc"}, "url:")
	f(redfish.Options{URL: "https://bmc/redfish/v1"}, "url:")
	f(redfish.Options{URL: "https://bmc", User: "admin"}, "password_file")
	f(redfish.Options{URL: "https://bmc", CAFile: "c", Fingerprint: "abcd"}, "SHA-256", "one of them")
	f(redfish.Options{URL: "https://bmc", Every: time.Second, Timeout: time.Hour, Auth: "none"}, "every", "timeout", "auth")
}
