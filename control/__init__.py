"""The control plane: it cuts keys and keeps the books; it holds no database credentials."""
