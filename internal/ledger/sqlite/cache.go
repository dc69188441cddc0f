package sqlite

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/ledger"
	"github.com/wattledger/wattledger/internal/window"
)

// maxJobs bounds how many jobs are kept in memory between transactions.
const maxJobs = 200_000

// cache is what decisions are made from. It is loaded as it is needed and
// thrown away whole when a transaction fails.
type cache struct {
	w        *writer
	out      *tableWriters
	nodes    map[ledger.Node]*nodeState
	clusters map[string]*clusterState
	projects map[projectKey]int64
	names    map[int64]string      // of projects
	jobs     map[idKey][]*jobState // all runs of an id, in the order they were first seen
	next     map[string]int64      // next id per table
	maxSlot  int64                 // newest slot with content hashes
	now      int64                 // newest arrival seen
}

type clusterState struct {
	id       int64
	name     string
	policies map[string]bool
	nobody   [energy.NumUses]*jobState
}

type projectKey struct {
	cluster int64
	name    string
	use     energy.Use
}

// idKey names all runs of a scheduler's id.
type idKey struct {
	cluster int64
	id      string
}

// jobKey names a run among those of its id.
type jobKey struct {
	restart uint32
	submit  int64
}

// jobState is a row of job.
type jobState struct {
	id          int64
	of          idKey
	key         jobKey
	told        *jobKey // as nodes tell it; nil: none did
	assigned    bool    // by a person
	fact        *factState
	project     int64
	user        string
	start, end  int64
	open        int64
	first, last int64 // slots with postings; last < first: none yet
	lastDay     int64 // newest day known to be in job_day
	dirty       bool
}

// jobNode is a job's part on one node; add is not written yet.
type jobNode struct {
	job        *jobState
	node       int64
	start, end int64
	add        sums
	state
}

// odometer is a meter's epoch with its end.
type odometer struct {
	id   int64
	end  ledger.End
	slot int64 // in which the end was last moved
}

// nodeState is what is known of a node.
type nodeState struct {
	id          int64
	cluster     *clusterState
	name        ledger.Node
	incarnation uint64
	nonce       string
	session     string
	past        []string // sessions that were fenced, newest last
	fenced      int64
	conflicts   int64
	lastMS      int64
	ends        []*odometer
	held        []byte
	cat         *catState
	presence    presence
	slots       []*slotAcc
	jobs        map[*jobState]*jobNode
	events      int // stored since the oldest were deleted
	state
}

// state is how far what is in memory is written: fresh is not in the journal yet,
// dirty not in the tables.
type state struct{ fresh, dirty bool }

// slotAcc is a row of node_slot and of seen.
type slotAcc struct {
	slot    int64
	node    *nodeState
	metered int64
	device  [energy.NumClasses]int64
	absent  [energy.NumClasses]int64
	pieces  []piece
	seen    []uint64
	known   int           // so many of seen are in the journal or the tables
	partial bool          // older hashes were pruned
	stored  bool          // there is a row of node_slot
	posts   []posting     // not in the tables yet
	places  map[int64]int // of jobs in posts, where they are many
	state
}

// posting is what is to be added to a row of posting.
type posting struct {
	job int64
	add sums
}

// to gives the sums that are to be added to a job's row, and counts nothing yet.
func (a *slotAcc) to(job int64) (s *sums, isNew bool) {
	if i, ok := a.place(job); ok {
		return &a.posts[i].add, false
	}
	a.posts = append(a.posts, posting{job: job})
	if a.places != nil {
		a.places[job] = len(a.posts) - 1
	}
	return &a.posts[len(a.posts)-1].add, true
}

// fewPosts are looked through faster than a map.
const fewPosts = 16

func (a *slotAcc) place(job int64) (i int, ok bool) {
	if a.places == nil && len(a.posts) > fewPosts {
		a.places = make(map[int64]int, 2*len(a.posts))
		for i := range a.posts {
			a.places[a.posts[i].job] = i
		}
	}
	if a.places != nil {
		i, ok = a.places[job]
		return i, ok
	}
	i = slices.IndexFunc(a.posts, func(p posting) bool { return p.job == job })
	return i, i >= 0
}

// catState is a catalogue in use, with the odometers its meters were found to
// be.
type catState struct {
	c     *window.Catalogue
	err   error
	odos  []*odometer
	leafs [energy.NumClasses]int64
}

func loadCache(w *writer) (*cache, error) {
	c := &cache{
		w: w, out: newTableWriters(w),
		nodes: map[ledger.Node]*nodeState{}, clusters: map[string]*clusterState{},
		projects: map[projectKey]int64{}, jobs: map[idKey][]*jobState{}, next: map[string]int64{},
	}
	for _, t := range []string{"cluster", "node", "odometer", "project", "job", "quarantine", "event", "presence"} {
		row, err := w.first("SELECT MAX(id) FROM " + t)
		if err != nil {
			return nil, err
		}
		c.next[t] = number(row[0])
	}
	row, err := w.first("SELECT MAX(slot) FROM seen")
	if err != nil {
		return nil, err
	}
	c.maxSlot = number(row[0])
	return c, nil
}

// id draws the next id of a table.
func (c *cache) id(table string) int64 {
	c.next[table]++
	return c.next[table]
}

// settle is called when a transaction is committed that has posted everything.
func (c *cache) settle(nodes []*nodeState) {
	for _, n := range nodes {
		n.keepNewest()
		if len(n.jobs) > 64 {
			n.jobs = nil
		}
	}
	if len(c.jobs) > maxJobs {
		c.jobs = map[idKey][]*jobState{}
		for _, n := range c.nodes {
			n.jobs = nil // they point at the jobs dropped
		}
	}
}

// keepNewest drops all slots but the newest that was booked in.
func (n *nodeState) keepNewest() {
	var newest *slotAcc
	for _, a := range n.slots {
		if a.stored && (newest == nil || a.slot > newest.slot) {
			newest = a
		}
	}
	n.slots = n.slots[:0:0]
	if newest != nil {
		n.slots = append(n.slots, newest)
	}
}

// cluster finds a cluster, or makes it.
func (c *cache) cluster(name string, make bool) (*clusterState, error) {
	if s, ok := c.clusters[name]; ok {
		return s, nil
	}
	s := &clusterState{name: name, policies: map[string]bool{}}
	row, err := c.w.first("SELECT id FROM cluster WHERE name = ?", name)
	if err != nil {
		return nil, err
	}
	switch {
	case row != nil:
		s.id = number(row[0])
		err = c.w.query("SELECT name FROM policy WHERE cluster_id = ?", func(row []driver.Value) error {
			s.policies[text(row[0])] = true
			return nil
		}, s.id)
	case make:
		s.id = c.id("cluster")
		err = c.w.exec("INSERT INTO cluster(id, name) VALUES (?, ?)", s.id, name)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c.clusters[name] = s
	return s, nil
}

// node finds a node; nil if it never opened.
func (c *cache) node(name ledger.Node) (*nodeState, error) {
	if n, ok := c.nodes[name]; ok {
		return n, nil
	}
	cl, err := c.cluster(name.Cluster, false)
	if err != nil || cl == nil {
		return nil, err
	}
	row, err := c.w.first(`SELECT n.id, n.incarnation, n.nonce, n.session, n.past, n.fenced, n.conflicts, e.last_ms, e.ends, e.held
		FROM node n JOIN node_end e ON e.node_id = n.id WHERE n.cluster_id = ? AND n.name = ?`, cl.id, name.Name)
	if err != nil || row == nil {
		return nil, err
	}
	n := &nodeState{
		id: number(row[0]), cluster: cl, name: name, incarnation: uint64(number(row[1])), nonce: text(row[2]), session: text(row[3]),
		fenced: number(row[5]), conflicts: number(row[6]), lastMS: number(row[7]), held: append([]byte(nil), blob(row[9])...),
	}
	if err := json.Unmarshal([]byte(text(row[4])), &n.past); err != nil {
		return nil, fmt.Errorf("cannot read the sessions of node %s: %w", name.Name, err)
	}
	if n.ends, err = c.loadEnds(n, blob(row[8])); err != nil {
		return nil, fmt.Errorf("cannot read the ends of node %s: %w", name.Name, err)
	}
	if n.presence, err = c.loadPresence(n.id); err != nil {
		return nil, err
	}
	c.nodes[name] = n
	return n, nil
}

func (c *cache) loadEnds(n *nodeState, b []byte) ([]*odometer, error) {
	ends, err := decodeEnds(b, n.lastMS)
	if err != nil {
		return nil, err
	}
	byID := make(map[int64]*odometer, len(ends))
	for _, o := range ends {
		byID[o.id] = o
	}
	err = c.w.query("SELECT id, meter, epoch, modulus FROM odometer WHERE node_id = ? AND retired IS NULL", func(row []driver.Value) error {
		if o := byID[number(row[0])]; o != nil {
			o.end.Meter, o.end.Epoch, o.end.Modulus = text(row[1]), text(row[2]), energy.Microjoules(number(row[3]))
			delete(byID, o.id)
		}
		return nil
	}, n.id)
	if err == nil && len(byID) > 0 {
		err = errBlob
	}
	return ends, err
}

// encodeEnds packs all ends of a node.
func encodeEnds(ends []*odometer, lastMS int64) []byte {
	b := make([]byte, 0, 2+24*len(ends))
	b = append(b, codecVersion, byte(len(ends)), byte(len(ends)>>8))
	for _, o := range ends {
		b = encodeEnd(b, o, lastMS)
	}
	return b
}

func decodeEnds(b []byte, lastMS int64) ([]*odometer, error) {
	d := newDecoder(b)
	if d.err == nil && len(d.b) < 2 {
		d.err = errBlob
	}
	if d.err != nil {
		return nil, d.err
	}
	n := int(d.b[0]) | int(d.b[1])<<8
	d.b = d.b[2:]
	ends := make([]*odometer, 0, n)
	for range n {
		o := &odometer{}
		d.end(o, lastMS)
		ends = append(ends, o)
	}
	return ends, d.err
}

// project finds a project of a cluster, or makes it.
func (c *cache) project(cluster int64, name string, use energy.Use) (int64, error) {
	k := projectKey{cluster, name, use}
	if id, ok := c.projects[k]; ok {
		return id, nil
	}
	row, err := c.w.first("SELECT id FROM project WHERE cluster_id = ? AND name = ? AND use_of = ?", cluster, name, int64(use))
	if err != nil {
		return 0, err
	}
	var id int64
	if row != nil {
		id = number(row[0])
	} else {
		id = c.id("project")
		if err := c.w.exec("INSERT INTO project(id, cluster_id, name, use_of) VALUES (?, ?, ?, ?)", id, cluster, name, int64(use)); err != nil {
			return 0, err
		}
	}
	c.projects[k] = id
	return id, nil
}

// nobody gives the reserved job of a use.
func (c *cache) nobody(cl *clusterState, use energy.Use) (*jobState, error) {
	if j := cl.nobody[use]; j != nil {
		return j, nil
	}
	p, err := c.project(cl.id, "", use)
	if err != nil {
		return nil, err
	}
	runs, err := c.runs(idKey{cl.id, ""})
	if err != nil {
		return nil, err
	}
	for _, j := range runs {
		if j.key.restart == uint32(use) {
			cl.nobody[use] = j
			return j, nil
		}
	}
	j := c.newRun(idKey{cl.id, ""}, jobKey{restart: uint32(use)})
	j.project = p
	cl.nobody[use] = j
	return j, c.out.job.put(j)
}
