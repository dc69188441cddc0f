package sqlite

import (
	"database/sql/driver"
	"slices"
	"strings"
)

// Rows that one statement of a bulk carries: as many as there are, in these
// sizes.
const (
	manyRows = 32
	someRows = 8
)

// maxMasks bounds how many statements a table of sums gets.
const maxMasks = 200

// bulk writes many rows of one table with few statements.
type bulk struct {
	w               *writer
	one, some, many string
	width           int
	args            []driver.Value
}

// bulk makes a writer of rows; head is "INSERT INTO t(a, b)", tail what follows
// the values.
func (w *writer) bulk(head string, width int, tail string) *bulk {
	row := "(" + strings.TrimSuffix(strings.Repeat("?,", width), ",") + ")"
	rows := func(n int) string {
		return head + " VALUES " + strings.TrimSuffix(strings.Repeat(row+",", n), ",") + " " + tail
	}
	return &bulk{w: w, width: width, one: rows(1), some: rows(someRows), many: rows(manyRows)}
}

// upsert is a bulk of rows named by keys; set values are overwritten, add values
// are added to what is there.
func (w *writer) upsert(table string, keys, set, add []string) *bulk {
	var moves []string
	for _, c := range set {
		moves = append(moves, c+" = excluded."+c)
	}
	for _, c := range add {
		moves = append(moves, c+" = "+table+"."+c+" + excluded."+c)
	}
	cols := slices.Concat(keys, set, add)
	return w.bulk("INSERT INTO "+table+"("+strings.Join(cols, ", ")+")", len(cols),
		"ON CONFLICT("+strings.Join(keys, ", ")+") DO UPDATE SET "+strings.Join(moves, ", "))
}

// row adds one row; blobs are taken at the latest by flush.
func (b *bulk) row(vals ...driver.Value) error {
	b.args = append(b.args, vals...)
	return b.full()
}

func (b *bulk) full() error {
	if len(b.args) < b.width*manyRows {
		return nil
	}
	return b.send(b.many, len(b.args))
}

func (b *bulk) flush() error {
	for done := 0; done < len(b.args); {
		sql, n := b.one, b.width
		if len(b.args)-done >= b.width*someRows {
			sql, n = b.some, b.width*someRows
		}
		if err := b.sendArgs(sql, b.args[done:done+n]); err != nil {
			return err
		}
		done += n
	}
	b.args = b.args[:0]
	return nil
}

func (b *bulk) send(sql string, n int) error {
	err := b.sendArgs(sql, b.args[:n])
	b.args = b.args[:0]
	return err
}

func (b *bulk) sendArgs(sql string, args []driver.Value) error {
	s, err := b.w.stmt(sql)
	if err != nil {
		return err
	}
	s.args = s.args[:0]
	for _, v := range args {
		s.push(v)
	}
	return s.run(nil)
}

// sumsBulk adds sums to rows of a table. A statement names only the cells that
// are not zero: most of them are in every row.
type sumsBulk struct {
	w         *writer
	table     string
	keys, set []string
	masks     map[uint32]*bulk
}

func (w *writer) sumsBulk(table string, keys []string, set ...string) *sumsBulk {
	return &sumsBulk{w: w, table: table, keys: keys, set: set, masks: map[uint32]*bulk{}}
}

// add adds a row of sums; keys are followed by the values that are set.
func (b *sumsBulk) add(s *sums, keys ...int64) error {
	var mask uint32
	for i, v := range s {
		if v != 0 {
			mask |= 1 << i
		}
	}
	m, ok := b.masks[mask]
	if !ok {
		if len(b.masks) >= maxMasks {
			mask = 1<<numCells - 1
		}
		if m, ok = b.masks[mask]; !ok {
			m = b.bulk(mask)
			b.masks[mask] = m
		}
	}
	for _, k := range keys {
		m.args = append(m.args, k)
	}
	for i, v := range s {
		if mask&(1<<i) != 0 {
			m.args = append(m.args, v)
		}
	}
	return m.full()
}

func (b *sumsBulk) bulk(mask uint32) *bulk {
	var cols []string
	for i, c := range cellColumns() {
		if mask&(1<<i) != 0 {
			cols = append(cols, c)
		}
	}
	if len(cols) == 0 {
		cols = cellColumns()[:1] // a row of zeros still makes its row
		return b.w.bulk("INSERT INTO "+b.table+"("+strings.Join(slices.Concat(b.keys, b.set), ", ")+")", len(b.keys)+len(b.set),
			"ON CONFLICT("+strings.Join(b.keys, ", ")+") DO UPDATE SET "+setOf(b.table, b.set, cols[0]))
	}
	return b.w.upsert(b.table, b.keys, b.set, cols)
}

// setOf overwrites columns, or one with itself where there is none.
func setOf(table string, set []string, some string) string {
	if len(set) == 0 {
		return some + " = " + table + "." + some
	}
	moves := make([]string, len(set))
	for i, c := range set {
		moves[i] = c + " = excluded." + c
	}
	return strings.Join(moves, ", ")
}

func (b *sumsBulk) flush() error {
	for _, m := range b.masks {
		if err := m.flush(); err != nil {
			return err
		}
	}
	return nil
}
