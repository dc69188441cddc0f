package accounting

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/wattledger/wattledger/internal/ledger"
)

// maxProjectsFile bounds a CSV of projects, in bytes.
const maxProjectsFile = 16 << 20

// readProjectsFile keeps what the CSV says where there is no source to put it
// over, and tells of its faults, each state of them once.
func (p *Poller) readProjectsFile(ctx context.Context) {
	facts, err := p.fromFile()
	fault := ""
	if err != nil {
		fault = err.Error()
	} else if p.o.Source == nil && len(facts) > 0 {
		for i := range facts {
			facts[i].Cluster, facts[i].SeenMS = p.o.Cluster, p.o.Now().UnixMilli()
		}
		if err := p.o.Ledger.PutProjects(ctx, facts); err != nil && ctx.Err() == nil {
			fault = err.Error()
		}
	}
	if fault != p.badFile {
		if p.badFile = fault; fault != "" {
			p.o.Log.Error("cannot take the list of projects; what was known stays", zap.String("file", p.o.ProjectsFile), zap.String("error", fault))
		}
	}
}

func (p *Poller) fromFile() ([]ledger.ProjectFacts, error) {
	if p.o.ProjectsFile == "" {
		return nil, nil
	}
	f, err := os.Open(p.o.ProjectsFile)
	if err != nil {
		return nil, fmt.Errorf("cannot open the list of projects: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxProjectsFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("cannot read the list of projects: %w", err)
	}
	if len(b) > maxProjectsFile {
		return nil, fmt.Errorf("cannot read the list of projects: it is larger than %d MiB", maxProjectsFile>>20)
	}
	return ParseProjects(b)
}

// ParseProjects reads a CSV of projects. Its first line names the columns, in
// any order: project (the account), title, investigator (or pi), organization,
// parent, start and end (the days of the grant, 2026-10-31, the end included,
// UTC). Fields may be quoted; commas or semicolons part them. The error lists
// every fault with its line.
func ParseProjects(b []byte) ([]ledger.ProjectFacts, error) {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	r := csv.NewReader(bytes.NewReader(b))
	head, _, _ := bytes.Cut(b, []byte("\n"))
	if bytes.Count(head, []byte(";")) > bytes.Count(head, []byte(",")) {
		r.Comma = ';'
	}
	r.FieldsPerRecord, r.TrimLeadingSpace = -1, true
	names, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("cannot read the line that names the columns: %w", err)
	}
	columns, err := projectColumns(names)
	if err != nil {
		return nil, err
	}
	var out []ledger.ProjectFacts
	var faults []error
	seen := map[string]int{}
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, errors.Join(faults...)
		}
		line, _ := r.FieldPos(0)
		if err != nil {
			faults = append(faults, err)
			if _, ok := errors.AsType[*csv.ParseError](err); ok && len(faults) < 100 {
				continue
			}
			return nil, errors.Join(faults...)
		}
		f, err := columns.project(row)
		if first := seen[f.Name]; err == nil && first != 0 {
			err = fmt.Errorf("project %q is in line %d already", f.Name, first)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("line %d: %w", line, err))
			continue
		}
		seen[f.Name] = line
		out = append(out, f)
	}
}

// columns says where a field is in a row.
type columns map[string]int

func projectColumns(names []string) (columns, error) {
	known := map[string]string{
		"project": "project", "title": "title", "investigator": "investigator", "pi": "investigator",
		"organization": "organization", "parent": "parent", "start": "start", "end": "end",
	}
	out := columns{}
	var faults []error
	for i, n := range names {
		name, ok := known[strings.ToLower(strings.TrimSpace(n))]
		if !ok {
			faults = append(faults, fmt.Errorf("line 1: %q is no column that is known: project, title, investigator, organization, parent, start, end", n))
			continue
		}
		if _, twice := out[name]; twice {
			faults = append(faults, fmt.Errorf("line 1: column %s is there twice", name))
		}
		out[name] = i
	}
	if _, ok := out["project"]; !ok {
		faults = append(faults, errors.New("line 1: no column is named project"))
	}
	return out, errors.Join(faults...)
}

func (c columns) project(row []string) (ledger.ProjectFacts, error) {
	get := func(name string) string {
		i, ok := c[name]
		if !ok || i >= len(row) {
			return ""
		}
		return strings.TrimSpace(row[i])
	}
	f := ledger.ProjectFacts{
		Name: get("project"), Parent: get("parent"), Title: get("title"), Investigator: get("investigator"), Organization: get("organization"),
	}
	var errs []error
	if f.Name == "" {
		errs = append(errs, errors.New("no project is named"))
	}
	if len(row) > len(c) {
		errs = append(errs, fmt.Errorf("%d fields for %d columns: quote fields that hold a separator", len(row), len(c)))
	}
	date := func(name string, plus int) int64 {
		s := get(name)
		if s == "" {
			return 0
		}
		t, err := time.Parse(time.DateOnly, s)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %q is not a day like 2026-10-31", name, s))
			return 0
		}
		return t.AddDate(0, 0, plus).UnixMilli()
	}
	f.StartMS, f.EndMS = date("start", 0), date("end", 1)
	if f.StartMS != 0 && f.EndMS != 0 && f.EndMS <= f.StartMS {
		errs = append(errs, errors.New("the grant ends before it starts"))
	}
	return f, errors.Join(errs...)
}

// over puts what the file says over what the source says.
func over(facts, own []ledger.ProjectFacts) []ledger.ProjectFacts {
	place := map[string]int{}
	for i, f := range facts {
		place[f.Name] = i
	}
	for _, o := range own {
		i, ok := place[o.Name]
		if !ok {
			facts = append(facts, o)
			continue
		}
		f := &facts[i]
		for _, x := range []struct{ to, from *string }{
			{&f.Parent, &o.Parent}, {&f.Title, &o.Title}, {&f.Investigator, &o.Investigator}, {&f.Organization, &o.Organization},
		} {
			if *x.from != "" {
				*x.to = *x.from
			}
		}
		if o.StartMS != 0 {
			f.StartMS = o.StartMS
		}
		if o.EndMS != 0 {
			f.EndMS = o.EndMS
		}
	}
	return facts
}
