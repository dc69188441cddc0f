package agent_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/wire"
)

// An event quotes what hooks, users and drivers wrote. However long and odd that
// is, the window that holds it goes into the spool: no words cost a joule.
func TestEventsOfAnyText(t *testing.T) {
	odd := map[string]string{
		"long":     strings.Repeat("\u20ac ", 3_000),
		"lines":    "one\ntwo\x1b[2J\x00",
		"no UTF-8": "a\xffb",
	}
	for name, text := range odd {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := start(t, rack{&board{born: clock()}}, t.TempDir(), nil)
				time.Sleep(5 * time.Second)
				s := heldAs("minor:7", "GPU-"+strings.Repeat(text, 1)[:min(len(text), 200)])
				s.Unplaced = []string{text}
				d.told(job.Edge{Op: "begin", Witness: "prolog", Job: s, Note: text})
				bad := heldAs("minor:7")
				bad.Project = text
				if a := d.Handle(context.Background(), job.Edge{Op: "begin", Job: bad}); a.OK {
					t.Error("a project of that name was taken")
				}
				time.Sleep(20 * time.Second)
				ws := d.stop()
				if got := uses(ws); got["1 busy"] < 5_900_000 {
					t.Errorf("the books hold %v", got)
				}
				seen := 0
				for _, w := range ws {
					for _, e := range w.Events {
						seen++
						if len(e.Detail) > wire.MaxDetail || strings.ContainsAny(e.Detail, "\n\x00\x1b") {
							t.Errorf("event %q has %d bytes of detail: %.40q", e.Kind, len(e.Detail), e.Detail)
						}
					}
				}
				if seen < 3 {
					t.Errorf("%d events are left of a note, a GPU that is not metered and a bad job", seen)
				}
			})
		})
	}
}

// An event without a time, of a source that does not know it, has the window's.
func TestEventsOfNoTime(t *testing.T) {
	n := newNode(t, options(), gpuDial("gpu0", 300))
	n.read()
	n.ticks(2)
	n.p.Tell(collector.Event{Kind: "xid", Meter: "gpu0"})
	n.ticks(12)
	if n.events("xid") != 1 || n.ws[0].Events[0].AtMS != n.ws[0].StartMS {
		t.Errorf("events are %+v", n.ws[0].Events)
	}
}

func TestSubmittedAtNoTime(t *testing.T) {
	var tb job.Table
	for _, ms := range []int64{-1, 1 << 62} {
		if err := tb.Begin(job.Spec{ID: "1", SubmitMS: ms}, 1); err == nil {
			t.Errorf("a job that was submitted at %d ms is taken; no window could name it", ms)
		}
	}
}
