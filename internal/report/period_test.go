package report_test

import (
	"os"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones that binaries carry

	"github.com/wattledger/wattledger/internal/report"
	"github.com/wattledger/wattledger/internal/window"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := report.ParseZone(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestMonthHours(t *testing.T) {
	f := func(name string, year int, month time.Month, hours float64, start string) {
		t.Helper()
		p := report.Month(zone(t, name), year, month)
		if p.Hours() != hours || p.Start.UTC().Format(time.RFC3339) != start {
			t.Errorf("%s %s = %g h from %s; want %g h from %s", name, p, p.Hours(), p.Start.UTC().Format(time.RFC3339), hours, start)
		}
	}
	f("UTC", 2026, time.October, 744, "2026-10-01T00:00:00Z")
	f("UTC", 2028, time.February, 696, "2028-02-01T00:00:00Z")
	f("Europe/Rome", 2026, time.March, 743, "2026-02-28T23:00:00Z")
	f("Europe/Rome", 2026, time.October, 745, "2026-09-30T22:00:00Z")
	f("Europe/Helsinki", 2026, time.December, 744, "2026-11-30T22:00:00Z")
	f("Asia/Kathmandu", 2026, time.May, 744, "2026-04-30T18:15:00Z")
	f("Australia/Lord_Howe", 2026, time.April, 720.5, "2026-03-31T13:00:00Z")
	f("Australia/Lord_Howe", 2026, time.October, 743.5, "2026-09-30T13:30:00Z")
	f("Pacific/Kiritimati", 2026, time.January, 744, "2025-12-31T10:00:00Z")
	f("Pacific/Pago_Pago", 2026, time.January, 744, "2026-01-01T11:00:00Z")
	// No midnight on 1 October 2023: the clock went from 23:59:59 to 01:00.
	f("America/Asuncion", 2023, time.October, 743, "2023-10-01T04:00:00Z")
	f("America/Asuncion", 2023, time.September, 720, "2023-09-01T04:00:00Z")
	// Two midnights on 1 November 2026: the month begins at the first.
	f("America/Havana", 2026, time.November, 721, "2026-11-01T04:00:00Z")
}

// TestMonthsPartition: in every zone there is, a month begins on a slot edge,
// the instant before it belongs to the month before, and months join.
func TestMonthsPartition(t *testing.T) {
	names, err := os.ReadFile("testdata/zones.txt")
	if err != nil {
		t.Fatal(err)
	}
	zones := strings.Fields(string(names))
	if len(zones) < 500 {
		t.Fatalf("%d zones; want all of tzdata", len(zones))
	}
	for _, name := range zones {
		z := zone(t, name)
		p := report.Month(z, 2020, time.January)
		for range 11 * 12 {
			if p.Start.UnixMilli()%window.SlotMS != 0 || p.Start.Nanosecond() != 0 {
				t.Errorf("%s: %s begins at %s, not on a slot", name, p, p.Start.UTC())
			}
			if l := p.Start; l.Year() != p.Year || l.Month() != p.Month {
				t.Errorf("%s: %s begins at %s, which is not in it", name, p, l)
			}
			if l := p.Start.Add(-1); l.Month() == p.Month {
				t.Errorf("%s: %s begins at %s, but %s is in it too", name, p, p.Start, l)
			}
			next := p.Next()
			if !next.Start.Equal(p.End) || !next.Previous().Start.Equal(p.Start) {
				t.Errorf("%s: %s ends at %s, %s begins at %s", name, p, p.End, next, next.Start)
			}
			p = next
		}
		if p.String() != "2031-01" {
			t.Errorf("%s: after eleven years it is %s; want 2031-01", name, p)
		}
	}
}

func TestParseMonth(t *testing.T) {
	p, err := report.ParseMonth(time.UTC, "2026-10")
	if err != nil || p.String() != "2026-10" || p.Title() != "October 2026" {
		t.Errorf("2026-10 = %s, %q, %v", p, p.Title(), err)
	}
	for _, bad := range []string{"", "2026", "2026-13", "2026-00", "26-10", "2026-1", "2026-10-01", "0001-01", "last", "+026-10"} {
		if _, err := report.ParseMonth(time.UTC, bad); err == nil || !strings.Contains(err.Error(), "like 2026-10") {
			t.Errorf("ParseMonth(%q): %v; want an error that says how it is written", bad, err)
		}
	}
	if got := report.MonthOf(zone(t, "Europe/Rome"), time.Date(2026, 10, 31, 23, 30, 0, 0, time.UTC)); got.String() != "2026-11" {
		t.Errorf("half an hour past midnight in Rome is in %s; want 2026-11", got)
	}
}

func TestParseZone(t *testing.T) {
	for _, bad := range []string{"Local", "Mars/Olympus", "../../etc/passwd", strings.Repeat("x", 65)} {
		if _, err := report.ParseZone(bad); err == nil || !strings.Contains(err.Error(), "like Europe/Rome") {
			t.Errorf("ParseZone(%q): %v", bad, err)
		}
	}
}

func TestParseTime(t *testing.T) {
	rome := zone(t, "Europe/Rome")
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	f := func(s, want string) {
		t.Helper()
		got, err := report.ParseTime(s, rome, now)
		if err != nil {
			t.Error(err)
		} else if got.UTC().Format(time.RFC3339) != want {
			t.Errorf("ParseTime(%q) = %s; want %s", s, got.UTC().Format(time.RFC3339), want)
		}
	}
	f("2026-10-31T12:00:00+01:00", "2026-10-31T11:00:00Z")
	f("2026-10-31", "2026-10-30T23:00:00Z")
	f("2026-07-01 08:30", "2026-07-01T06:30:00Z")
	f("-24h", "2026-11-21T10:00:00Z")
	f("90m", "2026-11-22T08:30:00Z")
	f("-7d", "2026-11-15T10:00:00Z")
	f("now", "2026-11-22T10:00:00Z")
	for _, bad := range []string{"", "yesterday", "--24h", "-99999999999h", "31.10.2026", "70000d"} {
		if got, err := report.ParseTime(bad, rome, now); err == nil {
			t.Errorf("ParseTime(%q) = %s; want an error", bad, got)
		}
	}
}
