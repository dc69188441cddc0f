package sqlite

import (
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	"github.com/wattledger/wattledger/internal/energy"
	"github.com/wattledger/wattledger/internal/failpoint"
	"github.com/wattledger/wattledger/internal/window"
)

// A node's window touches some ten rows of as many tables, and the next one the
// same ten. Writing them each time is most of what a window costs, of CPU and of
// the disk; so a transaction of plain windows writes an entry of the journal, as
// bookkeepers do, and the rows are posted from memory later: before the books are
// read or corrected, and at the latest when so much waits. The entry says what the
// rows are to be (of a node and its slot) or what is to be added to them (of
// postings and sums), so that posting it needs no decision.
const (
	maxWaiting      = 50_000 // windows
	maxWaitingRows  = 400_000
	maxWaitingBytes = 64 << 20
	waitAtMost      = 60_000 // ms, by the arrival of windows
)

// entry is what a transaction booked, as the journal takes it.
type entry struct {
	nodes    []*nodeState
	accs     []*slotAcc
	jobNodes []*jobNode
	windows  []byte // one after the other
	body     []byte
}

// window begins a window: its node, slot and what it adds to its cluster.
func (e *entry) window(n *nodeState, slot int64, add clusterSums) {
	b := binary.AppendVarint(binary.AppendUvarint(e.windows, uint64(n.id)), slot)
	b = binary.AppendVarint(binary.AppendUvarint(b, uint64(n.cluster.id)), add.metered)
	e.windows = binary.AppendVarint(binary.AppendVarint(b, add.device), add.absent)
}

// count says how many postings follow.
func (e *entry) count(postings int) {
	e.windows = binary.AppendUvarint(e.windows, uint64(postings))
}

// posting adds a posting of the window begun last; onNode: it counts as the job's
// part on the node.
func (e *entry) posting(j *jobState, onNode bool, p *window.Posting) {
	b := binary.AppendUvarint(binary.AppendUvarint(e.windows, uint64(j.id)), uint64(j.project))
	b = append(b, byte(flag(onNode)), byte(p.Class), byte(p.Use), byte(p.Grade))
	e.windows = binary.AppendVarint(binary.AppendVarint(b, int64(p.Energy)), p.DeviceMS)
}

// pack gives the entry's bytes, and makes room for the next one.
func (e *entry) pack() []byte {
	b := append(e.body[:0], codecVersion)
	b = binary.AppendUvarint(b, uint64(len(e.nodes)))
	for _, n := range e.nodes {
		b = binary.AppendVarint(binary.AppendUvarint(b, uint64(n.id)), n.lastMS)
		b = appendBytes(appendBytes(b, encodeEnds(n.ends, n.lastMS)), n.held)
	}
	b = binary.AppendUvarint(b, uint64(len(e.accs)))
	for _, a := range e.accs {
		b = binary.AppendVarint(binary.AppendUvarint(b, uint64(a.node.id)), a.slot)
		b = binary.AppendVarint(b, a.metered)
		b = appendBytes(appendBytes(b, encodeTimes(&a.device, &a.absent)), encodePieces(nil, a.pieces))
		b = binary.AppendUvarint(b, uint64(a.known))
		b = appendBytes(b, encodeSeen(a.seen[a.known:], a.partial))
	}
	b = binary.AppendUvarint(b, uint64(len(e.jobNodes)))
	for _, jn := range e.jobNodes {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(jn.job.id)), uint64(jn.node))
		b = binary.AppendVarint(binary.AppendVarint(b, jn.start), jn.end)
	}
	e.body = append(b, e.windows...)
	e.clear()
	return e.body
}

// clear makes room for the entry of the next transaction.
func (e *entry) clear() {
	for _, n := range e.nodes {
		n.fresh = false
	}
	for _, a := range e.accs {
		a.fresh, a.known = false, len(a.seen)
	}
	for _, jn := range e.jobNodes {
		jn.fresh = false
	}
	e.nodes, e.accs, e.jobNodes, e.windows = e.nodes[:0], e.accs[:0], e.jobNodes[:0], e.windows[:0]
}

func appendBytes(b, s []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// due tells whether this transaction must post what waits.
func (t *tx) due() bool {
	return t.whole || t.windows >= maxWaiting || t.rows >= maxWaitingRows || t.bytes >= maxWaitingBytes || len(t.c.jobs) > maxJobs ||
		t.waits && t.c.now-t.since >= waitAtMost
}

// waitingTotals are what is to be added to the totals of projects.
func (t *tx) waitingTotals() map[int64]*sums {
	add := map[int64]*sums{}
	for k, s := range t.projects {
		if add[k.id] == nil {
			add[k.id] = &sums{}
		}
		add[k.id].add(s)
	}
	return add
}

// waitingEnds are the ends of nodes' last windows, of nodes that wait.
func (t *tx) waitingEnds() map[int64]int64 {
	lastMS := make(map[int64]int64, len(t.nodes))
	for _, n := range t.nodes {
		lastMS[n.id] = n.lastMS
	}
	return lastMS
}

// journal writes what the transaction booked as one entry.
func (t *tx) journal() error {
	if err := t.flushJobs(); err != nil {
		return err
	}
	if len(t.entry.nodes) == 0 && len(t.entry.windows) == 0 {
		return nil
	}
	body := t.entry.pack()
	t.bytes += len(body)
	if err := t.w.exec("INSERT INTO journal(body) VALUES (?)", body); err != nil {
		return err
	}
	failpoint.Hit(failpoint.LedgerInTransaction)
	t.waits = true
	return nil
}

// post brings everything that waits to the tables.
func (t *tx) post() error {
	if err := t.flush(); err != nil {
		return err
	}
	t.entry.clear()
	return t.w.exec("DELETE FROM journal")
}

// replay takes what a journal holds as if it had just been booked.
func (t *tx) replay() error {
	r := replay{t: t, nodes: map[int64]*nodeState{}, accs: map[slotKey]*slotAcc{}, jobs: map[slotKey]*jobNode{}}
	return t.w.query("SELECT body FROM journal ORDER BY id", func(row []driver.Value) error { return r.entry(blob(row[0])) })
}

// replay is what the entries of a journal come to.
type replay struct {
	t     *tx
	nodes map[int64]*nodeState
	accs  map[slotKey]*slotAcc // by slot and node
	jobs  map[slotKey]*jobNode // by job and node
}

func (r *replay) node(id int64) *nodeState {
	n := r.nodes[id]
	if n == nil {
		n = &nodeState{id: id}
		r.nodes[id] = n
	}
	return n
}

// acc gives a slot of a node, with the hashes that are in the tables.
func (r *replay) acc(slot, node int64) (*slotAcc, error) {
	k := slotKey{slot, node}
	if a := r.accs[k]; a != nil {
		return a, nil
	}
	a := &slotAcc{slot: slot, node: r.node(node)}
	r.accs[k] = a
	return a, r.t.loadSeen(a)
}

func (r *replay) jobNode(job, node int64) *jobNode {
	k := slotKey{job, node}
	jn := r.jobs[k]
	if jn == nil {
		jn = &jobNode{job: &jobState{id: job}, node: node}
		r.jobs[k] = jn
	}
	return jn
}

func (r *replay) entry(body []byte) error {
	d := newDecoder(body)
	for range d.count() {
		if err := r.ends(d); err != nil {
			return err
		}
	}
	for range d.count() {
		if err := r.slot(d); err != nil {
			return err
		}
	}
	for range d.count() {
		jn := r.jobNode(int64(d.uint()), int64(d.uint()))
		jn.start, jn.end = d.int(), d.int()
		r.t.touchJobNode(jn)
	}
	for d.err == nil && len(d.b) > 0 {
		if err := r.window(d); err != nil {
			return err
		}
	}
	return d.err
}

func (r *replay) ends(d *decoder) (err error) {
	n := r.node(int64(d.uint()))
	n.lastMS = d.int()
	ends, held := d.bytes(), d.bytes()
	if d.err != nil {
		return d.err
	}
	n.held = append([]byte(nil), held...)
	n.ends, err = decodeEnds(ends, n.lastMS)
	r.t.touchNode(n)
	return err
}

func (r *replay) slot(d *decoder) error {
	node, slot, metered := int64(d.uint()), d.int(), d.int()
	times, pieces, known, seen := d.bytes(), d.bytes(), d.uint(), d.bytes()
	if d.err != nil {
		return d.err
	}
	a, err := r.acc(slot, node)
	if err != nil {
		return err
	}
	a.metered = metered
	if a.pieces, err = decodePieces(a.pieces[:0], pieces); err != nil {
		return err
	}
	if err := decodeTimes(times, &a.device, &a.absent); err != nil {
		return err
	}
	hashes, partial, err := decodeSeen(seen)
	a.partial = partial || uint64(len(a.seen)) < known // some were pruned since
	a.seen = append(a.seen, hashes...)
	r.t.touchAcc(a)
	return err
}

func (r *replay) window(d *decoder) error {
	node, slot, cluster := int64(d.uint()), d.int(), int64(d.uint())
	add := clusterSums{metered: d.int(), device: d.int(), absent: d.int()}
	postings := d.count()
	if d.err != nil {
		return d.err
	}
	a, err := r.acc(slot, node)
	if err != nil {
		return err
	}
	if !a.dirty { // its node's slot came before
		return errBlob
	}
	r.t.toCluster(slot, cluster, add)
	for range postings {
		job, project, onNode := int64(d.uint()), int64(d.uint()), d.uint() != 0
		p := window.Posting{Class: energy.Class(d.uint()), Use: energy.Use(d.uint()), Grade: energy.Grade(d.uint())}
		p.Energy, p.DeviceMS = energy.Millijoules(d.int()), d.int()
		if d.err != nil {
			return d.err
		}
		if p.Class >= energy.NumClasses || p.Use >= energy.NumUses || p.Grade >= energy.NumGrades {
			return errBlob
		}
		r.t.toPosting(a, job).post(&p)
		r.t.toProject(slot, project).post(&p)
		if !onNode {
			continue
		}
		jn := r.jobNode(job, node)
		if !jn.dirty {
			return errBlob
		}
		jn.add.post(&p)
	}
	return nil
}

// load makes the state that decisions are made from. What a ledger that ended
// without a word left in its journal is posted first.
func (l *Ledger) load() error {
	row, err := l.w.first("SELECT id FROM journal LIMIT 1")
	if err != nil {
		return err
	}
	if row != nil {
		if err := l.ill.lately(); err != nil {
			return err
		}
		if err := l.postJournal(); err != nil {
			_ = l.w.script("ROLLBACK") // fails where SQLite has rolled back already
			return l.ill.is(fmt.Errorf("cannot post what the journal holds (nothing of it is lost): %w", err))
		}
	}
	c, err := loadCache(l.w)
	if err != nil {
		return err
	}
	l.tx = newTx(l, c)
	return nil
}

// illness remembers that the journal could not be posted: it is long, and everybody
// who reads would try again.
type illness struct {
	err error
	at  time.Time
}

// illFor is how long nobody tries again.
const illFor = time.Second

func (i *illness) is(err error) error {
	i.err, i.at = err, time.Now() //nolint:forbidigo // it books nothing
	return err
}

func (i *illness) lately() error {
	if i.err != nil && time.Since(i.at) < illFor { //nolint:forbidigo // it books nothing
		return i.err
	}
	i.err = nil
	return nil
}

// noRoom tells whether it is the disk that fails, not the file.
func noRoom(err error) bool {
	e, ok := errors.AsType[sqlite3.Error](err)
	return ok && (e.Code == sqlite3.ErrFull || e.Code == sqlite3.ErrIoErr || e.Code == sqlite3.ErrBusy || e.Code == sqlite3.ErrNomem)
}

func (l *Ledger) postJournal() error {
	t := newTx(l, &cache{w: l.w, out: newTableWriters(l.w)})
	if err := l.w.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := t.replay(); err != nil {
		return err
	}
	if err := t.post(); err != nil {
		return err
	}
	return l.w.exec("COMMIT")
}
