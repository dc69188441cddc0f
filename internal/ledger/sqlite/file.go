package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

const (
	fileName = "ledger.db"
	newName  = "ledger.db.new"
	lockName = "ledger.lock"
)

// ErrLocked is wrapped by Open where another process has the data directory.
var ErrLocked = errors.New("another aggregator has this data directory")

// ErrUnusable is wrapped by Open where the file is not a ledger that this
// program can use. Nothing was changed.
var ErrUnusable = errors.New("not a usable ledger")

// lockDir takes the data directory for this process.
func lockDir(dir string) (*os.File, error) {
	name := filepath.Join(dir, lockName)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s (is the data directory writable for this user?): %w", name, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("%w: stop it, or use another directory", ErrLocked)
		}
		return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", name, err), f.Close())
	}
	return f, nil
}

// checkHeader looks at the first bytes of the file without SQLite, so that a
// foreign or damaged file is refused before anything could touch it. absent is
// true where there is no ledger yet.
func checkHeader(name string) (absent bool, err error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		for _, suffix := range []string{"-wal", "-journal"} {
			if _, err := os.Stat(name + suffix); err == nil {
				return false, fmt.Errorf("%w: %s is there without its database: put %s back, or restore a backup",
					ErrUnusable, name+suffix, filepath.Base(name))
			}
		}
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot open the ledger (does it belong to this user?): %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var h [100]byte
	if _, err := io.ReadFull(f, h[:]); err != nil {
		return false, fmt.Errorf("%w: %s is cut short: move it away and restore a backup", ErrUnusable, name)
	}
	if !bytes.HasPrefix(h[:], []byte("SQLite format 3\x00")) {
		return false, fmt.Errorf("%w: %s is no SQLite file: move it away, restore a backup, or use another directory", ErrUnusable, name)
	}
	if id := binary.BigEndian.Uint32(h[68:]); id != applicationID {
		return false, fmt.Errorf("%w: %s is another program's database (application id %#x): use another directory", ErrUnusable, name, id)
	}
	if v := binary.BigEndian.Uint32(h[60:]); v > schemaVersion {
		return false, fmt.Errorf("%w: %s has schema version %d, this program knows %d: use the program that wrote it, or a newer one",
			ErrUnusable, name, v, schemaVersion)
	}
	return false, checkSize(f, h[:])
}

// checkSize refuses a file that lost its tail: SQLite would open it.
func checkSize(f *os.File, h []byte) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	page := int64(binary.BigEndian.Uint16(h[16:]))
	if page == 1 {
		page = 65536
	}
	if pages := int64(binary.BigEndian.Uint32(h[28:])); st.Size() < page*pages {
		// In WAL mode the header may be ahead of a checkpoint that did not
		// finish; the log then holds the missing pages.
		if w, err := os.Stat(f.Name() + "-wal"); err == nil && w.Size() > 0 {
			return nil
		}
		return fmt.Errorf("%w: %s is cut short (%d bytes of %d): move it away and restore a backup",
			ErrUnusable, f.Name(), st.Size(), page*pages)
	}
	return nil
}

// create makes an empty ledger under another name and moves it into place when
// it is whole, so that a crash leaves either nothing or a ledger.
func create(dir string) (err error) {
	tmp := filepath.Join(dir, newName)
	for _, suffix := range []string{"", "-journal"} {
		if err := os.Remove(tmp + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot make a ledger: %w", err)
		}
	}
	w, err := openWriter(dsn(tmp, url.Values{"_journal_mode": {"DELETE"}, "_synchronous": {"FULL"}}))
	if err != nil {
		return fmt.Errorf("cannot make a ledger in %s: %w", dir, err)
	}
	err = w.script("PRAGMA application_id = " + strconv.Itoa(applicationID) +
		"; PRAGMA user_version = " + strconv.Itoa(schemaVersion) +
		"; BEGIN; " + schemaSQL() + "INSERT INTO schema_version VALUES (" + strconv.Itoa(schemaVersion) + "); COMMIT")
	if err = errors.Join(err, w.close()); err != nil {
		return fmt.Errorf("cannot make a ledger in %s: %w", dir, err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, fileName)); err != nil {
		return fmt.Errorf("cannot make a ledger: %w", err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// dsn names a file and its settings.
func dsn(name string, params url.Values) string {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: name}).EscapedPath(), RawQuery: params.Encode()}
	return u.String()
}
