package outbox_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattledger/wattledger/internal/outbox"
)

// FuzzDamage breaks the files of a ring and demands that the rest is delivered:
// in order, nothing that was never appended, and every record accounted for but
// those at the very end, of which nobody can know.
func FuzzDamage(f *testing.F) {
	f.Add(uint8(0), uint8(0), uint32(100), uint8(255))
	f.Add(uint8(1), uint8(1), uint32(70_000), uint8(0))
	f.Add(uint8(2), uint8(2), uint32(0), uint8(0))
	f.Add(uint8(3), uint8(3), uint32(24), uint8(7))
	f.Add(uint8(0), uint8(200), uint32(11), uint8(1))
	f.Fuzz(func(t *testing.T, what, which uint8, where uint32, value uint8) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(o *outbox.Options) { o.Limit, o.MaxValues = outbox.MinLimit, 64 })
			b.append(60, 10_000)
			b.box.Crash()
			lastHurt := hurt(t, b.opts.Dir, what, which, where, value)
			b.open()
			b.append(20, 100)
			b.run()
			time.Sleep(time.Minute)
			b.stop()
			got := b.to.has()
			if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
				t.Fatalf("not in order, or twice: %v", got)
			}
			if missing := slices.DeleteFunc(numbers(60, 80), func(n int) bool { return slices.Contains(got, n) }); len(missing) > 0 {
				t.Fatalf("appended after the damage and not delivered: %v", missing)
			}
			samples := b.samples()
			if n := samples["delivered"] + samples["damaged"]; n > 80 || n < 80 && !lastHurt {
				t.Fatalf("%v of 80 samples are accounted for: %v", n, samples)
			}
			if samples["delivered"] != len(got) || len(got) < 50 {
				t.Fatalf("%d delivered, counted %v", len(got), samples)
			}
		})
	})
}

// hurt breaks one file and tells whether it is the newest segment.
func hurt(t *testing.T, dir string, what, which uint8, where uint32, value uint8) bool {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "*.ring"))
	if err != nil || len(segments) < 4 {
		t.Fatalf("%d segments, %v", len(segments), err)
	}
	name := filepath.Join(dir, "cursor")
	if int(which) < 2*len(segments) {
		name = segments[int(which)%len(segments)]
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at := int(where) % max(1, len(data))
	switch what % 4 {
	case 0: // a byte is another
		if len(data) > 0 {
			data[at] ^= value | 1
		}
	case 1: // the rest is missing
		data = data[:at]
	case 2: // the file is missing
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		return name == segments[len(segments)-1]
	case 3: // a piece is missing, and there is rubbish behind
		data = append(append(data[:at:at], data[min(len(data), at+int(value)):]...), "WLO1 and so on"...)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name == segments[len(segments)-1]
}

// FuzzRubbish opens a ring of files that somebody else may have written.
func FuzzRubbish(f *testing.F) {
	f.Add([]byte("WLO1"), []byte(""), uint64(0))
	f.Add([]byte("WLO1\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\xff\xff\xff\xffx"), []byte("0123456789012345678901234567890123456789012345678901234567890123"), uint64(1)<<61)
	f.Fuzz(func(t *testing.T, segment, cursor []byte, at uint64) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{outbox.SegmentName(at % (1 << 62)): segment, "cursor": cursor, "0.ring": segment} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var got []byte
		b, err := outbox.Open(outbox.Options{Dir: dir, Now: time.Now, MaxValues: 1, Send: func(_ context.Context, p [][]byte) error {
			got = p[len(p)-1]
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Append([]byte("last"), 1); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { b.Run(ctx); close(done) }()
		for end := time.Now().Add(10 * time.Second); b.Values() > 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		cancel()
		<-done
		if string(got) != "last" {
			t.Errorf("the last record delivered is %q, and %d values wait", got, b.Values())
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}
