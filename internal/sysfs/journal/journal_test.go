package journal_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/sysfs/journal"
)

func TestJournal(t *testing.T) {
	var j journal.Journal
	at := time.Unix(1_760_000_000, 0)
	want := func(what string, want ...string) {
		t.Helper()
		var got []string
		for _, e := range j.Events() {
			got = append(got, e.Kind+" "+e.Meter+" "+e.Detail)
		}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%s: %q; want %q", what, got, want)
		}
	}
	want("nothing happened")
	j.Add(at, "reset", "gpu0", "a")
	j.Add(at, "reset", "gpu0", "a")
	want("what happens twice is said twice", "reset gpu0 a", "reset gpu0 a")
	j.State(at, "no_data", "gpu0", "a")
	j.State(at, "no_data", "gpu0", "a")
	j.State(at, "no_data", "gpu1", "a")
	want("what lasts is said once for each meter", "no_data gpu0 a", "no_data gpu1 a")
	j.State(at, "no_data", "gpu0", "a")
	want("and not again")
	j.State(at, "no_data", "gpu0", "b")
	want("unless it changes", "no_data gpu0 b")
	j.Over("no_data", "gpu0")
	j.State(at, "no_data", "gpu0", "b")
	want("or comes back", "no_data gpu0 b")
}

func TestJournalIsBounded(t *testing.T) {
	var j journal.Journal
	for i := range journal.Size + 3 {
		j.Add(time.Time{}, "k", "m", strconv.Itoa(i))
	}
	got := j.Events()
	if len(got) != journal.Size || !strings.HasPrefix(got[0].Detail, "3 (3 events") {
		t.Errorf("%d events, the first %q", len(got), got[0].Detail)
	}
}
