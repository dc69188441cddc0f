//go:build e2e

// Package e2e_test runs the real programs against real peers. Where a peer is
// missing a test fails: what was skipped was not shown.
package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestSystemdUnits boots a real systemd, installs what a package would install,
// and holds both services to what their units promise.
func TestSystemdUnits(t *testing.T) {
	lab := bootSystemd(t)
	lab.install(t)
	lab.must(t, "systemd-sysusers")
	lab.must(t, "systemd-tmpfiles", "--create")
	lab.must(t, "systemctl", "daemon-reload")
	lab.must(t, "systemctl", "enable", "wattledger-aggregator", "wattledger-agent")
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := lab.run("journalctl", "--no-pager", "-n", "200")
			t.Logf("the journal of the container:\n%s", out)
		}
	})

	services := []string{"wattledger-aggregator.service", "wattledger-agent.service"}
	for _, service := range services {
		lab.must(t, "systemctl", "start", service) // returns once the service said READY=1
		lab.expectActive(t, service)
	}
	t.Run("owners", func(t *testing.T) {
		if got := lab.userOf(t, "wattledger-agent.service"); got != "wattledger-agent" {
			t.Errorf("the agent runs as %q; want wattledger-agent", got)
		}
		if got := lab.userOf(t, "wattledger-aggregator.service"); got != "wattledger" {
			t.Errorf("the aggregator runs as %q; want wattledger", got)
		}
		lab.expectMode(t, "/run/wattledger/agent.sock", `^660 (root|wattledger-agent):wattledger$`)
		lab.expectMode(t, "/var/lib/wattledger-agent", `^700 wattledger-agent:wattledger$`)
		lab.expectMode(t, "/var/lib/wattledger", `^700 wattledger:wattledger$`)
	})
	t.Run("jobs", lab.jobsAreForRoot)
	t.Run("rapl", lab.raplIsForTheGroup)
	t.Run("killed", func(t *testing.T) {
		for _, service := range services {
			lab.expectRestart(t, service)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		for i := range services {
			lab.expectCleanStop(t, services[len(services)-1-i])
		}
	})
	t.Run("journal", func(t *testing.T) {
		journal := lab.must(t, "journalctl", "--no-pager", "-o", "cat", "-u", "wattledger-*")
		denied := regexp.MustCompile(`(?i).*(permission denied|operation not permitted|read-only file system|panic:|SIGSYS).*`)
		for _, line := range denied.FindAllString(journal, -1) {
			t.Errorf("the journal has: %s", line)
		}
	})
}

// jobsAreForRoot: root may say who holds a device; an account that can reach
// the socket but is not listed may not.
func (lab *systemdLab) jobsAreForRoot(t *testing.T) {
	begin := []string{"/usr/bin/wattledger-agent", "job", "begin", "--id", "71001", "--project", "EUHPC_A01_001", "--user", "u001", "--gpus", "0,1"}
	stranger := []string{"setpriv", "--reuid=nobody", "--regid=wattledger", "--clear-groups", "--"}
	if out, err := lab.run(append(stranger, begin...)...); err == nil {
		t.Errorf("an account that is not listed began a job: %s", out)
	}
	lab.must(t, begin...)
	lab.must(t, "/usr/bin/wattledger-agent", "job", "end", "--id", "71001")
}

// raplIsForTheGroup: each start of the agent lets its group read the counters of
// RAPL, and nobody else. The container's kernel may have none, so it gets files
// of its own in their place.
func (lab *systemdLab) raplIsForTheGroup(t *testing.T) {
	const top = "/sys/devices/virtual/powercap/"
	lab.must(t, "mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/sys/devices/virtual")
	want := map[string]string{
		"intel-rapl/intel-rapl:0/energy_uj":                "^440 root:wattledger$",
		"intel-rapl/intel-rapl:0/intel-rapl:0:1/energy_uj": "^440 root:wattledger$",
		"intel-rapl/intel-rapl:0/max_energy_range_uj":      "^400 root:root$",
		"intel-rapl-mmio/intel-rapl-mmio:0/energy_uj":      "^400 root:root$",
	}
	for file := range want {
		lab.must(t, "sh", "-c", `mkdir -p "$(dirname "$0")" && echo 4711 >"$0" && chmod 0400 "$0"`, top+file)
	}
	lab.must(t, "systemctl", "restart", "wattledger-agent.service")
	lab.expectActive(t, "wattledger-agent.service")
	for file, mode := range want {
		lab.expectMode(t, top+file, mode)
	}
	counter := top + "intel-rapl/intel-rapl:0/energy_uj"
	// as the agent is: its user and group, and no capability
	agent := []string{"setpriv", "--reuid=wattledger-agent", "--regid=wattledger", "--clear-groups", "--bounding-set=-all", "--", "cat", counter}
	if got := lab.must(t, agent...); got != "4711" {
		t.Errorf("the agent reads %q from %s", got, counter)
	}
	if out, err := lab.run("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", "cat", counter); err == nil {
		t.Errorf("anybody reads %q from %s", out, counter)
	}
	// a kernel without RAPL is no reason not to start
	lab.must(t, "umount", "/sys/devices/virtual")
	lab.must(t, "systemctl", "restart", "wattledger-agent.service")
	lab.expectActive(t, "wattledger-agent.service")
}

// systemdLab is a container with a systemd of its own.
type systemdLab struct {
	script, top, dir string
}

// bootSystemd boots a throw-away copy of a base tree, which is made once and
// kept in .cache.
func bootSystemd(t *testing.T) *systemdLab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("cannot boot a container: not root")
	}
	top, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(top, ".cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	lab := &systemdLab{script: filepath.Join(top, "test", "systemd-lab", "systemd-lab.sh"), top: top, dir: dir}
	base := filepath.Join(cache, "systemd-base")
	t.Cleanup(func() {
		if err := lab.do("down", dir); err != nil {
			t.Errorf("cannot end the container: %v", err)
		}
	})
	for _, step := range [][]string{{"rootfs", base}, {"up", base, dir}} {
		if err := lab.do(step...); err != nil {
			t.Fatalf("cannot boot systemd: %v", err)
		}
	}
	return lab
}

// do runs a command of the lab's script; its container outlives the call.
func (lab *systemdLab) do(args ...string) error {
	var out bytes.Buffer
	cmd := exec.Command(lab.script, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second // the container keeps what it inherited open
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("systemd-lab.sh %s: %w\n%s", strings.Join(args, " "), err, &out)
	}
	return nil
}

// run runs a command in the container and returns all that it printed.
func (lab *systemdLab) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, lab.script, append([]string{"exec", lab.dir}, args...)...)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (lab *systemdLab) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := lab.run(args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// install puts into the container what a package would.
func (lab *systemdLab) install(t *testing.T) {
	t.Helper()
	bin := filepath.Join(lab.dir, "root", "usr", "bin")
	for _, name := range []string{"wattledger-agent", "wattledger-aggregator"} {
		build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, name), "./cmd/"+name)
		build.Dir = lab.top
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("cannot build %s: %v\n%s", name, err, out)
		}
	}
	packaging := filepath.Join(lab.top, "packaging")
	for from, to := range map[string]string{
		"systemd/wattledger-agent.service":      "usr/lib/systemd/system",
		"systemd/wattledger-aggregator.service": "usr/lib/systemd/system",
		"sysusers.d/wattledger-agent.conf":      "usr/lib/sysusers.d",
		"sysusers.d/wattledger-aggregator.conf": "usr/lib/sysusers.d",
		"tmpfiles.d/wattledger-agent.conf":      "usr/lib/tmpfiles.d",
		"tmpfiles.d/wattledger-aggregator.conf": "usr/lib/tmpfiles.d",
		"tmpfiles.d/wattledger-rapl.conf":       "usr/lib/tmpfiles.d",
		"config/agent.yaml":                     "etc/wattledger",
		"config/aggregator.yaml":                "etc/wattledger",
	} {
		text, err := os.ReadFile(filepath.Join(packaging, from))
		if err != nil {
			t.Fatal(err)
		}
		// The container has no GPU: the agent meters simulated ones.
		text = bytes.ReplaceAll(text, []byte("simulated: {enabled: false"), []byte("simulated: {enabled: true"))
		folder := filepath.Join(lab.dir, "root", to)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, filepath.Base(from)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// property is one property of a unit, as systemd sees it now.
func (lab *systemdLab) property(t *testing.T, service, name string) string {
	t.Helper()
	return lab.must(t, "systemctl", "show", "--value", "-p", name, service)
}

func (lab *systemdLab) expectActive(t *testing.T, service string) {
	t.Helper()
	if out, err := lab.run("systemctl", "is-active", service); err != nil || out != "active" {
		t.Fatalf("%s is %q (%v); want active", service, out, err)
	}
}

func (lab *systemdLab) userOf(t *testing.T, service string) string {
	t.Helper()
	return lab.must(t, "stat", "-c", "%U", "/proc/"+lab.property(t, service, "MainPID"))
}

func (lab *systemdLab) expectMode(t *testing.T, file, want string) {
	t.Helper()
	if got := lab.must(t, "stat", "-c", "%a %U:%G", file); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("%s is %q; want %s", file, got, want)
	}
}

// expectRestart kills a service without warning and waits for it to be back.
func (lab *systemdLab) expectRestart(t *testing.T, service string) {
	t.Helper()
	before := lab.property(t, service, "MainPID")
	lab.must(t, "kill", "-KILL", before)
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		now := lab.property(t, service, "MainPID")
		if out, err := lab.run("systemctl", "is-active", service); err == nil && out == "active" && now != before && now != "0" {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Errorf("%s did not come back within 30 s of SIGKILL", service)
}

// expectCleanStop stops a service and wants it to have ended by itself, well.
func (lab *systemdLab) expectCleanStop(t *testing.T, service string) {
	t.Helper()
	began := time.Now()
	lab.must(t, "systemctl", "stop", service)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("%s took %s to stop; want 10s or less", service, took)
	}
	for name, want := range map[string]string{"ActiveState": "inactive", "Result": "success", "ExecMainCode": "1", "ExecMainStatus": "0"} {
		if got := lab.property(t, service, name); got != want {
			t.Errorf("%s has %s=%s after its stop; want %s", service, name, got, want)
		}
	}
}
