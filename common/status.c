#include "common/status.h"

#include <stdarg.h>
#include <stdio.h>

struct status_row {
    int value;
    const char *name;
    enum kv_retry retry;
    const char *text;
};

static const struct status_row rows[] = {
#define ROW(name, value, retry, text) {value, #name, KV_RETRY_##retry, text},
    KV_STATUS_MAP(ROW)
#undef ROW
};

static const struct status_row *find_row(int status)
{
    int value = status < 0 ? -status : status;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].value == value) {
            return &rows[i];
        }
    }
    return NULL;
}

const char *kv_status_name(int status)
{
    const struct status_row *row = find_row(status);

    return row ? row->name : "?";
}

const char *kv_status_text(int status)
{
    const struct status_row *row = find_row(status);

    return row ? row->text : "unknown status";
}

enum kv_retry kv_status_retry(int status)
{
    const struct status_row *row = find_row(status);

    return row ? row->retry : KV_RETRY_FATAL;
}

int kv_error_set(struct kv_error *ret_error, int status, const char *format, ...)
{
    if (ret_error) {
        va_list arguments;

        ret_error->status = status;
        va_start(arguments, format);
        vsnprintf(ret_error->message, sizeof ret_error->message, format, arguments);
        va_end(arguments);
    }
    return status;
}
