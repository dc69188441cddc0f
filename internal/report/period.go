package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/window"
)

const slot = window.SlotMS * time.Millisecond

// Period is a span of whole slots, [Start, End).
type Period struct {
	Start, End time.Time // in Zone
	Zone       *time.Location
	Year       int // the month it is
	Month      time.Month
}

// Month is a month of local time. It begins with the first slot that lies in
// it: at midnight, or where a clock change has no midnight on that day, or two
// of them, at the change, or at the first. A month therefore ends where the
// next begins, in every zone.
func Month(zone *time.Location, year int, month time.Month) Period {
	first := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC) // months beyond 12 carry
	year, month = first.Year(), first.Month()
	next := first.AddDate(0, 1, 0)
	return Period{
		Start: firstSlot(zone, year, month), End: firstSlot(zone, next.Year(), next.Month()),
		Zone: zone, Year: year, Month: month,
	}
}

// firstSlot searches from a little before where midnight should be: further than
// any clock change moves it.
func firstSlot(zone *time.Location, year int, month time.Month) time.Time {
	t := time.Date(year, month, 1, 0, 0, 0, 0, zone).Truncate(slot).Add(-3 * time.Hour)
	for {
		l := t.In(zone)
		if l.Year() > year || l.Year() == year && l.Month() >= month {
			return l
		}
		t = t.Add(slot)
	}
}

// MonthOf is the month that holds an instant.
func MonthOf(zone *time.Location, at time.Time) Period {
	l := at.In(zone)
	return Month(zone, l.Year(), l.Month())
}

// Next and Previous are the months beside it.
func (p Period) Next() Period { return Month(p.Zone, p.Year, p.Month+1) }

// Previous is the month before.
func (p Period) Previous() Period { return Month(p.Zone, p.Year, p.Month-1) }

// String is the month as people type it: 2026-10.
func (p Period) String() string { return fmt.Sprintf("%04d-%02d", p.Year, int(p.Month)) }

// Title is the month as people read it: October 2026.
func (p Period) Title() string { return fmt.Sprintf("%s %d", p.Month, p.Year) }

// Hours is its length: 744 in a month of 31 days, 743 or 745 where the clocks
// change, a half more or less on Lord Howe Island.
func (p Period) Hours() float64 { return p.End.Sub(p.Start).Hours() }

// ParseMonth reads 2026-10.
func ParseMonth(zone *time.Location, s string) (Period, error) {
	y, m, ok := strings.Cut(s, "-")
	year, err1 := strconv.Atoi(y)
	month, err2 := strconv.Atoi(m)
	if !ok || len(y) != 4 || len(m) != 2 || err1 != nil || err2 != nil || year < 1970 || month < 1 || month > 12 {
		return Period{}, fmt.Errorf("cannot read %.40q as a month: it is written like 2026-10", s)
	}
	return Month(zone, year, time.Month(month)), nil
}

// ParseZone reads the name of a time zone. The machine's own zone is refused: a
// statement must mean the same wherever it is made.
func ParseZone(name string) (*time.Location, error) {
	if name == "Local" || len(name) > 64 {
		return nil, fmt.Errorf("cannot use %.64q as a time zone: name one, like Europe/Rome or UTC", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("cannot use %q as a time zone: name one, like Europe/Rome or UTC: %w", name, err)
	}
	return zone, nil
}

// ParseTime reads an instant as people type it: RFC 3339, a date or a date and
// time in the zone, "now", or how long ago: -24h, 90m, 7d.
func ParseTime(s string, zone *time.Location, now time.Time) (time.Time, error) {
	if s == "now" {
		return now, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", "2006-01-02T15:04", time.DateTime, "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, zone); err == nil {
			return t, nil
		}
	}
	ago := strings.TrimPrefix(s, "-")
	if days, ok := strings.CutSuffix(ago, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	if d, err := time.ParseDuration(ago); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf(
		"cannot read %.40q as a time: write 2026-10-31T12:00:00Z, 2026-10-31, or how long ago, like -24h or -7d", s)
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339Nano) }
