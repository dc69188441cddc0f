package packaging_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// worstExposure is ten times the exposure level that `systemd-analyze security`
// may report for a unit of ours; 0 is best, 100 is a plain root service.
const worstExposure = "35"

func TestUnitsAreValid(t *testing.T) {
	for _, unit := range units(t) {
		t.Run(filepath.Base(unit), func(t *testing.T) {
			// An unknown key or a bad value only warns: any word is a fault.
			out, err := analyze(t, "verify", startable(t, unit))
			if err != nil || out != "" {
				t.Errorf("systemd-analyze verify: %v\n%s", err, out)
			}
		})
	}
}

func TestUnitsAreHardened(t *testing.T) {
	for _, unit := range units(t) {
		t.Run(filepath.Base(unit), func(t *testing.T) {
			out, err := analyze(t, "security", "--offline=true", "--threshold="+worstExposure, startable(t, unit))
			if err != nil {
				t.Errorf("systemd-analyze security: %v\n%s", err, out)
			}
		})
	}
}

// TestUnknownKeyIsAFault shows that the check above can fail.
func TestUnknownKeyIsAFault(t *testing.T) {
	unit := filepath.Join(t.TempDir(), "broken.service")
	text := "[Service]\nExecStart=/bin/sh\nProtectSytem=strict\n"
	if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := analyze(t, "verify", unit); err == nil && out == "" {
		t.Error("a misspelt key went unnoticed")
	}
	if _, err := analyze(t, "security", "--offline=true", "--threshold="+worstExposure, unit); err == nil {
		t.Error("a service without any hardening went unnoticed")
	}
}

func TestUnitsKeepTheirPromises(t *testing.T) {
	f := func(unit string, lines ...string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join("systemd", unit))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if !strings.Contains(string(text), "\n"+line+"\n") {
				t.Errorf("%s has no line %q", unit, line)
			}
		}
	}
	f("wattledger-agent.service",
		"Type=notify", "User=wattledger-agent", "Group=wattledger", "Restart=on-failure",
		"RestartPreventExitStatus=3", // fenced: it must not fight
		"ExecStartPre=-+/usr/bin/systemd-tmpfiles --create wattledger-rapl.conf", "CapabilityBoundingSet=",
		"KillSignal=SIGTERM", "TimeoutStopSec=15",
		"RuntimeDirectory=wattledger", "StateDirectory=wattledger-agent", "PrivateUsers=no")
	f("wattledger-aggregator.service",
		"Type=notify", "User=wattledger", "Group=wattledger", "Restart=on-failure",
		"StateDirectory=wattledger", "StateDirectoryMode=0700")
}

// TestUsersAndFoldersAreKnown: what units, sysusers.d and tmpfiles.d say of
// users must agree.
func TestUsersAndFoldersAreKnown(t *testing.T) {
	users := map[string]bool{"root": true}
	for _, file := range found(t, "sysusers.d/*.conf", 2) {
		for _, fields := range lines(t, file) {
			if fields[0] == "u" {
				users[fields[1]] = true
			}
		}
	}
	for _, file := range found(t, "tmpfiles.d/*.conf", 3) {
		for _, fields := range lines(t, file) {
			if len(fields) < 5 || !users[fields[3]] || !users[fields[4]] {
				t.Errorf("%s: %q names a user or group that sysusers.d does not make", file, fields)
			}
		}
	}
	owner := regexp.MustCompile(`(?m)^(?:User|Group)=(\S+)$`)
	for _, unit := range units(t) {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range owner.FindAllStringSubmatch(string(text), -1) {
			if !users[m[1]] || m[1] == "root" {
				t.Errorf("%s runs as %s", unit, m[1])
			}
		}
	}
}

func units(t *testing.T) []string {
	t.Helper()
	return found(t, "systemd/*.service", 2) // the agent's and the aggregator's
}

// found are the files of a pattern, which are that many or more.
func found(t *testing.T, pattern string, least int) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) < least {
		t.Fatalf("%s: found %v (%v); want %d or more", pattern, files, err, least)
	}
	return files
}

// startable copies a unit with its ExecStart= replaced by a file that exists
// here: systemd-analyze looks for it, and our binaries are not installed.
func startable(t *testing.T, unit string) string {
	t.Helper()
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	start := regexp.MustCompile(`(?m)^ExecStart=/usr/bin/wattledger-\S+`)
	if n := len(start.FindAll(text, -1)); n != 1 {
		t.Fatalf("%s has %d ExecStart= lines of ours; want 1", unit, n)
	}
	copied := filepath.Join(t.TempDir(), filepath.Base(unit))
	if err := os.WriteFile(copied, start.ReplaceAll(text, []byte("ExecStart=/bin/sh")), 0o644); err != nil {
		t.Fatal(err)
	}
	return copied
}

// analyze runs systemd-analyze and returns everything it said. It fails the
// test where the tool is missing: a check that is skipped checks nothing.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatalf("cannot check units: %v (scripts/setup.sh test installs it)", err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return strings.TrimSpace(out.String()), err
}

// lines are the fields of the lines of a file that say something.
func lines(t *testing.T, name string) [][]string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 0 && !strings.HasPrefix(fields[0], "#") {
			out = append(out, fields)
		}
	}
	return out
}
