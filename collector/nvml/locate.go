package nvml

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wattledger/wattledger/collector"
)

// Locate finds the GPU, or the part of one, that a workload manager's name means
// (collector.Locator lists the names). The meter is gpuN by the number of the
// device file, also where the board's counter is that of a whole module: gpuN is
// what jobs hold. A MIG device is so many of the board's compute slices; one that
// was made since slices were last looked for, a minute ago at most, is not found,
// nor is one whose size the driver does not tell.
//
// A name that two GPUs claim, or that is put together wrongly, is not found.
func (s *Source) Locate(ref string) (collector.Place, bool) {
	kind, rest, _ := strings.Cut(ref, ":")
	switch kind {
	case "minor":
		return s.only(number(rest), func(b *board, n int) bool { return b.id.minor == n })
	case "index":
		return s.only(number(rest), func(b *board, n int) bool { return b.id.index == n })
	case "pci":
		want, ok := parsePCI(rest)
		return s.only(0, func(b *board, _ int) bool {
			has, known := parsePCI(b.id.pci)
			return ok && known && has == want
		})
	case "gi":
		minor, instance, _ := strings.Cut(rest, "/")
		return s.instance(number(minor), number(instance))
	case "capability":
		return s.capability(number(rest))
	}
	if strings.HasPrefix(ref, "MIG-") {
		return s.slice(func(_ *board, x Slice) bool { return strings.EqualFold(x.UUID, ref) })
	}
	if strings.HasPrefix(ref, "GPU-") {
		return s.only(0, func(b *board, _ int) bool { return strings.EqualFold(b.id.uuid, ref) })
	}
	return collector.Place{}, false
}

// number reads a whole number; -1 for what is none, which no device has.
func number(text string) int {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return -1
	}
	return int(n)
}

// only is the one board that fits, as a whole.
func (s *Source) only(n int, fits func(*board, int) bool) (collector.Place, bool) {
	if n < 0 {
		return collector.Place{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found *board
	for _, b := range s.boards {
		if !fits(b, n) {
			continue
		}
		if found != nil {
			return collector.Place{}, false
		}
		found = b
	}
	if found == nil {
		return collector.Place{}, false
	}
	return collector.Place{Meter: found.name, Weight: collector.Whole}, true
}

// slice is the first MIG device that fits, as a part of its board.
func (s *Source) slice(fits func(*board, Slice) bool) (collector.Place, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.boards {
		for _, x := range b.slices {
			if fits(b, x) {
				return b.part(x.Slices, x.Of)
			}
		}
	}
	return collector.Place{}, false
}

// instance is a GPU instance: its own compute slices where the driver tells them,
// else those of the compute instances in it.
func (s *Source) instance(minor, instance int) (collector.Place, bool) {
	if minor < 0 || instance < 0 {
		return collector.Place{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.boards {
		own, inside, of := 0, 0, 0
		for _, x := range b.slices {
			if b.id.minor == minor && x.Instance == instance {
				own, inside, of = max(own, x.InstanceSlices), inside+x.Slices, x.Of
			}
		}
		if own == 0 {
			own = inside
		}
		if own > 0 {
			return b.part(own, of)
		}
	}
	return collector.Place{}, false
}

// part is so many slices of a board; s.mu is held.
func (b *board) part(n, of int) (collector.Place, bool) {
	if n <= 0 || n > of {
		return collector.Place{}, false
	}
	return collector.Place{Meter: b.name, Weight: uint32(collector.Whole * n / of)}, true
}

// capability is the MIG device that a device file of /dev/nvidia-caps opens. The
// driver lists the files' minor numbers, of devices that there may be, as
// gpu2/gi1/ci0/access 102 with the GPU's own minor number. A file of a GPU
// instance as a whole (gpu2/gi1/access) is given together with those inside it
// and is none of them: it is not found, or a job would hold it twice.
func (s *Source) capability(n int) (collector.Place, bool) {
	if n < 0 {
		return collector.Place{}, false
	}
	text, err := os.ReadFile(filepath.Join(s.o.Procfs, "driver/nvidia-caps/mig-minors"))
	if err != nil {
		return collector.Place{}, false
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		path, minor, ok := strings.Cut(lines.Text(), " ")
		if !ok || number(strings.TrimSpace(minor)) != n {
			continue
		}
		var gpu, instance, compute int
		if k, err := fmt.Sscanf(path, "gpu%d/gi%d/ci%d/access", &gpu, &instance, &compute); err != nil || k != 3 {
			return collector.Place{}, false
		}
		return s.slice(func(b *board, x Slice) bool {
			return b.id.minor == gpu && x.Instance == instance && x.Compute == compute
		})
	}
	return collector.Place{}, false
}

// address is where a function is on PCI.
type address struct{ domain, bus, device, function uint64 }

// parsePCI reads 0000:c1:00.0 and NVML's 00000000:C1:00.0.
func parsePCI(text string) (a address, ok bool) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return a, false
	}
	device, function, ok := strings.Cut(parts[2], ".")
	for _, f := range []struct {
		text string
		bits int
		to   *uint64
	}{{parts[0], 32, &a.domain}, {parts[1], 8, &a.bus}, {device, 8, &a.device}, {function, 4, &a.function}} {
		n, err := strconv.ParseUint(f.text, 16, f.bits)
		if err != nil {
			return a, false
		}
		*f.to = n
	}
	return a, ok
}
