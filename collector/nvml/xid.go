package nvml

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

const (
	waitMS    = 500
	restAfter = time.Second // after a wait that failed
)

// watcher waits for Xids on a thread of its own.
type watcher struct {
	s       *Source
	stop    atomic.Bool
	rebuild atomic.Bool // devices were lost or have come back
	ended   atomic.Bool
}

// watch starts a watcher; s.mu is held.
func (s *Source) watch() {
	w := &watcher{s: s}
	s.watcher = w
	s.threads.Go(func() {
		defer w.ended.Store(true)
		w.run()
	})
}

func (w *watcher) run() {
	runtime.LockOSThread()
	for !w.stop.Load() {
		w.rebuild.Store(false)
		set, c := w.s.lib.EventSet()
		if c != success {
			if c.fate() == unsupported {
				return
			}
			w.rest()
			continue
		}
		if w.register(set) {
			w.listen(set)
		} else {
			w.rest()
		}
		_ = set.Free()
	}
}

// register is true where some device is watched.
func (w *watcher) register(set eventSet) bool {
	w.s.mu.Lock()
	var devices []device
	for _, b := range w.s.boards {
		if !b.isDown() && b.dev != nil {
			devices = append(devices, b.dev)
		}
	}
	w.s.mu.Unlock()
	any := false
	for _, d := range devices {
		any = w.s.call(fnRegister, func() code { return set.Register(d) }) == success || any
	}
	return any
}

// listen waits until the set must be made anew.
func (w *watcher) listen(set eventSet) {
	for !w.stop.Load() && !w.rebuild.Load() {
		began := w.s.o.Now()
		e, c := set.Wait(waitMS)
		switch c {
		case success:
			w.hand(e)
		case timedOut:
			// a library that does not wait must not keep a core busy
			if w.s.o.Now().Sub(began) < waitMS/2*time.Millisecond {
				w.rest()
			}
		default:
			w.rest()
			return
		}
	}
}

func (w *watcher) rest() {
	for i := 0; i < 4 && !w.stop.Load(); i++ {
		time.Sleep(restAfter / 4)
	}
}

func (w *watcher) hand(e event) {
	if !e.Critical {
		return
	}
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	meter := ""
	for _, b := range s.boards {
		if b.dev != nil && b.dev.Key() == e.Source {
			meter = b.name
		}
	}
	detail := fmt.Sprintf("Xid %d (%s)", e.Data, XidClass(e.Data))
	if e.Instance != math.MaxUint32 {
		detail += fmt.Sprintf(", GPU instance %d", e.Instance)
	}
	s.tell(s.o.Now(), "xid", meter, detail)
}

// XidClass says whose business an Xid is: "application" (a job's own fault),
// "hardware" (drain the node), "driver" (what the driver did about it) or
// "other".
func XidClass(xid uint64) string {
	switch {
	case slices.Contains([]uint64{13, 31, 43, 45, 68, 69}, xid):
		return "application"
	case slices.Contains([]uint64{48, 62, 64, 74, 79, 92, 94, 95, 140, 142}, xid):
		return "hardware"
	case slices.Contains([]uint64{32, 38, 56, 57, 61, 63, 109, 119, 120}, xid):
		return "driver"
	}
	return "other"
}
