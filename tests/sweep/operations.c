/* Counts what a process does to files below a folder, and lets one of these operations fail, or be its last.

   Built and preloaded by tests/sweep/test_operations.py. `operations_arm(folder, n, action)` starts the count anew: the
   n-th operation gives the error `action`, or ends the process by SIGKILL where that is -1, a write after half of its
   bytes. `operations_seen()` is the count; with `operations_log(descriptor)` each goes there as a line. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX];
static long seen, armed;
static int action, log_to = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define NEXT(name) \
    static typeof(&name) next; \
    if (!next) next = (typeof(&name))dlsym(RTLD_NEXT, #name)

void operations_arm(const char *folder, long n, int what) {
    snprintf(root, sizeof root, "%s", folder);
    seen = 0, armed = n, action = what;
}

long operations_seen(void) { return seen; }

void operations_log(int descriptor) { log_to = descriptor; }

/* Whether this operation is the one; ends the process if it is to. `cut` is called before that. */
static int fails(const char *what, const char *path, void (*cut)(void *), void *with) {
    size_t length = strlen(root);
    if (!length || !path || strncmp(path, root, length) || (path[length] && path[length] != '/')) return 0;
    pthread_mutex_lock(&lock);
    long number = ++seen;
    pthread_mutex_unlock(&lock);
    if (log_to >= 0) dprintf(log_to, "%ld %s %s\n", number, what, path + length);
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
    if (root[0] && fails("write", path_of(descriptor, path), write_half, &half)) return -1;
    return next(descriptor, bytes, count);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    NEXT(writev);
    char path[PATH_MAX];
    if (root[0] && fails("writev", path_of(descriptor, path), NULL, NULL)) return -1;
    return next(descriptor, parts, count);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        NEXT(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        char whole[PATH_MAX]; \
        if (flags & (O_WRONLY | O_RDWR | O_CREAT) && fails("open", full(AT_FDCWD, path, whole), NULL, NULL)) return -1; \
        return next(path, flags, mode); \
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
        char whole[PATH_MAX]; \
        if (flags & (O_WRONLY | O_RDWR | O_CREAT) && fails("open", full(directory, path, whole), NULL, NULL)) return -1; \
        return next(directory, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

#define ON_DESCRIPTOR(name) \
    int name(int descriptor) { \
        NEXT(name); \
        char path[PATH_MAX]; \
        if (fails(#name, path_of(descriptor, path), NULL, NULL)) return -1; \
        return next(descriptor); \
    }
ON_DESCRIPTOR(fsync)
ON_DESCRIPTOR(fdatasync)

int rename(const char *from, const char *to) {
    NEXT(rename);
    char whole[PATH_MAX];
    if (fails("rename", full(AT_FDCWD, to, whole), NULL, NULL)) return -1;
    return next(from, to);
}

int renameat(int from_in, const char *from, int to_in, const char *to) {
    NEXT(renameat);
    char whole[PATH_MAX];
    if (fails("rename", full(to_in, to, whole), NULL, NULL)) return -1;
    return next(from_in, from, to_in, to);
}

int unlink(const char *path) {
    NEXT(unlink);
    char whole[PATH_MAX];
    if (fails("unlink", full(AT_FDCWD, path, whole), NULL, NULL)) return -1;
    return next(path);
}

int unlinkat(int directory, const char *path, int flags) {
    NEXT(unlinkat);
    char whole[PATH_MAX];
    if (fails("unlink", full(directory, path, whole), NULL, NULL)) return -1;
    return next(directory, path, flags);
}

int mkdir(const char *path, mode_t mode) {
    NEXT(mkdir);
    char whole[PATH_MAX];
    if (fails("mkdir", full(AT_FDCWD, path, whole), NULL, NULL)) return -1;
    return next(path, mode);
}

int ftruncate64(int descriptor, off64_t length) {
    NEXT(ftruncate64);
    char path[PATH_MAX];
    if (fails("truncate", path_of(descriptor, path), NULL, NULL)) return -1;
    return next(descriptor, length);
}
