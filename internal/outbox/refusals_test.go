package outbox_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattledger/wattledger/internal/outbox"
)

func TestFolderThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.append(5, 8)
		if err := os.RemoveAll(b.opts.Dir); err != nil {
			t.Fatal(err)
		}
		b.run()
		time.Sleep(time.Minute)
		b.want("samples", map[string]int{"damaged": 5}, b.samples())
		b.stop()
	})
}

func TestRecordsOfASizeThatCannotBe(t *testing.T) {
	b := newBench(t, nil)
	for _, f := range []struct{ size, values int }{{0, 1}, {outbox.MaxRecord + 1, 1}, {1, 0}, {1, -1}, {1, 1 << 30}} {
		if err := b.box.Append(make([]byte, f.size), f.values); !errors.Is(err, outbox.ErrSize) {
			t.Errorf("%d bytes of %d values: %v; want ErrSize", f.size, f.values, err)
		}
	}
}

func TestOneProcessHasTheFolder(t *testing.T) {
	b := newBench(t, nil)
	o := b.opts
	o.Registerer = nil
	if _, err := outbox.Open(o); err == nil || !strings.Contains(err.Error(), "another process uses it") {
		t.Errorf("a folder is opened twice: %v", err)
	}
}

func TestClosedBoxTakesNothing(t *testing.T) {
	b := newBench(t, nil)
	b.append(2, 8)
	if err := b.box.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.box.Append([]byte("x"), 3); !errors.Is(err, outbox.ErrClosed) {
		t.Errorf("after Close: %v; want ErrClosed", err)
	}
	b.want("samples", map[string]int{"unbuffered": 3}, b.samples())
	b.open()
	b.want("waiting", uint64(2), b.box.Values())
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "999999": 5 * time.Minute, "-3": 0, "soon": 0, "99999999999999999999": 0,
		"Sun, 22 Nov 2026 08:00:30 GMT": 30 * time.Second, "Sun, 22 Nov 2026 07:00:00 GMT": 0, "Sun, 22 Nov 2099 07:00:00 GMT": 5 * time.Minute,
	} {
		if got := outbox.RetryAfter(header, now); got != want {
			t.Errorf("RetryAfter(%q) = %v; want %v", header, got, want)
		}
	}
}
