//go:build linux

package footprint

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// mapping is an entry of smaps, cut to what is read.
func mapping(head, rss, anonymous, locked string) string {
	return head + "\nSize:     68 kB\nRss:      " + rss + " kB\nAnonymous:    " + anonymous + " kB\nLocked:      " + locked + " kB\nVmFlags: rd ex mr mw me\n"
}

func TestOnlyWhatIsAsTheFileIs(t *testing.T) {
	text := mapping("00400000-00411000 r--p 00000000 fe:00 9979064      /usr/sbin/wattledger-agent", "68", "0", "0") +
		mapping("00411000-00a41000 r-xp 00011000 fe:00 9979064      /usr/sbin/wattledger-agent", "6140", "0", "0") +
		mapping("00a41000-00b00000 r-xp 00641000 fe:00 9979064      /usr/sbin/wattledger-agent", "100", "4", "0") + // a breakpoint
		mapping("00b00000-00c00000 r--p 00700000 fe:00 9979064      /usr/sbin/wattledger-agent", "100", "0", "8") + // locked
		mapping("0112b000-01196000 rw-p 00d2a000 fe:00 9979064      /usr/sbin/wattledger-agent", "348", "0", "0") + // data
		mapping("01196000-031e0000 r--p 00000000 00:00 0", "132", "0", "0") + // no file
		mapping("7f7160400000-7f7160500000 r--s 00000000 fe:00 77      /var/lib/shared", "1024", "0", "0") + // shared
		mapping("7ffd5c9f0000-7ffd5c9f2000 r-xp 00000000 00:00 0      [vdso]", "4", "0", "0")
	got, err := parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []span{{bounds{0x400000, 0x411000}, 68 << 10}, {bounds{0x411000, 0xa41000}, 6140 << 10}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(span{}, bounds{})); d != "" {
		t.Error("want (-), got (+)\n", d)
	}
	for _, bad := range []string{"zz-10 r--p 0 0 0 /x\n", "20-10 r--p 0 0 0 /x\n", mapping("10-20 r--p 0 0 0 /x", "many", "0", "0")} {
		if got, err := parse(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

// What is let go of is no longer resident, and is there again when it is touched;
// a mapping that came after Load is left alone, and so is one that was written to.
func TestRelease(t *testing.T) {
	content := bytes.Repeat([]byte("as the file is. "), 1<<16)
	file := t.TempDir() + "/image"
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	mmap := func() []byte {
		t.Helper()
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b, err := unix.Mmap(int(f.Fd()), 0, len(content), unix.PROT_READ, unix.MAP_PRIVATE)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Munmap(b) })
		return b
	}
	old, written := mmap(), mmap()
	image, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	late := mmap()
	if err := unix.Mprotect(written, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	written[5000] = '!'
	if err := unix.Mprotect(written, unix.PROT_READ); err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{old, late} {
		if !bytes.Equal(b, content) {
			t.Fatal("a mapping is not the file")
		}
	}
	freed, err := image.Release()
	if err != nil || freed < int64(len(content)) {
		t.Errorf("%d bytes were let go of, %v", freed, err)
	}
	if n := inCore(t, old); n != 0 {
		t.Errorf("%d pages are still mapped", n)
	}
	if n := inCore(t, late); n != len(content)/os.Getpagesize() {
		t.Errorf("%d pages of a later mapping are left", n)
	}
	if written[5000] != '!' {
		t.Error("what was written is lost")
	}
	if !bytes.Equal(old, content) {
		t.Error("it did not come back as it was")
	}
}

// inCore counts the pages that are mapped, by /proc/self/pagemap.
func inCore(t *testing.T, b []byte) (n int) {
	t.Helper()
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page := os.Getpagesize()
	entry := make([]byte, 8*len(b)/page)
	if _, err := f.ReadAt(entry, int64(address(b))/int64(page)*8); err != nil {
		t.Fatal(err)
	}
	for i := 7; i < len(entry); i += 8 {
		if entry[i]&0x80 != 0 { // bit 63: present
			n++
		}
	}
	return n
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
