package footprint

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Unhurried lets timers of the whole process be late by up to slack, those of
// threads to come included (prctl(2), PR_SET_TIMERSLACK). Go's runtime watches a
// program that works from a thread that sleeps 20 us at a time; a core that is
// otherwise idle is woken for each. With a slack of some milliseconds a daemon
// that works for one millisecond each second is hardly watched at all.
//
// A thread may set its own slack; those of others take CAP_SYS_NICE
// (/proc/PID/timerslack_ns, proc(5)). A service without it is started with the
// slack (systemd.exec(5), TimerSlackNSec=), and where that is as large nothing is
// changed here.
func Unhurried(slack time.Duration) error {
	if now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err == nil && time.Duration(now) >= slack {
		return nil
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("cannot list the threads: %w", err)
	}
	var errs []error
	for _, t := range threads {
		if err := os.WriteFile("/proc/"+t.Name()+"/timerslack_ns", strconv.AppendInt(nil, slack.Nanoseconds(), 10), 0); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot let timers of %d of %d threads be late: %w", len(errs), len(threads), err)
	}
	return nil
}
