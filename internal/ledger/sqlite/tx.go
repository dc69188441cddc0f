package sqlite

import (
	"cmp"
	"slices"

	"github.com/wattledger/wattledger/internal/failpoint"
	"github.com/wattledger/wattledger/internal/window"
)

const slotsPerDay = 24 * 60 * 60 * 1000 / window.SlotMS

// day is the number of the UTC day a slot lies in.
func day(slot int64) int64 {
	d := slot / slotsPerDay
	if slot < 0 && d*slotsPerDay != slot {
		d--
	}
	return d
}

type slotKey struct{ slot, id int64 }

// clusterSums is a row of cluster_slot and cluster_day.
type clusterSums struct{ metered, unbooked, device, absent int64 }

func (s *clusterSums) add(o clusterSums) {
	s.metered += o.metered
	s.unbooked += o.unbooked
	s.device += o.device
	s.absent += o.absent
}

// tx collects what transactions change; rows that many windows share are written
// once, by flush. What only the tables know waits from one transaction to the
// next: it is in the journal.
type tx struct {
	l        *Ledger
	c        *cache
	w        *writer
	nodes    []*nodeState
	accs     []*slotAcc
	jobs     []*jobState
	jobNodes []*jobNode
	projects map[slotKey]*sums
	clusters map[slotKey]*clusterSums
	newest   int64   // newest slot written
	posted   []int64 // projects that the jobs of the last window were posted to

	entry   entry
	whole   bool  // this transaction posts everything
	waits   bool  // something is in the journal and not posted
	windows int   // booked and not posted
	rows    int   // that wait for them: postings and jobs' parts on nodes
	bytes   int   // of the journal
	since   int64 // when the first of them came, ms
}

func newTx(l *Ledger, c *cache) *tx {
	return &tx{l: l, c: c, w: l.w, projects: map[slotKey]*sums{}, clusters: map[slotKey]*clusterSums{}}
}

func (t *tx) touchNode(n *nodeState) {
	if !n.dirty {
		n.dirty = true
		t.nodes = append(t.nodes, n)
	}
	if !n.fresh {
		n.fresh = true
		t.entry.nodes = append(t.entry.nodes, n)
	}
}

func (t *tx) touchAcc(a *slotAcc) {
	if !a.dirty {
		a.dirty = true
		t.accs = append(t.accs, a)
	}
	if !a.fresh {
		a.fresh = true
		t.entry.accs = append(t.entry.accs, a)
	}
}

func (t *tx) touchJob(j *jobState) {
	if !j.dirty {
		j.dirty = true
		t.jobs = append(t.jobs, j)
	}
}

// toPosting gives the sums that are to be added to a job's row of a slot.
func (t *tx) toPosting(a *slotAcc, job int64) *sums {
	s, isNew := a.to(job)
	if isNew {
		t.rows++
	}
	return s
}

func (t *tx) toProject(slot, project int64) *sums {
	k := slotKey{slot, project}
	s := t.projects[k]
	if s == nil {
		s = &sums{}
		t.projects[k] = s
	}
	return s
}

func (t *tx) toCluster(slot, cluster int64, add clusterSums) {
	k := slotKey{slot, cluster}
	s := t.clusters[k]
	if s == nil {
		s = &clusterSums{}
		t.clusters[k] = s
	}
	s.add(add)
}

// flush writes everything to the tables, in their order.
func (t *tx) flush() error {
	slices.SortFunc(t.nodes, func(a, b *nodeState) int { return cmp.Compare(a.id, b.id) })
	slices.SortFunc(t.accs, func(a, b *slotAcc) int {
		return cmp.Or(cmp.Compare(a.slot, b.slot), cmp.Compare(a.node.id, b.node.id))
	})
	slices.SortFunc(t.jobNodes, func(a, b *jobNode) int {
		return cmp.Or(cmp.Compare(a.job.id, b.job.id), cmp.Compare(a.node, b.node))
	})
	if err := t.flushMetered(); err != nil {
		return err
	}
	if err := t.flushPostings(); err != nil {
		return err
	}
	failpoint.Hit(failpoint.LedgerInTransaction)
	if err := t.flushRollups(); err != nil {
		return err
	}
	t.accs = t.accs[:0]
	if err := t.flushJobs(); err != nil {
		return err
	}
	return t.prune()
}

// flushJobs writes what other rows name: it never waits.
func (t *tx) flushJobs() error {
	for _, j := range t.jobs {
		if err := t.c.out.job.put(j); err != nil {
			return err
		}
		j.dirty = false
	}
	t.jobs = t.jobs[:0]
	return t.c.out.job.flush()
}

func (t *tx) flushMetered() error {
	out := t.c.out
	for _, n := range t.nodes {
		if err := out.nodeEnd.row(n.id, n.lastMS, encodeEnds(n.ends, n.lastMS), notNil(n.held)); err != nil {
			return err
		}
		n.state = state{}
	}
	for _, a := range t.accs {
		device := encodeTimes(&a.device, &a.absent)
		if err := out.nodeSlot.row(a.slot, a.node.id, a.metered, device, encodePieces(nil, a.pieces)); err != nil {
			return err
		}
		if err := out.seen.row(a.slot, a.node.id, encodeSeen(a.seen, a.partial)); err != nil {
			return err
		}
		a.stored, a.known, a.state = true, len(a.seen), state{}
		t.newest = max(t.newest, a.slot)
	}
	return flushAll(out.nodeEnd, out.nodeSlot, out.seen)
}

func (t *tx) flushPostings() error {
	out := t.c.out
	for _, a := range t.accs {
		for i := range a.posts {
			p := &a.posts[i]
			if err := out.posting.add(&p.add, a.slot, a.node.id, p.job); err != nil {
				return err
			}
		}
		a.posts, a.places = nil, nil
	}
	return out.posting.flush()
}

func (t *tx) flushRollups() error {
	out := t.c.out
	for _, jn := range t.jobNodes {
		if err := out.jobNode.add(&jn.add, jn.job.id, jn.node, jn.start, jn.end); err != nil {
			return err
		}
		jn.add, jn.state = sums{}, state{}
	}
	t.jobNodes = t.jobNodes[:0]
	days, totals := map[slotKey]*sums{}, map[slotKey]*sums{}
	for k, s := range t.projects {
		if err := out.projectSlot.add(s, k.slot, k.id); err != nil {
			return err
		}
		addTo(days, slotKey{day(k.slot), k.id}, s)
		addTo(totals, slotKey{0, k.id}, s)
	}
	for k, s := range days {
		if err := out.projectDay.add(s, k.slot, k.id); err != nil {
			return err
		}
	}
	for k, s := range totals {
		if err := out.projectTotal.add(s, k.id); err != nil {
			return err
		}
	}
	clear(t.projects)
	if err := t.flushClusters(); err != nil {
		return err
	}
	return flushAll(out.jobNode, out.projectSlot, out.projectDay, out.projectTotal, out.clusterSlot, out.clusterDay)
}

func (t *tx) flushClusters() error {
	out := t.c.out
	days := map[slotKey]*clusterSums{}
	for k, s := range t.clusters {
		if err := out.clusterSlot.row(k.slot, k.id, s.metered, s.unbooked, s.device, s.absent); err != nil {
			return err
		}
		d := slotKey{day(k.slot), k.id}
		if days[d] == nil {
			days[d] = &clusterSums{}
		}
		days[d].add(*s)
	}
	for k, s := range days {
		if err := out.clusterDay.row(k.slot, k.id, s.metered, s.unbooked, s.device, s.absent); err != nil {
			return err
		}
	}
	clear(t.clusters)
	return nil
}

func addTo(m map[slotKey]*sums, k slotKey, s *sums) {
	if m[k] == nil {
		m[k] = &sums{}
	}
	m[k].add(s)
}

// prune forgets content hashes of long ago, once per slot.
func (t *tx) prune() error {
	if t.newest <= t.c.maxSlot {
		return nil
	}
	t.c.maxSlot = t.newest
	return t.w.exec("DELETE FROM seen WHERE slot < ?", t.newest-t.l.keepSeen)
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func flushAll(bs ...interface{ flush() error }) error {
	for _, b := range bs {
		if err := b.flush(); err != nil {
			return err
		}
	}
	return nil
}

// tableWriters are the statements of the tables that windows move.
type tableWriters struct {
	nodeEnd, nodeSlot, seen, clusterSlot, clusterDay        *bulk
	posting, jobNode, projectSlot, projectDay, projectTotal *sumsBulk
	job                                                     *jobWriter
}

type jobWriter struct{ *bulk }

func (b *jobWriter) put(j *jobState) error {
	var told jobKey
	if j.told != nil {
		told = *j.told
	}
	return b.row(j.id, j.of.cluster, j.of.id, int64(j.key.restart), j.key.submit, j.project, j.user, j.start, j.end, j.open, j.first, j.last,
		flag(j.told != nil), int64(told.restart), told.submit, flag(j.assigned))
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func newTableWriters(w *writer) *tableWriters {
	clusters := []string{"metered_mj", "unbooked_mj", "device_ms", "absent_ms"}
	return &tableWriters{
		nodeEnd:      w.upsert("node_end", []string{"node_id"}, []string{"last_ms", "ends", "held"}, nil),
		nodeSlot:     w.upsert("node_slot", []string{"slot", "node_id"}, []string{"metered_mj", "device_ms", "pieces"}, nil),
		seen:         w.upsert("seen", []string{"slot", "node_id"}, []string{"hashes"}, nil),
		clusterSlot:  w.upsert("cluster_slot", []string{"slot", "cluster_id"}, nil, clusters),
		clusterDay:   w.upsert("cluster_day", []string{"day", "cluster_id"}, nil, clusters),
		posting:      w.sumsBulk("posting", []string{"slot", "node_id", "job_id"}),
		jobNode:      w.sumsBulk("job_node", []string{"job_id", "node_id"}, "start_ms", "end_ms"),
		projectSlot:  w.sumsBulk("project_slot", []string{"slot", "project_id"}),
		projectDay:   w.sumsBulk("project_day", []string{"day", "project_id"}),
		projectTotal: w.sumsBulk("project_total", []string{"project_id"}),
		job: &jobWriter{w.upsert("job", []string{"id"}, []string{
			"cluster_id", "ext_id", "restart", "submit_ms", "project_id",
			"user_name", "start_ms", "end_ms", "open_nodes", "first_slot", "last_slot", "told", "told_restart", "told_submit_ms", "assigned",
		}, nil)},
	}
}
