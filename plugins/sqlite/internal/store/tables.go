package store

// tables makes the tables of a new file.
const tables = `-- Tables of snitch.db, version 103. docs/schema.md explains them. Times are nanoseconds UTC, sizes bytes. Unsigned
-- numbers of 64 bits are kept as the signed number of the same bits. 'seen' is a time after which no flow refers to the
-- row, so that retention finds what is left over without a look at the flows.

-- One row per run of a host. 'sequence' is the watermark: every record up to it is stored.
CREATE TABLE epochs (
  id       INTEGER PRIMARY KEY,
  host_id  BLOB    NOT NULL,
  epoch    BLOB    NOT NULL,
  sequence INTEGER NOT NULL,
  chain    BLOB    NOT NULL, -- hash of the batch that ends there
  origin   TEXT    NOT NULL DEFAULT '', -- the file that the rows were imported from
  UNIQUE (host_id, epoch)
) STRICT;

-- What holds for the whole file. 'floor': rows that ended before it may be deleted already, and roll-ups do not count
-- there. 'minutes': the same for roll-ups by minute. 'settled': roll-ups wider than an hour are there for the spans that
-- ended by then.
CREATE TABLE state (
  name  TEXT    PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO state VALUES ('floor', -9223372036854775807), ('minutes', -9223372036854775807), ('settled', 0);

-- One row per batch that was stored. They stay when retention deletes their rows: they are the anchors of the chain.
CREATE TABLE batches (
  id       INTEGER PRIMARY KEY,
  epoch    INTEGER NOT NULL REFERENCES epochs (id),
  first    INTEGER NOT NULL,
  last     INTEGER NOT NULL,
  previous BLOB    NOT NULL, -- chain hash of the batch before it
  root     BLOB    NOT NULL, -- Merkle root over its records
  start    INTEGER NOT NULL DEFAULT 1, -- ids of its flows: start to stop
  stop     INTEGER NOT NULL DEFAULT 0,
  oldest   INTEGER NOT NULL DEFAULT 0, -- end of the earliest and of the latest window of its flows, or time of its other records
  newest   INTEGER NOT NULL DEFAULT 0,
  UNIQUE (epoch, first)
) STRICT;

-- Spans of time; the first column of its key is the time index of the flows.
CREATE TABLE windows (
  id           INTEGER PRIMARY KEY,
  ended        INTEGER NOT NULL,
  started      INTEGER NOT NULL,
  started_boot INTEGER NOT NULL,
  ended_boot   INTEGER NOT NULL,
  zone_offset  INTEGER NOT NULL, -- seconds east of UTC
  contime      TEXT    NOT NULL, -- local time of the recording host at the end
  UNIQUE (ended, started, started_boot, ended_boot, zone_offset)
) STRICT;
CREATE INDEX windows_contime ON windows (contime);

-- Text that processes chose, in the form of its column.
CREATE TABLE texts (
  id     INTEGER PRIMARY KEY,
  key    BLOB    NOT NULL UNIQUE,
  seen   INTEGER NOT NULL,
  value  TEXT    NOT NULL,
  length INTEGER NOT NULL, -- bytes of the whole when 'value' is only its beginning, else 0
  sha256 BLOB    NOT NULL  -- of the whole, when known
) STRICT;
CREATE INDEX texts_seen ON texts (seen);

CREATE TABLE addresses (
  id       INTEGER PRIMARY KEY,
  key      BLOB    NOT NULL UNIQUE,
  seen     INTEGER NOT NULL,
  value    TEXT    NOT NULL,
  ip       BLOB    NOT NULL  -- 4 or 16 bytes, or none
) STRICT;
CREATE INDEX addresses_seen ON addresses (seen);

CREATE TABLE executables (
  id          INTEGER PRIMARY KEY,
  key         BLOB    NOT NULL UNIQUE,
  seen        INTEGER NOT NULL,
  exe         TEXT    NOT NULL,
  sha256      TEXT    NOT NULL,
  exe_scope   TEXT    NOT NULL,
  hash_status TEXT    NOT NULL,
  script      TEXT    NOT NULL,
  package     TEXT    NOT NULL,
  superblock  INTEGER NOT NULL,
  dev         INTEGER NOT NULL,
  inode       INTEGER NOT NULL,
  ctime       INTEGER NOT NULL,
  size        INTEGER NOT NULL,
  late        INTEGER NOT NULL DEFAULT 0 -- 1: the hash came after the records, which were 'pending' and had none
) STRICT;
CREATE INDEX executables_file ON executables (inode, ctime);

-- Process instances: one program image run by one process of one boot.
CREATE TABLE processes (
  id              INTEGER PRIMARY KEY,
  key             BLOB    NOT NULL UNIQUE,
  seen            INTEGER NOT NULL,
  executable      INTEGER NOT NULL REFERENCES executables (id),
  cmdline         INTEGER NOT NULL REFERENCES texts (id),
  claimed_cmdline INTEGER NOT NULL REFERENCES texts (id),
  cgroup          INTEGER NOT NULL REFERENCES texts (id),
  unit            INTEGER NOT NULL REFERENCES texts (id),
  container       INTEGER NOT NULL REFERENCES texts (id),
  boot_id         INTEGER NOT NULL REFERENCES texts (id),
  name            TEXT    NOT NULL,
  tty             TEXT    NOT NULL,
  kernel          TEXT    NOT NULL,
  uid             INTEGER NOT NULL,
  pid             INTEGER NOT NULL,
  inner_pid       INTEGER NOT NULL,
  start_time      INTEGER NOT NULL,
  exec_id         INTEGER NOT NULL,
  euid            INTEGER NOT NULL,
  gid             INTEGER NOT NULL,
  loginuid        INTEGER NOT NULL,
  session         INTEGER NOT NULL,
  unit_verified   INTEGER NOT NULL,
  pid_ns          INTEGER NOT NULL,
  mnt_ns          INTEGER NOT NULL
) STRICT;
CREATE INDEX processes_seen ON processes (seen);

-- Who: a process instance and who started it.
CREATE TABLE actors (
  id          INTEGER PRIMARY KEY,
  key         BLOB    NOT NULL UNIQUE,
  seen        INTEGER NOT NULL,
  process     INTEGER NOT NULL REFERENCES processes (id),
  parent      INTEGER NOT NULL REFERENCES processes (id),
  grandparent INTEGER NOT NULL REFERENCES processes (id),
  program     INTEGER NOT NULL REFERENCES programs (id)
) STRICT;
CREATE INDEX actors_seen ON actors (seen);

-- What of an actor the roll-ups carry: everything but the process instances and their command lines.
CREATE TABLE programs (
  id          INTEGER PRIMARY KEY,
  key         BLOB    NOT NULL UNIQUE,
  seen        INTEGER NOT NULL,
  executable  INTEGER NOT NULL REFERENCES executables (id),
  name        TEXT    NOT NULL,
  uid         INTEGER NOT NULL,
  unit        INTEGER NOT NULL REFERENCES texts (id),
  container   INTEGER NOT NULL REFERENCES texts (id),
  pexecutable INTEGER NOT NULL REFERENCES executables (id),
  pname       TEXT    NOT NULL,
  puid        INTEGER NOT NULL,
  gexecutable INTEGER NOT NULL REFERENCES executables (id),
  gname       TEXT    NOT NULL,
  guid        INTEGER NOT NULL
) STRICT;

-- The other end, as the roll-ups carry it too.
CREATE TABLE remotes (
  id        INTEGER PRIMARY KEY,
  key       BLOB    NOT NULL UNIQUE,
  seen      INTEGER NOT NULL,
  raddr     INTEGER NOT NULL REFERENCES addresses (id),
  domain    INTEGER NOT NULL REFERENCES texts (id),
  site      INTEGER NOT NULL REFERENCES texts (id), -- the part of the domain that somebody registered
  rport     INTEGER NOT NULL,
  direction INTEGER NOT NULL,
  family    INTEGER NOT NULL,
  protocol  INTEGER NOT NULL
) STRICT;
CREATE INDEX remotes_seen ON remotes (seen);

-- What few combinations of exist: how it was seen, and this end.
CREATE TABLE traits (
  id            INTEGER PRIMARY KEY,
  key           BLOB    NOT NULL UNIQUE,
  seen          INTEGER NOT NULL,
  laddr         INTEGER NOT NULL REFERENCES addresses (id),
  result        INTEGER NOT NULL,
  layer         INTEGER NOT NULL,
  peer          INTEGER NOT NULL,
  domain_source INTEGER NOT NULL,
  mapped        INTEGER NOT NULL,
  netns         INTEGER NOT NULL,
  ifindex       INTEGER NOT NULL,
  attribution   INTEGER NOT NULL,
  counting      INTEGER NOT NULL,
  existing      INTEGER NOT NULL,
  icmp_type     INTEGER NOT NULL,
  icmp_code     INTEGER NOT NULL
) STRICT;

-- What one process exchanged with one peer in one window (kind 1: counted at the socket, kind 3: at another
-- layer), or one execution (kind 2). 'connections' shows kinds 1 and 2.
CREATE TABLE flows (
  id        INTEGER PRIMARY KEY,
  batch     INTEGER NOT NULL REFERENCES batches (id),
  sequence  INTEGER NOT NULL,
  kind      INTEGER NOT NULL,
  window    INTEGER NOT NULL REFERENCES windows (id),
  actor     INTEGER NOT NULL REFERENCES actors (id),
  remote    INTEGER NOT NULL REFERENCES remotes (id),
  trait     INTEGER NOT NULL REFERENCES traits (id),
  lport     INTEGER NOT NULL,
  socket    INTEGER NOT NULL,
  sent      INTEGER NOT NULL,
  received  INTEGER NOT NULL,
  sends     INTEGER NOT NULL,
  receives  INTEGER NOT NULL,
  connects  INTEGER NOT NULL,
  accepts   INTEGER NOT NULL,
  failures  INTEGER NOT NULL,
  listens   INTEGER NOT NULL
) STRICT;
CREATE INDEX flows_window ON flows (window);

-- What hardly any flow has.
CREATE TABLE flow_rare (
  flow         INTEGER PRIMARY KEY REFERENCES flows (id) ON DELETE CASCADE,
  folded_peers INTEGER NOT NULL,
  candidates   TEXT    NOT NULL,
  truncated    TEXT    NOT NULL
) STRICT;

-- Every name that was known for the remote address, where there was more than the one in 'domain'.
CREATE TABLE flow_domains (
  flow     INTEGER NOT NULL REFERENCES flows (id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  domain   INTEGER NOT NULL REFERENCES texts (id),
  source   TEXT    NOT NULL,
  age      INTEGER NOT NULL, -- of the evidence, in nanoseconds
  scope    TEXT    NOT NULL,
  PRIMARY KEY (flow, position)
) STRICT, WITHOUT ROWID;

-- Roll-ups: sums over the flows of kinds 1 and 2 whose window ended in the span of 'width' seconds (a minute, an hour, 6
-- hours, 1, 2, 4, 8 or 16 days) that begins at 'bucket' (seconds UTC). They change in the transaction that changes the flows.
CREATE TABLE program_sums (
  width    INTEGER NOT NULL,
  bucket   INTEGER NOT NULL,
  program  INTEGER NOT NULL,
  sent     INTEGER NOT NULL,
  received INTEGER NOT NULL,
  sends    INTEGER NOT NULL,
  receives INTEGER NOT NULL,
  connects INTEGER NOT NULL,
  accepts  INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  rows     INTEGER NOT NULL,
  PRIMARY KEY (width, bucket, program)
) STRICT, WITHOUT ROWID;

CREATE TABLE remote_sums (
  width    INTEGER NOT NULL,
  bucket   INTEGER NOT NULL,
  remote   INTEGER NOT NULL,
  sent     INTEGER NOT NULL,
  received INTEGER NOT NULL,
  sends    INTEGER NOT NULL,
  receives INTEGER NOT NULL,
  connects INTEGER NOT NULL,
  accepts  INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  rows     INTEGER NOT NULL,
  PRIMARY KEY (width, bucket, remote)
) STRICT, WITHOUT ROWID;

-- By program and remote together, by day only.
CREATE TABLE pair_sums (
  width    INTEGER NOT NULL,
  bucket   INTEGER NOT NULL,
  program  INTEGER NOT NULL,
  remote   INTEGER NOT NULL,
  sent     INTEGER NOT NULL,
  received INTEGER NOT NULL,
  sends    INTEGER NOT NULL,
  receives INTEGER NOT NULL,
  connects INTEGER NOT NULL,
  accepts  INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  rows     INTEGER NOT NULL,
  PRIMARY KEY (width, bucket, program, remote)
) STRICT, WITHOUT ROWID;

-- 'record' is the whole record as it came, an encoded Record of record.proto.
CREATE TABLE gaps (
  id       INTEGER PRIMARY KEY,
  batch    INTEGER REFERENCES batches (id), -- none: this store noticed it itself
  sequence INTEGER NOT NULL,
  started  INTEGER NOT NULL,
  ended    INTEGER NOT NULL,
  reason   TEXT    NOT NULL,
  cause    TEXT    NOT NULL,
  events   INTEGER NOT NULL,
  sent     INTEGER NOT NULL,
  received INTEGER NOT NULL,
  record   BLOB    NOT NULL
) STRICT;
CREATE INDEX gaps_time ON gaps (ended);
CREATE INDEX gaps_batch ON gaps (batch);

CREATE TABLE notices (
  id       INTEGER PRIMARY KEY,
  batch    INTEGER NOT NULL REFERENCES batches (id),
  sequence INTEGER NOT NULL,
  time     INTEGER NOT NULL,
  kind     TEXT    NOT NULL,
  text     TEXT    NOT NULL,
  exe      TEXT    NOT NULL,
  record   BLOB    NOT NULL
) STRICT;
CREATE INDEX notices_time ON notices (time);
CREATE INDEX notices_batch ON notices (batch);

-- Records of other kinds, kept whole: listen, name, verdict, hash_resolved, config.
CREATE TABLE events (
  id       INTEGER PRIMARY KEY,
  batch    INTEGER NOT NULL REFERENCES batches (id),
  sequence INTEGER NOT NULL,
  time     INTEGER NOT NULL,
  kind     TEXT    NOT NULL,
  record   BLOB    NOT NULL
) STRICT;
CREATE INDEX events_time ON events (time);
CREATE INDEX events_batch ON events (batch);
`
