package fleet

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/wattledger/wattledger/internal/energy"
)

// maxLine is the longest line of a file: a job on 25,000 nodes is 300 kB.
const maxLine = 4 << 20

// maxWatts keeps the products of the integration within their range; no node
// draws a thousandth of it.
const maxWatts = 8_000_000

// maxMS is the last millisecond of the year 9999.
const maxMS = 253_402_300_799_999

// Damage is a line that cannot be taken, or a file that ends before its time.
type Damage struct {
	File string
	Line int // from 1
	Err  error
}

// Error writes file:line: what is wrong.
func (d *Damage) Error() string { return fmt.Sprintf("%s:%d: %v", d.File, d.Line, d.Err) }

// Unwrap gives what is wrong.
func (d *Damage) Unwrap() error { return d.Err }

// table reads a CSV file with the given header line by line and gives take the
// fields of each. What take refuses is handed to damaged, as is whatever else
// is wrong with the file's content; an error of damaged ends the reading. The
// sum of the file's bytes is added to sum.
func table(path, header string, sum hash.Hash, take func(fields []string) error, damaged func(*Damage) error) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	own := sha256.New()
	raw := io.TeeReader(file, own)
	content := raw
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(bufio.NewReaderSize(raw, 1<<16))
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", path, err)
		}
		content = z
	}
	if err := lines(path, header, bufio.NewReaderSize(content, 1<<16), take, damaged); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	sum.Write(own.Sum(nil))
	return nil
}

func lines(path, header string, r *bufio.Reader, take func([]string) error, damaged func(*Damage) error) error {
	columns := strings.Split(header, ",")
	var fields []string
	for n := 1; ; n++ {
		text, err := line(r)
		if errors.Is(err, io.EOF) && n > 1 && text == "" {
			return nil
		}
		var wrong error
		switch {
		case errors.Is(err, errLong):
			wrong = err
		case err != nil && !errors.Is(err, io.EOF):
			// A torn archive: the last line may be half a line.
			return damaged(&Damage{path, n, fmt.Errorf("the file is cut off or damaged here: %w", err)})
		case n == 1 && text != header:
			return fmt.Errorf("cannot read %s: its first line is %q, not %q", path, shorten(text), header)
		case n == 1:
		default:
			fields = append(fields[:0], strings.Split(text, ",")...)
			if len(fields) != len(columns) {
				wrong = fmt.Errorf("%d columns, not the %d of %s", len(fields), len(columns), header)
			} else {
				wrong = take(fields)
			}
		}
		if wrong != nil {
			if err := damaged(&Damage{path, n, wrong}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
	}
}

var errLong = errors.New("the line is longer than 4 MiB")

// line reads up to the end of a line, without it.
func line(r *bufio.Reader) (string, error) {
	var long []byte
	over := false
	for {
		part, err := r.ReadSlice('\n')
		over = over || len(long)+len(part) > maxLine
		if !over && (len(long) > 0 || errors.Is(err, bufio.ErrBufferFull)) {
			long = append(long, part...)
			part = long
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case over && (err == nil || errors.Is(err, io.EOF)):
			return "", errLong
		}
		part = bytes.TrimSuffix(bytes.TrimSuffix(part, []byte("\n")), []byte("\r"))
		return string(part), err
	}
}

func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}

// microwatts reads watts, whole or with up to six decimals, without loss.
func microwatts(s string) (energy.Microwatts, error) {
	bad := func(why string) (energy.Microwatts, error) {
		return 0, fmt.Errorf("watts: %q is %s", shorten(s), why)
	}
	if strings.HasPrefix(s, "-") {
		return bad("negative")
	}
	whole, part, dotted := strings.Cut(s, ".")
	w, err := strconv.ParseUint(whole, 10, 64)
	if err != nil || dotted && part == "" || strings.HasPrefix(s, "+") {
		return bad("not a decimal number")
	}
	if w > maxWatts {
		return bad("more than any node draws")
	}
	var u uint64
	for i, c := range []byte(part) {
		switch {
		case c < '0' || c > '9':
			return bad("not a decimal number")
		case i < 6:
			u = 10*u + uint64(c-'0')
		case c != '0':
			return bad("finer than a microwatt")
		}
	}
	for i := len(part); i < 6; i++ {
		u *= 10
	}
	return energy.Microwatts(w)*energy.Watt + energy.Microwatts(u), nil
}

// millis reads Unix milliseconds.
func millis(column, s string) (int64, error) {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil || ms < 0 || ms > maxMS {
		return 0, fmt.Errorf("%s: %q is not a time in Unix milliseconds", column, shorten(s))
	}
	return ms, nil
}
