package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/wattledger/wattledger/internal/job/hook"
)

// Settings that are wrong are said, and their defaults count: a hook must not
// fail over them.
func TestHookSettings(t *testing.T) {
	def := hookSettings{socket: defaultSocket, edges: hook.EdgesDir}
	f := func(text string, change func(*hookSettings)) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "slurm-hook.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		want := def
		change(&want)
		if got := readHookSettings(file); got != want {
			t.Errorf("%q is read as %+v, want %+v", text, got, want)
		}
	}
	same := func(*hookSettings) {}
	f("", same)
	f("# socket=/x\n\nagent=/usr/local/bin/wattledger-agent\n", same)
	f("socket=/run/a b.sock\nedges=/var/e\ngpu_ids=index", func(s *hookSettings) { s.socket, s.edges, s.gpuIDs = "/run/a b.sock", "/var/e", "index" })
	f("socket=relative\nedges=\ngpu_ids=uuid\nwhat=1\nno equals sign\n", same)
	if got := readHookSettings(filepath.Join(t.TempDir(), "none")); got != def {
		t.Errorf("no file is read as %+v", got)
	}
	if got := readHookSettings(t.TempDir()); got != def {
		t.Errorf("a folder is read as %+v", got)
	}
}

// The example that is shipped says what is known, with its defaults.
func TestShippedHookSettings(t *testing.T) {
	b, err := os.ReadFile("../../packaging/slurm/slurm-hook.conf")
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for i, c := range b { // every "#name=value" counts
		if c != '#' || (i+1 < len(b) && b[i+1] == ' ') {
			text = append(text, c)
		}
	}
	file := filepath.Join(t.TempDir(), "slurm-hook.conf")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := readHookSettings(file); got != (hookSettings{socket: defaultSocket, edges: hook.EdgesDir, gpuIDs: "minor"}) {
		t.Errorf("the shipped settings are read as %+v", got)
	}
}
