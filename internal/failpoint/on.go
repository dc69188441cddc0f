//go:build failpoint

package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Enabled says whether this build can be killed at a point.
const Enabled = true

// passed counts the passages of the armed point. It is process-wide, as the
// environment that arms the point is, and exists only in crash-test builds.
var passed atomic.Int64 //nolint:gochecknoglobals // one count for one environment variable

// Hit kills the process with SIGKILL if name is the point armed in the
// environment (see [Env]) and this is its N-th passage. It does not return
// then. A count that is not a positive number is taken as 1.
func Hit(name string) {
	armed, count, _ := strings.Cut(os.Getenv(Env), ":")
	if armed != name {
		return
	}
	want, err := strconv.ParseInt(count, 10, 64)
	if err != nil || want < 1 {
		want = 1
	}
	if passed.Add(1) != want {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way; nothing more may happen here
}
