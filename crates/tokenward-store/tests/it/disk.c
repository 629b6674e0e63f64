/*
 * A disk that fails when it is told to, put between a process and its files by LD_PRELOAD.
 *
 * Only the files tokenward.db and tokenward.db-wal are concerned. DISK_FAULT names a file of one line, which is read at
 * each call while it exists: "sync N lost" lets the Nth sync from there on fail with EIO, and all after it; "write N lost"
 * the Nth write, with ENOSPC. Without the file the disk works.
 *
 * DISK_IMAGE names a directory with what the platters hold: a file there changes only when a sync succeeds, by exactly
 * what was written since the last sync, good or bad. What was written before a sync that failed never gets there: that is
 * how Linux behaves, whose page cache takes such pages for clean. With "kept" in place of "lost" it gets there in spite of
 * the error, the other extreme of what may be. A crash of the machine is simulated by looking there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

struct piece { /* what was written, or a new length, since the last sync */
    struct piece *next;
    int file;
    off_t at;
    size_t length;
    int truncates;
    char bytes[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct piece *first, **last = &first;
static long seen;
static int kept; /* what the last sync that failed should have written */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* 0 the database, 1 its log, -1 anything else. */
static int file_of(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return -1;
    path[length] = 0;
    const char *name = strrchr(path, '/');
    if (name && !strcmp(name, "/tokenward.db"))
        return 0;
    return name && !strcmp(name, "/tokenward.db-wal") ? 1 : -1;
}

static int fails(const char *what)
{
    const char *path = getenv("DISK_FAULT");
    char kind[16], fate[16];
    long number;
    FILE *fault = path ? fopen(path, "r") : NULL;
    if (!fault) {
        seen = 0;
        return 0;
    }
    int read = fscanf(fault, "%15s %ld %15s", kind, &number, fate);
    fclose(fault);
    if (read != 3 || strcmp(kind, what) || ++seen < number)
        return 0;
    kept = !strcmp(fate, "kept");
    return 1;
}

static void remember(int file, off_t at, const void *bytes, size_t length, int truncates)
{
    if (!getenv("DISK_IMAGE"))
        return;
    struct piece *piece = malloc(sizeof *piece + length);
    *piece = (struct piece){NULL, file, at, length, truncates};
    if (length)
        memcpy(piece->bytes, bytes, length);
    *last = piece;
    last = &piece->next;
}

/* What was written to the file since its last sync reaches the image, or is lost. */
static void settle(int file, int good)
{
    const char *directory = getenv("DISK_IMAGE");
    if (!directory)
        return;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/tokenward.db%s", directory, file ? "-wal" : "");
    int image = good ? REAL(open)(path, O_CREAT | O_WRONLY, 0600) : -1;
    struct piece **at = &first;
    while (*at) {
        struct piece *piece = *at;
        if (piece->file != file) {
            at = &piece->next;
            continue;
        }
        if (image >= 0 && piece->truncates)
            REAL(ftruncate)(image, piece->at);
        else if (image >= 0)
            REAL(pwrite)(image, piece->bytes, piece->length, piece->at);
        *at = piece->next;
        free(piece);
    }
    last = at;
    if (image >= 0)
        REAL(close)(image);
}

static ssize_t put(int fd, const void *bytes, size_t length, off_t at, int moves)
{
    int file = file_of(fd);
    if (file < 0)
        return moves ? REAL(write)(fd, bytes, length) : REAL(pwrite)(fd, bytes, length, at);
    pthread_mutex_lock(&lock);
    ssize_t put = -1;
    if (fails("write")) {
        errno = ENOSPC;
    } else {
        if (moves)
            at = lseek(fd, 0, SEEK_CUR);
        put = moves ? REAL(write)(fd, bytes, length) : REAL(pwrite)(fd, bytes, length, at);
        if (put > 0)
            remember(file, at, bytes, put, 0);
    }
    pthread_mutex_unlock(&lock);
    return put;
}

static int sync_file(int fd, int (*real)(int))
{
    int file = file_of(fd);
    if (file < 0)
        return real(fd);
    pthread_mutex_lock(&lock);
    int result = fails("sync") ? -1 : real(fd);
    settle(file, result == 0 || kept);
    pthread_mutex_unlock(&lock);
    if (result)
        errno = EIO;
    return result;
}

static int cut(int fd, off_t length, int (*real)(int, off_t))
{
    int file = file_of(fd);
    pthread_mutex_lock(&lock);
    int result = real(fd, length);
    if (file >= 0 && result == 0)
        remember(file, length, NULL, 0, 1);
    pthread_mutex_unlock(&lock);
    return result;
}

/* SQLite removes its log when the last connection is closed, after the database was synced. */
int unlink(const char *path)
{
    const char *name = strrchr(path, '/'), *directory = getenv("DISK_IMAGE");
    if (directory && name && !strcmp(name, "/tokenward.db-wal")) {
        char image[PATH_MAX];
        snprintf(image, sizeof image, "%s/tokenward.db-wal", directory);
        REAL(unlink)(image);
    }
    return REAL(unlink)(path);
}

ssize_t write(int fd, const void *bytes, size_t length) { return put(fd, bytes, length, 0, 1); }
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) { return put(fd, bytes, length, at, 0); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t at) { return put(fd, bytes, length, at, 0); }
int fsync(int fd) { return sync_file(fd, REAL(fsync)); }
int fdatasync(int fd) { return sync_file(fd, REAL(fdatasync)); }
int ftruncate(int fd, off_t length) { return cut(fd, length, REAL(ftruncate)); }
int ftruncate64(int fd, off_t length) { return cut(fd, length, REAL(ftruncate)); }
