"""Everything real at once: control, a joined proxy, PostgreSQL, and its clients."""
