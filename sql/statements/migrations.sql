-- Installing the product's schema.

-- name: create_schema
-- The schema, when it is not there yet.
CREATE SCHEMA {schema} AUTHORIZATION {owner};

-- name: choose_owner
-- Whose a new schema becomes: the role that is there for it, if whoever installs may act for it.
SELECT coalesce(
    (SELECT r.rolname FROM pg_roles AS r WHERE r.rolname = 'tallystream_owner' AND pg_has_role(r.oid, 'MEMBER')), current_user
)::text;

-- name: schema_owner
-- Whose everything in the schema is, or is to be; no row when there is no schema yet.
SELECT coalesce(
    (SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.relnamespace = n.oid AND c.relname = '_migrations'),
    CASE WHEN pg_has_role(n.nspowner, 'MEMBER') THEN pg_get_userbyid(n.nspowner) END, current_user
)::text
FROM pg_namespace AS n WHERE n.nspname = %(schema)s;

-- name: become_owner
-- Act for the schema's owner in this transaction: everything in a schema belongs to one role.
SELECT set_config('role', %(owner)s, true) WHERE current_user <> %(owner)s;

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

-- name: grant_new_roles
-- Give roles that were made after the last migration their rights.
SELECT {schema}._grant_new_roles();

-- name: hash_golden_rows
-- Keys of cells as this server computes them; they must never change.
SELECT
    hash_record_extended(ROW(1::int, 42::int, 'A'::text COLLATE "C"), 0),
    hash_record_extended(ROW(NULL::int, ''::text COLLATE "C", 1.00::numeric, false), 0),
    hash_record_extended(ROW(int8send(1::bigint), true, '2026-04-18'::date, '00000000-0000-0000-0000-000000000001'::uuid), 0),
    hash_record_extended(ROW(timestamptz_send('2026-04-18 10:00:00+00')), 0);

-- name: identify_server
-- Which database system this is, and the file that its log is written to, whose name begins with the timeline.
SELECT s.system_identifier, pg_walfile_name(pg_current_wal_lsn()) FROM pg_control_system() AS s;

-- name: describe_role
-- As whom this session acts, or could act again, and whether that one may do everything, or owns what is here.
SELECT
    r.rolname::text, r.rolsuper, r.rolbypassrls,
    EXISTS (
        SELECT FROM pg_class AS c
        WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind IN ('r', 'p') AND pg_has_role(r.oid, c.relowner, 'MEMBER')
    )
FROM pg_roles AS r WHERE r.rolname IN (current_user, session_user);
