package fleet

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDamagedLines(t *testing.T) {
	good := "n1,1700000000000,5\nn1,1700000001000,6\n"
	goodJobs := "1,P,u,1700000000000,1700000000500,n1\n"
	f := func(power, jobs, want string) {
		t.Helper()
		dir := t.TempDir()
		p, j := filepath.Join(dir, "p.csv"), filepath.Join(dir, "j.csv")
		write(t, p, []byte(powerHeader+"\n"+power))
		write(t, j, []byte(jobsHeader+"\n"+jobs))
		var told []string
		r, err := OpenRecording(p, j, RecordingOptions{Damaged: func(d *Damage) { told = append(told, d.Error()) }})
		if err != nil {
			t.Errorf("it did not go on: %v", err)
			return
		}
		if len(told) != 1 || r.Damaged() != 1 || !strings.Contains(told[0], want) {
			t.Errorf("damage: %q; want %q", told, want)
		}
		var d *Damage
		_, err = OpenRecording(p, j, RecordingOptions{Strict: true})
		if !errors.As(err, &d) || !strings.Contains(err.Error(), want) {
			t.Errorf("strict: %v; want %q", err, want)
		}
	}
	f(good+"n1,1700000002000\n", goodJobs, "p.csv:4: 2 columns, not the 3 of node,time_ms,watts")
	f(good+"\nn1,1700000002000,1\n", goodJobs, "p.csv:4: 1 columns")
	f("n1,x,5\n"+good, goodJobs, `p.csv:2: time_ms: "x" is not a time`)
	f("n1,-1,5\n"+good, goodJobs, `p.csv:2: time_ms: "-1" is not a time`)
	f(good+"n1,1700000002000,-5", goodJobs, `p.csv:4: watts: "-5" is negative`)
	f(good+"n1,1700000002000,5e3\n", goodJobs, `p.csv:4: watts: "5e3" is not a decimal number`)
	f(good+"n1,1700000002000,NaN\n", goodJobs, `p.csv:4: watts: "NaN" is not a decimal number`)
	f(good+"n1,1700000002000,5.\n", goodJobs, `p.csv:4: watts: "5." is not a decimal number`)
	f(good+"n1,1700000002000,5.0000001\n", goodJobs, `p.csv:4: watts: "5.0000001" is finer than a microwatt`)
	f(good+"n1,1700000002000,9000000\n", goodJobs, `more than any node draws`)
	f(good+"n1,1700000000500,5\n", goodJobs, "p.csv:4: time_ms: 1700000000500 is not after 1700000001000, the reading of n1 before it")
	f(good+"n1,1700000001000,6\n", goodJobs, "p.csv:4: time_ms: 1700000001000 is not after")
	f(good+",1700000000500,5\n", goodJobs, `p.csv:4: node: "" is not a name`)
	f(good+strings.Repeat("x", maxLine+1)+"\n", goodJobs, "p.csv:4: the line is longer than 4 MiB")
	f(good, goodJobs+"2,P,u,1700000000600,1700000000600,n1\n", "j.csv:3: end_ms: 1700000000600 is not after start_ms")
	f(good, goodJobs+"2,P,u,1700000000600,x,n1\n", `j.csv:3: end_ms: "x" is not a time`)
	f(good, "1,P,u,1700000000600,1700000000700,\n"+goodJobs, "j.csv:2: nodes: job 1 names none")
	f(good, goodJobs+goodJobs, "j.csv:3: job_id: 1 was on a line before")
	f(good, goodJobs+"2,P,u,1700000000600,1700000000700,n1 n1\n", "j.csv:3: nodes: job 2 names n1 twice")
	f(good, goodJobs+",P,u,1700000000600,1700000000700,n1\n", `j.csv:3: job_id: "" is not a name`)
	f(good, goodJobs+"2,"+strings.Repeat("p", 300)+",u,1700000000600,1700000000700,n1\n", "has 300 bytes, at most 256")
}

func TestDamagedLineCostsOnlyItself(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "p.csv")
	clean, err := os.ReadFile("testdata/power.csv")
	if err != nil {
		t.Fatal(err)
	}
	write(t, p, append([]byte(strings.ReplaceAll(string(clean), "\n", "\r\n")), "junk\r\n"...))
	r := open(t, p, "testdata/jobs.csv", RecordingOptions{})
	want := directly(t, "testdata/power.csv", "testdata/jobs.csv")["total,"]
	if got := booksOf(t, r.Feeds())["total,"]; got.Cmp(want) != 0 || r.Damaged() != 1 {
		t.Errorf("total %v J, %d damaged; want %v and 1", got, r.Damaged(), want)
	}
}

func TestCompressedRecording(t *testing.T) {
	plain, err := os.ReadFile("testdata/power.csv")
	if err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), "p.csv.gz")
	f := func(content []byte, readings, damaged int) {
		t.Helper()
		write(t, p, content)
		r, err := OpenRecording(p, "testdata/jobs.csv", RecordingOptions{})
		if err != nil {
			t.Error(err)
			return
		}
		if r.Damaged() != damaged || readings >= 0 && r.Readings() != readings {
			t.Errorf("%d readings, %d damaged; want %d and %d", r.Readings(), r.Damaged(), readings, damaged)
		}
		_, err = OpenRecording(p, "testdata/jobs.csv", RecordingOptions{Strict: true})
		if cut := err != nil && strings.Contains(err.Error(), "the file is cut off or damaged here"); cut != (damaged > 0) {
			t.Errorf("strict: %v; want an error: %v", err, damaged > 0)
		}
	}
	f(z.Bytes(), 20, 0)
	f(z.Bytes()[:z.Len()-3], 20, 1)                                           // the sum is torn: every line was there
	f(append(slices.Clone(z.Bytes()[:z.Len()-8]), make([]byte, 8)...), 20, 1) // the sum is wrong
	f(z.Bytes()[:z.Len()*3/4], -1, 1)
}

func TestUnusableRecordings(t *testing.T) {
	dir := t.TempDir()
	f := func(power, jobs, want string) {
		t.Helper()
		p, j := filepath.Join(dir, "p.csv"), filepath.Join(dir, "j.csv")
		write(t, p, []byte(power))
		write(t, j, []byte(jobs))
		if _, err := OpenRecording(p, j, RecordingOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error: %v; want %q", err, want)
		}
	}
	f("", jobsHeader+"\n", "p.csv: its first line is")
	f("node,watts\n", jobsHeader+"\n", `its first line is "node,watts", not "node,time_ms,watts"`)
	f(powerHeader+"\nn,1,1\n", "id\n", "j.csv: its first line is")
	f(powerHeader+"\n", jobsHeader+"\n", "holds no reading")
	if _, err := OpenRecording(filepath.Join(dir, "none"), "", RecordingOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error: %v; want that it does not exist", err)
	}
	gz := filepath.Join(dir, "p.csv.gz")
	write(t, gz, []byte("this is not a gzip archive"))
	if _, err := OpenRecording(gz, "", RecordingOptions{}); !errors.Is(err, gzip.ErrHeader) {
		t.Errorf("error: %v; want gzip's", err)
	}
}

func TestDigestNamesTheContent(t *testing.T) {
	dir := t.TempDir()
	digest := func(power, jobs string, o RecordingOptions) string { return open(t, power, jobs, o).Digest() }
	want := digest("testdata/power.csv", "testdata/jobs.csv", RecordingOptions{})
	if got := digest("testdata/power.csv", "testdata/jobs.csv", RecordingOptions{Shift: time.Hour}); got != want || len(got) != 16 {
		t.Errorf("digest %q; want %q whatever the shift", got, want)
	}
	b, err := os.ReadFile("testdata/jobs.csv")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "jobs.csv"), bytes.Replace(b, []byte("bob"), []byte("eve"), 1))
	if got := digest("testdata/power.csv", filepath.Join(dir, "jobs.csv"), RecordingOptions{}); got == want {
		t.Errorf("digest %q of other jobs", got)
	}
}
