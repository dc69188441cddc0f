//go:build linux

package footprint

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// slackOf gives the slack of each thread of this process.
func slackOf(t *testing.T) (all []string) {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		b, err := os.ReadFile("/proc/" + thread.Name() + "/timerslack_ns")
		if errors.Is(err, fs.ErrPermission) {
			t.Skipf("this user may not look at threads, nor change them: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimSpace(string(b)))
	}
	return all
}

// In a process of its own: all threads are slack, a new one is too, and one that
// was started so is left alone.
func TestUnhurried(t *testing.T) {
	if os.Getenv("SLACK_CHILD") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestUnhurried$", "-test.v")
		cmd.Env = append(os.Environ(), "SLACK_CHILD=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
		if bytes.Contains(out, []byte("--- SKIP")) {
			t.Skipf("%s", out)
		}
		return
	}
	slackOf(t)
	if err := Unhurried(3 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := Unhurried(2 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	hold := make(chan struct{})
	defer close(hold)
	for range 4 {
		go func() {
			runtime.LockOSThread()
			started <- struct{}{}
			<-hold
		}()
		<-started
	}
	all := slackOf(t)
	if len(all) < 5 {
		t.Errorf("only %d threads", len(all))
	}
	for _, ns := range all {
		if ns != "3000000" {
			t.Errorf("slack of the threads: %v, want 3000000", all)
			break
		}
	}
}
