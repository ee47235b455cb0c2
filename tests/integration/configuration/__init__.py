"""The configuration against what it names: files, folders, PostgreSQL."""
