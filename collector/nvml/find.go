package nvml

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// soname is what the linker looks for.
const soname = "libnvidia-ml.so.1"

// places are where the library is when the linker does not know it: containers
// and immutable hosts mount the driver's root somewhere.
func places() []string {
	triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	var out []string
	for _, dir := range []string{
		"/usr/lib64", "/usr/lib/" + triplet,
		"/run/nvidia/driver/usr/lib64", "/run/nvidia/driver/usr/lib/" + triplet,
		"/usr/local/nvidia/lib64",
	} {
		out = append(out, filepath.Join(dir, soname))
	}
	return out
}

// find loads the configured library, or the first of the usual ones that can be.
func (s *Source) find() (library, error) {
	if s.o.Library != "" {
		lib, err := s.o.load(s.o.Library)
		if err != nil {
			return nil, fmt.Errorf("cannot load %s: %w", s.o.Library, blame(s.o.Library, err))
		}
		return lib, nil
	}
	lib, err := s.o.load(soname)
	if err == nil {
		return lib, nil
	}
	errs := []error{fmt.Errorf("cannot load %s by name: %w", soname, err)}
	for _, path := range places() {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		lib, err := s.o.load(path)
		if err == nil {
			return lib, nil
		}
		errs = append(errs, fmt.Errorf("cannot load %s: %w", path, blame(path, err)))
	}
	return nil, errors.Join(errs...)
}

var errNoBinding = errors.New("this agent was built without cgo or not for Linux: it cannot load libnvidia-ml (build it with CGO_ENABLED=1)")

// blame says what is wrong with the file, where that can be seen from outside:
// the linker's own words are about something else, or lost.
func blame(path string, err error) error {
	if errors.Is(err, errNoBinding) {
		return err
	}
	f, ferr := os.Open(path)
	if ferr != nil {
		return ferr
	}
	defer f.Close()
	head := make([]byte, 20)
	if _, rerr := io.ReadFull(f, head); rerr != nil || !bytes.HasPrefix(head, []byte("\x7fELF")) {
		return fmt.Errorf("it is not a shared library (%w)", err)
	}
	machine := binary.LittleEndian.Uint16(head[18:])
	if want := map[string]uint16{"amd64": 62, "arm64": 183}[runtime.GOARCH]; want != 0 && (machine != want || head[4] != 2) {
		return fmt.Errorf("it is made for another architecture than %s (%w)", runtime.GOARCH, err)
	}
	return err
}

// bootID names the boot; "unknown" where the kernel does not say.
func bootID(procfs string) string {
	b, err := os.ReadFile(filepath.Join(procfs, "sys/kernel/random/boot_id"))
	id := strings.TrimSpace(string(b))
	if err != nil || id == "" {
		return "unknown"
	}
	return id
}
