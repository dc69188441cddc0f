package slurm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// folders are the names of the folders in a folder; one that has just gone has
// none. Every user of the node has a folder that is read each second: this is
// open, getdents and close, and half of what os.ReadDir costs.
func folders(dir string) ([]string, error) {
	fd, err := retry(func() (int, error) { return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look for jobs in %s: %w", dir, err)
	}
	defer unix.Close(fd)
	var out []string
	buf := make([]byte, 8<<10)
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(fd, buf) })
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("cannot look for jobs in %s: %w", dir, err)
		}
		if n <= 0 || err != nil {
			return out, nil
		}
		out = appendFolders(out, dir, buf[:n])
	}
}

// appendFolders reads records of getdents(2): inode, offset, length, type, name.
func appendFolders(out []string, dir string, buf []byte) []string {
	const head = 19
	for len(buf) > head {
		size := int(binary.NativeEndian.Uint16(buf[16:18]))
		if size <= head || size > len(buf) {
			return out
		}
		name, _, _ := bytes.Cut(buf[head:size], []byte{0})
		kind := buf[18]
		buf = buf[size:]
		if name[0] == '.' {
			continue
		}
		if kind == unix.DT_UNKNOWN {
			if st, err := os.Lstat(dir + "/" + string(name)); err == nil && st.IsDir() {
				kind = unix.DT_DIR
			}
		}
		if kind == unix.DT_DIR {
			out = append(out, string(name))
		}
	}
	return out
}

func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
