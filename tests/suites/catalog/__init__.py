"""The suites, by name, in the order in which they are run."""

from tests.suites.catalog import asyncpg, django, golang, java, postgresql, programs, psycopg2, sqlalchemy

SUITES = {
    one.name: one
    for one in (
        asyncpg.SUITE,
        *sqlalchemy.SUITES,
        django.SUITE,
        psycopg2.SUITE,
        golang.SUITE,
        java.SUITE,
        java.SUITE,
        *postgresql.SUITES,
        programs.SUITE,
    )
}
