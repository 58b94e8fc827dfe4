-- Installing the product's schema.

-- name: create_schema
-- The schema, when it is not there yet.
CREATE SCHEMA IF NOT EXISTS {schema};

-- name: schema_exists
-- Whether the schema is there: creating it may need a right that using it does not.
SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = %(schema)s);

-- name: enter_schema
-- Objects are made in this schema, and functions remember it.
SELECT
    set_config('search_path', quote_ident(%(schema)s) || ', pg_temp', true), set_config('check_function_bodies', 'off', true);

-- name: lock_migrations
-- One migration at a time; the others wait.
SELECT pg_advisory_xact_lock(hashtextextended('tallystream.migrate.' || %(schema)s, 0));

-- name: create_migrations
-- What has been applied.
CREATE TABLE IF NOT EXISTS {schema}._migrations (
    name text PRIMARY KEY,
    digest text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: migrations_exist
-- Whether this schema was ever migrated.
SELECT to_regclass(quote_ident(%(schema)s) || '._migrations') IS NOT NULL;

-- name: list_migrations
-- What has been applied, by name.
SELECT name, digest FROM {schema}._migrations ORDER BY name;

-- name: record_migration
-- Remember what was applied.
INSERT INTO {schema}._migrations AS m (name, digest) VALUES (%(name)s, %(digest)s)
ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, applied_at = now();

-- name: clear_templates
-- Make room for the templates of this version.
DELETE FROM {schema}._templates;

-- name: store_template
-- One file of sql/register.
INSERT INTO {schema}._templates (name, body) VALUES (%(name)s, %(body)s);

-- name: renew_registers
-- Give every register the functions and views of this version, and the roles their rights.
SELECT {schema}._renew_registers();

-- name: hash_golden_rows
-- Keys of cells as this server computes them; they must never change.
SELECT
    hash_record_extended(ROW(1::int, 42::int, 'A'::text COLLATE "C"), 0),
    hash_record_extended(ROW(NULL::int, ''::text COLLATE "C", 1.00::numeric), 0),
    hash_record_extended(ROW(1::bigint, true, '2026-04-18'::date, '00000000-0000-0000-0000-000000000001'::uuid), 0);
