//go:build lab

package slurm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/accounting"
)

// labFaults asks real daemons in wrong ways.
func labFaults(t *testing.T, l lab, socket string, from, to time.Time) {
	f := func(what, address, token, cluster, want string, kind error) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		rest, err := NewRest(address, NewAuth("root", file, nil, time.Now))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		s := &Source{Cluster: cluster, Rest: rest}
		_, err = s.Jobs(ctx, from, to)
		if err == nil {
			_, err = s.Projects(ctx)
		}
		if err == nil || !strings.Contains(err.Error(), want) || kind != nil && !errors.Is(err, kind) {
			t.Errorf("%s: %v; want %q", what, err, want)
		}
		t.Logf("%s: %v", what, err)
	}
	at := "unix:" + socket
	f("bad token", at, "not.a.token", "", "the token: access was refused", accounting.ErrRefused)
	old := l.do(t, "token", "root", "1")
	time.Sleep(2500 * time.Millisecond) // it lasts a second
	f("expired token", at, old, "", "it expired at", accounting.ErrRefused)
	f("no daemon", "unix:"+socket+".absent", "x", "", "not reachable", accounting.ErrUnreachable)
	f("another cluster", at, l.do(t, "token", "root"), "nonesuch", "slurm knows no cluster", nil)
}
