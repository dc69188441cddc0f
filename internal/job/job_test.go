package job_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

func TestBeginAndEnd(t *testing.T) {
	var tb job.Table
	begin := func(id string, restart uint32, at int64, want error) {
		t.Helper()
		err := tb.Begin(job.Spec{ID: id, Restart: restart}, at)
		if !errors.Is(err, want) || (want != nil && !strings.Contains(err.Error(), id)) {
			t.Errorf("begin of %s: %v, want %v", id, err, want)
		}
	}
	end := func(id string, at, wantFrom, wantTo int64, want error) {
		t.Helper()
		a, err := tb.End(id, at)
		if !errors.Is(err, want) || a.From != wantFrom || a.To != wantTo {
			t.Errorf("end of %s: [%d, %d), %v; want [%d, %d), %v", id, a.From, a.To, err, wantFrom, wantTo, want)
		}
	}
	end("a", 5, 0, 0, job.ErrNotRunning)
	begin("a", 0, 10, nil)
	begin("a", 0, 12, job.ErrRunning)
	begin("b", 0, 5, nil)
	if o := tb.Open(); len(o) != 2 || o[0].ID != "b" || o[1].From != 10 {
		t.Errorf("open are %+v; a second begin changes nothing", o)
	}
	end("a", 20, 10, 20, nil)
	end("a", 21, 0, 0, job.ErrNotRunning)
	// CEEMS: a requeued job. Its runs are apart.
	begin("a", 1, 30, nil)
	end("a", 25, 30, 30, nil) // told out of order: never before it began
	begin("zero", 0, 0, nil)
	end("zero", 0, 0, 1, nil) // To 0 would mean that it still runs
	if d := tb.During(0, 100); len(d) != 3 || d[0].ID != "zero" || d[1].ID != "b" || d[2].ID != "a" {
		t.Errorf("during all of it: %+v; the run without length is not there", d)
	}
	if d := tb.During(20, 30); len(d) != 1 || d[0].ID != "b" {
		t.Errorf("during [20, 30): %+v; spans are half open", d)
	}
	tb.Forget(20)
	if d := tb.During(0, 100); len(d) != 1 || d[0].ID != "b" {
		t.Errorf("after forgetting: %+v", d)
	}
}

// A requeue whose first end was never told: the first run ends, both are kept.
func TestBeginOfAnotherRunEndsTheFirst(t *testing.T) {
	var tb job.Table
	if err := errors.Join(tb.Begin(job.Spec{ID: "a"}, 10), tb.Begin(job.Spec{ID: "b"}, 11), tb.Begin(job.Spec{ID: "a", Restart: 1}, 50)); err != nil {
		t.Fatal(err)
	}
	d := tb.During(0, 100)
	if len(d) != 3 || d[0].To != 50 || !d[1].Open() || !d[2].Open() || d[2].Restart != 1 {
		t.Errorf("runs are %+v", d)
	}
	if a, err := tb.End("a", 60); err != nil || a.Restart != 1 {
		t.Errorf("end: %+v, %v", a, err)
	}
}

// Edges come late and twice: kept in a file though the agent had them, found
// after they were told.
func TestEdgesOutOfOrder(t *testing.T) {
	var tb job.Table
	begin := func(s job.Spec, at int64, want error) {
		t.Helper()
		if err := tb.Begin(s, at); !errors.Is(err, want) {
			t.Errorf("begin of %+v at %d: %v, want %v", s, at, err, want)
		}
	}
	runs := func(id, want string) {
		t.Helper()
		var got []string
		for _, a := range tb.Runs(id) {
			got = append(got, fmt.Sprintf("%d%s [%d %d)", a.Restart, a.SLUID, a.From, a.To))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("runs of %s are %s; want %s", id, strings.Join(got, ", "), want)
		}
	}
	end := func(id string, at int64) {
		t.Helper()
		if _, err := tb.End(id, at); err != nil {
			t.Error(err)
		}
	}
	// told and kept: the begin is delivered again after the job's end
	begin(job.Spec{ID: "a"}, 10, nil)
	end("a", 20)
	begin(job.Spec{ID: "a"}, 10, job.ErrEnded)
	begin(job.Spec{ID: "a", Found: true}, 12, job.ErrEnded)
	runs("a", "0 [10 20)")
	tb.Forget(30)
	begin(job.Spec{ID: "a"}, 10, job.ErrEnded)
	if !tb.Ended("a", 20) || tb.Ended("a", 21) || tb.Ended("b", 15) {
		t.Error("an end at 20 is known, one at 21 or of another job is not")
	}
	begin(job.Spec{ID: "a"}, 40, nil) // a hook without restart counts tells the next run
	runs("a", "0 [40 0)")

	// the begin of the first run is delivered when the second is there
	begin(job.Spec{ID: "b", Restart: 1}, 50, nil)
	begin(job.Spec{ID: "b"}, 45, nil)
	runs("b", "0 [45 50), 1 [50 0)")

	// an id that is used again, by Slurm's own name of the run
	begin(job.Spec{ID: "c", SLUID: "s1"}, 60, nil)
	begin(job.Spec{ID: "c", SLUID: "s1"}, 61, job.ErrRunning)
	begin(job.Spec{ID: "c"}, 62, job.ErrRunning)
	begin(job.Spec{ID: "c", SLUID: "s2"}, 70, nil)
	runs("c", "0s1 [60 70), 0s2 [70 0)")

	// the memory has an end
	for i := range 3000 {
		id := fmt.Sprint("m", i)
		begin(job.Spec{ID: id}, 100, nil)
		end(id, 101)
		tb.Forget(102)
	}
	begin(job.Spec{ID: "m2999"}, 100, job.ErrEnded)
	begin(job.Spec{ID: "m0"}, 100, nil)
}

func TestSpecsThatCannotBe(t *testing.T) {
	f := func(want string, s job.Spec) {
		t.Helper()
		var tb job.Table
		if err := tb.Begin(s, 1); !errors.Is(err, job.ErrBadSpec) || !strings.Contains(err.Error(), want) || len(tb.Open()) != 0 {
			t.Errorf("begin of %+v: %v, want %q", s, err, want)
		}
	}
	long := strings.Repeat("x", window.MaxName+1)
	f("no id", job.Spec{})
	f("its id has 257 bytes", job.Spec{ID: long})
	f("its project has 257 bytes", job.Spec{ID: "1", Project: long})
	f("its user has 257 bytes", job.Spec{ID: "1", User: long})
	f("0 millionths", job.Spec{ID: "1", GPUs: []window.Share{{Device: "gpu0"}}})
	f("1000001 millionths", job.Spec{ID: "1", GPUs: []window.Share{{Device: "gpu0", Weight: 1_000_001}}})
	f("gpu0 is named twice", job.Spec{ID: "1", GPUs: []window.Share{{Device: "gpu0", Weight: 1}, {Device: "gpu1", Weight: 1}, {Device: "gpu0", Weight: 1}}})
	f("a device has no name", job.Spec{ID: "1", GPUs: []window.Share{{Weight: 1}}})
}

func TestWholeNode(t *testing.T) {
	f := func(want bool, s job.Spec) {
		t.Helper()
		if s.WholeNode() != want {
			t.Errorf("%+v owns the node: %v", s, !want)
		}
	}
	f(true, job.Spec{})
	f(true, job.Spec{CPUs: 4, Exclusive: true})
	f(false, job.Spec{CPUs: 4})
	f(false, job.Spec{GPUs: []window.Share{{Device: "gpu0", Weight: 1}}})
}

// A step of the clock moves the edges that lie in the open window, and nothing
// that began before it may come to begin after it.
func TestShift(t *testing.T) {
	f := func(by, wantOld, wantNew, wantEnd int64) {
		t.Helper()
		var tb job.Table
		for id, at := range map[string]int64{"old": 900, "new": 1010, "ended": 950} {
			if err := tb.Begin(job.Spec{ID: id}, at); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tb.End("ended", 1005); err != nil {
			t.Fatal(err)
		}
		tb.Shift(1000, by)
		for _, a := range tb.During(-10_000, 10_000) {
			switch {
			case a.ID == "old" && a.From != wantOld, a.ID == "new" && a.From != wantNew, a.ID == "ended" && a.To != wantEnd:
				t.Errorf("shifted by %d: %s is [%d, %d)", by, a.ID, a.From, a.To)
			}
		}
	}
	f(500, 900, 1510, 1505)
	f(-20, 900, 990, 985)
	f(-500, 500, 510, 505)
}

func TestTableIsKept(t *testing.T) {
	var tb, again job.Table
	spec := job.Spec{ID: "71001", Restart: 2, SubmitMS: 5, Project: "P", User: "u", GPUs: []window.Share{{Device: "gpu3", Weight: 142_857}}, CPUs: 8}
	if err := errors.Join(tb.Begin(spec, 10), tb.Begin(job.Spec{ID: "b", Exclusive: true}, 20)); err != nil {
		t.Fatal(err)
	}
	if _, err := tb.End("b", 30); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(&tb)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if c, err := json.Marshal(&again); err != nil || string(c) != string(b) || len(again.During(0, 100)) != 2 {
		t.Errorf("kept %s, read %s, %v", b, c, err)
	}
}
