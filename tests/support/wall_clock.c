/* A program's calendar, moved: the seconds in a file that a test writes are added to what the kernel says. The steady clock, and how long
   anybody waits, stay as they are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const int64_t none;
static volatile const int64_t *moved = &none;
/* What this thread was told last: an instant that it waits for was reckoned from that. */
static _Thread_local int64_t told;
/* Since 2001: an instant of the calendar, and none of the steady clock. */
static const time_t CALENDAR = 1000000000;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("WALL_CLOCK_FILE");
    int file = path ? open(path, O_RDONLY) : -1;
    void *place = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *moved, PROT_READ, MAP_SHARED, file, 0);
    if (place == MAP_FAILED) abort();
    moved = place;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int) syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += told = *moved;
    return failed;
}

int timespec_get(struct timespec *now, int base) {
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void) zone;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place) *place = now.tv_sec;
    return now.tv_sec;
}

/* The kernel's calendar has not moved: an instant of ours that is waited for is an earlier or later one of the kernel's. */
static struct timespec of_the_kernel(const struct timespec *until) {
    struct timespec instant = *until;
    if (instant.tv_sec > CALENDAR) instant.tv_sec -= told;
    return instant;
}

int pthread_cond_timedwait(pthread_cond_t *restrict what, pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
    static int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!wait) {
        /* glibc on x86-64 has an older one as well, for programs of another age. */
        void *found = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
        if (!found) found = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
        wait = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *)) found;
    }
    struct timespec instant = of_the_kernel(until);
    return wait(what, mutex, &instant);
}

int cnd_timedwait(cnd_t *restrict what, mtx_t *restrict mutex, const struct timespec *restrict until) {
    static int (*wait)(cnd_t *, mtx_t *, const struct timespec *);
    if (!wait) wait = (int (*)(cnd_t *, mtx_t *, const struct timespec *)) dlsym(RTLD_NEXT, "cnd_timedwait");
    struct timespec instant = of_the_kernel(until);
    return wait(what, mutex, &instant);
}
