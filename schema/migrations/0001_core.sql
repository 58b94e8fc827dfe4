-- The tables every register shares. Applied with search_path set to the product's schema, in one transaction.

CREATE TABLE _registers (
    name text PRIMARY KEY,
    kind text NOT NULL,
    dimensions jsonb NOT NULL,
    resources jsonb NOT NULL,
    totals_period text NOT NULL,
    partition_by text NOT NULL,
    high_write boolean NOT NULL,
    recorder_type text NOT NULL,
    time_zone text NOT NULL,
    tombstone_unposts boolean NOT NULL,
    period_min date NOT NULL,
    period_max date NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    high_write_auto boolean NOT NULL,
    subtotals jsonb NOT NULL
);
COMMENT ON TABLE _registers IS 'One row per register: its declaration.';
COMMENT ON COLUMN _registers.dimensions IS 'Array of {name, type} in column order.';
COMMENT ON COLUMN _registers.subtotals IS 'Array of the names of dimensions each of whose values has totals of its own.';

CREATE TABLE _registry_version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version bigint NOT NULL
);
COMMENT ON TABLE _registry_version IS
'Raised by every change of a declaration; a batch decoded under another version is decoded again.';
INSERT INTO _registry_version (version) VALUES (1);

CREATE TABLE _templates (
    name text PRIMARY KEY,
    body text NOT NULL
);
COMMENT ON TABLE _templates IS 'The files of sql/register, from which register_create makes a register''s objects.';

-- One row changes with every batch: room in the page keeps the updates HOT.
CREATE TABLE _positions (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer_group text NOT NULL,
    topic text NOT NULL,
    topic_id text,
    partition integer NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    epoch bigint NOT NULL DEFAULT (extract(EPOCH FROM clock_timestamp()) * 1000000)::bigint,
    owner text NOT NULL,
    last_event_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    dead_letters_in_a_row integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    retired_at timestamptz
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX _positions_key ON _positions (consumer_group, topic, partition) WHERE retired_at IS NULL;
COMMENT ON TABLE _positions IS
'The truth about what has been applied: the next offset to read of each topic partition, and the epoch of its owner.';
COMMENT ON COLUMN _positions.epoch IS
'Raised when a worker takes the partition, and when a person moves the position; a batch of an older epoch is fenced. Not a mere '
'count: after a fail-over that lost a claim the next one must not get the same number again.';
COMMENT ON COLUMN _positions.dead_letters_in_a_row IS 'How many events before the position were refused, without one between them that was not.';
COMMENT ON COLUMN _positions.attempts IS
'How often the partition was claimed with events waiting, until batches proved that they can be applied: from the second on they are halved.';
COMMENT ON COLUMN _positions.retired_at IS
'Set when another log took this one''s place: the row stays with its batches and dead letters, whose offsets mean the old log.';

CREATE SEQUENCE _batch_id AS bigint;

CREATE TABLE _batches (
    batch_id bigint NOT NULL,
    position_id integer NOT NULL REFERENCES _positions (id),
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    events bigint NOT NULL,
    applied bigint NOT NULL,
    duplicates bigint NOT NULL,
    stale bigint NOT NULL,
    dead_letters bigint NOT NULL,
    movements bigint NOT NULL,
    worker text NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (batch_id, position_id),
    CHECK (events = applied + duplicates + stale + dead_letters)
);
COMMENT ON TABLE _batches IS
'One row per batch and topic partition, old ones added up: every offset below a position is in exactly one of these counts.';
CREATE INDEX ON _batches (position_id, next_offset);

CREATE TABLE _position_moves (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    position_id integer NOT NULL REFERENCES _positions (id),
    retired_position_id integer REFERENCES _positions (id),
    action text NOT NULL CHECK (action IN ('set', 'resume')),
    from_offset bigint,
    to_offset bigint NOT NULL,
    from_topic_id text,
    to_topic_id text,
    log_start bigint,
    log_end bigint,
    dead_letters_in_a_row integer NOT NULL,
    reason text NOT NULL CHECK (reason ~ '[^[:space:]]'),
    client text NOT NULL,
    done_by text NOT NULL DEFAULT session_user,
    done_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE _position_moves IS 'What people did to positions: from where to where, who, when and why.';
CREATE INDEX ON _position_moves (position_id);

CREATE TABLE _skipped_offsets (
    position_id integer NOT NULL REFERENCES _positions (id),
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    move_id bigint NOT NULL REFERENCES _position_moves (id),
    PRIMARY KEY (position_id, first_offset),
    CHECK (first_offset < next_offset)
);
COMMENT ON TABLE _skipped_offsets IS
'Offsets that were never read because somebody moved the position over them: every offset below a position is here or in a batch.';

CREATE TABLE _dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'retried', 'dropped')),
    reason text NOT NULL,
    path text NOT NULL,
    detail text NOT NULL,
    sqlstate text,
    register text,
    recorder text,
    event_id text,
    position_id integer REFERENCES _positions (id),
    event_offset bigint NOT NULL,
    event_at timestamptz,
    event_key bytea,
    event_value bytea,
    header_names text[] NOT NULL,
    header_values bytea[] NOT NULL,
    batch_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    settled_at timestamptz,
    settled_note text,
    relayed_at timestamptz,
    UNIQUE (position_id, event_offset)
);
COMMENT ON TABLE _dead_letters IS 'Events that were refused, byte for byte, with the reason.';
CREATE INDEX ON _dead_letters (id) WHERE state = 'waiting';
CREATE INDEX ON _dead_letters (id) WHERE relayed_at IS NULL;

CREATE TABLE _maintenance (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    register text NOT NULL,
    task text NOT NULL,
    dim_hash bigint,
    rows_changed bigint NOT NULL DEFAULT 0,
    done_by text NOT NULL DEFAULT session_user,
    done_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE _maintenance IS
'What was mended in derived tables, and by whom. A trigger does the work of each row: derived tables take changes from triggers only.';

CREATE TABLE _detached_partitions (
    partition_name text PRIMARY KEY,
    register text NOT NULL,
    from_date date NOT NULL,
    before_date date NOT NULL,
    movements bigint NOT NULL,
    detached_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE _detached_partitions IS
'Partitions whose movements left their register; their sums per cell and day stay behind as its opening balance.';

CREATE TABLE _rebuilds (
    register text PRIMARY KEY,
    id bigint GENERATED ALWAYS AS IDENTITY,
    shadow text NOT NULL GENERATED ALWAYS AS ('shadow_' || id::text) STORED UNIQUE,
    consumer_group text NOT NULL,
    declared jsonb NOT NULL,
    declaration jsonb,
    mapping jsonb,
    gaps jsonb,
    begun_at timestamptz NOT NULL DEFAULT now(),
    begun_by text NOT NULL DEFAULT session_user
);
COMMENT ON TABLE _rebuilds IS
'Registers that are being rebuilt from their topics: each in a shadow register, under positions of its own, until their tables are exchanged.';
COMMENT ON COLUMN _rebuilds.declared IS 'What the register declared when this began; an alteration since then ends it.';
COMMENT ON COLUMN _rebuilds.declaration IS 'What the shadow declares differently; null when nothing.';
COMMENT ON COLUMN _rebuilds.mapping IS 'Rules that change the events of a what-if, which never takes the register''s place; null without.';
COMMENT ON COLUMN _rebuilds.gaps IS 'Offsets at which logs began when events before them were given up, by partition; null until the logs were looked at.';

CREATE TABLE _rebuild_refusals (
    register text NOT NULL,
    position_id integer NOT NULL REFERENCES _positions (id),
    event_offset bigint NOT NULL,
    reason text NOT NULL,
    path text NOT NULL,
    detail text NOT NULL,
    sqlstate text,
    recorder text,
    event_id text,
    event_at timestamptz,
    event_key bytea,
    event_value bytea,
    header_names text[] NOT NULL,
    header_values bytea[] NOT NULL,
    batch_id bigint NOT NULL,
    PRIMARY KEY (register, position_id, event_offset)
);
COMMENT ON TABLE _rebuild_refusals IS
'Events that a rebuild has refused, under the live positions; they become dead letters when the tables are exchanged.';
