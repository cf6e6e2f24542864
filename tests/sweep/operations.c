/* Counts what a process does to files below a folder, and lets one of these operations fail, or be its last.

   Built and preloaded by tests/sweep/test_faults.py. `operations_arm(folder, n, action)` starts the count anew: the
   n-th operation gives the error `action`, or ends the process by SIGKILL where that is -1, a write after half of its
   bytes. `operations_seen()` is the count. With `operations_record(descriptor)` each that succeeded goes there as a line

       kind inode offset length TAB path TAB other path

   and `length` bytes of data, so that what a loss of power leaves can be told (tests/sweep/power.py). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX];
static long seen, armed;
static int action, record_to = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, recording = PTHREAD_MUTEX_INITIALIZER;

#define NEXT(name) \
    static typeof(&name) next; \
    if (!next) next = (typeof(&name))dlsym(RTLD_NEXT, #name)

void operations_arm(const char *folder, long n, int what) {
    snprintf(root, sizeof root, "%s", folder);
    seen = 0, armed = n, action = what;
}

long operations_seen(void) { return seen; }

void operations_record(int descriptor) { record_to = descriptor; }

static int below(const char *path) {
    size_t length = strlen(root);
    return length && path && !strncmp(path, root, length) && (!path[length] || path[length] == '/');
}

/* Whether an operation on this path is to be recorded; others wait until it is. */
static int begin_record(const char *path) {
    if (record_to < 0 || !below(path)) return 0;
    pthread_mutex_lock(&recording);
    return 1;
}

static void put(const void *bytes, size_t count) {
    for (const char *from = bytes; count;) {
        long done = syscall(SYS_write, record_to, from, count);
        if (done < 0) abort();
        from += done, count -= done;
    }
}

static void end_record(int done, const char *kind, ino_t inode, off64_t offset, const void *data, size_t count,
                       const char *path, const char *other) {
    if (done) {
        char line[3 * PATH_MAX];
        size_t length = strlen(root);
        const char *second = other && below(other) ? other + length : "";
        put(line, snprintf(line, sizeof line, "%s %lu %ld %lu\t%s\t%s\n", kind, (unsigned long)inode, (long)offset,
                           (unsigned long)count, path + length, second));
        put(data, count);
    }
    pthread_mutex_unlock(&recording);
}

static ino_t inode_of(int descriptor) {
    struct stat state;
    return descriptor < 0 || fstat(descriptor, &state) ? 0 : state.st_ino;
}

static off64_t place_in(int descriptor) {
    struct stat state;
    if (fcntl(descriptor, F_GETFL) & O_APPEND) return fstat(descriptor, &state) ? 0 : state.st_size;
    return lseek64(descriptor, 0, SEEK_CUR);
}

/* Whether this operation is the one; ends the process if it is to. `cut` is called before that. */
static int fails(const char *path, void (*cut)(void *), void *with) {
    if (!below(path)) return 0;
    pthread_mutex_lock(&lock);
    long number = ++seen;
    pthread_mutex_unlock(&lock);
    if (number != armed) return 0;
    if (action < 0) {
        if (cut) cut(with);
        kill(getpid(), SIGKILL);
    }
    errno = action;
    return 1;
}

static const char *path_of(int descriptor, char *into) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, into, PATH_MAX - 1);
    if (length < 0) return NULL;
    into[length] = 0;
    return into;
}

static const char *full(int directory, const char *path, char *into) {
    char base[PATH_MAX];
    if (!path || path[0] == '/') return path;
    if (directory == AT_FDCWD ? !getcwd(base, sizeof base) : !path_of(directory, base)) return NULL;
    return snprintf(into, PATH_MAX, "%s/%s", base, path) < PATH_MAX ? into : NULL;
}

struct half { int descriptor; const void *bytes; size_t count; };

static void write_half(void *given) {
    struct half *half = given;
    ssize_t (*plain)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (half->count > 1) (void)!plain(half->descriptor, half->bytes, half->count / 2);
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
    NEXT(write);
    char path[PATH_MAX];
    struct half half = {descriptor, bytes, count};
    const char *whole = root[0] ? path_of(descriptor, path) : NULL;
    if (root[0] && fails(whole, write_half, &half)) return -1;
    int recorded = begin_record(whole);
    off64_t place = recorded ? place_in(descriptor) : 0;
    ssize_t done = next(descriptor, bytes, count);
    if (recorded) end_record(done > 0, "write", inode_of(descriptor), place, bytes, done > 0 ? done : 0, whole, NULL);
    return done;
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    NEXT(writev);
    char path[PATH_MAX];
    const char *whole = root[0] ? path_of(descriptor, path) : NULL;
    if (root[0] && fails(whole, NULL, NULL)) return -1;
    int recorded = begin_record(whole);
    off64_t place = recorded ? place_in(descriptor) : 0;
    ssize_t done = next(descriptor, parts, count);
    if (recorded) {
        char *bytes = malloc(done > 0 ? done : 1);
        ssize_t filled = 0;
        for (int part = 0; part < count && filled < done; part++) {
            size_t most = done - filled, length = parts[part].iov_len < most ? parts[part].iov_len : most;
            memcpy(bytes + filled, parts[part].iov_base, length);
            filled += length;
        }
        end_record(done > 0, "write", inode_of(descriptor), place, bytes, filled, whole, NULL);
        free(bytes);
    }
    return done;
}

/* A file that is not there yet is created, one that is may be cut to nothing. */
#define OPENED(whole, call) \
    if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) && fails(whole, NULL, NULL)) return -1; \
    int recorded = flags & (O_CREAT | O_TRUNC) ? begin_record(whole) : 0; \
    int there = recorded && !access(whole, F_OK); \
    int opened = call; \
    if (recorded) \
        end_record(opened >= 0 && (!there || flags & O_TRUNC), there ? "truncate" : "create", inode_of(opened), 0, "", 0, \
                   whole, NULL); \
    return opened

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        NEXT(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        char into[PATH_MAX]; \
        const char *whole = root[0] ? full(AT_FDCWD, path, into) : NULL; \
        OPENED(whole, next(path, flags, mode)); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int directory, const char *path, int flags, ...) { \
        NEXT(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        char into[PATH_MAX]; \
        const char *whole = root[0] ? full(directory, path, into) : NULL; \
        OPENED(whole, next(directory, path, flags, mode)); \
    }
OPENAT(openat)
OPENAT(openat64)

#define ON_DESCRIPTOR(name) \
    int name(int descriptor) { \
        NEXT(name); \
        char path[PATH_MAX]; \
        const char *whole = root[0] ? path_of(descriptor, path) : NULL; \
        if (fails(whole, NULL, NULL)) return -1; \
        int recorded = begin_record(whole); \
        int failed = next(descriptor); \
        if (recorded) end_record(!failed, "sync", inode_of(descriptor), 0, "", 0, whole, NULL); \
        return failed; \
    }
ON_DESCRIPTOR(fsync)
ON_DESCRIPTOR(fdatasync)

/* An operation on a name, or on two: the new one is counted. */
#define ON_NAMES(kind, whole, other, call) \
    if (fails(whole, NULL, NULL)) return -1; \
    int recorded = begin_record(whole); \
    int failed = call; \
    if (recorded) end_record(!failed, kind, 0, 0, "", 0, whole, other); \
    return failed

int rename(const char *from, const char *to) {
    NEXT(rename);
    char one[PATH_MAX], two[PATH_MAX];
    const char *whole = full(AT_FDCWD, to, one), *other = full(AT_FDCWD, from, two);
    ON_NAMES("rename", whole, other, next(from, to));
}

int renameat(int from_in, const char *from, int to_in, const char *to) {
    NEXT(renameat);
    char one[PATH_MAX], two[PATH_MAX];
    const char *whole = full(to_in, to, one), *other = full(from_in, from, two);
    ON_NAMES("rename", whole, other, next(from_in, from, to_in, to));
}

int link(const char *from, const char *to) {
    NEXT(link);
    char one[PATH_MAX], two[PATH_MAX];
    const char *whole = full(AT_FDCWD, to, one), *other = full(AT_FDCWD, from, two);
    ON_NAMES("link", whole, other, next(from, to));
}

int linkat(int from_in, const char *from, int to_in, const char *to, int flags) {
    NEXT(linkat);
    char one[PATH_MAX], two[PATH_MAX];
    const char *whole = full(to_in, to, one), *other = full(from_in, from, two);
    ON_NAMES("link", whole, other, next(from_in, from, to_in, to, flags));
}

int unlink(const char *path) {
    NEXT(unlink);
    char into[PATH_MAX];
    const char *whole = full(AT_FDCWD, path, into);
    ON_NAMES("unlink", whole, NULL, next(path));
}

int unlinkat(int directory, const char *path, int flags) {
    NEXT(unlinkat);
    char into[PATH_MAX];
    const char *whole = full(directory, path, into);
    ON_NAMES(flags & AT_REMOVEDIR ? "rmdir" : "unlink", whole, NULL, next(directory, path, flags));
}

int rmdir(const char *path) {
    NEXT(rmdir);
    char into[PATH_MAX];
    const char *whole = full(AT_FDCWD, path, into);
    ON_NAMES("rmdir", whole, NULL, next(path));
}

int mkdir(const char *path, mode_t mode) {
    NEXT(mkdir);
    char into[PATH_MAX];
    const char *whole = full(AT_FDCWD, path, into);
    ON_NAMES("mkdir", whole, NULL, next(path, mode));
}

int mkdirat(int directory, const char *path, mode_t mode) {
    NEXT(mkdirat);
    char into[PATH_MAX];
    const char *whole = full(directory, path, into);
    ON_NAMES("mkdir", whole, NULL, next(directory, path, mode));
}

#define TRUNCATE(name, kind) \
    int name(int descriptor, kind length) { \
        NEXT(name); \
        char path[PATH_MAX]; \
        const char *whole = root[0] ? path_of(descriptor, path) : NULL; \
        if (fails(whole, NULL, NULL)) return -1; \
        int recorded = begin_record(whole); \
        int failed = next(descriptor, length); \
        if (recorded) end_record(!failed, "truncate", inode_of(descriptor), length, "", 0, whole, NULL); \
        return failed; \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)
