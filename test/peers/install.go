package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// influxVersion is the last InfluxDB that a Go toolchain alone can build and
// that serves the v2 write API.
const influxVersion = "v1.8.10"

const (
	module   = "github.com/wattledger/wattledger"
	promtool = "github.com/prometheus/prometheus/cmd/promtool"
)

// Promtool gives the path of promtool, built from the version of Prometheus
// that go.mod names.
func Promtool(t testing.TB) string {
	t.Helper()
	root := moduleRoot(t)
	version := output(t, command(root, "go", "list", "-m", "-f", "{{.Version}}", "github.com/prometheus/prometheus"))
	return cached(t, filepath.Join("prometheus-"+version, "promtool"), func(file string) *exec.Cmd {
		return command(root, "go", "build", "-o", file, promtool)
	})
}

// influxd gives the path of InfluxDB's daemon.
func influxd(t testing.TB) string {
	t.Helper()
	return cached(t, filepath.Join("influxdb-"+influxVersion, "influxd"), func(file string) *exec.Cmd {
		c := command(os.TempDir(), "go", "install", "github.com/influxdata/influxdb/cmd/influxd@"+influxVersion)
		c.Env = append(os.Environ(), "GOBIN="+filepath.Dir(file))
		return c
	})
}

// debian gives the path of a program of a Debian package, which is installed
// with the other peers if it is missing.
func debian(t testing.TB, program string) string {
	t.Helper()
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	defer lock(t)()
	if _, err := exec.LookPath(program); err != nil { // nobody else was quicker
		output(t, command(moduleRoot(t), "scripts/setup.sh", "peers"))
	}
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("cannot start %s although scripts/setup.sh peers went well: %v", program, err)
	}
	return path
}

// cached gives a file of the cache; build makes it where it is missing.
func cached(t testing.TB, name string, build func(file string) *exec.Cmd) string {
	t.Helper()
	file := filepath.Join(cacheDir(t), name)
	if _, err := os.Stat(file); err == nil {
		return file
	}
	defer lock(t)()
	if _, err := os.Stat(file); err == nil { // somebody else was quicker
		return file
	}
	half := filepath.Join(cacheDir(t), "building", filepath.Base(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	output(t, build(half))
	if err := os.Rename(half, file); err != nil {
		t.Fatalf("cannot keep %s in the cache: %v", name, err)
	}
	return file
}

// cacheDir is where programs that were built stay from one run to the next.
func cacheDir(t testing.TB) string {
	t.Helper()
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("cannot keep built programs: %v", err)
	}
	dir := filepath.Join(base, "wattledger-peers")
	if err := os.MkdirAll(filepath.Join(dir, "building"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// lock lets one process at a time install; call what it returns to let go.
func lock(t testing.TB) func() {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(cacheDir(t), "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR { //nolint:errorlint // a bare errno
			break
		}
	}
	if err != nil {
		t.Fatalf("cannot lock %s: %v", f.Name(), err)
	}
	return func() { _ = f.Close() }
}

// moduleRoot is the folder of go.mod.
func moduleRoot(t testing.TB) string {
	t.Helper()
	return output(t, command("", "go", "list", "-m", "-f", "{{.Dir}}", module))
}

func command(dir, name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Dir = dir
	return c
}

// output runs a command that must succeed and gives what it printed.
func output(t testing.TB, c *exec.Cmd) string {
	t.Helper()
	var out, stderr strings.Builder
	c.Stdout, c.Stderr = &out, &stderr
	if err := c.Run(); err != nil {
		t.Fatalf("cannot prepare a peer: %s", fmt.Errorf("%v: %w\n%s%s", c.Args, err, out.String(), stderr.String()))
	}
	return strings.TrimSpace(out.String())
}
