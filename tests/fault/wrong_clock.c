/* Loaded before a server (LD_PRELOAD) to make its clocks wrong. The file that KV_WRONG_CLOCK names
 * holds three numbers, and may be changed while the server runs: what is added to the wall clock
 * (ns), what is added to the monotonic clock (ns, never less than before), and the rate of the
 * latter in thousandths. Waits on conditions go by the same clock; sleeps of the system do not. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct wrong {
    volatile int64_t wall_ns;
    volatile int64_t ahead_ns;
    volatile int64_t rate;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const struct wrong *wrong;
static int64_t last_real_ns, last_fake_ns, last_ahead_ns;

static int64_t real_ns(clockid_t clock)
{
    struct timespec now = {0};

    syscall(SYS_clock_gettime, clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("KV_WRONG_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *data = mmap(NULL, sizeof *wrong, PROT_READ, MAP_SHARED, fd, 0);

    if (fd < 0 || data == MAP_FAILED) {
        abort();
    }
    close(fd);
    wrong = data;
    last_real_ns = last_fake_ns = real_ns(CLOCK_MONOTONIC);
}

/* From the last look on with the rate of now. */
static int64_t monotonic_ns(void)
{
    int64_t now_ns, fake_ns;

    pthread_mutex_lock(&lock);
    now_ns = real_ns(CLOCK_MONOTONIC);
    fake_ns = last_fake_ns + (now_ns - last_real_ns) * wrong->rate / 1000;
    fake_ns += wrong->ahead_ns > last_ahead_ns ? wrong->ahead_ns - last_ahead_ns : 0;
    last_ahead_ns = wrong->ahead_ns > last_ahead_ns ? wrong->ahead_ns : last_ahead_ns;
    last_real_ns = now_ns;
    last_fake_ns = fake_ns;
    pthread_mutex_unlock(&lock);
    return fake_ns;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int64_t ns;

    if (!wrong || (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)) {
        return (int)syscall(SYS_clock_gettime, clock, now);
    }
    ns = clock == CLOCK_REALTIME ? real_ns(clock) + wrong->wall_ns : monotonic_ns();
    now->tv_sec = ns / 1000000000;
    now->tv_nsec = ns % 1000000000;
    return 0;
}

/* libuv's conditions count monotonic time. */
int pthread_cond_timedwait(pthread_cond_t *restrict condition,
                           pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict end)
{
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    int64_t left_ns = end->tv_sec * INT64_C(1000000000) + end->tv_nsec - monotonic_ns();
    int64_t end_ns = real_ns(CLOCK_MONOTONIC) + left_ns;
    struct timespec real_end = {end_ns / 1000000000, end_ns % 1000000000};

    if (!next) {
        *(void **)&next = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    }
    return next(condition, mutex, &real_end);
}
