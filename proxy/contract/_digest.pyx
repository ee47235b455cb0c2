# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""SHA-256 of a line, by the library that hashlib itself runs on, without an object for each.

Of what hashlib takes for a line of the journal, three quarters go into making, preparing and destroying its object
(OpenSSL 3); here one context serves all. The functions are those that OpenSSL documents for that (EVP_DigestInit(3)),
looked up in what is loaded: nothing to link, no headers to build with, never another copy of the library. Where they
are not found, importing this fails, and `proxy.contract.digest` has hashlib do it.

The context belongs to whoever has the GIL, which nothing here gives up.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memcpy
from posix.dlfcn cimport RTLD_LAZY, dlopen, dlsym

import _hashlib
import hashlib

cdef extern from "Python.h":
    str PyUnicode_New(Py_ssize_t size, Py_UCS4 most)
    uint8_t *PyUnicode_1BYTE_DATA(str text)

ctypedef void *(*New)() noexcept
ctypedef const void *(*Algorithm)() noexcept
ctypedef int (*Init)(void *context, const void *algorithm, void *engine) noexcept
ctypedef int (*Update)(void *context, const void *data, size_t size) noexcept
ctypedef int (*Final)(void *context, uint8_t *digest, unsigned int *size) noexcept

cdef enum:
    DIGEST = 32

cdef uint8_t HEX[256][2]
cdef Init init
cdef Update update
cdef Final final
cdef void *CONTEXT


cdef void *found(void *library, const char *name) except NULL:
    cdef void *function = dlsym(library, name)
    if function is NULL:
        raise ImportError(f"hashlib's library has no {name.decode()}")
    return function


cdef prepare():
    # Looks in `_hashlib` and what it is linked with (dlsym(3)).
    global init, update, final, CONTEXT
    cdef int byte
    for byte in range(256):
        HEX[byte][0], HEX[byte][1] = b"%02x" % byte
    cdef void *library = dlopen(getattr(_hashlib, "__file__", "").encode(), RTLD_LAZY)
    if library is NULL:
        raise ImportError("hashlib is not an extension of its own")
    init = <Init>found(library, b"EVP_DigestInit_ex")
    update = <Update>found(library, b"EVP_DigestUpdate")
    final = <Final>found(library, b"EVP_DigestFinal_ex")
    CONTEXT = (<New>found(library, b"EVP_MD_CTX_new"))()
    if CONTEXT is NULL or not init(CONTEXT, (<Algorithm>found(library, b"EVP_sha256"))(), NULL):
        raise ImportError("hashlib's library has no SHA-256")
    if sha256_hex(b"") != hashlib.sha256(b"").hexdigest():
        raise ImportError("hashlib's library does not do what hashlib does")


cpdef str sha256_hex(bytes data):
    """SHA-256 of `data`, in hex."""
    cdef uint8_t digest[DIGEST]
    cdef Py_ssize_t at
    cdef uint8_t *to
    cdef str text
    if data is None:
        raise TypeError("None has no digest")
    if not (
        init(CONTEXT, NULL, NULL)  # once more the algorithm that it has
        and update(CONTEXT, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        and final(CONTEXT, digest, NULL)
    ):
        raise RuntimeError("SHA-256 failed")
    text = PyUnicode_New(2 * DIGEST, 127)
    to = PyUnicode_1BYTE_DATA(text)
    for at in range(DIGEST):
        memcpy(to + 2 * at, HEX[digest[at]], 2)
    return text


prepare()
