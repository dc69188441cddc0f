//go:build lab

package ipmi_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/collector/ipmi"
	"github.com/wattledger/wattledger/internal/energy"
)

// lab is OpenIPMI's ipmi_sim with DCMI (see test/ipmi-lab), a client of it, and
// a clock that the test sets forward instead of waiting for the next poll.
type lab struct {
	t      *testing.T
	dir    string
	port   int
	source *ipmi.Source
	ahead  atomic.Int64
}

func newLab(t *testing.T, change func(*ipmi.Options)) *lab {
	t.Helper()
	if testing.Short() {
		t.Skip("the lab takes seconds")
	}
	probe, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, dir: t.TempDir(), port: probe.LocalAddr().(*net.UDPAddr).Port}
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	l.up()
	t.Cleanup(l.down)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := ipmi.Options{
		Host: "127.0.0.1", Port: l.port, User: "admin", PasswordFile: password, Timeout: 2 * time.Second,
		Privilege: "administrator", // the simulator asks that much of DCMI
		Now:       func() time.Time { return time.Now().Add(time.Duration(l.ahead.Load())) },
	}
	if change != nil {
		change(&o)
	}
	if l.source, err = ipmi.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.source.Close() })
	return l
}

func (l *lab) script(args ...string) {
	l.t.Helper()
	// Files, not pipes: the simulator would keep a pipe open.
	log, err := os.Create(filepath.Join(l.dir, "script.log"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("../../test/ipmi-lab/ipmi-lab.sh", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(log.Name())
		l.t.Fatalf("cannot run ipmi-lab.sh %v: %v (packages openipmi ipmitool libopenipmi-dev gcc)\n%s", args, err, text)
	}
}

func (l *lab) up()   { l.t.Helper(); l.script("up", l.dir, strconv.Itoa(l.port), "360") }
func (l *lab) down() { l.t.Helper(); l.script("down", l.dir) }

func (l *lab) watts(text string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, "watts"), []byte(text+"\n"), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// next lets the next poll come and gives what it brings.
func (l *lab) next() ([]collector.Reading, error) {
	l.t.Helper()
	l.ahead.Add(int64(6 * time.Minute))
	ctx, cancel := context.WithTimeout(l.t.Context(), 10*time.Second)
	defer cancel()
	return l.source.Read(ctx)
}

func (l *lab) want(watts energy.Microwatts) {
	l.t.Helper()
	r, err := l.next()
	if err != nil || len(r) != 1 || r[0].Power != watts*energy.Watt {
		l.t.Fatalf("reading = %+v, error %v; want %d W", r, err, watts)
	}
	if n, err := l.source.Read(l.t.Context()); n != nil || err != nil {
		l.t.Fatalf("between polls: %v, %v; want nothing", n, err)
	}
}

func (l *lab) wantError(text string) {
	l.t.Helper()
	r, err := l.next()
	var de *collector.DeviceError
	if len(r) != 0 || !errors.As(err, &de) || de.Device != "node-bmc" || !strings.Contains(err.Error(), text) {
		l.t.Fatalf("readings %v, error %v; want none and a DeviceError of node-bmc with %q", r, err, text)
	}
}

func TestLabReadingsAndCodes(t *testing.T) {
	l := newLab(t, nil)
	l.want(360)
	l.watts("2875")
	l.want(2875)
	l.watts("65535")
	l.want(65535)
	l.watts("400 c0")
	l.wantError("c0h (node busy)")
	if r, err := l.next(); r != nil || err != nil {
		t.Errorf("busy again: %v, %v; want silence, it was said", r, err)
	}
	l.watts("410")
	l.want(410)
	l.watts("0")
	l.wantError("0 W")
	l.watts("420")
	l.want(420)
	l.watts("420 c1")
	l.wantError("no such command")
	l.watts("430")
	l.want(430)
	if m := l.source.Probe(t.Context()); m != nil {
		t.Errorf("missing = %+v; want nothing", m)
	}
}

// TestLabControllerRestarts: the session is lost with the controller; readings
// are back at the second poll after it.
func TestLabControllerRestarts(t *testing.T) {
	before := runtime.NumGoroutine()
	l := newLab(t, nil)
	l.want(360)
	l.down()
	time.Sleep(200 * time.Millisecond)
	l.wantError("cannot read the power")
	l.wantError("cannot open 127.0.0.1")
	if r, err := l.next(); r != nil || err != nil {
		t.Errorf("still down: %v, %v; want silence, it was said", r, err)
	}
	if e := l.source.Events(); len(e) != 1 || e[0].Kind != "missing_meter" {
		t.Errorf("events = %+v; want missing_meter", e)
	}
	l.up()
	l.watts("365")
	l.want(365)
	if e := l.source.Events(); len(e) != 1 || e[0].Kind != "meter_back" {
		t.Errorf("events = %+v; want meter_back", e)
	}
	// Restarted between two polls: the old session is not known to the new one.
	l.down()
	time.Sleep(200 * time.Millisecond)
	l.up()
	l.wantError("no answer in time")
	l.want(365)
	if err := l.source.Close(); err != nil {
		t.Error(err)
	}
	time.Sleep(100 * time.Millisecond)
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines after four connections, %d before", n, before)
	}
}

func TestLabRefusals(t *testing.T) {
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("guess"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLab(t, func(o *ipmi.Options) { o.PasswordFile = wrong })
	l.wantError("user or password refused")
	if m := l.source.Probe(t.Context()); len(m) != 1 || !strings.Contains(m[0].Mend, "sources.ipmi.password_file") {
		t.Errorf("missing = %+v", m)
	}
}

func TestLabPrivilege(t *testing.T) {
	l := newLab(t, func(o *ipmi.Options) { o.Privilege = "" })
	l.wantError("insufficient privilege")
	if m := l.source.Probe(t.Context()); len(m) != 1 || !strings.Contains(m[0].Mend, "sources.ipmi.privilege") {
		t.Errorf("missing = %+v", m)
	}
}

// TestLabSilence: a port that swallows everything costs the poll's own timeout.
func TestLabSilence(t *testing.T) {
	hole, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	l := newLab(t, func(o *ipmi.Options) { o.Port = hole.LocalAddr().(*net.UDPAddr).Port; o.Timeout = time.Second })
	start := time.Now()
	l.wantError("no answer in time")
	if took := time.Since(start); took > 2500*time.Millisecond {
		t.Errorf("a silent controller took %s; its timeout is 1s", took)
	}
	if m := l.source.Probe(t.Context()); len(m) != 1 || !strings.Contains(m[0].Mend, "mc info") {
		t.Errorf("missing = %+v", m)
	}
}

func BenchmarkLabRead(b *testing.B) {
	// How long one poll takes over a kept session; the simulator's part included.
	dir := os.Getenv("WATTLEDGER_IPMI_LAB")
	if dir == "" {
		b.Skip("set WATTLEDGER_IPMI_LAB=PORT of a controller made by ipmi-lab.sh")
	}
	port, _ := strconv.Atoi(dir)
	password := filepath.Join(b.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	var ahead time.Duration
	s, err := ipmi.New(ipmi.Options{
		Host: "127.0.0.1", Port: port, User: "admin", PasswordFile: password, Privilege: "administrator",
		Now: func() time.Time { return time.Now().Add(ahead) },
	})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		ahead += time.Minute
		if r, err := s.Read(b.Context()); err != nil || len(r) != 1 {
			b.Fatalf("%v, %v", r, err)
		}
	}
}
