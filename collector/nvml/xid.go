package nvml

import (
	"fmt"
	"math"
	"sync/atomic"

	"github.com/wattledger/wattledger/collector"
)

// mostXids are taken at one tick: a library that never runs out must not keep a
// core busy.
const mostXids = 64

// watcher takes the Xids that the driver has kept, at every tick: it does not
// wait inside the library, so it wakes no thread and can be stopped at once. A
// call of it that hangs holds up nobody else.
type watcher struct {
	s       *Source
	tick    chan struct{}
	stop    atomic.Bool
	rebuild atomic.Bool // devices were lost or have come back
	ended   atomic.Bool
}

// watch starts a watcher; s.mu is held.
func (s *Source) watch() {
	w := &watcher{s: s, tick: make(chan struct{}, 1)}
	s.watcher = w
	s.threads.Go(func() {
		defer w.ended.Store(true)
		w.run()
	})
}

// poke says that a tick has passed; a nil watcher minds nothing.
func (w *watcher) poke() {
	if w == nil {
		return
	}
	select {
	case w.tick <- struct{}{}:
	default: // it has not taken the one before
	}
}

func (w *watcher) end() {
	w.stop.Store(true)
	w.poke()
}

func (w *watcher) run() {
	for !w.stop.Load() {
		w.rebuild.Store(false)
		set, c := w.s.lib.EventSet()
		if c != success {
			if c.fate() == unsupported {
				return
			}
			<-w.tick
			continue
		}
		if w.register(set) {
			w.listen(set)
		} else {
			<-w.tick
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

// listen takes what comes until the set must be made anew.
func (w *watcher) listen(set eventSet) {
	for {
		<-w.tick
		if w.stop.Load() || w.rebuild.Load() {
			return
		}
		for range mostXids {
			e, c := set.Wait(0)
			if c == timedOut {
				break
			}
			if c != success {
				return
			}
			w.hand(e)
		}
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
			break
		}
		if b.dev == nil && b.was == e.Source && meter == "" {
			meter = b.name
		}
	}
	detail := collector.Xid(e.Data).String()
	if e.Instance != math.MaxUint32 {
		detail += fmt.Sprintf(", GPU instance %d", e.Instance)
	}
	s.tell(s.o.Now(), "xid", meter, detail)
}
