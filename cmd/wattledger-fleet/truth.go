package main

import (
	"flag"
	"os"
	"strconv"
	"time"

	"github.com/wattledger/wattledger/internal/fleet/emulate"
)

// truthCommand prints what every scope of an emulated node drew in a span.
func truthCommand(args []string) error {
	f := flag.NewFlagSet("truth", flag.ContinueOnError)
	root := f.String("root", "", "folder of an emulated node")
	from := f.String("from", "", "RFC 3339 with milliseconds, or Unix milliseconds")
	to := f.String("to", "", "likewise")
	if err := parse(f, args); err != nil {
		return err
	}
	if *root == "" {
		return wrong("--root is missing: the folder of an emulated node")
	}
	begin, err := instant("--from", *from)
	if err != nil {
		return err
	}
	end, err := instant("--to", *to)
	if err != nil {
		return err
	}
	n, err := emulate.OpenNode(*root)
	if err != nil {
		return err
	}
	return n.Write(os.Stdout, begin, end)
}

// instant reads a time as people and programs write it.
func instant(flag, text string) (time.Time, error) {
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.UnixMilli(ms), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, wrong("%s: %q is neither a time such as 2026-10-05T08:00:00.250Z nor Unix milliseconds", flag, text)
	}
	return t, nil
}
