package cray_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/sample"
	"github.com/wattledger/wattledger/internal/sysfs/sysfstest"
)

// TestFreshnessChangesMidRead: all is read again, from one scan.
func TestFreshnessChangesMidRead(t *testing.T) {
	n := open(t)
	if _, err := n.read(); err != nil {
		t.Fatal(err)
	}
	n.scan(time.Second, 47520002, 1_500_000_000)
	// A read looks at the clock when it sees a freshness that is new to it. At
	// the first such look, before the files, the next scan comes; it is seen
	// after the files, and by then there is more of it.
	looks := 0
	n.onNow = func() {
		looks++
		switch looks {
		case 2: // the first is for the search for files
			n.quietly(func() { n.scan(0, 47520003, 2_000_000_000) })
		case 3:
			n.quietly(func() { n.scan(0, 47520003, 3_000_000_000) })
		}
	}
	got, err := n.read()
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"gpu0", "gpu1", "gpu2", "gpu3", "package0", "dram0", "node"} {
		if want := energy.Microjoules(3_000_000_000+i) * energy.Joule; got[name].Counter != want {
			t.Errorf("%s: %d of an older scan; want %d", name, got[name].Counter, want)
		}
	}
	n.wantEvents()
}

// quietly calls f with no hook on the clock.
func (n *node) quietly(f func()) {
	hook := n.onNow
	n.onNow = nil
	f()
	n.onNow = hook
}

// TestFreshnessNeverRests: after some tries each file stands for itself, and it
// is said; a controller that starts anew meanwhile gives nothing.
func TestFreshnessNeverRests(t *testing.T) {
	n := open(t)
	freshness := 47520001
	n.onNow = func() { freshness++; n.Set(folder+"freshness", fmt.Sprintf("%d\n", freshness)) }
	if got, err := n.read(); err != nil || len(got) != 7 {
		t.Errorf("%v, %v", got, err)
	}
	n.wantEvents("unsteady")
	startup := 0
	n.onNow = func() {
		freshness++
		startup++
		n.Set(folder+"freshness", fmt.Sprintf("%d\n", freshness))
		n.Set(folder+"startup", fmt.Sprintf("%d\n", startup))
	}
	if got, err := n.read(); err == nil || len(got) != 0 || !strings.Contains(err.Error(), "started anew") {
		t.Errorf("%v, %v", got, err)
	}
}

// TestStartup: no difference is taken across a start of the controller, also if
// the counters go on as if nothing had been.
func TestStartup(t *testing.T) {
	n := open(t)
	got, err := n.read()
	if err != nil {
		t.Fatal(err)
	}
	track := &sample.Track{Scope: got["gpu0"].Scope, MaxGap: 30e9}
	track.Add(got["gpu0"])
	before := track.Epoch()
	n.scan(time.Second, 47520011, 1_000_000_400)
	n.Set(folder+"startup", "1790000000000000\n")
	if got, err = n.read(); err != nil {
		t.Fatal(err)
	}
	if e := got["gpu0"].Epoch; !strings.HasSuffix(e, "/1790000000000000") || !strings.HasPrefix(e, "0d0f7a52") {
		t.Errorf("epoch %q", e)
	}
	broke, odd := track.Add(got["gpu0"])
	if !broke || odd == nil || odd.Verdict != energy.NewEpoch || track.Epoch() == before {
		t.Errorf("over the start: %v, %+v", broke, odd)
	}
	n.wantEvents("controller_started")

	// a startup that cannot be read for once is no older firmware
	n.Break(folder + "startup")
	if got, err := n.read(); err == nil || len(got) != 0 {
		t.Errorf("startup cannot be read: %v, %v", got, err)
	}
	n.Remove(folder + "startup")
	if got, err := n.read(); err == nil || len(got) != 0 {
		t.Errorf("startup is gone: %v, %v", got, err)
	}
	n.Set(folder+"startup", "\n")
	if got, err := n.read(); err == nil || len(got) != 0 {
		t.Errorf("startup is empty: %v, %v", got, err)
	}
}

// TestNoStartup: older firmware; the epoch is the boot.
func TestNoStartup(t *testing.T) {
	n := open(t)
	n.Remove(folder + "startup")
	for range 2 {
		n.at = n.at.Add(time.Second)
		got, err := n.read()
		if err != nil || got["gpu0"].Epoch != "0d0f7a52-3c0e-45f2-8f0a-6a1b2c3d4e5f" {
			t.Errorf("%v, %v", got["gpu0"], err)
		}
	}
	n.wantEvents("no_startup")
	n.Set(folder+"startup", "7\n")
	n.Forbid(folder + "startup")
	n.restart()
	sysfstest.AsNobody(t, func() {
		if got, err := n.read(); err != nil || got["gpu0"].Epoch != "0d0f7a52-3c0e-45f2-8f0a-6a1b2c3d4e5f" {
			t.Errorf("startup is forbidden: %v, %v", got, err)
		}
	})
	n.wantEvents("no_startup")
}

// TestStale: a controller that hangs is not read as one that draws nothing.
func TestStale(t *testing.T) {
	n := open(t)
	for i := range 5 {
		if got, err := n.read(); err != nil || len(got) != 7 {
			t.Fatalf("after %d s: %v, %v", i, got, err)
		}
		n.at = n.at.Add(time.Second)
	}
	n.wantEvents()
	for range 20 {
		if got, err := n.read(); err == nil || len(got) != 0 || !strings.Contains(err.Error(), "measures no more") {
			t.Fatalf("%v, %v", got, err)
		}
		n.at = n.at.Add(time.Second)
	}
	n.wantEvents("freshness_stands")
	n.scan(time.Second, 47520002, 1_000_010_000)
	if got, err := n.read(); err != nil || len(got) != 7 || got["gpu0"].At.UnixMicro() != n.at.UnixMicro() {
		t.Errorf("it goes on: %v, %v", got, err)
	}
	// one sensor alone
	for i := range 7 {
		stands, err := n.read()
		if want := i < 5; (err == nil) != want {
			t.Errorf("after %d s: %v, %v", i, stands, err)
		}
		old := fmt.Sprintf("1000010001 J %d us\n", n.at.Add(-time.Duration(i)*time.Second).UnixMicro())
		n.scan(time.Second, 47520003+i, 1_000_010_000+uint64(i))
		n.Set(folder+"accel1_energy", old)
	}
	_, err := n.read()
	_ = device(t, err, "gpu1")
}

// TestClock: a controller's clock that is off is shifted as a whole; the time
// between readings stays its own.
func TestClock(t *testing.T) {
	n := open(t)
	const off = 3 * time.Hour
	n.at = n.at.Add(off)
	first, err := n.read()
	if err != nil || n.at.Sub(first["gpu0"].At).Abs() > time.Second {
		t.Fatalf("gpu0 is at %v, now is %v, %v", first["gpu0"].At, n.at, err)
	}
	n.wantEvents("clock_differs")
	n.at = n.at.Add(-off)
	n.scan(1010*time.Millisecond, 47520011, 1_000_000_400)
	n.at = n.at.Add(off + 30*time.Millisecond) // read a little later than the first
	second, err := n.read()
	if err != nil || second["gpu0"].At.Sub(first["gpu0"].At) != 1050*time.Millisecond {
		t.Errorf("%v between stamps, %v", second["gpu0"].At.Sub(first["gpu0"].At), err)
	}
	n.wantEvents()
	n.scan(time.Second, 47520021, 1_000_000_800) // set right
	third, err := n.read()
	if err != nil || !third["gpu0"].At.Equal(n.at.Truncate(time.Microsecond)) {
		t.Errorf("set right: %v at %v, %v", third["gpu0"].At, n.at, err)
	}
}
