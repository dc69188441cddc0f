package footprint

import "golang.org/x/sys/unix"

// letGo unmaps the pages of a mapping, not the mapping: madvise(2) says of
// MADV_DONTNEED that they are filled anew from the file when they are touched.
func letGo(b bounds) error {
	if _, _, e := unix.Syscall(unix.SYS_MADVISE, b.from, b.to-b.from, unix.MADV_DONTNEED); e != 0 {
		return e
	}
	return nil
}
