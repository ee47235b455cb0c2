"""The journal against real deaths and real full disks."""
