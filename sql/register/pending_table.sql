-- What folding needs besides the tables: made anew when the register gets other columns, because a delta has them all.
-- A delta is all that happened to a cell on a day; version is how many writings it stands for.
CREATE TYPE {delta} AS (dim_hash bigint, day date, recorded_at timestamptz, version bigint, {delta_attributes});

CREATE TABLE {pending_folds} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deltas {delta}[] NOT NULL
);
COMMENT ON TABLE {pending_folds} IS
'Deltas of deletions that wait for the insertions of the same transaction; empty at every commit.';
