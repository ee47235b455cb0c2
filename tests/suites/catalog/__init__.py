"""The suites, by name, in the order in which they are run."""

from tests.suites.catalog import asyncpg, django, postgresql, sqlalchemy

SUITES = {one.name: one for one in (asyncpg.SUITE, *sqlalchemy.SUITES, django.SUITE, *postgresql.SUITES)}
