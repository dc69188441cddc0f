//go:build e2e

package e2e_test

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkReplay replays the recording at full speed, from the files to the
// books: the program started, every window acknowledged.
func BenchmarkReplay(b *testing.B) {
	dir := recorded(b)
	for b.Loop() {
		a := startAggregator(b, b.TempDir())
		began := time.Now()
		fleetRun(b, replayArgs(dir, "many-jobs", a.url())...)
		took := time.Since(began).Seconds()
		a.kill()
		fmt.Printf("%-42s %6.2f s  %6.0f x real time\n", "64 nodes x 57 minutes, 21,888 windows", took, 57*60/took)
	}
}
