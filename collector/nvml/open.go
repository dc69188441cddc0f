package nvml

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	firstRetry  = 10 * time.Second // after the driver could not be opened
	lastRetry   = 5 * time.Minute
	firstReopen = 15 * time.Second // for GPUs that do not come back otherwise
	lastReopen  = 30 * time.Minute
)

// open sees to it that the driver is open, or says why it is not. It never
// calls the library itself: opening may hang.
func (s *Source) open(ctx context.Context) error {
	s.mu.Lock()
	now := s.o.Now()
	limit, first := s.o.Patience, false
	switch {
	case s.phase == unopened:
		limit, first = firstPatience, true
		s.begin(false)
	case s.phase == failed && !now.Before(s.retryAt):
		s.begin(false)
	}
	s.mu.Unlock()
	s.wait(ctx, limit, func() bool { return s.phase != opening && (s.scouting == 0 || !first) })
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.phase {
	case opening:
		return errOpening
	case ready:
		return nil
	default:
		return s.err
	}
}

var errOpening = errors.New("the driver is being opened")

// begin opens the driver in a goroutine of its own; s.mu is held. anew says
// that it is open and no call is in flight.
func (s *Source) begin(anew bool) {
	s.phase = opening
	s.threads.Go(func() {
		s.initialise(anew)
		s.wakeUp()
	})
}

// initialise loads the library, where that is not done, and opens the driver.
func (s *Source) initialise(anew bool) {
	if s.lib == nil {
		lib, err := s.find()
		if err != nil {
			s.fail(err, "install the NVIDIA driver with its libraries, or set nvml.library to the path of libnvidia-ml.so.1")
			return
		}
		s.mu.Lock()
		s.lib = lib
		s.mu.Unlock()
	}
	if anew {
		_ = s.call(fnShutdown, s.lib.Shutdown) // it is opened again whatever it says
	}
	if c := s.call(fnInit, s.lib.Init); c != success {
		s.refused("cannot open the driver", c)
		return
	}
	s.count.opened.Add(1)
	var version string
	_ = s.call(fnOpen, func() (c code) { version, c = s.lib.DriverVersion(); return c })
	n := 0
	if c := s.call(fnOpen, func() (c code) { n, c = s.lib.Count(); return c }); c != success {
		_ = s.call(fnShutdown, s.lib.Shutdown)
		s.refused("cannot count the GPUs", c)
		return
	}
	boot := bootID(s.o.Procfs)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != opening { // closed meanwhile
		return
	}
	s.phase, s.err, s.backoff, s.gone = ready, nil, 0, false
	s.driver, s.boot, s.absent, s.counted = version, boot, nil, n
	s.toOpen, s.scouting = s.toOpen[:0], n
	for i := range n {
		s.toOpen = append(s.toOpen, i)
	}
	s.relieve(s.o.Now())
}

// call times a call that is no device's.
func (s *Source) call(f function, do func() code) code {
	began := s.o.Now()
	c := do()
	s.count.add(f, s.o.Now().Sub(began), c)
	return c
}

// refused turns what Init said into what to do.
func (s *Source) refused(what string, c code) {
	err := fmt.Errorf("%s: %w", what, c)
	switch c.fate() {
	case restart:
		s.restart(err)
	case gone:
		s.fail(err, "load the driver: modprobe nvidia (and see dmesg)")
	case denied, lost:
		s.fail(err, "let the agent open /dev/nvidiactl and /dev/nvidia*: ls -l /dev/nvidia*; DeviceAllow= of its unit")
	default:
		s.fail(err, "nvidia-smi -q")
	}
}

func (s *Source) fail(err error, advice string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != opening {
		return
	}
	s.backoff = min(max(2*s.backoff, firstRetry), lastRetry)
	s.phase, s.err, s.advice, s.retryAt = failed, err, advice, s.o.Now().Add(s.backoff)
}

// restart ends the source: only a new process helps.
func (s *Source) restart(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == finished {
		return
	}
	s.phase, s.err, s.advice = finished, fmt.Errorf("%w: %w", ErrRestart, err), "systemctl restart wattledger-agent (reboot, if the driver was only half replaced)"
	s.tell(s.o.Now(), "restart_needed", "", s.err.Error())
}

// scout opens one device.
func (s *Source) scout(index int) {
	dev, id, c := s.identify(func() (device, code) { return s.lib.Device(index) })
	s.place(index, dev, id, c)
}

// identity is what a device is known by.
type identity struct {
	uuid, product, pci string
	minor              int // -1 where the driver does not say
	index              int // in the driver's order, when it was last opened
	persistent         bool
}

// identify opens a handle and asks who it is. What is not to be had is empty,
// and -1 for the number; only a device that is lost or closed to us is refused.
func (s *Source) identify(open func() (device, code)) (device, identity, code) {
	id := identity{minor: -1}
	var dev device
	var worst code
	ask := func(do func() code) {
		if worst != success {
			return
		}
		if c := s.call(fnOpen, do); c.fate().dire() || c.fate() == hiccup {
			worst = c
		}
	}
	if c := s.call(fnOpen, func() (c code) { dev, c = open(); return c }); c != success {
		return nil, id, c
	}
	ask(func() (c code) { id.uuid, c = dev.UUID(); return c })
	ask(func() (c code) { id.product, c = dev.Name(); return c })
	ask(func() (c code) { id.pci, c = dev.PCI(); return c })
	ask(func() (c code) { id.persistent, c = dev.Persistent(); return c })
	ask(func() code {
		n, c := dev.Minor()
		if c == success {
			id.minor = n
		}
		return c
	})
	return dev, id, worst
}

// place gives a device that was opened to the board it is, or makes one.
func (s *Source) place(index int, dev device, id identity, c code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scouting--
	if c != success {
		if c.fate() == restart {
			s.gone = true // the next attempt to open the driver says it properly
		}
		s.absent = append(s.absent, absent{index, c})
		s.tell(s.o.Now(), "missing_meter", "", fmt.Sprintf("the GPU of index %d cannot be opened: %v", index, c))
		return
	}
	if id.uuid == "" {
		id.uuid = id.pci
	}
	id.index = index
	for _, old := range s.boards {
		if old.id.uuid == id.uuid && id.uuid != "" {
			old.id.index = index
			if old.dev == nil && !old.busy { // else it is being tried anew by itself
				old.renew(dev, id)
			}
			return
		}
	}
	number := id.minor
	if number < 0 {
		number = index
	}
	for slices.ContainsFunc(s.boards, func(b *board) bool { return b.number == number }) {
		number++ // two that say the same: no meter may have the name of another
	}
	s.boards = append(s.boards, newBoard(s, dev, id, number))
	slices.SortFunc(s.boards, func(a, b *board) int { return cmp.Compare(a.number, b.number) })
}

// tend looks after what takes longer than a tick: the watcher of events, and
// opening the driver anew. Nothing but Read begins calls, and it is not now.
func (s *Source) tend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != ready || s.scouting > 0 {
		return
	}
	now := s.o.Now()
	switch {
	case !s.wantsReopen(now):
		if s.watcher == nil && !s.gone {
			s.watch()
		}
	case s.watcher != nil:
		s.watcher.end()
		if s.watcher.ended.Load() {
			s.watcher = nil
		}
	default:
		s.pause = min(max(2*s.pause, firstReopen), lastReopen)
		s.reopenAt = now.Add(s.pause)
		for _, b := range s.boards {
			b.fallen(now, gpuNotFound, false)
		}
		s.begin(true)
	}
}

// wantsReopen tells whether the driver should be closed and opened: it is gone,
// or a GPU does not come back otherwise. Never while a call is in flight, and
// never where the counters of the others could be lost by it (a driver without
// persistence mode forgets them when its last client leaves). s.mu is held.
func (s *Source) wantsReopen(now time.Time) bool {
	stubborn := slices.ContainsFunc(s.strangers(), func(a absent) bool { return a.code.fate() != denied })
	alive, safe := 0, true
	for _, b := range s.boards {
		if b.busy || b.asked {
			return false
		}
		if b.isDown() {
			stubborn = stubborn || b.tries >= 2
		} else {
			alive++
			safe = safe && b.id.persistent
		}
	}
	if alive == len(s.boards) && !stubborn && !s.gone {
		s.pause, s.reopenAt = 0, time.Time{}
		return false
	}
	return (s.gone || alive == 0 || stubborn && safe) && !now.Before(s.reopenAt)
}
