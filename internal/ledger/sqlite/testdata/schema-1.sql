-- The first version of the schema, for the test that brings such a ledger up.

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
CREATE TABLE job (
  id INTEGER PRIMARY KEY, cluster_id INTEGER NOT NULL, ext_id TEXT NOT NULL, restart INTEGER NOT NULL, submit_ms INTEGER NOT NULL,
  project_id INTEGER NOT NULL, user_name TEXT NOT NULL, start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL,
  open_nodes INTEGER NOT NULL, first_slot INTEGER NOT NULL, last_slot INTEGER NOT NULL,
  UNIQUE (cluster_id, ext_id, restart, submit_ms));
CREATE INDEX job_by_first ON job (cluster_id, first_slot);
CREATE INDEX job_by_last ON job (cluster_id, last_slot);
CREATE INDEX job_by_project ON job (project_id);

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
