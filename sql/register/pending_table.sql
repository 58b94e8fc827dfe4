-- What folding needs besides the tables: made anew when the register gets other columns, because a delta has them all.
CREATE TYPE {delta} AS (dim_hash bigint, day date, recorded_at timestamptz, {delta_attributes});

CREATE TABLE {pending_folds} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deltas {delta}[] NOT NULL
);
COMMENT ON TABLE {pending_folds} IS
'Deltas of deletions that wait for the insertions of the same transaction; empty at every commit.';
