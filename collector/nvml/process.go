package nvml

import (
	"cmp"
	"slices"
	"time"

	"github.com/wattledger/wattledger/collector"
)

// processesEvery is how often processes are asked for, at most: the list costs
// the driver milliseconds.
const processesEvery = 10 * time.Second

// process is one that holds a context on a device.
type process struct {
	pid    int
	memory uint64 // bytes, 0 where the driver does not say
}

// use is what a process did with a device since an earlier look.
type use struct {
	pid     int
	stampUS uint64 // Unix
	percent uint32 // of the multiprocessors' time
}

// Processes gives the processes on each GPU that answers, as they were last seen;
// nothing without Options.Processes. Where the driver tells no utilisation of
// processes, as in MIG mode, it is the list alone.
func (s *Source) Processes() []collector.DeviceProcesses {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []collector.DeviceProcesses
	for _, b := range s.boards {
		if b.users.Meter != "" && !b.isDown() {
			d := b.users
			d.Processes = slices.Clone(d.Processes)
			out = append(out, d)
		}
	}
	return out
}

// slowProcesses lists processes where somebody wants to know them, and counts
// them where there is no utilisation.
func (b *board) slowProcesses() code {
	now := b.s.o.Now()
	wanted := b.s.o.Processes && now.Sub(b.usersAt).Abs() >= processesEvery
	if !wanted && !b.cannot[fnUtilization] {
		return success
	}
	var list []process
	ok, dire := b.try(fnProcesses, func() (c code) { list, c = b.dev.Processes(); return c })
	if dire != success {
		return dire
	}
	if b.cannot[fnUtilization] {
		switch {
		case !ok:
			b.processes = collector.NotKnown
		case len(list) > 0:
			b.processes = collector.Working
		default:
			b.processes = collector.Resting
		}
		if ok {
			b.show("processes", float64(len(list)), 0, 1e6)
		}
	}
	if !wanted {
		return success
	}
	b.usersAt = now
	return b.look(now, list, ok)
}

// look puts together who holds the device and who used it.
func (b *board) look(now time.Time, list []process, listed bool) code {
	uses, known, dire := b.uses(now)
	if dire != success {
		return dire
	}
	d := collector.DeviceProcesses{Meter: b.name, At: now.UnixNano(), HasUse: known}
	if !listed && !known {
		d = collector.DeviceProcesses{} // nothing is known, which is not nobody
	}
	at := map[int]int{}
	for _, p := range list {
		if i, twice := at[p.pid]; twice { // two instances of a board in MIG mode
			d.Processes[i].Memory += p.memory
			continue
		}
		at[p.pid] = len(d.Processes)
		d.Processes = append(d.Processes, collector.Process{PID: p.pid, Memory: p.memory})
	}
	for _, u := range uses {
		i, ok := at[u.pid]
		if !ok { // it has ended since, or the list is not for us
			i = len(d.Processes)
			at[u.pid] = i
			d.Processes = append(d.Processes, collector.Process{PID: u.pid})
		}
		d.Processes[i].Use = u.percent * 10_000
	}
	slices.SortFunc(d.Processes, func(x, y collector.Process) int { return cmp.Compare(x.PID, y.PID) })
	b.s.mu.Lock()
	b.users = d
	b.s.mu.Unlock()
	return success
}

// uses asks for the utilisation since the last look; known is false where the
// driver does not tell it.
func (b *board) uses(now time.Time) (out []use, known bool, dire code) {
	if b.cannot[fnProcessUse] {
		return nil, false, success
	}
	if b.seenUS == 0 || b.seenUS > uint64(now.UnixMicro()) { // of longer ago than this span it is no news
		b.seenUS = uint64(now.Add(-processesEvery).UnixMicro())
	}
	list := []use(nil)
	c := noData
	_, dire = b.try(fnProcessUse, func() code { list, c = b.dev.ProcessUse(b.seenUS); return c })
	if dire != success {
		return nil, false, dire
	}
	if c == notFound { // nobody has used it
		return nil, true, success
	}
	if c != success {
		return nil, false, success
	}
	newest := map[int]use{}
	since := b.seenUS
	for _, u := range list {
		switch {
		case u.percent > 100:
			b.refuse()
		case u.stampUS > since && u.stampUS >= newest[u.pid].stampUS:
			newest[u.pid] = u
		}
		b.seenUS = max(b.seenUS, u.stampUS)
	}
	for _, u := range newest {
		out = append(out, u)
	}
	return out, true, success
}
