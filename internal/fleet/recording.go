package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/wattledger/wattledger/collector"
	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/job"
	"github.com/wattledger/wattledger/internal/window"
)

const (
	powerHeader = "node,time_ms,watts"
	jobsHeader  = "job_id,project,user,start_ms,end_ms,nodes"
)

// RecordingOptions says how a recording is opened.
type RecordingOptions struct {
	// Shift is added to every stamp of the recording.
	Shift time.Duration
	// Strict: the first damaged line is an error and ends the reading.
	Strict bool
	// Damaged is told of every line that is skipped. It may be nil.
	Damaged func(*Damage)
}

// Recording is the recorded power of nodes and the jobs that ran on them.
type Recording struct {
	nodes      map[string]*recordedNode
	firstMS    int64
	lastMS     int64
	readings   int
	damaged    int
	shift      time.Duration
	digest     string
	jobIDs     map[string]bool
	assignment map[string]bool // of one line: the nodes it has named
}

type recordedNode struct {
	name     string
	readings []recordedPower
	edges    edges
}

type recordedPower struct {
	ms    int64
	power energy.Microwatts
}

// OpenRecording reads the power of nodes (CSV, or CSV in gzip: node, time_ms,
// watts) and the jobs that ran on them (CSV: job_id, project, user, start_ms,
// end_ms, nodes separated by blanks), both in Unix milliseconds. A job holds its
// nodes wholly for [start, end). Jobs on nodes without readings are let pass.
func OpenRecording(powerPath, jobsPath string, o RecordingOptions) (*Recording, error) {
	r := &Recording{nodes: map[string]*recordedNode{}, shift: o.Shift, jobIDs: map[string]bool{}, assignment: map[string]bool{}}
	damaged := func(d *Damage) error {
		r.damaged++
		if o.Strict {
			return d
		}
		if o.Damaged != nil {
			o.Damaged(d)
		}
		return nil
	}
	sum := sha256.New()
	if err := table(powerPath, powerHeader, sum, r.power, damaged); err != nil {
		return nil, fmt.Errorf("cannot open the recorded power: %w", err)
	}
	if err := table(jobsPath, jobsHeader, sum, r.job, damaged); err != nil {
		return nil, fmt.Errorf("cannot open the recorded jobs: %w", err)
	}
	if r.readings == 0 {
		return nil, fmt.Errorf("cannot replay %s: it holds no reading", powerPath)
	}
	r.digest = hex.EncodeToString(sum.Sum(nil))[:16]
	r.jobIDs, r.assignment = nil, nil
	return r, nil
}

// power takes a line of the power file.
func (r *Recording) power(f []string) error {
	name := f[0]
	if err := named("node", name); err != nil {
		return err
	}
	ms, err1 := millis("time_ms", f[1])
	uw, err2 := microwatts(f[2])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	n := r.nodes[name]
	if n == nil {
		name = strings.Clone(name) // not the whole line
		n = &recordedNode{name: name}
		r.nodes[name] = n
	}
	if k := len(n.readings); k > 0 && ms <= n.readings[k-1].ms {
		return fmt.Errorf("time_ms: %d is not after %d, the reading of %s before it", ms, n.readings[k-1].ms, name)
	}
	n.readings = append(n.readings, recordedPower{ms, uw})
	if r.readings == 0 {
		r.firstMS, r.lastMS = ms, ms
	}
	r.firstMS, r.lastMS = min(r.firstMS, ms), max(r.lastMS, ms)
	r.readings++
	return nil
}

// job takes a line of the jobs file. The power file has been read.
func (r *Recording) job(f []string) error {
	from, err1 := millis("start_ms", f[3])
	to, err2 := millis("end_ms", f[4])
	if err := errors.Join(named("job_id", f[0]), long("project", f[1]), long("user", f[2]), err1, err2); err != nil {
		return err
	}
	nodes := strings.Fields(f[5])
	switch {
	case to <= from:
		return fmt.Errorf("end_ms: %d is not after start_ms %d", to, from)
	case len(nodes) == 0:
		return fmt.Errorf("nodes: job %s names none", f[0])
	case r.jobIDs[f[0]]:
		return fmt.Errorf("job_id: %s was on a line before", f[0])
	}
	clear(r.assignment)
	for _, name := range nodes {
		if r.assignment[name] {
			return fmt.Errorf("nodes: job %s names %s twice", f[0], name)
		}
		r.assignment[name] = true
	}
	spec := job.Spec{ID: strings.Clone(f[0]), Project: strings.Clone(f[1]), User: strings.Clone(f[2]), Exclusive: true}
	r.jobIDs[spec.ID] = true
	for _, name := range nodes {
		if n := r.nodes[name]; n != nil {
			n.edges.begin(from, spec)
			n.edges.end(to, spec.ID)
		}
	}
	return nil
}

func named(column, s string) error {
	if s == "" || strings.TrimSpace(s) != s {
		return fmt.Errorf("%s: %q is not a name", column, shorten(s))
	}
	return long(column, s)
}

func long(column, s string) error {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%s: %q is not plain text", column, shorten(s))
	}
	if len(s) > window.MaxName {
		return fmt.Errorf("%s: %q has %d bytes, at most %d", column, shorten(s), len(s), window.MaxName)
	}
	return nil
}

// Feeds gives a feed of every recorded node, in the order of their names, each
// from its beginning.
func (r *Recording) Feeds() []Feed {
	var out []Feed
	for _, name := range slices.Sorted(maps.Keys(r.nodes)) {
		n := r.nodes[name]
		out = append(out, &recordedFeed{node: n, shift: r.shift, readings: n.readings, edges: n.edges})
	}
	return out
}

// Span gives the stamps of the first and the last reading as they are replayed.
func (r *Recording) Span() (from, to time.Time) {
	return time.UnixMilli(r.firstMS).Add(r.shift).UTC(), time.UnixMilli(r.lastMS).Add(r.shift).UTC()
}

// Shift moves every stamp by d more. Feeds made before keep their stamps.
func (r *Recording) Shift(d time.Duration) { r.shift += d }

// Readings is how many readings there are on all nodes.
func (r *Recording) Readings() int { return r.readings }

// Damaged is how many lines were skipped.
func (r *Recording) Damaged() int { return r.damaged }

// Digest names the content of the two files, whatever the shift: 16 characters
// of a SHA-256.
func (r *Recording) Digest() string { return r.digest }

type recordedFeed struct {
	node     *recordedNode
	shift    time.Duration
	readings []recordedPower
	edges    edges
}

// Node is the name of the node in the recording.
func (f *recordedFeed) Node() string { return f.node.name }

// Next merges readings and job edges in time order.
func (f *recordedFeed) Next() (Step, error) {
	var ms int64
	switch {
	case len(f.readings) == 0 && len(f.edges) == 0:
		return Step{}, io.EOF
	case len(f.edges) == 0:
		ms = f.readings[0].ms
	case len(f.readings) == 0:
		ms = f.edges[0].ms
	default:
		ms = min(f.readings[0].ms, f.edges[0].ms)
	}
	s := Step{At: time.UnixMilli(ms).Add(f.shift).UTC()}
	if len(f.edges) > 0 && f.edges[0].ms == ms {
		s.Ends, s.Begins = slices.Clone(f.edges[0].ends), slices.Clone(f.edges[0].begins)
		f.edges = f.edges[1:]
	}
	if len(f.readings) > 0 && f.readings[0].ms == ms {
		s.Readings = []collector.Reading{{
			Scope: collector.Scope{Name: "node", Class: energy.Node, Kind: collector.Power},
			At:    s.At, Power: f.readings[0].power, HasPower: true,
		}}
		f.readings = f.readings[1:]
	}
	return s, nil
}
