package agent

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/window"
	"github.com/wattledger/wattledger/internal/wire"
)

// lastMS is the last time that Unix ns can tell, in the year 2262.
const lastMS = 9_223_372_036_854

// event keeps what a person should know. Whatever it says, its window can travel:
// details quote what users, hooks and drivers wrote.
func (p *Pipeline) event(atMS int64, kind, meterName, detail string) {
	kind, meterName, detail = legible(kind, window.MaxName), legible(meterName, window.MaxName), legible(detail, wire.MaxDetail)
	if atMS < 0 || atMS > lastMS { // no time: that of the open window
		atMS = p.start
	}
	if p.opt.Told != nil {
		p.opt.Told(collector.Event{At: time.UnixMilli(atMS), Kind: kind, Meter: meterName, Detail: detail})
	}
	const most = 100 // a window; the rest is counted in one
	switch {
	case len(p.events) < most:
		p.events = append(p.events, window.Event{AtMS: atMS, Kind: kind, Meter: meterName, Detail: detail})
	case len(p.events) == most:
		p.events = append(p.events, window.Event{AtMS: atMS, Kind: "more", Detail: "more events in this window were left out"})
	}
}

// Note adds an event to the open window.
func (p *Pipeline) Note(at time.Time, kind, detail string) {
	p.event(at.UnixMilli(), kind, "", detail)
}

// Tell adds a source's event to the open window.
func (p *Pipeline) Tell(e collector.Event) { p.event(e.At.UnixMilli(), e.Kind, e.Meter, e.Detail) }

func sortEvents(ev []window.Event) {
	slices.SortStableFunc(ev, func(a, b window.Event) int {
		return cmp.Or(cmp.Compare(a.AtMS, b.AtMS), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Meter, b.Meter))
	})
}

// legible makes text that may travel of any: one line of UTF-8 without control
// characters, of so many bytes at most.
func legible(text string, most int) string {
	const dots = "..."
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, string(utf8.RuneError)))
	if len(text) <= most {
		return text
	}
	n := most - len(dots)
	for !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + dots
}
