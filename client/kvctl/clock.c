#include "client/kvctl/kvctl.h"

#include <time.h>

int64_t kvctl_now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

int64_t kvctl_now_ms(void)
{
    return kvctl_now_us() / 1000;
}
