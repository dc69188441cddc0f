package fleet

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
)

func open(t *testing.T, power, jobs string, o RecordingOptions) *Recording {
	t.Helper()
	r, err := OpenRecording(power, jobs, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func steps(t *testing.T, f Feed) []Step {
	t.Helper()
	var out []Step
	for {
		s, err := f.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := len(out); n > 0 && !s.At.After(out[n-1].At) {
			t.Fatalf("%s: a step at %v after one at %v", f.Node(), s.At, out[n-1].At)
		}
		if len(s.Ends)+len(s.Begins)+len(s.Readings) == 0 {
			t.Fatalf("%s: an empty step at %v", f.Node(), s.At)
		}
		out = append(out, s)
	}
}

// booksOf integrates the steps of feeds: power along straight lines, cut at job
// edges, in fractions of a joule. It shares no code with what it checks.
func booksOf(t *testing.T, feeds []Feed) map[string]*big.Rat {
	t.Helper()
	sum := map[string]*big.Rat{}
	add := func(key string, j *big.Rat) {
		if sum[key] == nil {
			sum[key] = new(big.Rat)
		}
		sum[key].Add(sum[key], j)
	}
	watts := func(r collector.Reading) *big.Rat { return big.NewRat(int64(r.Power), 1_000_000) }
	for _, f := range feeds {
		type mark struct {
			ms      int64
			holders []string // from then on
		}
		var marks []mark
		var last *collector.Reading
		running := map[string]string{} // job to project
		for _, s := range steps(t, f) {
			ms := s.At.UnixMilli()
			if len(s.Readings) > 0 && last != nil {
				// The line from last to now, cut at the marks in between.
				a, b := last.At.UnixMilli(), ms
				p0, p1 := watts(*last), watts(s.Readings[0])
				at := func(ms int64) *big.Rat {
					x := new(big.Rat).Mul(new(big.Rat).Sub(p1, p0), big.NewRat(ms-a, b-a))
					return x.Add(x, p0)
				}
				for i, m := range marks {
					from, to := max(a, m.ms), b
					if i+1 < len(marks) {
						to = marks[i+1].ms
					}
					j := new(big.Rat).Add(at(from), at(to))
					j.Mul(j, big.NewRat(to-from, 2000))
					add("total,", j)
					if len(m.holders) == 0 {
						add("idle,", j)
					}
					part := new(big.Rat)
					if len(m.holders) > 0 {
						part.Mul(j, big.NewRat(1, int64(len(m.holders))))
					}
					for _, h := range m.holders {
						id, project, _ := strings.Cut(h, ",")
						add("job,"+id, part)
						add("project,"+project, part)
					}
				}
			}
			for _, id := range s.Ends {
				if _, ok := running[id]; !ok {
					t.Fatalf("%s: job %s ends and was not running", f.Node(), id)
				}
				delete(running, id)
			}
			for _, b := range s.Begins {
				if !b.Exclusive {
					t.Errorf("job %s does not hold the whole node", b.ID)
				}
				running[b.ID] = b.Project
			}
			if len(s.Readings) > 0 {
				marks = marks[:0]
				last = &s.Readings[0]
			}
			var holders []string
			for id, project := range running {
				holders = append(holders, id+","+project)
			}
			if last != nil {
				marks = append(marks, mark{ms, holders})
			}
		}
	}
	return sum
}

// directly computes the same from the files alone: for every node and pair of
// readings, the overlap of the line with every job.
func directly(t *testing.T, power, jobs string) map[string]*big.Rat {
	t.Helper()
	type point struct {
		ms int64
		w  *big.Rat
	}
	nodes := map[string][]point{}
	sum := map[string]*big.Rat{"idle,": {}, "total,": {}}
	for _, f := range csvOf(t, power) {
		w, _ := new(big.Rat).SetString(f[2])
		nodes[f[0]] = append(nodes[f[0]], point{number(t, f[1]), w})
	}
	area := func(ps []point, from, to int64) *big.Rat {
		j := new(big.Rat)
		for i := 1; i < len(ps); i++ {
			a, b := ps[i-1], ps[i]
			lo, hi := max(from, a.ms), min(to, b.ms)
			if lo >= hi {
				continue
			}
			slope := new(big.Rat).Quo(new(big.Rat).Sub(b.w, a.w), big.NewRat(b.ms-a.ms, 1))
			mid := new(big.Rat).Mul(slope, big.NewRat(lo+hi-2*a.ms, 2))
			j.Add(j, mid.Add(mid, a.w).Mul(mid, big.NewRat(hi-lo, 1000)))
		}
		return j
	}
	for _, ps := range nodes {
		j := area(ps, 0, 1<<60)
		sum["total,"].Add(sum["total,"], j)
		sum["idle,"].Add(sum["idle,"], j)
	}
	for _, f := range csvOf(t, jobs) {
		for node := range strings.FieldsSeq(f[5]) {
			j := area(nodes[node], number(t, f[3]), number(t, f[4]))
			for _, key := range []string{"job," + f[0], "project," + f[1]} {
				if sum[key] == nil {
					sum[key] = new(big.Rat)
				}
				sum[key].Add(sum[key], j)
			}
			sum["idle,"].Sub(sum["idle,"], j)
		}
	}
	return sum
}

func csvOf(t *testing.T, path string) [][]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows[1:]
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRecordingHoldsEveryJoule(t *testing.T) {
	power, jobs := "testdata/power.csv", "testdata/jobs.csv"
	want := directly(t, power, jobs)
	for _, shift := range []time.Duration{0, 48 * time.Hour, -time.Millisecond} {
		got := booksOf(t, open(t, power, jobs, RecordingOptions{Shift: shift, Strict: true}).Feeds())
		for key := range want {
			if got[key] == nil || got[key].Cmp(want[key]) != 0 {
				t.Errorf("shifted by %v: %s: %v J; want %v", shift, key, got[key], want[key].FloatString(6))
			}
		}
		if len(got) != len(want) {
			t.Errorf("rows: %d; want %d", len(got), len(want))
		}
	}
}

func TestRealRecording(t *testing.T) {
	dir := cmp.Or(os.Getenv("RECORDING"), "../../../shared/data/mlperf-gpt3-64x8h100")
	power := filepath.Join(dir, "power.csv.gz")
	if _, err := os.Stat(power); err != nil {
		t.Skipf("no recording: %v (RECORDING names its folder)", err)
	}
	for _, table := range []string{"one-job", "many-jobs"} {
		r := open(t, power, filepath.Join(dir, table, "jobs.csv"), RecordingOptions{Strict: true})
		if n := len(r.Feeds()); n != 64 || r.Readings() != 108_916 {
			t.Errorf("%d nodes, %d readings; want 64 and 108916", n, r.Readings())
		}
		got := booksOf(t, r.Feeds())
		rows := csvOf(t, filepath.Join(dir, table, "truth.csv"))
		for _, row := range rows {
			want, _ := new(big.Rat).SetString(row[2])
			off := new(big.Rat)
			if g := got[row[0]+","+row[1]]; g != nil {
				off.Sub(g, want)
			} else {
				off = want
			}
			if off.Abs(off).Cmp(big.NewRat(1, 1000)) > 0 {
				t.Errorf("%s: %s %s: off by %s J of %s", table, row[0], row[1], off.FloatString(6), row[2])
			}
		}
	}
}

func TestStepsOfARecording(t *testing.T) {
	feeds := open(t, "testdata/power.csv", "testdata/jobs.csv", RecordingOptions{Strict: true}).Feeds()
	var names []string
	for _, f := range feeds {
		names = append(names, f.Node())
	}
	if !slices.Equal(names, []string{"n1", "n2", "n3"}) {
		t.Errorf("nodes: %v", names)
	}
	var got bytes.Buffer
	for _, s := range steps(t, feeds[0])[:6] {
		fmt.Fprintf(&got, "%d %v", s.At.UnixMilli()-1_700_000_000_000, s.Ends)
		for _, b := range s.Begins {
			fmt.Fprintf(&got, " +%s/%s/%s", b.ID, b.Project, b.User)
		}
		for _, r := range s.Readings {
			fmt.Fprintf(&got, " %s %s %d", r.Scope.Name, r.Scope.Class, r.Power)
			if r.At != s.At || r.Scope.Kind != collector.Power {
				t.Errorf("reading %+v in a step at %v", r, s.At)
			}
		}
		fmt.Fprintln(&got)
	}
	want := "100 [] node node 500000000\n1001 [] +1/P_A/ann\n2100 [] node node 700000000\n4050 [] node node 650000000\n" +
		"5003 [1] +2/P_A/bob\n6100 [] node node 640000001\n"
	if got.String() != want {
		t.Errorf("got:\n%swant:\n%s", &got, want)
	}
}

func TestShifts(t *testing.T) {
	stamp := func(s string) time.Time {
		t.Helper()
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	f := func(now, from string, length time.Duration, want string) {
		t.Helper()
		a := stamp(from)
		d := ShiftLastMonth(stamp(now), a, a.Add(length))
		if got := a.Add(d).UTC(); !got.Equal(stamp(want)) || d%(24*time.Hour) != 0 {
			t.Errorf("moved to %v (by %v); want %v", got, d, want)
		}
	}
	f("2026-11-22T04:00:00Z", "2024-05-17T15:38:27.185Z", 57*time.Minute, "2026-10-10T15:38:27.185Z")
	f("2026-11-01T00:00:00Z", "2024-05-17T15:38:27.185Z", 57*time.Minute, "2026-10-10T15:38:27.185Z")
	f("2026-11-30T23:59:59.999Z", "2024-05-17T15:38:27.185Z", 57*time.Minute, "2026-10-10T15:38:27.185Z")
	f("2026-01-05T00:00:00Z", "2026-01-05T00:00:00Z", time.Hour, "2025-12-10T00:00:00Z")
	f("2026-03-31T12:00:00Z", "2024-05-17T00:00:00Z", 19*24*time.Hour-time.Millisecond, "2026-02-10T00:00:00Z")
	f("2026-03-31T12:00:00Z", "2024-05-17T00:00:00Z", 19*24*time.Hour, "2026-02-01T00:00:00Z")
	f("2026-12-01T01:00:00+02:00", "2024-05-17T00:00:00Z", time.Hour, "2026-10-10T00:00:00Z") // UTC decides
	now := stamp("2026-11-22T04:00:00.1239Z")
	if got := stamp("2024-05-17T15:38:27.185Z").Add(ShiftNow(now, stamp("2024-05-17T15:38:27.185Z"))); got.After(now) || now.Sub(got) >= time.Millisecond {
		t.Errorf("moved to %v; want %v", got, now)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkOpenRecording(b *testing.B) {
	dir := cmp.Or(os.Getenv("RECORDING"), "../../../shared/data/mlperf-gpt3-64x8h100")
	if _, err := os.Stat(dir); err != nil {
		b.Skipf("no recording: %v (RECORDING names its folder)", err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r, err := OpenRecording(filepath.Join(dir, "power.csv.gz"), filepath.Join(dir, "many-jobs/jobs.csv"), RecordingOptions{Strict: true})
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range r.Feeds() {
			for _, err = f.Next(); err == nil; _, err = f.Next() {
			}
		}
	}
}
