"""Tallystream: accumulation registers in PostgreSQL, kept exactly right from a Kafka stream."""

__version__ = "0.1.0"
