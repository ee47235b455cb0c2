"""The rules of access: requests, grants, people, signing keys. Pure: no IO, no clock of its own, no SQL, no HTTP."""
