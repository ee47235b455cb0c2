"""The functions that clients call by number (FunctionCall, the "fast path"), where they are PostgreSQL's own.

Owns the types of their arguments, so that those can be recorded as what they are: libpq's large objects are all of
these. A number below 16,384 means the same in every database and version (pg_proc.dat).
"""

SET_CONFIG = 2078
ARGUMENTS: dict[int, tuple[int, ...]] = {
    715: (26,),  # lo_create
    764: (25,),  # lo_import
    765: (26, 25),  # lo_export
    767: (25, 26),  # lo_import
    952: (26, 23),  # lo_open
    953: (23,),  # lo_close
    954: (23, 23),  # loread
    955: (23, 17),  # lowrite
    956: (23, 23, 23),  # lo_lseek
    957: (23,),  # lo_creat
    958: (23,),  # lo_tell
    964: (26,),  # lo_unlink
    1004: (23, 23),  # lo_truncate
    SET_CONFIG: (25, 25, 16),
    3170: (23, 20, 23),  # lo_lseek64
    3171: (23,),  # lo_tell64
    3172: (23, 20),  # lo_truncate64
    3457: (26, 17),  # lo_from_bytea
    3458: (26,),  # lo_get
    3459: (26, 20, 23),  # lo_get
    3460: (26, 20, 17),  # lo_put
}
