# One line of the journal, written from bytes without an object for each part (see `proxy._shortcut`, which has them all
# inlined). It owns what JSON needs of each byte; what the fields of a record are it does not know.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

cdef enum:
    ROOM = 16384          # of a line

cdef enum Char:
    PLAIN = 0
    ESCAPED               # JSON wants a backslash before it
    NEWLINE
    WATCHED               # a word that may announce a secret can begin with it, see `announces`
    STRANGE               # not ASCII, or a control character

cdef enum:
    # What a word announces (`_hints` of `proxy.wire.secrets`): a secret, or one only where both others are there.
    SECRET = 1
    SETTING = 2
    SECRET_NAME = 4

cdef struct Line:
    Py_ssize_t used       # ROOM + 1 where it was too long
    uint8_t chars[256]
    char text[ROOM]


cdef inline void classify(Line *line) noexcept:
    # Once, before anything is written.
    cdef int code
    for code in range(256):
        line.chars[code] = PLAIN if 32 <= code < 128 else STRANGE
    line.chars[c'"'] = line.chars[c"\\"] = ESCAPED
    for code in b":pchustkoPCHUSTKO":
        line.chars[code] = WATCHED
    line.chars[10] = NEWLINE


cdef inline bytes written(const Line *line):
    return PyBytes_FromStringAndSize(line.text, line.used)


cdef inline int put_bytes(Line *line, const char *text, Py_ssize_t size) noexcept:
    if size > ROOM - line.used:
        line.used = ROOM + 1
        return 0
    memcpy(line.text + line.used, text, size)
    line.used += size
    return 0


cdef inline int put(Line *line, bytes text) noexcept:
    return put_bytes(line, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef inline int put_text(Line *line, str text) except -1:
    cdef Py_ssize_t size
    cdef const char *utf8 = PyUnicode_AsUTF8AndSize(text, &size)
    return put_bytes(line, utf8, size)


cdef inline int put_number(Line *line, long long number) noexcept:
    cdef char digits[20]
    cdef Py_ssize_t at = 20
    cdef unsigned long long left = <unsigned long long>number
    if number < 0:
        left = 0 - left
    while True:
        at -= 1
        digits[at] = <char>(c"0" + left % 10)
        left //= 10
        if left == 0:
            break
    if number < 0:
        put_bytes(line, b"-", 1)
    return put_bytes(line, digits + at, 20 - at)


cdef inline bint put_plain(Line *line, const uint8_t *p, Py_ssize_t size, bint is_sql) noexcept:
    # Text as JSON has it; whether it was plain.
    cdef Py_ssize_t at
    cdef uint8_t kind
    cdef int announced = 0
    if 2 * size > ROOM - line.used:
        return False
    for at in range(size):
        kind = line.chars[p[at]]
        if kind == STRANGE:
            return False
        if kind == WATCHED and is_sql:
            announced |= announces(p + at, size - at)
            if announced & SECRET:
                return False
        if kind == ESCAPED or kind == NEWLINE:
            line.text[line.used] = c"\\"
            line.used += 1
        line.text[line.used] = c"n" if kind == NEWLINE else <char>p[at]
        line.used += 1
    return announced != SETTING | SECRET_NAME


cdef inline bint is_plain(const Line *line, const uint8_t *p, Py_ssize_t size) noexcept:
    # Whether JSON has this text as it is.
    cdef Py_ssize_t at
    for at in range(size):
        if line.chars[p[at]] != PLAIN and line.chars[p[at]] != WATCHED:
            return False
    return True


cdef inline int announces(const uint8_t *at, Py_ssize_t left) noexcept:
    # What the word says that begins here, in any case.
    cdef uint8_t first = at[0] | 0x20
    if left < 3:
        return 0
    if first == c":":
        return SECRET if at[1] == c"/" and at[2] == c"/" else 0
    if first == c"u":
        return SECRET if at[1] == c"&" and at[2] == c'"' else 0
    if first == c"s":
        if is_word(at, left, b"set", 3):
            return SECRET if left > 3 and at[3] == c"_" else SETTING
        return SECRET_NAME if is_word(at, left, b"secret", 6) else 0
    if first == c"p":
        return SECRET if is_word(at, left, b"pass", 4) else 0
    if first == c"c":
        return SECRET if is_word(at, left, b"crypt", 5) else 0
    if first == c"h":
        return SECRET if is_word(at, left, b"hmac", 4) else 0
    if first == c"o":
        return SETTING if is_word(at, left, b"options", 7) else 0
    if first == c"t":
        return SECRET_NAME if is_word(at, left, b"token", 5) else 0
    return SECRET_NAME if is_word(at, left, b"key", 3) else 0


cdef inline bint is_word(const uint8_t *at, Py_ssize_t left, const char *word, Py_ssize_t size) noexcept:
    # Whether this word, in lower case, begins here in any case.
    cdef Py_ssize_t i
    if left < size:
        return False
    for i in range(1, size):
        if (at[i] | 0x20) != <uint8_t>word[i]:
            return False
    return True
