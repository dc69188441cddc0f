package sysfs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/wattledger/wattledger/internal/sysfs"
	"github.com/wattledger/wattledger/internal/sysfs/sysfstest"
)

const machine = `
-- sys/class/hwmon/hwmon2 --
-> ../../devices/hwmon2
-- sys/class/hwmon/hwmon10 --
-> ../../devices/hwmon10
-- sys/class/hwmon/outside --
-> ../../../secret
-- sys/class/hwmon/absolute --
-> /etc
-- sys/devices/hwmon2/name --
power_meter
-- sys/devices/hwmon2/value --
42
-- sys/devices/hwmon10/device --
-> ../../../0000:c1:00.0
-- sys/devices/hwmon10/empty/ --
-- secret/name --
do not read
-- proc/sys/kernel/random/boot_id --
5d3f1a20-0000-4000-8000-000000000001
`

func TestValues(t *testing.T) {
	tree := sysfstest.Parse(t, machine)
	const name = "sys/devices/hwmon2/value"
	f := tree.Root("sys").File("class/hwmon/hwmon2/value")
	number := func(content string, want uint64, complaint string) {
		t.Helper()
		tree.Set(name, content)
		got, err := f.Uint()
		if complaint == "" && (err != nil || got != want) {
			t.Errorf("Uint of %q = %d, %v; want %d", content, got, err, want)
		}
		if complaint != "" && (err == nil || !strings.Contains(err.Error(), complaint) || !strings.Contains(err.Error(), "class/hwmon/hwmon2/value")) {
			t.Errorf("Uint of %q: %v; want %q and the file's name in it", content, err, complaint)
		}
	}
	number("42\n", 42, "")
	number("0", 0, "")
	number(" 7 \n", 7, "")
	number("18446744073709551615\n", 1<<64-1, "")
	number("18446744073709551616\n", 0, "no whole number")
	number("184467440737095516150\n", 0, "no whole number")
	number("-1\n", 0, "no whole number")
	number("0x10\n", 0, "no whole number")
	number("12 34\n", 0, "no whole number")
	number("N/A\n", 0, `"N/A" is no whole number`)
	number("\n", 0, "empty")
	number("", 0, "empty")
	number(strings.Repeat("1", 65), 0, "longer")

	signed := func(content string, want int64, good bool) {
		t.Helper()
		tree.Set(name, content)
		if got, err := f.Int(); got != want || (err == nil) != good {
			t.Errorf("Int of %q = %d, %v", content, got, err)
		}
	}
	signed("-12\n", -12, true)
	signed("9223372036854775807", 1<<63-1, true)
	signed("9223372036854775808", 0, false)
	signed("--1", 0, false)
	signed("-", 0, false)

	tree.Set(name, " Module Power Socket 0\n")
	if got, err := f.Text(); got != "Module Power Socket 0" || err != nil {
		t.Errorf("Text = %q, %v", got, err)
	}
	if got, err := f.Is("Module Power Socket 0"); !got || err != nil {
		t.Errorf("Is = %v, %v", got, err)
	}
}

func TestTreeIsNotLeft(t *testing.T) {
	tree := sysfstest.Parse(t, machine)
	r := tree.Root("sys")
	for _, name := range []string{"class/hwmon/outside/name", "class/hwmon/absolute/hostname", "../secret/name"} {
		if got, err := r.Text(name); err == nil {
			t.Errorf("%s was read: %q", name, got)
		}
		if r.Has(name) {
			t.Errorf("%s is said to be there", name)
		}
	}
	if got, err := r.Text("class/hwmon/hwmon2/name"); got != "power_meter" || err != nil {
		t.Errorf("a link inside the tree: %q, %v", got, err)
	}
	names, err := r.Entries("class/hwmon")
	if want := []string{"absolute", "hwmon2", "hwmon10", "outside"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("Entries = %v, %v; want %v", names, err, want)
	}
	if got, err := r.Target("class/hwmon/hwmon10/device"); got != "0000:c1:00.0" || err != nil {
		t.Errorf("Target = %q, %v", got, err)
	}
	if _, err := r.Entries("class/powercap"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Entries of nothing: %v", err)
	}
	if got, err := tree.Root("proc").BootID(); got != "5d3f1a20-0000-4000-8000-000000000001" || err != nil {
		t.Errorf("BootID = %q, %v", got, err)
	}
}

// TestFilesThatChange: what is kept open is never read as it was.
func TestFilesThatChange(t *testing.T) {
	tree := sysfstest.Parse(t, machine)
	const name = "sys/devices/hwmon2/value"
	f := tree.Root("sys").File("class/hwmon/hwmon2/value")
	want := func(what string, want uint64) {
		t.Helper()
		if got, err := f.Uint(); got != want || err != nil {
			t.Errorf("%s: %d, %v; want %d", what, got, err, want)
		}
	}
	want("at first", 42)
	tree.Set(name, "43\n")
	want("written in place", 43)
	tree.Replace(name, "44\n")
	want("replaced", 44)
	tree.Remove("sys/devices/hwmon2")
	if _, err := f.Uint(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a device that has vanished: %v", err)
	}
	tree.Set(name, "45\n")
	want("back again", 45)
	tree.Break(name)
	if _, err := f.Uint(); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("a file that cannot be read: %v", err)
	}
	tree.Remove("sys")
	if _, err := f.Uint(); err == nil {
		t.Error("no tree, and a value")
	}
	tree.Set(name, "46\n")
	tree.Link("sys/class/hwmon/hwmon2", "../../devices/hwmon2")
	if _, err := f.Uint(); err != nil { // the read before has let go of the old tree
		t.Errorf("a tree made anew: %v", err)
	}
	want("in a tree made anew", 46)
}

// TestErrorsComeBack: the kernel's own refusals, at once and with the name.
func TestErrorsComeBack(t *testing.T) {
	r := sysfs.Open("/proc")
	f := r.File("self/mem") // the first page is never mapped
	for range 2 {
		if _, err := f.Uint(); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "/proc/self/mem") {
			t.Errorf("EIO came as %v", err)
		}
	}
	if _, err := r.Text("self/cmdline/nothing"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("ENOTDIR came as %v", err)
	}
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sysfs.Open(dir).Text("fifo"); !errors.Is(err, syscall.ESPIPE) {
		t.Errorf("a pipe that nobody writes to: %v", err) // and the test does not hang
	}
	if _, err := sysfs.Open("/nowhere").Text("a"); err == nil || !strings.Contains(err.Error(), "/nowhere/a") {
		t.Errorf("no tree: %v", err)
	}
}

// TestAgainIsAnError: a driver that answers EAGAIN is not waited for. The end of
// the kernel's log is one, where a machine has it.
func TestAgainIsAnError(t *testing.T) {
	if _, err := os.Stat("/dev/kmsg"); err != nil {
		t.Skip(err)
	}
	f := sysfs.Open("/dev").Sized("kmsg", 8192)
	defer f.Close()
	for range 100_000 {
		if _, err := f.Bytes(); err != nil {
			if !errors.Is(err, syscall.EAGAIN) {
				t.Skip(err)
			}
			return
		}
	}
	t.Error("the log has no end")
}

func TestForbidden(t *testing.T) {
	tree := sysfstest.Parse(t, machine)
	tree.Forbid("sys/devices/hwmon2/value")
	r := tree.Root("sys")
	sysfstest.AsNobody(t, func() {
		if _, err := r.Uint("class/hwmon/hwmon2/value"); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a forbidden file: %v", err)
		}
		if !r.Has("class/hwmon/hwmon2/value") {
			t.Error("a forbidden file is there all the same")
		}
	})
	if got, err := r.Uint("class/hwmon/hwmon2/value"); got != 42 || err != nil {
		t.Errorf("with the right: %d, %v", got, err)
	}
}

func TestReadsAllocateNothing(t *testing.T) {
	tree := sysfstest.Parse(t, machine)
	f := tree.Root("sys").File("class/hwmon/hwmon2/value")
	kernel := sysfs.Open("/proc").Sized("uptime", 64)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := f.Uint(); err != nil {
			t.Fatal(err)
		}
		if _, err := kernel.Bytes(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations in a read", n)
	}
}

func BenchmarkKept(b *testing.B) {
	f := sysfs.Open("/proc").File("sys/kernel/random/boot_id")
	defer f.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Bytes(); err != nil {
			b.Fatal(err)
		}
	}
}
