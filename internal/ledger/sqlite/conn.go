package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// writer is the one connection that writes. It uses the driver without
// database/sql: a row is bound and stepped in one crossing into C.
type writer struct {
	conn  *sqlite3.SQLiteConn
	stmts map[string]*stmt
}

type stmt struct {
	sql  string
	s    driver.StmtQueryContext
	c    io.Closer
	args []driver.NamedValue
	row  []driver.Value
}

func openWriter(dsn string) (*writer, error) {
	c, err := (&sqlite3.SQLiteDriver{}).Open(dsn)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*sqlite3.SQLiteConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("driver gave a %T", c), c.Close())
	}
	return &writer{conn: conn, stmts: map[string]*stmt{}}, nil
}

func (w *writer) close() error {
	var errs []error
	for _, s := range w.stmts {
		errs = append(errs, s.c.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// stmt prepares a statement once.
func (w *writer) stmt(sql string) (*stmt, error) {
	if s, ok := w.stmts[sql]; ok {
		return s, nil
	}
	p, err := w.conn.Prepare(sql)
	if err != nil {
		return nil, fmt.Errorf("cannot prepare %q: %w", brief(sql), err)
	}
	q, ok := p.(driver.StmtQueryContext)
	if !ok {
		return nil, errors.Join(fmt.Errorf("cannot use a statement of type %T", p), p.Close())
	}
	s := &stmt{sql: sql, s: q, c: p}
	w.stmts[sql] = s
	return s, nil
}

// script runs statements without arguments.
func (w *writer) script(sql string) error {
	if _, err := w.conn.ExecContext(context.Background(), sql, nil); err != nil {
		return fmt.Errorf("cannot run %q: %w", brief(sql), err)
	}
	return nil
}

// exec runs one statement.
func (w *writer) exec(sql string, args ...driver.Value) error {
	return w.query(sql, nil, args...)
}

// query calls f for each row; f must not keep the row or its blobs.
func (w *writer) query(sql string, f func(row []driver.Value) error, args ...driver.Value) error {
	s, err := w.stmt(sql)
	if err != nil {
		return err
	}
	s.args = s.args[:0]
	for _, a := range args {
		s.push(a)
	}
	return s.run(f)
}

// first gives the first row of a query, or nil.
func (w *writer) first(sql string, args ...driver.Value) ([]driver.Value, error) {
	var out []driver.Value
	err := w.query(sql, func(row []driver.Value) error {
		if out == nil {
			out = append(out, row...)
		}
		return nil
	}, args...)
	return out, err
}

func (s *stmt) push(v driver.Value) {
	s.args = append(s.args, driver.NamedValue{Ordinal: len(s.args) + 1, Value: v})
}

// run executes the statement with the arguments pushed so far. Statements are
// run without a context that can end: the driver would start a goroutine each.
func (s *stmt) run(f func(row []driver.Value) error) error {
	rows, err := s.s.QueryContext(context.Background(), s.args)
	s.args = s.args[:0]
	if err != nil {
		return fmt.Errorf("cannot run %q: %w", brief(s.sql), err)
	}
	if f == nil {
		return rows.Close()
	}
	if n := len(rows.Columns()); len(s.row) != n {
		s.row = make([]driver.Value, n)
	}
	row := s.row
	s.row = nil // a query inside f may use the same statement
	for {
		if err = rows.Next(row); err != nil {
			break
		}
		if err = f(row); err != nil {
			break
		}
	}
	s.row = row
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if cerr := rows.Close(); err == nil && cerr != nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("cannot read %q: %w", brief(s.sql), err)
	}
	return nil
}

func brief(sql string) string {
	sql = strings.Join(strings.Fields(sql), " ")
	if len(sql) > 80 {
		sql = sql[:80] + "..."
	}
	return sql
}
