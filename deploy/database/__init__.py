"""Migrations, roles, and the embedded PostgreSQL server."""
