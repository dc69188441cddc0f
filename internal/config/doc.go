// Package config reads the settings of the two daemons. A file holds words; what
// comes out is typed and checked as a whole: unknown keys are refused, and every
// fault is listed, with what would be right, before anything starts. No file is
// needed where the defaults are right. Flags override the file.
//
// Checking leaves nothing on disk: a folder that is to be made later must only be
// possible to make.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"
	"go.yaml.in/yaml/v3"
)

// checker gathers the faults of a file.
type checker struct{ faults []error }

func (c *checker) bad(key string, got any, want string) {
	if got == "" {
		got = `""`
	}
	c.faults = append(c.faults, fmt.Errorf("%s: %v is not %s", key, got, want))
}

func (c *checker) cannot(key string, err error) {
	c.faults = append(c.faults, fmt.Errorf("%s: %w", key, err))
}

func (c *checker) err() error { return errors.Join(c.faults...) }

var unknownKey = regexp.MustCompile(`^line (\d+): field (\S+) not found in type .*$`)

// read decodes a file into raw, which holds the defaults. Faults of its form are
// noted; what could be read is checked further.
func (c *checker) read(path string, raw any) error {
	if path == "" {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot read the configuration: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	err = dec.Decode(raw)
	if errors.Is(err, io.EOF) {
		return nil // empty, or comments only
	}
	if te, ok := errors.AsType[*yaml.TypeError](err); ok {
		for _, text := range te.Errors {
			if m := unknownKey.FindStringSubmatch(text); m != nil {
				text = fmt.Sprintf("%s: is not a key that is known here (line %s)", m[2], m[1])
			}
			c.faults = append(c.faults, errors.New(text))
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the configuration %s: %w", path, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		c.faults = append(c.faults, errors.New("---: a second document is not read; keep one"))
	}
	return nil
}

func (c *checker) name(key, s, what string) string {
	if s == "" || len(s) > 128 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' }) {
		c.bad(key, s, "the name of "+what+": 1 to 128 characters without blanks and slashes")
	}
	return s
}

func (c *checker) duration(key, s string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil || d < least || d > most {
		c.bad(key, s, fmt.Sprintf("a duration from %s to %s", short(least), short(most)))
	}
	return d
}

// short writes 15m, not 15m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (c *checker) integer(key, s string, least, most int64) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < least || n > most {
		c.bad(key, s, fmt.Sprintf("a whole number from %d to %d", least, most))
	}
	return n
}

func (c *checker) truth(key, s string) bool {
	b, err := strconv.ParseBool(s)
	if err != nil {
		c.bad(key, s, "true or false")
	}
	return b
}

func (c *checker) level(key, s string) string {
	var l zapcore.Level
	if s == "" || l.UnmarshalText([]byte(s)) != nil || l > zapcore.ErrorLevel {
		c.bad(key, s, "debug, info, warn or error")
	}
	return s
}

func (c *checker) zone(key, s string) *time.Location {
	z, err := time.LoadLocation(s)
	if err != nil || s == "" || s == "Local" {
		c.bad(key, s, "a time zone like UTC or Europe/Rome")
		return time.UTC
	}
	return z
}

// size reads 65536, 64KiB, 32MiB or 1GiB.
func (c *checker) size(key, s string, least int64) int64 {
	number, unit := s, int64(1)
	for suffix, u := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if n, ok := strings.CutSuffix(s, suffix); ok {
			number, unit = strings.TrimSpace(n), u
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > 1<<40/unit || n*unit < least {
		c.bad(key, s, fmt.Sprintf("a size like 64KiB, 32MiB or 1GiB, of %d bytes or more", least))
		return least
	}
	return n * unit
}

// listen checks an address and tells whether only this host can reach it.
func (c *checker) listen(key, s string) (loopback bool) {
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || n > 65535 {
		c.bad(key, s, "an address like 127.0.0.1:9440 (port 0 takes any that is free)")
		return true
	}
	return isLoopback(host)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func (c *checker) url(key, s string) string {
	u, err := url.Parse(s)
	ok := err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
	if !ok || (u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname()))) {
		c.bad(key, s, "an address like https://aggregator:9440; http only to this very host, e.g. http://127.0.0.1:9440")
	}
	return strings.TrimSuffix(s, "/")
}

// file checks that a file can be read, if it is named.
func (c *checker) file(key, path string) []byte {
	if path == "" {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		c.cannot(key, err)
	}
	return b
}

// secret is what stands alone in a file.
func (c *checker) secret(key, path string) string {
	if path == "" {
		return ""
	}
	b := c.file(key, path)
	s := strings.TrimSpace(string(b))
	if b != nil && (s == "" || strings.ContainsAny(s, " \t\r\n")) {
		c.bad(key, path, "a file with a token alone on its line")
	}
	return s
}

// folder checks that a folder can be written, or made.
func (c *checker) folder(key, path string) string {
	if path == "" {
		c.bad(key, path, "a folder")
		return path
	}
	for dir := filepath.Clean(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if errors.Is(err, os.ErrNotExist) && dir != filepath.Dir(dir) {
			continue
		}
		if err != nil {
			c.cannot(key, err)
		} else if !info.IsDir() {
			c.bad(key, path, "a folder: "+dir+" is something else")
		} else if err := probe(dir); err != nil {
			c.bad(key, path, fmt.Sprintf("a folder that this user can write: %v", err))
		}
		return path
	}
}

// probe makes a file in a folder and takes it away: permissions alone do not say
// whether root, or a read-only file system, can write.
func probe(dir string) error {
	f, err := os.CreateTemp(dir, ".wattledger-probe-")
	if err != nil {
		pe, ok := errors.AsType[*os.PathError](err)
		if ok {
			err = fmt.Errorf("%s: %w", dir, pe.Err)
		}
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
