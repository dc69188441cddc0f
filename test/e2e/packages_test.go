//go:build e2e

package e2e_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wattledger/wattledger/internal/energy"
)

// packaged makes the packages and gives their paths by name and kind, such as
// wattledger-agent.deb.
func packaged(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "scripts/packages.sh", dir)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "VERSION=1.2.3", "SOURCE_DATE_EPOCH=1790000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot make the packages: %v\n%s", err, out)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range files {
		name, _, _ := strings.Cut(strings.ReplaceAll(f.Name(), "-1.2.3", "_1.2.3"), "_")
		out[name+filepath.Ext(f.Name())] = filepath.Join(dir, f.Name())
	}
	for _, name := range []string{"wattledger", "wattledger-agent", "wattledger-aggregator"} {
		for _, kind := range []string{".deb", ".rpm"} {
			if out[name+kind] == "" {
				t.Errorf("there is no %s%s", name, kind)
			}
		}
	}
	return out
}

// TestPackages installs the packages of Debian under a real systemd, sees joules
// go from the agent to the books, upgrades, and takes all of it away again.
func TestPackages(t *testing.T) {
	made := packaged(t)
	again := packaged(t)
	for name, path := range made {
		one, err1 := os.ReadFile(path)
		other, err2 := os.ReadFile(again[name])
		if err1 != nil || err2 != nil || !bytes.Equal(one, other) {
			t.Errorf("%s: made twice of one tree, it has other bytes (%v, %v)", name, err1, err2)
		}
	}
	t.Run("rpm", func(t *testing.T) { rpms(t, made) })

	lab := bootSystemd(t)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := lab.run("journalctl", "--no-pager", "-n", "100")
			t.Logf("the journal of the container:\n%s", out)
		}
	})
	before := lab.files(t)
	debs := []string{"wattledger", "wattledger-agent", "wattledger-aggregator"}
	for _, name := range debs {
		text, err := os.ReadFile(made[name+".deb"])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(lab.dir, "root", "opt", name+".deb"), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	install := []string{"dpkg", "--force-confold", "--install", "/opt/wattledger.deb", "/opt/wattledger-agent.deb", "/opt/wattledger-aggregator.deb"}
	lab.must(t, install...)
	for _, s := range []string{"wattledger-aggregator.service", "wattledger-agent.service"} {
		if out, err := lab.run("systemctl", "is-active", s); err == nil {
			t.Errorf("%s is %s before anybody has seen its settings", s, out)
		}
	}
	const config = "/etc/wattledger/agent.yaml"
	lab.must(t, "sed", "-i", "s/simulated: {enabled: false/simulated: {enabled: true/", config)
	lab.must(t, "systemctl", "enable", "--now", "wattledger-aggregator", "wattledger-agent")
	lab.expectActive(t, "wattledger-agent.service")
	eventually(t, "joules of the agent are in the books", func() bool { return lab.booked(t) > 0 })
	lab.expectMode(t, "/usr/lib/systemd/system/wattledger-agent.service", "^644 root:root$")
	scripts := hooks(t)
	if len(scripts) < 2 {
		t.Errorf("the hooks for Slurm are %v; want a prolog and an epilog", scripts)
	}
	for _, hook := range scripts {
		lab.expectMode(t, "/usr/libexec/wattledger/slurm/"+hook, "^755 root:root$")
	}

	t.Run("upgrade", func(t *testing.T) {
		pid := lab.property(t, "wattledger-agent.service", "MainPID")
		lab.must(t, install...)
		lab.expectActive(t, "wattledger-agent.service")
		if lab.property(t, "wattledger-agent.service", "MainPID") == pid {
			t.Error("the agent that runs is still the old one")
		}
		lab.must(t, "grep", "-q", "simulated: {enabled: true", config)
		sum := lab.booked(t)
		eventually(t, "the new agent books", func() bool { return lab.booked(t) > sum })
	})

	t.Run("purge", func(t *testing.T) {
		lab.must(t, "sh", "-c", "echo secret >/etc/wattledger/agent.token && mkdir -m 0700 /var/lib/wattledger-edges")
		lab.must(t, "dpkg", "--purge", "wattledger-agent")
		if out, err := lab.run("getent", "passwd", "wattledger-agent"); err == nil {
			t.Errorf("the agent's user is left: %s", out)
		}
		lab.must(t, "getent", "group", "wattledger") // the aggregator's
		lab.expectActive(t, "wattledger-aggregator.service")
		out := lab.must(t, "dpkg", "--purge", "wattledger-aggregator", "wattledger")
		if !strings.Contains(out, "the books in /var/lib/wattledger are kept") {
			t.Errorf("nothing is said of the books:\n%s", out)
		}
		lab.must(t, "test", "-s", "/var/lib/wattledger/ledger.db")
		lab.must(t, "sh", "-c", "rm -r /var/lib/wattledger /opt/wattledger*.deb && userdel wattledger")
		var left []string
		for _, f := range lab.files(t) {
			if _, there := slices.BinarySearch(before, f); !there {
				left = append(left, f)
			}
		}
		if len(left) > 0 {
			t.Errorf("a purge leaves:\n%s", strings.Join(left, "\n"))
		}
		for _, db := range []string{"passwd", "group"} {
			if out, err := lab.run("grep", "wattledger", "/etc/"+db); err == nil {
				t.Errorf("/etc/%s has: %s", db, out)
			}
		}
	})
}

// files of the container, sorted, without what systemd, dpkg and others keep of
// their own accord.
func (lab *systemdLab) files(t *testing.T) []string {
	t.Helper()
	own := regexp.MustCompile(`^/(var/log|var/lib/dpkg|var/lib/systemd|var/cache|tmp|var/tmp|run/(systemd|udev|log|user|host|lock))(/|$)|^/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|^/etc/\.pwd\.lock$|^/etc/\.updated$`)
	var out []string
	for f := range strings.SplitSeq(lab.must(t, "find", "/etc", "/usr", "/var", "/run", "/opt", "/root", "/home", "/srv", "-xdev"), "\n") {
		if !own.MatchString(f) {
			out = append(out, f)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// booked is what the books of the container have, in millijoules.
func (lab *systemdLab) booked(t *testing.T) energy.Millijoules {
	t.Helper()
	out, err := lab.run("wattledger", "report", "--month", time.Now().UTC().Format("2006-01"), "--cluster", "demo", "--format", "json")
	var r struct {
		Totals struct {
			Booked string `json:"booked_mj"`
		} `json:"totals"`
	}
	if err != nil || json.Unmarshal([]byte(out), &r) != nil || r.Totals.Booked == "" {
		return 0
	}
	return mj(t, r.Totals.Booked)
}

// hooks are the programs for Slurm that the package brings.
func hooks(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../packaging/slurm/*")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			out = append(out, filepath.Base(f))
		}
	}
	return out
}

// rpms holds what rpm reads in our packages against those for Debian.
func rpms(t *testing.T, made map[string]string) {
	query := func(args ...string) []string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "rpm", append([]string{"--query", "--package"}, args...)...).Output()
		if err != nil {
			t.Fatalf("rpm %v: %v (scripts/setup.sh test installs it)", args, err)
		}
		return strings.Fields(string(out))
	}
	for _, name := range []string{"wattledger", "wattledger-agent", "wattledger-aggregator"} {
		rpm := made[name+".rpm"]
		got := query("--list", rpm)
		out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--fsys-tarfile", made[name+".deb"]).Output()
		if err != nil {
			t.Fatal(err)
		}
		tar := exec.CommandContext(t.Context(), "tar", "-t")
		tar.Stdin = bytes.NewReader(out)
		if out, err = tar.Output(); err != nil {
			t.Fatal(err)
		}
		var want []string
		for f := range strings.FieldsSeq(string(out)) {
			if f = strings.TrimPrefix(f, "."); !strings.HasSuffix(f, "/") { // folders of the system are not a package's
				want = append(want, f)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the rpm has %v; the deb %v", name, got, want)
		}
		part, daemon := strings.CutPrefix(name, "wattledger-")
		if !daemon {
			continue
		}
		settings := []string{"/etc/wattledger/" + part + ".yaml"}
		if part == "agent" {
			settings = append(settings, "/etc/wattledger/slurm-hook.conf")
		}
		if got := query("--configfiles", rpm); !slices.Equal(got, settings) {
			t.Errorf("%s: the settings are %v; want %v", name, got, settings)
		}
		scripts := strings.Join(query("--scripts", rpm), " ")
		for _, word := range []string{"postinstall scriptlet", "preuninstall scriptlet", "postuninstall scriptlet", "systemd-sysusers " + name + ".conf"} {
			if !strings.Contains(scripts, word) {
				t.Errorf("%s: no %q in its scripts", name, word)
			}
		}
	}
}
