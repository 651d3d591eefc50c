/* What all parts of kvbench use: time, chance, and the end of a program that cannot go on. */
#ifndef KVBENCH_SUPPORT_H
#define KVBENCH_SUPPORT_H

#include "common/status.h"

#include <stdint.h>

uint64_t bench_now_ns(void);
/* User and system time of the process. */
double bench_cpu_seconds(void);
/* xorshift64*; *state is not 0. */
uint64_t bench_random(uint64_t *state);
/* Prints the message behind "kvbench: ", and exits. */
void bench_fail(const char *format, ...) __attribute__((noreturn)) KV_PRINTF(1, 2);
void *bench_alloc(size_t count, size_t size);

enum { BENCH_VALUES_BYTES = 1024 * 1024 };
/* BENCH_VALUES_BYTES random bytes and `value_size` more: every value is a piece of them, so that
 * none compresses. Returns owned. */
uint8_t *bench_make_values(size_t value_size);

#endif
