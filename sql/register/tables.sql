-- The tables of one register. {…} is filled in by _render with quoted identifiers and whitelisted types.
CREATE TABLE {movements} (
    id bigint GENERATED ALWAYS AS IDENTITY,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    recorder {recorder_type} NOT NULL,
    period timestamptz NOT NULL,
    movement_type text NOT NULL DEFAULT 'regular',
    position_id integer,
    event_offset bigint,
    batch_id bigint,
    {dimension_columns},
    {resource_columns},
    dim_hash bigint GENERATED ALWAYS AS ({cell_key}) STORED,
    {finite_checks}
) PARTITION BY RANGE (period);
CREATE INDEX ON {movements} (recorder);
CREATE INDEX ON {movements} (dim_hash, period);

CREATE TABLE {recorders} (
    recorder {recorder_type} PRIMARY KEY,
    revision bigint,
    event_digests bytea NOT NULL DEFAULT '',
    spilled boolean NOT NULL DEFAULT false,
    first_period timestamptz,
    last_period timestamptz,
    position_id integer,
    event_offset bigint,
    batch_id bigint
) WITH (fillfactor = 80);
COMMENT ON COLUMN {recorders}.event_digests IS
'Digests of the most recent events, oldest first: 8 bytes of the id and 8 of the content each.';
COMMENT ON COLUMN {recorders}.spilled IS 'Whether older events'' digests are in {recorder_events}.';
COMMENT ON COLUMN {recorders}.first_period IS 'No movement of the recorder is earlier; bounds the partitions to search.';

CREATE TABLE {recorder_events} (
    recorder {recorder_type} NOT NULL,
    id_digest bigint NOT NULL,
    content_digest bigint NOT NULL,
    PRIMARY KEY (recorder, id_digest)
);
COMMENT ON TABLE {recorder_events} IS
'Digests that no longer fit in the recorder''s own row, so that no duplicate is ever forgotten.';

CREATE TABLE {opening} (
    dim_hash bigint NOT NULL,
    period date NOT NULL,
    {dimension_columns},
    {sum_columns},
    PRIMARY KEY (dim_hash, period)
);
COMMENT ON TABLE {opening} IS 'Sums per cell and day of the movements in detached partitions.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {opening}
FOR EACH STATEMENT EXECUTE FUNCTION _guard_derived();
