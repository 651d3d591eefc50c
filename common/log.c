#include "common/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES_MAX = 1024 };

enum kv_log_level kv_log_threshold = KV_LOG_INFO;

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static void (*sink)(void *arg, const char *line);
static void *sink_arg;

void kv_log_set_level(enum kv_log_level level)
{
    kv_log_threshold = level;
}

void kv_log_set_sink(void (*new_sink)(void *arg, const char *line), void *arg)
{
    pthread_mutex_lock(&sink_lock);
    sink = new_sink;
    sink_arg = arg;
    pthread_mutex_unlock(&sink_lock);
}

int kv_log_level_parse(const char *name, enum kv_log_level *ret_level)
{
    for (int i = 0; i <= KV_LOG_OFF; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *ret_level = (enum kv_log_level)i;
            return 0;
        }
    }
    return KV_INVALID;
}

static size_t
format_head(char *line, enum kv_log_level level, const char *module, const char *event)
{
    struct timespec now;
    struct tm parts;
    size_t size;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size = strftime(line, LINE_BYTES_MAX, "%Y-%m-%dT%H:%M:%S", &parts);
    size += (size_t)snprintf(line + size,
                             LINE_BYTES_MAX - size,
                             ".%03ldZ %s %s %s",
                             now.tv_nsec / 1000000,
                             level_names[level],
                             module,
                             event);
    /* The names are ours and short; a format alone must not write behind the line. */
    return size < LINE_BYTES_MAX - 1 ? size : LINE_BYTES_MAX - 1;
}

void kv_log_write(
    enum kv_log_level level, const char *module, const char *event, const char *format, ...)
{
    char line[LINE_BYTES_MAX + 1];
    size_t size = format_head(line, level, module, event);
    va_list arguments;

    if (format[0] != '\0') {
        line[size++] = ' ';
        va_start(arguments, format);
        vsnprintf(line + size, LINE_BYTES_MAX - size, format, arguments);
        va_end(arguments);
        size += strlen(line + size);
    }
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) {
            line[i] = '?';
        }
    }
    pthread_mutex_lock(&sink_lock);
    if (sink) {
        line[size] = '\0';
        sink(sink_arg, line);
    } else {
        line[size++] = '\n';
        /* A log that cannot be written must not stop the server. */
        if (write(STDERR_FILENO, line, size) < 0) {
            line[0] = '\0';
        }
    }
    pthread_mutex_unlock(&sink_lock);
}
