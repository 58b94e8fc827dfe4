"""Tests by cost: unit, property, database, acceptance, packaging; what they share is in `support`."""
