/* Structured log lines: `time level module event key=value ...`, one write(2) each, to stderr or a
 * callback. Only the server and tools log; libraries return errors. Users' keys and values never
 * above debug.
 *
 *   KV_LOG(INFO, "wal", "recovered", "entries=%llu first=%llu", n, first);
 *
 * The text after the event is key=value pairs; a value that may hold blanks is written as "%s" in
 * quotes by the caller ("error=\"%s\"", control bytes are replaced). Thread safe. */
#ifndef KV_COMMON_LOG_H
#define KV_COMMON_LOG_H

#include "common/status.h"

enum kv_log_level { KV_LOG_DEBUG, KV_LOG_INFO, KV_LOG_WARN, KV_LOG_ERROR, KV_LOG_OFF };

void kv_log_set_level(enum kv_log_level level);
/* NULL restores stderr. line has no newline. Used by the simulator and by tests. */
void kv_log_set_sink(void (*sink)(void *arg, const char *line), void *arg);
/* "debug" "info" "warn" "error" "off"; KV_INVALID otherwise. */
int kv_log_level_parse(const char *name, enum kv_log_level *ret_level) KV_MUST_CHECK;

extern enum kv_log_level kv_log_threshold;
void kv_log_write(enum kv_log_level level,
                  const char *module,
                  const char *event,
                  const char *format,
                  ...) KV_PRINTF(4, 5);

#define KV_LOG(level, module, event, ...)                             \
    do {                                                              \
        if (KV_LOG_##level >= kv_log_threshold) {                     \
            kv_log_write(KV_LOG_##level, module, event, __VA_ARGS__); \
        }                                                             \
    } while (0)

#endif
