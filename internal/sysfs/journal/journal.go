// Package journal keeps what a source has to say until somebody asks. It is
// bounded, and says a lasting thing once: again only when it has changed.
package journal

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wattledger/wattledger/collector"
)

// Size is how many events are kept; of more, the oldest are dropped and the
// first of those that are left says how many.
const Size = 256

// Journal is a queue of events. The zero value is ready; it may be used by
// several goroutines at once.
type Journal struct {
	mu      sync.Mutex
	events  []collector.Event
	dropped int
	said    map[key]string
}

type key struct{ kind, meter string }

// Add says something that has happened.
func (j *Journal) Add(at time.Time, kind, meter, detail string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.add(collector.Event{At: at, Kind: kind, Meter: meter, Detail: detail})
}

func (j *Journal) add(e collector.Event) {
	if len(j.events) == Size {
		j.events = slices.Delete(j.events, 0, 1)
		j.dropped++
	}
	j.events = append(j.events, e)
}

// State says how something is: an event, unless it was so before.
func (j *Journal) State(at time.Time, kind, meter, detail string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	k := key{kind, meter}
	if was, ok := j.said[k]; ok && was == detail {
		return
	}
	if j.said == nil {
		j.said = map[key]string{}
	}
	j.said[k] = detail
	j.add(collector.Event{At: at, Kind: kind, Meter: meter, Detail: detail})
}

// Over forgets a state: it would be news again.
func (j *Journal) Over(kind, meter string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.said, key{kind, meter})
}

// Events gives those since the last call, oldest first.
func (j *Journal) Events() []collector.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := j.events
	if j.dropped > 0 {
		out[0].Detail += fmt.Sprintf(" (%d events before it were dropped)", j.dropped)
	}
	j.events, j.dropped = nil, 0
	return out
}
