"""Curfew's tests: unit/ mirrors the tree, integration/ goes by topic; harness/ is what they stand on."""
