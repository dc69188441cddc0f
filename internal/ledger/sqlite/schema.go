package sqlite

import "strings"

const (
	// applicationID marks the file as ours ("wled").
	applicationID = 0x776c6564
	// schemaVersion is what this program reads and writes.
	schemaVersion = 3
	// forever ends a presence that goes on.
	forever = int64(1<<63 - 1)
)

// schema makes an empty ledger. Names are portable; a PostgreSQL ledger writes
// BIGINT and BYTEA for INTEGER and BLOB and leaves out WITHOUT ROWID. The word
// CELLS stands for the columns of sums.
const schema = `
CREATE TABLE schema_version (version INTEGER NOT NULL);

CREATE TABLE cluster (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE policy (cluster_id INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (cluster_id, name)) WITHOUT ROWID;

-- node: who may book for it; rarely written.
CREATE TABLE node (
  id INTEGER PRIMARY KEY, cluster_id INTEGER NOT NULL, name TEXT NOT NULL,
  incarnation INTEGER NOT NULL, nonce TEXT NOT NULL, session TEXT NOT NULL, past TEXT NOT NULL,
  fenced INTEGER NOT NULL, conflicts INTEGER NOT NULL,
  UNIQUE (cluster_id, name));
-- node_end: how far it is booked; written with every window.
CREATE TABLE node_end (node_id INTEGER PRIMARY KEY, last_ms INTEGER NOT NULL, ends BLOB NOT NULL, held BLOB NOT NULL);
CREATE TABLE catalogue (
  node_id INTEGER NOT NULL, id INTEGER NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (node_id, id)) WITHOUT ROWID;
-- odometer: a meter's epoch. retired holds its end once node_end no longer does.
CREATE TABLE odometer (
  id INTEGER PRIMARY KEY, node_id INTEGER NOT NULL, meter TEXT NOT NULL, epoch TEXT NOT NULL,
  class INTEGER NOT NULL, root INTEGER NOT NULL, leaf INTEGER NOT NULL, integrated INTEGER NOT NULL,
  modulus INTEGER NOT NULL, first_uj INTEGER NOT NULL, first_slot INTEGER NOT NULL, retired BLOB,
  UNIQUE (node_id, meter, epoch));

-- node_slot: the metered side. pieces are the booked ranges; metered_mj their
-- root energy; device time of leaf meters and absences, packed per class.
CREATE TABLE node_slot (
  slot INTEGER NOT NULL, node_id INTEGER NOT NULL, metered_mj INTEGER NOT NULL,
  device_ms BLOB NOT NULL, pieces BLOB NOT NULL,
  PRIMARY KEY (slot, node_id)) WITHOUT ROWID;
-- seen: content hashes of the windows booked in a slot; pruned when old.
CREATE TABLE seen (
  slot INTEGER NOT NULL, node_id INTEGER NOT NULL, hashes BLOB NOT NULL,
  PRIMARY KEY (slot, node_id)) WITHOUT ROWID;

CREATE TABLE project (
  id INTEGER PRIMARY KEY, cluster_id INTEGER NOT NULL, name TEXT NOT NULL,
  use_of INTEGER NOT NULL, -- 0 for projects; nobody's pseudo projects have their use
  UNIQUE (cluster_id, name, use_of));
-- job: a run of a job. restart and submit_ms are the best that is known of it;
-- told_restart and told_submit_ms are its key as nodes tell it, if one did.
-- assigned: a person said which project it belongs to.
JOB
FACTS
-- posting: the booked side.
CREATE TABLE posting (
  slot INTEGER NOT NULL, node_id INTEGER NOT NULL, job_id INTEGER NOT NULL, CELLS,
  PRIMARY KEY (slot, node_id, job_id)) WITHOUT ROWID;

-- Roll-ups.
CREATE TABLE job_node (
  job_id INTEGER NOT NULL, node_id INTEGER NOT NULL, start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, CELLS,
  PRIMARY KEY (job_id, node_id)) WITHOUT ROWID;
CREATE TABLE project_slot (slot INTEGER NOT NULL, project_id INTEGER NOT NULL, CELLS, PRIMARY KEY (slot, project_id)) WITHOUT ROWID;
CREATE TABLE project_day (day INTEGER NOT NULL, project_id INTEGER NOT NULL, CELLS, PRIMARY KEY (day, project_id)) WITHOUT ROWID;
CREATE TABLE project_total (project_id INTEGER PRIMARY KEY, CELLS);
CREATE TABLE cluster_slot (
  slot INTEGER NOT NULL, cluster_id INTEGER NOT NULL, metered_mj INTEGER NOT NULL, unbooked_mj INTEGER NOT NULL,
  device_ms INTEGER NOT NULL, absent_ms INTEGER NOT NULL, PRIMARY KEY (slot, cluster_id)) WITHOUT ROWID;
CREATE TABLE cluster_day (
  day INTEGER NOT NULL, cluster_id INTEGER NOT NULL, metered_mj INTEGER NOT NULL, unbooked_mj INTEGER NOT NULL,
  device_ms INTEGER NOT NULL, absent_ms INTEGER NOT NULL, PRIMARY KEY (day, cluster_id)) WITHOUT ROWID;
-- job_day: days on which a job was posted to; project_jobs counts per project
-- and day the jobs whose day before that (-1: none) was prev_day, so that jobs
-- of a span are counted once: those with prev_day before the span.
CREATE TABLE job_day (job_id INTEGER NOT NULL, day INTEGER NOT NULL, PRIMARY KEY (job_id, day)) WITHOUT ROWID;
CREATE TABLE project_jobs (
  day INTEGER NOT NULL, project_id INTEGER NOT NULL, prev_day INTEGER NOT NULL, jobs INTEGER NOT NULL,
  PRIMARY KEY (day, project_id, prev_day)) WITHOUT ROWID;

-- hole: a stretch that is reserved and not booked.
CREATE TABLE hole (
  odometer_id INTEGER NOT NULL, from_uj INTEGER NOT NULL, to_uj INTEGER NOT NULL, node_id INTEGER NOT NULL,
  root INTEGER NOT NULL, slot INTEGER NOT NULL, from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL, quarantine_id INTEGER NOT NULL,
  PRIMARY KEY (odometer_id, from_uj)) WITHOUT ROWID;
CREATE INDEX hole_by_quarantine ON hole (quarantine_id);
CREATE TABLE quarantine (
  id INTEGER PRIMARY KEY, node_id INTEGER NOT NULL, at_ms INTEGER NOT NULL, slot INTEGER NOT NULL,
  start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, hash INTEGER NOT NULL, energy_mj INTEGER NOT NULL,
  reason TEXT NOT NULL, settled INTEGER NOT NULL, body BLOB NOT NULL, raw BLOB);
CREATE INDEX quarantine_by_hash ON quarantine (node_id, hash);

CREATE TABLE event (id INTEGER PRIMARY KEY, node_id INTEGER NOT NULL, at_ms INTEGER NOT NULL, kind TEXT NOT NULL, meter TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX event_by_node ON event (node_id, id);
CREATE INDEX event_by_time ON event (at_ms);
-- presence: which devices of a node are known, and since when.
CREATE TABLE presence (
  id INTEGER PRIMARY KEY, cluster_id INTEGER NOT NULL, node_id INTEGER NOT NULL, from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL,
  gpu INTEGER NOT NULL, cpu INTEGER NOT NULL, memory INTEGER NOT NULL, other INTEGER NOT NULL, node INTEGER NOT NULL);
CREATE INDEX presence_by_node ON presence (node_id, to_ms);
CREATE INDEX presence_by_cluster ON presence (cluster_id, to_ms);
` + journalTable

// journalTable is a table of its own for the sake of upgrade.
const journalTable = `
-- journal: what transactions booked and is not posted to the tables yet: to
-- node_end, node_slot, seen, posting, and the roll-ups.
CREATE TABLE journal (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
`

// jobTable is a table of its own for the sake of upgrade, which makes it anew.
const jobTable = `CREATE TABLE job (
  id INTEGER PRIMARY KEY, cluster_id INTEGER NOT NULL, ext_id TEXT NOT NULL, restart INTEGER NOT NULL, submit_ms INTEGER NOT NULL,
  project_id INTEGER NOT NULL, user_name TEXT NOT NULL, start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL,
  open_nodes INTEGER NOT NULL, first_slot INTEGER NOT NULL, last_slot INTEGER NOT NULL,
  told INTEGER NOT NULL, told_restart INTEGER NOT NULL, told_submit_ms INTEGER NOT NULL, assigned INTEGER NOT NULL);
CREATE INDEX job_by_ext ON job (cluster_id, ext_id);
CREATE INDEX job_by_first ON job (cluster_id, first_slot);
CREATE INDEX job_by_last ON job (cluster_id, last_slot);
CREATE INDEX job_by_project ON job (project_id);
`

// factTables hold what other systems say: of runs, of projects, and how far they
// were read. until_ms is the end of a run, forever while it goes on; hash is of
// what was said, so that what is said again is not written again; nodes are
// names by line, deflated where that is shorter.
const factTables = `
CREATE TABLE job_fact (
  job_id INTEGER PRIMARY KEY, cluster_id INTEGER NOT NULL, submit_ms INTEGER NOT NULL, start_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL,
  restart INTEGER NOT NULL, any_restart INTEGER NOT NULL, account TEXT NOT NULL, user_name TEXT NOT NULL, name TEXT NOT NULL,
  partition_name TEXT NOT NULL, qos TEXT NOT NULL, state TEXT NOT NULL, array_job TEXT NOT NULL, array_task TEXT NOT NULL, het_job TEXT NOT NULL,
  requested TEXT NOT NULL, allocated TEXT NOT NULL, cpus INTEGER NOT NULL, gpus INTEGER NOT NULL, node_count INTEGER NOT NULL, nodes BLOB NOT NULL,
  suspended_ms INTEGER NOT NULL, claimed_j INTEGER NOT NULL, seen_ms INTEGER NOT NULL, hash INTEGER NOT NULL);
CREATE INDEX job_fact_by_until ON job_fact (cluster_id, until_ms);
CREATE TABLE project_fact (
  cluster_id INTEGER NOT NULL, name TEXT NOT NULL, parent TEXT NOT NULL, title TEXT NOT NULL, investigator TEXT NOT NULL,
  organization TEXT NOT NULL, start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, seen_ms INTEGER NOT NULL,
  PRIMARY KEY (cluster_id, name)) WITHOUT ROWID;
CREATE TABLE mark (name TEXT PRIMARY KEY, at_ms INTEGER NOT NULL);
`

// schemaSQL is the schema with its columns of sums written out.
func schemaSQL() string {
	return strings.NewReplacer("CELLS", cells("% INTEGER NOT NULL DEFAULT 0"), "JOB\n", jobTable, "FACTS", factTables).Replace(schema)
}

// upgrades gives the statements that make the next version of a schema.
func upgrades() map[int64]string {
	return map[int64]string{
		// Runs of one id are told apart by more than their key.
		1: `ALTER TABLE job RENAME TO job_old;
			DROP INDEX job_by_first; DROP INDEX job_by_last; DROP INDEX job_by_project; ` + jobTable + `
			INSERT INTO job SELECT id, cluster_id, ext_id, restart, submit_ms, project_id, user_name, start_ms, end_ms, open_nodes,
				first_slot, last_slot, CASE WHEN start_ms <> 0 OR first_slot <= last_slot OR ext_id = '' THEN 1 ELSE 0 END, restart, submit_ms, 0 FROM job_old;
			DROP TABLE job_old; ` + factTables,
		2: journalTable,
	}
}

// tables lists every table, for the check at opening.
func tables() []string {
	return []string{
		"cluster", "policy", "node", "node_end", "catalogue", "odometer", "node_slot", "seen", "project", "job",
		"posting", "job_node", "project_slot", "project_day", "project_total", "cluster_slot", "cluster_day",
		"job_day", "project_jobs", "hole", "quarantine", "event", "presence", "job_fact", "project_fact", "mark", "journal",
	}
}
