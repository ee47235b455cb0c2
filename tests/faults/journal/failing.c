/*
 * A layer below the proxy's journal that fails: loaded into the process (LD_PRELOAD), it stands before the C library's
 * own calls, for files named *.ndjson alone. What it does is a file's to say (CURFEW_FAILING), mapped into memory.
 *
 * A failed fdatasync loses what was not on disk, as kernels do that mark the pages clean (fsyncgate): how long each
 * file was at its last good one is noted beside it (*.synced), for whoever then plays the machine's death.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FAIL_WRITE = 1, SHORT_WRITE = 2, TORN_WRITE = 4, FAIL_SYNC = 8, FOR_EVER = 16 };

struct orders {
    _Atomic int what; /* of the above */
    _Atomic int after; /* so many calls go well first */
    _Atomic int error;
    _Atomic int fired; /* how many failed */
};

static struct orders *orders;
static _Atomic int torn; /* the next write fails, and cutting the file back does too */
static _Atomic int gone; /* a sync has failed: what was to be synced is lost, whatever later ones say */

static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CURFEW_FAILING");
    real_write = dlsym(RTLD_NEXT, "write");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    int file = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof(struct orders), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    orders = mapped == MAP_FAILED ? NULL : mapped;
}

/* The name of a journal's file; whether it is one. */
static int journal(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 16);
    if (length < 7 || memcmp(path + length - 7, ".ndjson", 7) != 0) return 0;
    path[length] = 0;
    return 1;
}

/* Whether it is this call's turn to fail. */
static int turn(int what) {
    if (orders == NULL || !(orders->what & what)) return 0;
    if (atomic_fetch_sub(&orders->after, 1) > 0) return 0;
    if (!(orders->what & FOR_EVER)) orders->what = 0;
    atomic_fetch_add(&orders->fired, 1);
    return 1;
}

ssize_t write(int fd, const void *data, size_t size) {
    char path[PATH_MAX];
    if (orders == NULL || (!orders->what && !torn) || !journal(fd, path)) return real_write(fd, data, size);
    if (torn) {
        errno = orders->error;
        return -1;
    }
    int what = orders->what;
    if (!turn(FAIL_WRITE | SHORT_WRITE | TORN_WRITE)) return real_write(fd, data, size);
    if (what & TORN_WRITE) torn = 1;
    if (what & (SHORT_WRITE | TORN_WRITE)) return real_write(fd, data, size / 2 + 1);
    errno = orders->error;
    return -1;
}

int ftruncate64(int fd, off_t size) {
    char path[PATH_MAX];
    if (orders == NULL || !torn || !journal(fd, path)) return real_ftruncate(fd, size);
    errno = EIO;
    return -1;
}

int ftruncate(int fd, off_t size) __attribute__((alias("ftruncate64")));

static void note(const char *path, long long size) {
    char beside[PATH_MAX + 8], text[32];
    snprintf(beside, sizeof beside, "%s.synced", path);
    int file = open(beside, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) abort();
    int length = snprintf(text, sizeof text, "%20lld\n", size);
    if (pwrite(file, text, length, 0) != length) abort();
    close(file);
}

int fdatasync(int fd) {
    char path[PATH_MAX];
    struct stat before;
    if (orders == NULL || !journal(fd, path)) return real_fdatasync(fd);
    if (turn(FAIL_SYNC)) {
        gone = 1;
        errno = EIO;
        return -1;
    }
    fstat(fd, &before); /* what is written while it runs may not be on disk */
    if (real_fdatasync(fd) != 0) return -1;
    if (!gone) note(path, before.st_size);
    return 0;
}
