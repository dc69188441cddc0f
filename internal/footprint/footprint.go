// Package footprint keeps the memory of a daemon that shares its node with jobs to
// what it uses.
//
// The code and the constants of a program are mapped from its file. The kernel
// maps a page when it is touched, with those around it, and keeps it mapped as
// long as memory is not short: what only the start needed (reading the
// configuration, opening the hardware, registering metrics) counts as resident
// for ever. Release lets go of these mappings; what is in use comes back as it is
// touched, from the page cache, without a read of the disk as long as the pages
// are in it. They are the file's, shared by whoever runs the program, and the
// kernel can take them back with or without Release: what changes is that the
// resident size is that of the work and not that of the start.
//
// How much comes back at a touch is the kernel's choice: 64 KiB, or a whole folio
// of the page cache. A file that was copied or unpacked is in small ones. One that
// a linker has written at once may be in folios of 2 MiB, and then nothing is won.
package footprint

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Image is the program and the libraries it was linked with, as they are mapped.
type Image struct {
	spans map[bounds]bool
}

// bounds of a part of the address space.
type bounds struct{ from, to uintptr }

// span is such a part that is as its file is.
type span struct {
	bounds
	resident int64 // bytes
}

// Load notes what is mapped. Call it at the start of main: what is loaded later
// may be in the middle of being bound when Release looks at it, and is left alone.
func Load() (*Image, error) {
	list, err := mapped()
	if err != nil {
		return nil, err
	}
	i := &Image{spans: map[bounds]bool{}}
	for _, s := range list {
		i.spans[s.bounds] = true
	}
	return i, nil
}

// Release lets go of the code and the constants of the image, and says how many
// bytes of them were resident. It may be called at any time, from any goroutine.
//
// Only what is exactly as it is in the file is let go of: mappings that are
// private, cannot be written and have no page of their own. Data, what the linker
// has filled in (GOT, relocated constants), and code that a debugger has put
// breakpoints into are left alone.
func (i *Image) Release() (int64, error) {
	list, err := mapped()
	if err != nil {
		return 0, err
	}
	var freed int64
	for _, s := range list {
		if !i.spans[s.bounds] {
			continue
		}
		if err := letGo(s.bounds); err != nil {
			return freed, fmt.Errorf("cannot let go of the mapping at %#x: %w", s.from, err)
		}
		freed += s.resident
	}
	return freed, nil
}

func mapped() ([]span, error) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil, fmt.Errorf("cannot list what is mapped: %w", err)
	}
	defer f.Close()
	return parse(f)
}

// parse reads smaps (Documentation/filesystems/proc.rst) for the mappings of files
// that are as the file is.
func parse(r io.Reader) ([]span, error) {
	var out []span
	var s span
	fits := false
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 2 {
			continue
		}
		if !strings.HasSuffix(f[0], ":") {
			b, err := parseBounds(f[0])
			if err != nil {
				return nil, err
			}
			s = span{bounds: b}
			fits = len(f) >= 6 && strings.HasPrefix(f[5], "/") && (f[1] == "r--p" || f[1] == "r-xp")
			continue
		}
		switch f[0] {
		case "Rss:", "Anonymous:", "Locked:":
			kib, err := strconv.ParseInt(f[1], 10, 48)
			if err != nil {
				return nil, fmt.Errorf("cannot read what is mapped: %q", lines.Text())
			}
			if f[0] == "Rss:" {
				s.resident = kib << 10
			} else if kib > 0 {
				fits = false
			}
		case "VmFlags:": // the last of a mapping
			if fits {
				out = append(out, s)
			}
			fits = false
		}
	}
	return out, lines.Err()
}

func parseBounds(text string) (bounds, error) {
	a, b, ok := strings.Cut(text, "-")
	x, err1 := strconv.ParseUint(a, 16, strconv.IntSize)
	y, err2 := strconv.ParseUint(b, 16, strconv.IntSize)
	if !ok || err1 != nil || err2 != nil || y <= x {
		return bounds{}, fmt.Errorf("cannot read what is mapped: %q is no part of an address space", text)
	}
	return bounds{uintptr(x), uintptr(y)}, nil
}
