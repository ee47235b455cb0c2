"""What the lock accepts and what it writes: grant, token, record, directive, and the proof a proxy signs requests with.

Everything here is pure: no sockets, no files, no clock of its own. It is the only part of `proxy` that `control` may
import, so that both sides of every contract are one piece of code.
"""
