package watch

import (
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// recentMinutes is how far "recent" goes: what an alert looks at. A counter that
// appears with its first event has no increase that PromQL could see.
const recentMinutes = 15

// tally counts, and remembers the last quarter of an hour by minute.
type tally struct {
	total   uint64
	minutes [recentMinutes]uint32
	newest  int64 // minute of the Unix epoch
}

func (t *tally) add(minute, now int64) {
	t.total++
	t.forget(now)
	if now-minute < recentMinutes && minute <= now {
		t.minutes[minute%recentMinutes]++
	}
}

// forget clears the minutes that have passed since the newest.
func (t *tally) forget(now int64) {
	if now-t.newest >= recentMinutes {
		t.minutes = [recentMinutes]uint32{}
	}
	for m := max(t.newest+1, now-recentMinutes+1); m <= now; m++ {
		t.minutes[m%recentMinutes] = 0
	}
	t.newest = max(t.newest, now)
}

func (t *tally) recent(now int64) int {
	t.forget(now)
	sum := 0
	for _, n := range t.minutes {
		sum += int(n)
	}
	return sum
}

// Booked counts the events of a window that was booked, and logs each: the
// meters' complaints are read where all nodes are. It may be called from any
// goroutine.
func (w *Watch) Booked(n ledger.Node, win *window.Window) {
	if len(win.Events) == 0 {
		return
	}
	now := w.o.Now().Unix() / 60
	w.mu.Lock()
	for _, e := range win.Events {
		minute := min(e.AtMS/60_000, now)
		count(w.events, eventKey{n.Cluster, n.Name, e.Kind}, eventKey{n.Cluster, "", e.Kind}, minute, now)
		if e.Kind == "xid" {
			number, class := collector.ParseXid(e.Detail)
			k := xidKey{n.Cluster, n.Name, e.Meter, short(number), short(class)}
			count(w.xids, k, xidKey{n.Cluster, "", "", "", k.class}, minute, now)
		}
	}
	w.mu.Unlock()
	for _, e := range win.Events {
		say := w.tell.Info
		if e.Kind == "no_source" { // most nodes have not the hardware of every source
			say = w.tell.Debug
		}
		say(strings.TrimSuffix("event "+e.Kind+" on "+n.Name+" "+e.Meter, " "), zap.String("cluster", n.Cluster), zap.String("node", n.Name), zap.String("kind", e.Kind),
			zap.String("meter", e.Meter), zap.Time("at", time.UnixMilli(e.AtMS).UTC()), zap.String("detail", e.Detail))
	}
}

// count adds to the tally of a key; where there are too many keys, to that of
// all the others together.
func count[K comparable](m map[K]*tally, k, others K, minute, now int64) {
	t := m[k]
	if t == nil && len(m) >= mostSeries {
		k, t = others, m[others]
	}
	if t == nil {
		t = &tally{newest: now}
		m[k] = t
	}
	t.add(minute, now)
}

// short bounds a label that a node sent.
func short(s string) string { return s[:min(len(s), 16)] }
