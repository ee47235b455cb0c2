"""A Bind of any bytes, behind a Parse with types, and before its Execute: what the journal says of its values.

Both twins say the same, whatever comes. A body that a naive reader can read is recorded value by value, NULL as NULL;
one that cannot be read is kept whole. No value loses a byte: from what is recorded, each is worked out again, by
inverse functions that this module has of its own.

An input is a byte of options (policy, how many types), that many types, and the body of the Bind.
"""

import base64
import math
import struct
from random import Random

import msgspec

from proxy.contract.record import Parameter, StatementStart
from proxy.contract.settings import Parameters
from tests.fuzz import twins
from tests.fuzz.inverse import again, array_again
from tests.fuzz.mutations import mutate_bytes

TWINS = twins.load()
POLICIES = tuple(Parameters)
SCALARS = (
    *(16, 18, 19, 20, 21, 23, 25, 26, 114, 142, 700, 701, 705),
    *(1042, 1043, 1082, 1083, 1114, 1184, 1700, 2950, 3802),
)
ARRAYS = (1000, 1007, 1009, 1016, 1022, 1182, 1231, 2951)
TYPES = (0, 17, 600, *SCALARS, *ARRAYS)
"""None, two that are not decoded, and those that are."""
DICTIONARY = (
    *(struct.pack("!i", size) for size in (-1, -2, 0, 1, 2, 4, 8, 16, 2**31 - 1)),
    *(struct.pack("!h", count) for count in (0, 1, 2, -1)),
    *(struct.pack("!d", number) for number in (0.0, -0.0, 0.1, math.inf, math.nan, 1e308)),
    *(struct.pack("!f", number) for number in (0.1, 3.4028235e38, 1e-45, math.nan)),
    *(struct.pack("!q", number) for number in (2**63 - 1, -(2**63), 86_400_000_000, 86_399_999_999)),
    struct.pack("!HhHH3H", 3, 1, 0, 2, 1, 2345, 6700),
    struct.pack("!HhHH", 0, 0, 0xC000, 0),
    struct.pack("!iiIii", 1, 0, 23, 2, 1) + b"\0\0\0\4\0\0\0\1\xff\xff\xff\xff",
    b"\1{}",
)
_starts = msgspec.json.Decoder(StatementStart)


def check(data: bytes) -> None:
    """Bind it."""
    options = data[0] if data else 0
    count = options & 0x7
    types = tuple(TYPES[one % len(TYPES)] for one in data[1 : 1 + count])
    policy = POLICIES[(options >> 3) % len(POLICIES)]
    body = data[1 + count :]
    starts = [_start(twin, types, body, policy) for twin in TWINS]
    assert all(other == starts[0] for other in starts), "the twins' records differ"
    recorded = _starts.decode(starts[0]).parameters
    values = _values(body) if body.count(b"\0") > 1 else None
    if policy is Parameters.NONE:
        assert recorded is None
    elif values is None:
        assert body.count(b"\0") < 2 or recorded == [Parameter(type=0, base64=base64.b64encode(body).decode())]
    else:
        types += (0,) * (len(values) - len(types))
        assert len(recorded or []) == len(values)
        for type_, (form, raw), parameter in zip(types, values, recorded or [], strict=False):
            assert parameter.type == type_
            assert parameter.withheld == (policy is Parameters.TYPES)
            assert parameter.withheld or _as_it_came(parameter, form, raw), f"{parameter} is not {raw!r}"


def mutate(data: bytes, random: Random) -> bytes:
    """Change some bytes, or make a Bind whose lengths are right."""
    if random.random() < 0.7:
        return mutate_bytes(data, random, DICTIONARY)
    count = random.choice([1, 1, 1, 2, 7])
    values = [
        random.choice([_array(random), random.choice(DICTIONARY), mutate_bytes(data[-20:], random)])
        for _ in range(count)
    ]
    types = bytes(random.choice([TYPES.index(random.choice(ARRAYS)), random.randrange(len(TYPES))]) for _ in values)
    body = b"\0\0" + struct.pack("!HHH", 1, random.choice([0, 1, 1, 1]), count)
    return bytes([count]) + types + body + b"".join(map(_sized, values)) + b"\0\0"


def _array(random: Random) -> bytes:
    """An array, or nearly one."""
    sizes = [random.randint(1, 3) for _ in range(random.choice([0, 1, 1, 2]))]
    elements = [random.choice([b"", b"NULL", b'a "\\', bytes(4), bytes(8)]) for _ in range(math.prod(sizes))]
    sized = b"".join(random.choice([_sized(one), _sized(one), struct.pack("!i", -1)]) for one in elements)
    bounds = b"".join(struct.pack("!ii", size, 1) for size in sizes)
    whole = struct.pack("!iiI", len(sizes), 0, random.choice(SCALARS)) + bounds + sized
    return random.choice([whole, whole, whole[: -random.randint(1, 5)], mutate_bytes(whole, random)])


def _sized(value: bytes) -> bytes:
    return struct.pack("!i", len(value)) + value


def _start(twin: twins.Twin, types: tuple[int, ...], body: bytes, policy: Parameters) -> bytes:
    """The line of the Execute's start."""
    portal, _, rest = body.partition(b"\0")
    name = rest.partition(b"\0")[0]
    parse = name + b"\0select\0" + struct.pack(f"!H{len(types)}I", len(types), *types)
    tracker = twin.tracker.Tracker(policy)
    execute = portal + b"\0\0\0\0\0"
    noted = tracker.requests([(ord("P"), parse), (ord("B"), body), (ord("E"), execute)], 1)
    return f'{{"type":"statement.start"{noted[-1].start}}}'.encode()


def _values(body: bytes) -> list[tuple[int, bytes | None]] | None:
    """The format and bytes of each value, as the protocol has them; None where the body is not so."""
    at = body.index(b"\0", body.index(b"\0") + 1) + 1
    try:
        formats = _counted(body, at)
        at += 2 + 2 * len(formats)
        count = struct.unpack_from("!H", body, at)[0]
        at += 2
        if count and len(formats) not in (0, 1, count):
            return None
        values: list[tuple[int, bytes | None]] = []
        for index in range(count):
            size = struct.unpack_from("!i", body, at)[0]
            at += 4
            if size < -1 or at + max(size, 0) > len(body):
                return None
            form = (formats * count if len(formats) == 1 else formats or (0,) * count)[index]
            values.append((form, None if size < 0 else body[at : at + size]))
            at += max(size, 0)
    except struct.error:
        return None
    return values


def _counted(body: bytes, at: int) -> tuple[int, ...]:
    count = struct.unpack_from("!H", body, at)[0]
    return struct.unpack_from(f"!{count}H", body, at + 2)


def _as_it_came(parameter: Parameter, form: int, raw: bytes | None) -> bool:
    """Whether the record has all of the value."""
    if raw is None:
        return parameter.value is None and parameter.base64 is None
    if parameter.base64 is not None:
        return parameter.value is None and base64.b64decode(parameter.base64, validate=True) == raw
    value = parameter.value
    if form == 0:
        return value == raw.decode()
    if parameter.type in ARRAYS:
        return array_again(str(value), raw)
    return form == 1 and again(parameter.type, value, raw)
