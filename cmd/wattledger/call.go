package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const defaultURL = "http://127.0.0.1:9440"

// errHelp is the wish to see how a command is used.
var errHelp = errors.New("help wanted")

// call is one use of a sub-command: its flags and where its output goes.
type call struct {
	command command
	args    []string
	stdout  io.Writer
	flags   *flag.FlagSet

	base, tokenFile, output string
	timeout                 time.Duration
	again                   time.Duration // between two questions of one wait
}

func newCall(c command, args []string, stdout io.Writer, env func(string) string) *call {
	k := &call{command: c, args: args, stdout: stdout, again: askAgain, flags: flag.NewFlagSet(c.name, flag.ContinueOnError)}
	k.flags.SetOutput(io.Discard)
	if c.name == "version" {
		return k
	}
	base := env("WATTLEDGER_URL")
	if base == "" {
		base = defaultURL
	}
	k.flags.StringVar(&k.base, "url", base, "")
	k.flags.StringVar(&k.tokenFile, "token-file", "", "")
	k.flags.DurationVar(&k.timeout, "timeout", time.Minute, "")
	k.flags.StringVar(&k.output, "o", "", "")
	return k
}

// text makes flags of strings; what is given becomes a parameter of the query
// under the same name.
func (k *call) text(names ...string) {
	for _, name := range names {
		k.flags.String(name, "", "")
	}
}

// query holds the given flags of those names.
func (k *call) query(names ...string) url.Values {
	q := url.Values{}
	for _, name := range names {
		if v := k.flags.Lookup(name).Value.String(); v != "" {
			q.Set(name, v)
		}
	}
	return q
}

// parse reads flags, before and after other words, and gives the other words.
func (k *call) parse() ([]string, error) {
	var rest []string
	args := k.args
	for {
		err := k.flags.Parse(args)
		switch {
		case errors.Is(err, flag.ErrHelp):
			return nil, errHelp
		case err != nil:
			return nil, misused("%v", err)
		}
		parsed := len(args) - k.flags.NArg()
		ended := parsed > 0 && args[parsed-1] == "--"
		args = k.flags.Args()
		if len(args) == 0 || ended {
			return append(rest, args...), nil
		}
		rest, args = append(rest, args[0]), args[1:]
	}
}

// write puts the answer on standard output or, whole or not at all, in a file.
func (k *call) write(answer func(io.Writer) error) error {
	if k.output == "" || k.output == "-" {
		return answer(k.stdout)
	}
	return writeFile(k.output, answer)
}

func writeFile(path string, answer func(io.Writer) error) (err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return writeInto(path, answer) // a device, a pipe: not ours to replace
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	temp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d.tmp", filepath.Base(path), os.Getpid()))
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot write %s: %w", path, err), os.Remove(temp))
		}
	}()
	if err := errors.Join(answer(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

func writeInto(path string, answer func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	if err := errors.Join(answer(f), f.Close()); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}

// oneOf checks a format.
func oneOf(format string, formats ...string) error {
	if slices.Contains(formats, format) {
		return nil
	}
	if format == "xlsx" || format == "pdf" {
		return misused("--format %s: not in this version; there are %s", format, strings.Join(formats, ", "))
	}
	return misused("--format %q: there are %s", format, strings.Join(formats, ", "))
}
