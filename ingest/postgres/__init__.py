"""The border to PostgreSQL: everything that knows a table or a driver is in here."""
