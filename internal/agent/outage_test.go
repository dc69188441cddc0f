package agent_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/agent"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/spool"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// outage runs a node of 4 GPUs, 2 packages and 2 dram counters, a job every 20
// minutes, with the aggregator down, and gives what is spooled at the end.
func outage(t *testing.T, long time.Duration, limit int64, tick time.Duration) {
	t.Helper()
	var dials []*dial
	for _, name := range []string{"gpu0", "gpu1", "gpu2", "gpu3"} {
		dials = append(dials, gpuDial(name, 400))
	}
	for _, name := range []string{"package0", "package1"} {
		d := counterDial(name, "", energy.CPU, 150)
		d.scope.Modulus, d.scope.Limit = 262_143*energy.Joule, 350*energy.Watt
		dials = append(dials, d)
	}
	for _, name := range []string{"dram0", "dram1"} {
		d := counterDial(name, "", energy.Memory, 30)
		d.scope.Modulus, d.scope.Limit = 65_535*energy.Joule, 80*energy.Watt
		dials = append(dials, d)
	}
	sp, err := spool.Open(spool.Options{Dir: t.TempDir(), MaxBytes: limit, NoSync: true, Merge: agent.Merge})
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	n := newNode(t, options(), dials...)
	largest, windows := int64(0), 0
	early := uint64(0) // heap in use after a quarter of the time
	store := func() {
		for _, w := range n.ws {
			b, err := wire.EncodeFragment([]*window.Catalogue{w.Catalogue}, []*window.Window{w})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := sp.Append(b); err != nil {
				t.Fatalf("after %v: %v", n.now, err)
			}
			windows++
		}
		n.ws = n.ws[:0]
		largest = max(largest, sp.Bytes())
	}
	n.read()
	from, job := n.now, ""
	for next := n.now; n.now.Sub(from) < long; {
		if !n.now.Before(next) {
			if job != "" {
				n.end(job)
			}
			job = n.now.UTC().Format("0102-1504")
			n.begin(job, "gpu0", "gpu1", "gpu2")
			next = n.now.Add(20 * time.Minute)
		}
		n.pass(tick)
		n.read()
		store()
		if early == 0 && n.now.Sub(from) > long/4 {
			early = heap()
		}
	}
	n.flush()
	store()
	late := heap()
	if late > early+4<<20 {
		t.Errorf("the heap grew from %d to %d bytes in the outage", early, late)
	}
	again := newNode(t, options())
	ws := spooled(t, sp)
	again.take(ws)
	secs := energy.Millijoules(n.now.Sub(from) / time.Second)
	again.want(long.String(), sum{
		"total": (4*400 + 2*150 + 2*30) * 1000 * secs, "class gpu": 1_600_000 * secs, "class cpu": 300_000 * secs, "class memory": 60_000 * secs,
	})
	thin := 0
	for _, w := range ws {
		if len(w.Telemetry) == 0 {
			thin++
		}
	}
	t.Logf("heap in use: %d bytes after a quarter, %d at the end", early, late)
	t.Logf("%v: %d windows became %d (%d without telemetry); the spool holds %d bytes, %d at most, with a limit of %d", long, windows, len(ws), thin, sp.Bytes(), largest, limit)
	if thin*10 < len(ws)*7 {
		t.Errorf("telemetry was thinned in only %d of %d windows", thin, len(ws))
	}
	if largest > 2*limit {
		t.Errorf("the spool grew to %d bytes, its limit is %d", largest, limit)
	}
}

// heap is what is in use after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestOutageOfADay(t *testing.T) { outage(t, 24*time.Hour, 64<<10, 10*time.Second) }

func TestOutageOfTwoWeeks(t *testing.T) {
	if testing.Short() {
		t.Skip("two weeks take a while")
	}
	outage(t, 14*24*time.Hour, 1<<20, 20*time.Second)
}
