-- The three roles of docs/privileges.md and a database, for docker-compose.yml: PostgreSQL's image runs this once.

\set ON_ERROR_STOP on
\getenv password TALLYSTREAM_PASSWORD

CREATE ROLE tallystream_owner LOGIN PASSWORD :'password';
CREATE ROLE tallystream_ingest LOGIN PASSWORD :'password';
CREATE ROLE tallystream_reader;
CREATE DATABASE shop OWNER tallystream_owner;
