"""HTTP: parse, call an operation, return. The only part of control that knows FastAPI; no rule and no SQL is here."""
