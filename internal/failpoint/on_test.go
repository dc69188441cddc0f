//go:build failpoint

package failpoint_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/wattledger/wattledger/internal/failpoint"
)

// TestHitKills runs this test binary as a child that passes the point five times.
func TestHitKills(t *testing.T) {
	if os.Getenv("FAILPOINT_CHILD") == "1" {
		for i := 1; i <= 5; i++ {
			failpoint.Hit(failpoint.SpoolTorn)
			failpoint.Hit(failpoint.SpoolAfterSync)
			fmt.Println("passed")
		}
		os.Exit(0)
	}
	f := func(armed string, wantPassed int, wantKilled bool) {
		t.Helper()
		cmd := exec.Command(os.Args[0], "-test.run=^TestHitKills$")
		cmd.Env = append(os.Environ(), "FAILPOINT_CHILD=1", failpoint.Env+"="+armed)
		out, err := cmd.Output()
		if got := strings.Count(string(out), "passed"); got != wantPassed {
			t.Errorf("%q: passed %d times; want %d", armed, got, wantPassed)
		}
		killed := false
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			status, ok := exit.Sys().(syscall.WaitStatus)
			killed = ok && status.Signaled() && status.Signal() == syscall.SIGKILL
		}
		if killed != wantKilled {
			t.Errorf("%q: killed = %v (%v); want %v", armed, killed, err, wantKilled)
		}
	}
	f("spool-torn", 0, true)
	f("spool-torn:1", 0, true)
	f("spool-torn:3", 2, true)
	f("spool-torn:x", 0, true)
	f("spool-torn:6", 5, false)
	f("spool-after-sync:5", 4, true)
	f("spool", 5, false)
	f("", 5, false)
}
