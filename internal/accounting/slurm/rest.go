package slurm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wattledger/wattledger/internal/accounting"
	"github.com/wattledger/wattledger/internal/ledger"
)

// Versions of the data parser that are understood. Those before 0.0.38 give the
// time at which a job became eligible as its start (seen with 22.05).
const (
	oldestParser = 38
	newestParser = 46
)

// Errors of slurmrestd that mean more than they say (slurm_errno.h).
const (
	errnoAuth    = 1007 // SLURM_PROTOCOL_AUTHENTICATION_ERROR: the token
	errnoNothing = 9003 // nothing found: an empty list
	errnoUnknown = -1   // no reason at all: slurmctld's side says it of a token
)

// errGone: another slurmrestd than the one negotiated with.
var errGone = errors.New("it has no such path (HTTP 404); asking anew what it offers")

// maxAnswer bounds an answer of slurmrestd, in bytes.
const maxAnswer = 1 << 30

// Rest is a slurmrestd.
type Rest struct {
	base   string // http://host:port
	name   string
	auth   Auth
	client *http.Client

	mu  sync.Mutex
	api *api // as negotiated; nil: not yet
}

// NewRest makes a client of the slurmrestd at http(s)://host:port or
// unix:/path. TLS is checked against the system's certificates.
func NewRest(at string, auth Auth) (*Rest, error) {
	r := &Rest{base: strings.TrimRight(at, "/"), name: "slurmrestd at " + at, auth: auth}
	dial := (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	if path, ok := strings.CutPrefix(at, "unix:"); ok {
		r.base = "http://slurmrestd"
		tcp := dial
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return tcp(ctx, "unix", path) }
	} else if u, err := url.Parse(at); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is no address of a slurmrestd: http://HOST:PORT, https://HOST:PORT or unix:/PATH", at)
	}
	r.client = &http.Client{
		Transport: &http.Transport{DialContext: dial, MaxIdleConns: 2, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 2 * time.Minute},
		// A token goes where it was configured to go.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return r, nil
}

// Name says where it is.
func (r *Rest) Name() string { return r.name }

// api is what a slurmrestd offers of what is asked for: paths as it spells them,
// and the settings that its list of jobs takes.
type api struct {
	dbJobs, liveJobs, accounts, associations string
	params                                   []string
	parser                                   int
}

var versioned = regexp.MustCompile(`^/(slurm|slurmdb)/v0\.0\.(\d+)/(jobs|accounts|associations)/?$`)

// negotiate finds the newest parser that both sides know.
func (r *Rest) negotiate(ctx context.Context) (*api, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.api != nil {
		return r.api, nil
	}
	body, err := r.open(ctx, "/openapi/v3")
	if err != nil {
		return nil, err
	}
	var doc struct {
		Paths map[string]struct {
			Get struct {
				Parameters []struct {
					Name string `json:"name"`
				} `json:"parameters"`
			} `json:"get"`
		} `json:"paths"`
	}
	err = json.NewDecoder(body).Decode(&doc)
	if err := errors.Join(err, body.Close()); err != nil {
		return nil, r.broken("/openapi/v3", err)
	}
	best := map[string]int{}
	paths := map[string]string{}
	var offered []int
	for p := range doc.Paths {
		m := versioned.FindStringSubmatch(p)
		if m == nil {
			continue
		}
		v, err := strconv.Atoi(m[2])
		if err != nil {
			continue
		}
		what := m[1] + "/" + m[3]
		if what == "slurmdb/jobs" {
			offered = append(offered, v)
		}
		if v >= oldestParser && v <= newestParser && v > best[what] {
			best[what], paths[what] = v, p
		}
	}
	a := &api{
		dbJobs: paths["slurmdb/jobs"], liveJobs: paths["slurm/jobs"], accounts: paths["slurmdb/accounts"],
		associations: paths["slurmdb/associations"], parser: best["slurmdb/jobs"],
	}
	if a.dbJobs == "" {
		slices.Sort(offered)
		return nil, fmt.Errorf("cannot read jobs from %s: it offers /slurmdb in the versions 0.0.%v and none of 0.0.%d to 0.0.%d; does it load the slurmdbd plugin?",
			r.name, offered, oldestParser, newestParser)
	}
	for _, p := range doc.Paths[a.dbJobs].Get.Parameters {
		a.params = append(a.params, p.Name)
	}
	r.api = a
	return a, nil
}

// open sends a GET and gives the body of a good answer.
func (r *Rest) open(ctx context.Context, path string) (io.ReadCloser, error) {
	resp, err := r.send(ctx, path)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}, nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // as far as it comes
	_ = resp.Body.Close()
	return nil, r.refusal(path, resp.StatusCode, text)
}

func (r *Rest) send(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("cannot ask %s: %w", r.name, err)
	}
	req.Header.Set("Accept", "application/json")
	if err := r.auth.sign(ctx, req); err != nil {
		return nil, fmt.Errorf("cannot ask %s: %w", r.name, err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("cannot ask %s: %w: %w", r.name, accounting.ErrUnreachable, err)
	}
	return resp, nil
}

// refusal puts an answer that is not 200 into words.
func (r *Rest) refusal(path string, status int, body []byte) error {
	if status == http.StatusNotFound {
		return fmt.Errorf("cannot read %s from %s: %w", path, r.name, errGone)
	}
	var answer struct {
		Errors []fault `json:"errors"`
	}
	_ = json.Unmarshal(body, &answer) // where it is not JSON, the text is shown
	if err := r.judge(path, answer.Errors); err != nil {
		return err
	}
	text := strings.TrimSpace(string(body[:min(len(body), 200)]))
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return r.refused(path, fmt.Sprintf("HTTP %d, %s", status, text))
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return fmt.Errorf("cannot read %s from %s: %w: HTTP %d, %s", path, r.name, accounting.ErrUnreachable, status, text)
	}
	return fmt.Errorf("cannot read %s from %s: HTTP %d, %s", path, r.name, status, text)
}

// judge tells what the errors of an answer mean; they come with HTTP 200 too.
func (r *Rest) judge(path string, faults []fault) error {
	var list []string
	var kind error
	for _, f := range faults {
		switch {
		case f.Number.set && f.Number.value == errnoNothing:
			continue
		case f.Number.set && f.Number.value == errnoAuth:
			return r.refused(path, f.String())
		case f.Number.set && f.Number.value == errnoUnknown && kind == nil && strings.HasPrefix(f.Source, "slurm_load"):
			return r.refused(path, f.String()+"; it says the same where slurmctld is down")
		case unreachable(f):
			kind = accounting.ErrUnreachable
		}
		list = append(list, f.String())
	}
	switch {
	case len(list) == 0:
		return nil
	case kind != nil:
		return fmt.Errorf("cannot read %s from %s: what stands behind it is %w: %s", path, r.name, kind, strings.Join(list, "; "))
	}
	return fmt.Errorf("cannot read %s from %s: %s", path, r.name, strings.Join(list, "; "))
}

// unreachable tells whether slurmrestd says that slurmdbd or slurmctld is away.
func unreachable(f fault) bool {
	text := strings.ToLower(f.Error + " " + f.Description)
	for _, s := range []string{"connect", "timed out", "timeout", "not respond", "unable to contact", "connection"} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return f.Number.set && (f.Number.value >= 1000 && f.Number.value < 1007 || f.Number.value >= 7000 && f.Number.value < 7100)
}

func (r *Rest) refused(path, why string) error {
	return fmt.Errorf("cannot read %s from %s: the token: %w (%s): %s", path, r.name, accounting.ErrRefused, why, r.auth.mend())
}

func (r *Rest) broken(path string, err error) error {
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("cannot read %s from %s: %w: the answer broke off: %w", path, r.name, accounting.ErrUnreachable, err)
	}
	return fmt.Errorf("cannot read %s from %s: the answer is not what is expected: %w", path, r.name, err)
}

func (r *Rest) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.api = nil
}

// get reads a list of an answer.
func get[T any](ctx context.Context, r *Rest, path, name string, f func(*T)) (notes []string, err error) {
	body, err := r.open(ctx, path)
	if errors.Is(err, errGone) {
		r.forget()
	}
	if err != nil {
		return nil, err
	}
	faults, bad, firstBad, err := list(body, name, f)
	_ = body.Close() // what was read was read
	plain, _, _ := strings.Cut(path, "?")
	if wrong := r.judge(plain, faults); wrong != nil {
		return nil, wrong
	}
	if err != nil {
		return nil, r.broken(plain, err)
	}
	if bad > 0 {
		notes = append(notes, fmt.Sprintf("%d entries of %s could not be read (the first: %v)", bad, plain, firstBad))
	}
	return notes, nil
}

// jobs reads the runs of a span. Without a span in the question slurmdbd tells
// the last run of a requeued job alone; newer versions do so too where steps are
// left out, unless duplicates are asked for.
func (r *Rest) jobs(ctx context.Context, cluster string, from, to time.Time) (accounting.Answer, error) {
	api, err := r.negotiate(ctx)
	if err != nil {
		return accounting.Answer{}, err
	}
	q := url.Values{"start_time": {uts(from)}, "end_time": {uts(to)}}
	if cluster != "" {
		q.Set("cluster", cluster)
	}
	if duplicates := slices.Contains(api.params, "show_duplicates"); duplicates || api.parser == oldestParser {
		if duplicates {
			q.Set("show_duplicates", "true")
		}
		if slices.Contains(api.params, "skip_steps") {
			q.Set("skip_steps", "true")
		}
		if slices.Contains(api.params, "disable_truncate_usage_time") {
			q.Set("disable_truncate_usage_time", "true")
		}
	}
	g := gather{cluster: cluster}
	notes, err := get(ctx, r, api.dbJobs+"?"+q.Encode(), "jobs", g.add)
	return g.answer(notes), err
}

// uts writes a time as Slurm reads it without a zone.
func uts(t time.Time) string { return "uts" + strconv.FormatInt(t.Unix(), 10) }

// gather collects runs.
type gather struct {
	cluster string // those of other clusters are left out; "" for all
	facts   []ledger.JobFacts
	bad     int
	first   error
}

func (g *gather) add(j *job) {
	if g.cluster != "" && j.Cluster != "" && !strings.EqualFold(j.Cluster, g.cluster) {
		return
	}
	f, ok, err := j.facts()
	switch {
	case err != nil:
		if g.bad++; g.first == nil {
			g.first = err
		}
	case ok:
		g.facts = append(g.facts, f)
	}
}

func (g *gather) answer(notes []string) accounting.Answer {
	if g.bad > 0 {
		notes = append(notes, fmt.Sprintf("%d jobs could not be understood (the first: %v)", g.bad, g.first))
	}
	return accounting.Answer{Jobs: g.facts, Notes: notes}
}

// runKey names a run: a job id starts at a second once.
type runKey struct {
	id      string
	startMS int64
}

// restarts gives the restart counts of the jobs that slurmctld still knows.
func (r *Rest) restarts(ctx context.Context) (map[runKey]uint32, error) {
	api, err := r.negotiate(ctx)
	if err != nil {
		return nil, err
	}
	if api.liveJobs == "" {
		return nil, fmt.Errorf("%s offers no jobs of slurmctld", r.name)
	}
	out := map[runKey]uint32{}
	type live struct {
		ID       number `json:"job_id"`
		Start    number `json:"start_time"`
		Restarts number `json:"restart_cnt"`
	}
	_, err = get(ctx, r, api.liveJobs, "jobs", func(j *live) {
		if j.ID.set && j.Restarts.set && j.Restarts.value >= 0 && j.Restarts.value < 1<<31 {
			out[runKey{strconv.FormatInt(j.ID.value, 10), ms(j.Start)}] = uint32(j.Restarts.value)
		}
	})
	return out, err
}

// projects reads accounts and the tree they form.
func (r *Rest) projects(ctx context.Context, cluster string) ([]ledger.ProjectFacts, error) {
	api, err := r.negotiate(ctx)
	if err != nil {
		return nil, err
	}
	if api.accounts == "" || api.associations == "" {
		return nil, fmt.Errorf("cannot read accounts from %s: it offers none", r.name)
	}
	tree := newTree(cluster)
	type account struct {
		Name         string `json:"name"`
		Description  string `json:"description"`
		Organization string `json:"organization"`
	}
	if _, err := get(ctx, r, api.accounts, "accounts", func(a *account) { tree.account(a.Name, a.Description, a.Organization) }); err != nil {
		return nil, err
	}
	type association struct {
		Account string `json:"account"`
		Cluster string `json:"cluster"`
		Parent  string `json:"parent_account"`
		User    string `json:"user"`
	}
	_, err = get(ctx, r, api.associations, "associations", func(a *association) { tree.association(a.Cluster, a.Account, a.Parent, a.User) })
	if err != nil {
		return nil, err
	}
	return tree.facts()
}
