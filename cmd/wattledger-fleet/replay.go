package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/wattledger/wattledger/internal/fleet"
	"github.com/wattledger/wattledger/internal/obs"
	"github.com/wattledger/wattledger/internal/replay"
)

// link holds the flags that both commands share.
type link struct {
	cluster, url, tokenFile, speed, spool string
	quiet                                 bool
}

func (l *link) flags(f *flag.FlagSet) {
	f.StringVar(&l.cluster, "cluster", "", "name of the cluster in the books")
	f.StringVar(&l.url, "aggregator", envOr("WATTLEDGER_URL", "http://127.0.0.1:9440"), "address of the aggregator")
	f.StringVar(&l.tokenFile, "token-file", "", "file with the aggregator's token")
	f.StringVar(&l.speed, "speed", "max", "max, or how many times faster than it happened")
	f.StringVar(&l.spool, "spool", "", "folder for the spools (default: a temporary one)")
	f.BoolVar(&l.quiet, "quiet", false, "show no progress")
}

// nowhere stands for an aggregator where windows are only made.
const nowhere = "none"

func envOr(name, or string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return or
}

// options checks the flags and makes a replay's options of them.
func (l *link) options() (replay.Options, error) {
	o := replay.Options{Cluster: l.cluster, URL: l.url, SpoolDir: l.spool, Now: time.Now, Final: true}
	if l.cluster == "" {
		return o, wrong("--cluster: a name is needed")
	}
	if l.speed != "max" {
		v, err := strconv.ParseFloat(l.speed, 64)
		if err != nil || v <= 0 || v > 1e6 {
			return o, wrong("--speed: %q is neither max nor a factor above 0", l.speed)
		}
		o.Speed = v
	}
	if l.tokenFile != "" {
		b, err := os.ReadFile(l.tokenFile)
		if err != nil {
			return o, fmt.Errorf("cannot read the token: %w", err)
		}
		o.Token = strings.TrimSpace(string(b))
	}
	o.Client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, MaxConnsPerHost: 256}, Timeout: time.Minute}
	u, err := url.Parse(l.url)
	if l.url == nowhere {
		u, err = &url.URL{Scheme: "http", Host: nowhere}, nil
	}
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return o, wrong("--aggregator: %q is not an address like http://127.0.0.1:9440", l.url)
	}
	o.Log, err = obs.NewLogger("warn", os.Stderr, nil)
	return o, err
}

// wrong prints what is wrong with the command line.
func wrong(format string, args ...any) error {
	fmt.Fprintf(os.Stderr, "wattledger-fleet: "+format+"\n", args...)
	return errUsage
}

func parse(f *flag.FlagSet, args []string) error {
	f.SetOutput(os.Stderr)
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if f.NArg() > 0 {
		return wrong("%q: nothing but flags is expected", f.Arg(0))
	}
	return nil
}

func replayCommand(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("replay", flag.ContinueOnError)
	var l link
	l.flags(f)
	power := f.String("power", "", "recorded power: CSV of node,time_ms,watts, plain or .gz")
	jobs := f.String("jobs", "", "job table: CSV of job_id,project,user,start_ms,end_ms,nodes")
	shift := f.String("shift", "none", "none, last-month or now: move all stamps as a whole")
	strict := f.Bool("strict", false, "stop at the first damaged line")
	if err := parse(f, args); err != nil {
		return err
	}
	if *power == "" || *jobs == "" {
		return wrong("--power and --jobs are needed")
	}
	o, err := l.options()
	if err != nil {
		return err
	}
	damaged := 0
	rec, err := fleet.OpenRecording(*power, *jobs, fleet.RecordingOptions{Strict: *strict, Damaged: func(d *fleet.Damage) {
		if damaged++; damaged <= 20 {
			fmt.Fprintln(os.Stderr, "passed over:", d)
		}
	}})
	if err != nil {
		return err
	}
	if damaged > 20 {
		fmt.Fprintf(os.Stderr, "passed over: %d more damaged lines\n", damaged-20)
	}
	d, err := shiftOf(*shift, rec, o.Now(), o.Speed)
	if err != nil {
		return err
	}
	rec.Shift(d)
	o.Recorded = true
	o.Name = fmt.Sprintf("%s shift %d", rec.Digest(), d.Milliseconds())
	return drive(ctx, o, rec.Feeds(), l.quiet)
}

// shiftOf is how far a recording is moved. As fast as it goes it ends now, at a
// pace it begins now: the future is not booked.
func shiftOf(word string, rec *fleet.Recording, now time.Time, speed float64) (time.Duration, error) {
	from, to := rec.Span()
	switch word {
	case "none":
		return 0, nil
	case "last-month":
		return fleet.ShiftLastMonth(now, from, to), nil
	case "now":
		if speed <= 0 || speed > 1 {
			return fleet.ShiftNow(now, to), nil
		}
		return fleet.ShiftNow(now, from), nil
	}
	return 0, wrong("--shift: %q is not none, last-month or now", word)
}

// drive runs a replay and shows how far it is.
func drive(ctx context.Context, o replay.Options, feeds []fleet.Feed, quiet bool) error {
	if o.URL == nowhere {
		return wrong("--aggregator: none is for machines that are simulated as a whole")
	}
	r := replay.New(o)
	began := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, feeds) }()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				return err
			}
			if !quiet {
				p := r.Progress()
				fmt.Fprintf(os.Stderr, "%d nodes, %d windows delivered in %.1f s\n", p.Nodes, p.Sent, time.Since(began).Seconds())
			}
			return nil
		case <-tick.C:
			if !quiet {
				p := r.Progress()
				fmt.Fprintf(os.Stderr, "%d of %d nodes read, %d of %d windows delivered\n", p.Fed, p.Nodes, p.Sent, p.Windows)
			}
		}
	}
}
