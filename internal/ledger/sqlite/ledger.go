package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/wattledger/wattledger/internal/failpoint"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// Options of a ledger; the zero value is right for an aggregator.
type Options struct {
	// Future is how far after its arrival a window may begin (0: 5 minutes).
	Future time.Duration
	// KeepSeen is how long content hashes are kept (0: 48 hours). A window that
	// comes again later than that is a duplicate by its ranges alone; other
	// content for a booked range is then no longer noticed.
	KeepSeen time.Duration
	// Readers is the number of reading connections (0: 4).
	Readers int
}

// ErrClosed is wrapped by every method of a closed ledger.
var ErrClosed = errors.New("ledger is closed")

// Ledger is a ledger.Ledger in one SQLite file.
type Ledger struct {
	future   int64 // ms
	keepSeen int64 // slots
	path     string
	lock     *os.File
	read     *sql.DB
	openings openings

	mu     sync.Mutex // guards all below: one transaction at a time
	w      *writer
	closed bool
	tx     *tx // nil: load again
	ill    illness
}

var _ ledger.Ledger = (*Ledger)(nil)

// Open opens the ledger of a data directory, or makes one. A file that cannot
// be used is left as it is; the error says what to do.
func Open(dir string, o Options) (*Ledger, error) {
	if o.Future == 0 {
		o.Future = 5 * time.Minute
	}
	if o.KeepSeen == 0 {
		o.KeepSeen = 48 * time.Hour
	}
	if o.Readers == 0 {
		o.Readers = 4
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the data directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	l := &Ledger{
		future: o.Future.Milliseconds(), keepSeen: o.KeepSeen.Milliseconds()/window.SlotMS + 1,
		path: filepath.Join(dir, fileName), lock: lock,
	}
	if err := l.open(dir, o.Readers); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the ledger: %w", err), l.release())
	}
	return l, nil
}

func (l *Ledger) open(dir string, readers int) error {
	absent, err := checkHeader(l.path)
	if err != nil {
		return err
	}
	if absent {
		if err := create(dir); err != nil {
			return err
		}
	}
	l.w, err = openWriter(dsn(l.path, url.Values{
		"_busy_timeout": {"10000"}, "_journal_mode": {"WAL"}, "_synchronous": {"FULL"}, "_cache_size": {"-65536"},
	}))
	if err != nil {
		return l.unusable(err)
	}
	if err := l.probe(); err != nil {
		return l.unusable(err)
	}
	l.read, err = sql.Open("sqlite3", dsn(l.path, url.Values{
		"mode": {"ro"}, "_busy_timeout": {"10000"}, "_query_only": {"1"}, "_cache_size": {"-16384"},
	}))
	if err != nil {
		return err
	}
	l.read.SetMaxOpenConns(readers)
	l.read.SetMaxIdleConns(readers)
	return l.read.PingContext(context.Background())
}

func (l *Ledger) unusable(err error) error {
	return fmt.Errorf("%w: %s: %w (is the disk writable? if the file is damaged, move it away and restore a backup)",
		ErrUnusable, l.path, err)
}

// probe reads a row of every table and takes the write lock once.
func (l *Ledger) probe() error {
	if err := l.w.script("PRAGMA wal_autocheckpoint = 8000"); err != nil {
		return err
	}
	if err := l.upgrade(); err != nil {
		return err
	}
	for _, t := range tables() {
		if _, err := l.w.first("SELECT * FROM " + t + " LIMIT 1"); err != nil {
			return err
		}
	}
	if err := l.w.script("BEGIN IMMEDIATE; ROLLBACK"); err != nil {
		return err
	}
	err := l.load()
	if noRoom(err) {
		return nil // the journal keeps what it holds; whoever needs it is told
	}
	return err
}

// upgrade brings a ledger of an older version to this one's, each step whole or
// not at all.
func (l *Ledger) upgrade() error {
	row, err := l.w.first("SELECT MAX(version) FROM schema_version")
	if err != nil {
		return err
	}
	v, _ := row[0].(int64)
	steps := upgrades()
	for ; v < schemaVersion && steps[v] != ""; v++ {
		next := strconv.FormatInt(v+1, 10)
		err := l.w.script("BEGIN IMMEDIATE; " + steps[v] + "; UPDATE schema_version SET version = " + next + "; PRAGMA user_version = " + next + "; COMMIT")
		if err != nil {
			_ = l.w.script("ROLLBACK") // fails where SQLite has rolled back already
			return fmt.Errorf("cannot bring it from schema version %d to %s (nothing of that was kept): %w", v, next, err)
		}
	}
	if v != schemaVersion {
		return fmt.Errorf("its schema version is %v, this program knows %d: use the program that wrote it, or a newer one", row[0], schemaVersion)
	}
	return nil
}

// Close gives the data directory back.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	var err error
	if l.tx != nil && l.tx.waits {
		err = l.commit(true, func(*tx) error { return nil }) // where it fails the journal has them
	}
	l.closed = true
	if err := errors.Join(err, l.release()); err != nil {
		return fmt.Errorf("cannot close the ledger: %w", err)
	}
	return nil
}

func (l *Ledger) release() error {
	var errs []error
	if l.read != nil {
		errs = append(errs, l.read.Close())
	}
	if l.w != nil {
		errs = append(errs, l.w.close())
	}
	return errors.Join(append(errs, l.lock.Close())...)
}

// update runs f in the one transaction that writes, and posts everything with it.
// Unless all of it is committed, what is in memory is dropped.
func (l *Ledger) update(ctx context.Context, f func(t *tx) error) error {
	return l.change(ctx, true, f)
}

// posted brings what waits in the journal to the tables, for those who read them.
// The caller holds mu.
func (l *Ledger) posted() error {
	if l.tx != nil && !l.tx.waits {
		return nil
	}
	if err := l.commit(true, func(*tx) error { return nil }); err != nil {
		return fmt.Errorf("cannot post what was booked last: %w", err)
	}
	return nil
}

// change is update; unless whole, what f books may wait in the journal.
func (l *Ledger) change(ctx context.Context, whole bool, f func(t *tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	return l.commit(whole, f)
}

func (l *Ledger) commit(whole bool, f func(t *tx) error) error {
	if l.tx == nil {
		if err := l.load(); err != nil {
			return err
		}
	}
	t := l.tx
	t.whole = whole
	committed := false
	defer func() {
		if !committed {
			l.tx = nil
			_ = l.w.script("ROLLBACK") // fails where SQLite has rolled back already
		}
	}()
	if err := l.w.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if !t.waits {
		t.since = t.c.now
	}
	if err := f(t); err != nil {
		return err
	}
	write := t.journal
	if t.due() {
		t.whole, write = true, t.post
	}
	if err := write(); err != nil {
		return err
	}
	failpoint.Hit(failpoint.LedgerBeforeCommit)
	if err := l.w.exec("COMMIT"); err != nil {
		return err
	}
	committed = true
	failpoint.Hit(failpoint.LedgerAfterCommit)
	if t.whole {
		t.c.settle(t.nodes)
		t.nodes, t.windows, t.rows, t.bytes, t.waits = t.nodes[:0], 0, 0, 0, false
	}
	return nil
}

// number reads an integer of a row.
func number(v driver.Value) int64 {
	n, _ := v.(int64)
	return n
}

// text reads a string of a row.
func text(v driver.Value) string {
	switch s := v.(type) {
	case string:
		return s
	case []byte:
		return string(s)
	}
	return ""
}

// blob reads bytes of a row.
func blob(v driver.Value) []byte {
	switch s := v.(type) {
	case []byte:
		return s
	case string:
		return []byte(s)
	}
	return nil
}
