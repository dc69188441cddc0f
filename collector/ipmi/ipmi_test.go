package ipmi_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/collector/ipmi"
	"github.com/wattledger/wattledger/internal/energy"
)

// bmc is a controller in memory. What it answers is set between polls.
type bmc struct {
	state
	dialErr error
	deaf    bool // ignores its context

	dials, asked, closes, at atomic.Int32 // at: how many talk to it now
	twice                    atomic.Bool  // more than one did
}

type state struct {
	watts    uint16
	inactive bool
	err      error
	takes    time.Duration
}

func well(watts uint16) *bmc { return &bmc{state: state{watts: watts}} }

func (b *bmc) dial(context.Context) (ipmi.Controller, error) {
	b.dials.Add(1)
	if b.dialErr != nil {
		return nil, b.dialErr
	}
	return b, nil
}

func (b *bmc) Power(ctx context.Context) (ipmi.Power, error) {
	b.asked.Add(1)
	if b.at.Add(1) > 1 {
		b.twice.Store(true)
	}
	defer b.at.Add(-1)
	if b.deaf {
		time.Sleep(b.takes)
	} else {
		select {
		case <-time.After(b.takes):
		case <-ctx.Done():
			return ipmi.Power{}, ctx.Err()
		}
	}
	return ipmi.Power{Current: b.watts, Active: !b.inactive}, b.err
}

func (b *bmc) Close(context.Context) error { b.closes.Add(1); return nil }

func source(t *testing.T, b *bmc, change func(*ipmi.Options)) *ipmi.Source {
	t.Helper()
	o := ipmi.Options{Now: time.Now, Dial: b.dial}
	if change != nil {
		change(&o)
	}
	s, err := ipmi.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run ticks once a second, as the agent does, and collects what comes.
func run(s *ipmi.Source, ticks int) (readings []collector.Reading, errs []error) {
	for range ticks {
		next := time.Now().Add(time.Second)
		ctx, cancel := context.WithDeadline(context.Background(), next)
		r, err := s.Read(ctx)
		cancel()
		readings = append(readings, r...)
		if err != nil {
			errs = append(errs, err)
		}
		time.Sleep(time.Until(next))
	}
	return readings, errs
}

func TestOneReadingEveryFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bmc{state: state{watts: 2150, takes: 80 * time.Millisecond}}
		start := time.Now()
		readings, errs := run(source(t, b, nil), 60)
		if len(errs) > 0 || len(readings) != 12 || b.asked.Load() != 12 || b.dials.Load() != 1 {
			t.Fatalf("%d readings of %d questions on %d connections, errors %v; want 12, 12, 1, none", len(readings), b.asked.Load(), b.dials.Load(), errs)
		}
		r := readings[1]
		want := collector.Scope{Name: "node-bmc", Class: energy.Node, Kind: collector.Power, Witness: true, Device: "/dev/ipmi0"}
		if r.Scope != want {
			t.Errorf("scope = %+v; want %+v", r.Scope, want)
		}
		if r.Power != 2150*energy.Watt || !r.HasPower || !r.At.Equal(start.Add(5*time.Second+80*time.Millisecond)) {
			t.Errorf("reading = %v at %v", r.Power, r.At.Sub(start))
		}
		if len(r.Gauges) != 1 || r.Gauges[0].Name != "bmc_response_seconds" || r.Gauges[0].Value != 0.08 {
			t.Errorf("gauges = %v", r.Gauges)
		}
	})
}

func TestBookedMeterIsTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := source(t, well(1), func(o *ipmi.Options) { o.Booked, o.Limit = true, 3000*energy.Watt })
		r, _ := run(s, 1)
		want := collector.Scope{
			Name: "node", Class: energy.Node, Rest: energy.Other, Kind: collector.Power, Limit: 3000 * energy.Watt, Device: "/dev/ipmi0",
		}
		if len(r) != 1 || r[0].Scope != want {
			t.Errorf("readings = %+v; want one of %+v", r, want)
		}
	})
}

// TestWhatIsNoMeasurementIsNoNumber: each is said once, and a reading comes as
// soon as the controller is well.
func TestWhatIsNoMeasurementIsNoNumber(t *testing.T) {
	f := func(name string, ill state, text string, reopened bool) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := well(300)
				s := source(t, b, nil)
				run(s, 1)
				b.state = ill
				readings, errs := run(s, 40)
				if len(readings) != 0 {
					t.Errorf("readings of a controller that measures nothing: %v", readings)
				}
				var de *collector.DeviceError
				if len(errs) != 1 || !errors.As(errs[0], &de) || de.Device != "node-bmc" || !strings.Contains(errs[0].Error(), text) {
					t.Errorf("errors = %v; want one of node-bmc with %q", errs, text)
				}
				if got := b.closes.Load() > 0; got != reopened {
					t.Errorf("closed = %v; want %v", got, reopened)
				}
				b.state = state{watts: 310}
				readings, errs = run(s, 45)
				if len(errs) > 0 || len(readings) == 0 || readings[0].Power != 310*energy.Watt {
					t.Errorf("after it: %v, %v; want readings of 310 W", readings, errs)
				}
				var kinds []string
				for _, e := range s.Events() {
					kinds = append(kinds, e.Kind+" "+e.Meter)
				}
				if got := strings.Join(kinds, ", "); got != "missing_meter node-bmc, meter_back node-bmc" {
					t.Errorf("events = %s", got)
				}
			})
		})
	}
	f("zero", state{}, "0 W", true)
	f("switched off", state{watts: 300, inactive: true}, "does not measure", true)
	f("busy", state{watts: 300, err: &ipmi.CodeError{Code: 0xc0}}, "completion code c0h (node busy)", false)
	f("no such command", state{watts: 300, err: &ipmi.CodeError{Code: 0xc1}}, "c1h", true)
	f("broken", state{watts: 300, err: errors.New("EIO")}, "EIO", true)
	f("silent", state{watts: 300, takes: time.Hour}, "deadline", true)
}

func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bmc{dialErr: errors.New("gone")}
		s := source(t, b, nil)
		_, errs := run(s, 3600)
		// 0, 5, 15, 35, 75, 155, then every 300 s.
		if n := b.dials.Load(); n < 16 || n > 18 || len(errs) != 1 {
			t.Errorf("an absent controller was tried %d times in an hour, errors %v; want 17 and one", n, errs)
		}
		b.dialErr, b.watts = nil, 100
		if r, _ := run(s, 310); len(r) < 2 {
			t.Errorf("%d readings in the 5 minutes after it came back", len(r))
		}
	})
}

// TestSlowAnswer: an answer that takes longer than a tick is given to a later
// Read with the time at which it came, and no Read waits for it.
func TestSlowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bmc{state: state{watts: 500, takes: 3300 * time.Millisecond}}
		s := source(t, b, nil)
		start := time.Now()
		readings, errs := run(s, 30)
		if len(errs) > 0 || len(readings) < 4 || !readings[0].At.Equal(start.Add(3300*time.Millisecond)) {
			t.Fatalf("readings = %v, errors %v", readings, errs)
		}
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("30 ticks took %s", took)
		}
	})
}

// TestDeadlineIgnored: a driver that does not come back is not called again; it
// is said once.
func TestDeadlineIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bmc{state: state{watts: 500, takes: 60 * time.Second}, deaf: true}
		s := source(t, b, nil)
		_, errs := run(s, 50)
		if len(errs) != 1 || !strings.Contains(errs[0].Error(), "ignores its deadline") || b.asked.Load() != 1 {
			t.Errorf("errors = %v after %d questions; want one, 1", errs, b.asked.Load())
		}
		run(s, 20)
		if b.twice.Load() {
			t.Error("two clients at once")
		}
		time.Sleep(time.Minute)
	})
}

func TestClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := well(500)
		var off time.Duration
		s := source(t, b, func(o *ipmi.Options) {
			o.Now = func() time.Time { return time.Now().Round(0).Add(off) }
		})
		run(s, 10)
		off = -48 * time.Hour
		if r, _ := run(s, 20); len(r) < 3 {
			t.Errorf("%d readings in 20 s after the clock was set back by two days", len(r))
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := well(500)
		s := source(t, b, nil)
		run(s, 1)
		b.takes = time.Hour
		run(s, 6) // a poll is in progress
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		asked := b.asked.Load()
		if run(s, 20); b.asked.Load() != asked || b.closes.Load() != 1 {
			t.Errorf("%d questions after Close, %d connections closed; want 0, 1", b.asked.Load()-asked, b.closes.Load())
		}
	})
}

func TestOptions(t *testing.T) {
	f := func(o ipmi.Options, want ...string) {
		t.Helper()
		o.Now = time.Now
		_, err := ipmi.New(o)
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%+v: error %v; want one with %q", o, err, w)
			}
		}
		if len(want) == 0 && err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	f(ipmi.Options{})
	f(ipmi.Options{Every: time.Second, Timeout: time.Hour, Device: -1}, "every", "timeout", "device")
	f(ipmi.Options{Host: "bmc"}, "password_file")
	f(ipmi.Options{Host: "bmc", User: "u", PasswordFile: "p", CipherSuite: 0})
	f(ipmi.Options{Host: "bmc", User: "u", PasswordFile: "p", CipherSuite: 1, Port: 70000, Privilege: "root"}, "cipher_suite", "port", "privilege")
}

func TestProbe(t *testing.T) {
	f := func(o ipmi.Options, why, mend string) {
		t.Helper()
		o.Now = time.Now
		s, err := ipmi.New(o)
		if err != nil {
			t.Fatal(err)
		}
		m := s.Probe(t.Context())
		if len(m) != 1 || !strings.Contains(m[0].Why, why) || !strings.Contains(m[0].Mend, mend) || m[0].Meter != "node-bmc" {
			t.Errorf("missing = %+v; want %q and the mend %q", m, why, mend)
		}
	}
	dial := func(b *bmc) ipmi.Options { return ipmi.Options{Dial: b.dial} }
	f(ipmi.Options{DevDir: t.TempDir()}, "ipmi0", "modprobe -a ipmi_devintf ipmi_si")
	f(dial(&bmc{dialErr: os.ErrPermission}), "permission", `GROUP="wattledger"`)
	f(dial(&bmc{state: state{err: &ipmi.CodeError{Code: 0xc1}}}), "no such command", "sources.ipmi.enabled: false")
	f(dial(&bmc{state: state{err: &ipmi.CodeError{Code: 0xd4}}}), "privilege", "sources.ipmi.privilege")
	f(dial(&bmc{state: state{watts: 300, inactive: true}}), "does not measure", "dcmi power activate")
	f(dial(&bmc{}), "0 W", "")
	remote := ipmi.Options{Host: "127.0.0.1", User: "u", PasswordFile: filepath.Join(t.TempDir(), "password")}
	f(remote, "password", "install -m 0400")

	fine := ipmi.Options{Now: time.Now, Dial: well(1).dial}
	if s, err := ipmi.New(fine); err != nil || s.Probe(t.Context()) != nil {
		t.Errorf("a controller that is well is missing something: %v", err)
	}
}
