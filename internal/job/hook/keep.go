package hook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wattledger/wattledger/internal/job"
)

// EdgesDir is where edges wait that no agent took. It is root's alone: whoever
// can write there can bill others. (Not below the aggregator's folder, whose
// owner systemd changes with all that is in it.)
const EdgesDir = "/var/lib/wattledger-edges"

// Limits of the folder: a node without an agent for weeks must not fill a disk.
const (
	maxKept     = 10_000
	maxKeptSize = 64 << 10
)

// kept is a file of the folder.
type kept struct {
	// Boot is the machine's boot id, WallNS and BootNS its clocks when this was
	// written; no step of the former moves the latter.
	Boot   string   `json:"boot"`
	WallNS int64    `json:"wall_ns"`
	BootNS int64    `json:"boot_ns"`
	Edge   job.Edge `json:"edge"`
}

// Clock is what an edge that is kept is stamped with.
type Clock struct {
	WallNS int64  // Unix ns
	BootNS int64  // CLOCK_BOOTTIME
	Boot   string // boot id
}

// Keep writes an edge that no agent took into a folder, and returns when it is
// on the disk. The folder is made if it is missing; it must belong to the caller
// and be closed to everybody else, and may be no link: otherwise nothing is
// written.
func Keep(dir string, e job.Edge, c Clock) error {
	d, err := openKept(dir, true)
	if err != nil {
		return err
	}
	defer d.close()
	names, err := d.names()
	if err != nil {
		return err
	}
	if len(names) >= maxKept {
		return fmt.Errorf("cannot keep an edge in %s: %d wait there already; is wattledger-agent running?", dir, len(names))
	}
	if e.AtNS == 0 {
		e.AtNS = c.WallNS
	}
	b, err := json.Marshal(kept{Boot: c.Boot, WallNS: c.WallNS, BootNS: c.BootNS, Edge: e})
	if err != nil {
		return fmt.Errorf("cannot encode an edge: %w", err)
	}
	return d.write(keptName(e), append(b, '\n'))
}

// keptName orders by time; a job's id in it may be anything a workload manager
// calls a job.
func keptName(e job.Edge) string {
	id := strings.Map(func(r rune) rune {
		if r == '_' || r == '.' || r == '-' || (r >= '0' && r <= '9') || (r >= 'A' && r <= 'Z') || (r >= 'a' && r <= 'z') {
			return r
		}
		return '~'
	}, e.Job.ID)
	if len(id) > 64 {
		id = id[:64]
	}
	return fmt.Sprintf("%020d,%d,%s,%s.json", e.AtNS, os.Getpid(), id, e.Op)
}

// keptDir is an open folder of edges; every access is relative to it.
type keptDir struct {
	fd   int
	path string
}

// openKept opens the folder, and believes it only if nobody else can write there.
func openKept(dir string, mayMake bool) (*keptDir, error) {
	if mayMake {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("cannot make the folder of edges: %w", err)
		}
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("cannot use %s as the folder of edges: it is a link, or no folder; remove it", dir)
	}
	if errors.Is(err, unix.ENOENT) && !mayMake {
		return nil, fs.ErrNotExist // ordinary, and looked for all the time
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the folder of edges %s: %w", dir, err)
	}
	d := &keptDir{fd: fd, path: dir}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		d.close()
		return nil, fmt.Errorf("cannot look at the folder of edges %s: %w", dir, err)
	}
	if uid := uint32(os.Geteuid()); st.Uid != uid || st.Mode&0o077 != 0 {
		d.close()
		return nil, fmt.Errorf("cannot trust %s: it belongs to user %d with mode %04o, and must be of user %d with 0700: chown and chmod it, or remove it",
			dir, st.Uid, st.Mode&0o7777, uid)
	}
	return d, nil
}

func (d *keptDir) close() { _ = unix.Close(d.fd) }

// names are the files that wait, oldest first.
func (d *keptDir) names() ([]string, error) {
	entries, err := os.ReadDir(d.path) // sorted
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", d.path, err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") && !strings.HasPrefix(e.Name(), ".") {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// write makes a file that is whole or not there.
func (d *keptDir) write(name string, b []byte) error {
	failed := func(err error) error {
		return fmt.Errorf("cannot keep an edge in %s: %w", filepath.Join(d.path, name), err)
	}
	draft := "." + name
	fd, err := unix.Openat(d.fd, draft, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return failed(err)
	}
	f := os.NewFile(uintptr(fd), draft)
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = unix.Renameat2(d.fd, draft, d.fd, name, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		_ = unix.Unlinkat(d.fd, draft, 0) // what is left of a draft is no edge
		return failed(err)
	}
	if err := unix.Fsync(d.fd); err != nil {
		return failed(err)
	}
	return nil
}

// read gives a file's edge.
func (d *keptDir) read(name string) (kept, error) {
	var k kept
	fd, err := unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return k, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return k, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxKeptSize {
		return k, fmt.Errorf("it is no file of at most %d bytes", maxKeptSize)
	}
	b := make([]byte, st.Size())
	if n, err := f.ReadAt(b, 0); n != len(b) {
		return k, err
	}
	if err := json.Unmarshal(b, &k); err != nil {
		return k, err
	}
	if (k.Edge.Op != "begin" && k.Edge.Op != "end") || k.Edge.AtNS <= 0 {
		return k, errors.New("it holds no begin or end with its time")
	}
	return k, nil
}

func (d *keptDir) remove(name string) error {
	if err := unix.Unlinkat(d.fd, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot remove %s: %w", filepath.Join(d.path, name), err)
	}
	return nil
}

// aside moves a file that cannot be read out of the way.
func (d *keptDir) aside(name string) error {
	return unix.Renameat(d.fd, name, d.fd, strings.TrimSuffix(name, ".json")+".unreadable")
}
