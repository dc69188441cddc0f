package auth_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wattledger/wattledger/internal/auth"
)

func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRoles(t *testing.T) {
	sum := sha256.Sum256([]byte("agent-0123456789abc"))
	g, err := auth.Load(write(t, `
- {name: a, role: agent, cluster: c, node: [n1, n2], sha256: `+hex.EncodeToString(sum[:])+`}
- {name: r, role: reader, token: reader-0123456789}
- {name: x, role: admin, token: admin-90123456789}
`, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	f := func(token string, reader, admin int) {
		t.Helper()
		for _, c := range []struct {
			h    http.Handler
			want int
		}{{g.Reader(ok), reader}, {g.Admin(ok), admin}} {
			r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			w := httptest.NewRecorder()
			c.h.ServeHTTP(w, r)
			if w.Code != c.want {
				t.Errorf("%q: %d; want %d", token, w.Code, c.want)
			}
		}
	}
	f("", 401, 401)
	f("wrong-0123456789", 401, 401)
	f("agent-0123456789abc", 403, 403)
	f("reader-0123456789", 200, 403)
	f("admin-90123456789", 200, 200)
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.Header.Set("Authorization", "Bearer agent-0123456789abc")
	id, err := g.Identify(r)
	if err != nil || !id.MayWrite("c", "n2") || id.MayWrite("c", "n3") || id.MayWrite("d", "n1") || id.MayWrite("c", "*") {
		t.Errorf("%+v, %v", id, err)
	}
	g = auth.Everybody()
	f("", 200, 200)
}

func TestFaultsAreNamed(t *testing.T) {
	f := func(text string, mode os.FileMode, wants ...string) {
		t.Helper()
		_, err := auth.Load(write(t, text, mode))
		if err == nil {
			t.Errorf("%s: no error", text)
			return
		}
		for _, want := range wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v\nwant %q in it", text, err, want)
			}
		}
	}
	f("- {name: a, role: root, token: short}\n- {role: agent, cluster: '*', token: agent-0123456789}\n", 0o600,
		`role: "root" is not agent, reader or admin`, "token: has 5 characters", "name: is empty", `cluster: "*" is not the name of one cluster`, "node: is empty")
	f("- {name: a, role: reader, node: n, sha256: 00ff}", 0o600, "mean nothing for a reader", "is not 64 hexadecimal digits")
	f("- {name: a, role: reader, token: reader-0123456789}\n- {name: b, role: admin, token: reader-0123456789}", 0o600, `the token of "a" is also that of "b"`)
	f("- {name: a, role: reader, token: reader-0123456789}", 0o644, "chmod 0400")
	f("- {name: a, role: reader, tokens: x}", 0o600, "tokens")
	f("# nothing\n", 0o600, "holds no token")
}

func TestReloadKeepsTheOldAfterAnError(t *testing.T) {
	path := write(t, "- {name: r, role: reader, token: reader-0123456789}", 0o600)
	g, err := auth.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	known := func(token string) bool {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Header.Set("Authorization", "Bearer "+token)
		_, err := g.Identify(r)
		return err == nil
	}
	if err := os.WriteFile(path, []byte("- nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(); err == nil || !known("reader-0123456789") {
		t.Errorf("err %v; the old token must stay", err)
	}
	if err := os.WriteFile(path, []byte("- {name: r, role: reader, token: other-10123456789}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(); err != nil || known("reader-0123456789") || !known("other-10123456789") {
		t.Errorf("err %v; the new token must be in force, the old one not", err)
	}
}
