/* Values from the command line, standard input or a file. */
#include "client/kvctl/kvctl.h"
#include "common/bytes.h"
#include "common/limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 64 * 1024 };

static int read_all(FILE *file, const char *name, struct kv_buf *buf, struct kv_error *ret_error)
{
    for (;;) {
        uint8_t *p = kv_buf_reserve(buf, PIECE_BYTES);
        size_t size;

        if (!p || buf->size > KV_VALUE_BYTES_MAX) {
            return kv_error_set(ret_error,
                                KV_TOO_LARGE,
                                "%s has more than the %llu bytes of the largest value",
                                name,
                                (unsigned long long)KV_VALUE_BYTES_MAX);
        }
        size = fread(p, 1, PIECE_BYTES, file);
        buf->size += size;
        if (size == 0) {
            break;
        }
    }
    if (ferror(file)) {
        return kv_error_set(ret_error, KV_IO, "reading %s: %s", name, strerror(errno));
    }
    return 0;
}

int kvctl_read_value(const char *argument,
                     FILE *input,
                     struct kv_bytes *ret_value,
                     void **ret_memory,
                     struct kv_error *ret_error)
{
    struct kv_buf buf;
    FILE *file = input;
    int status;

    *ret_memory = NULL;
    if (argument[0] == '@' && argument[1] == '@') {
        *ret_value = kv_bytes_str(argument + 1);
        return 0;
    }
    if (argument[0] != '@' && strcmp(argument, "-") != 0) {
        *ret_value = kv_bytes_str(argument);
        return 0;
    }
    if (argument[0] == '@') {
        file = fopen(argument + 1, "rb");
        if (!file) {
            return kv_error_set(ret_error, KV_IO, "%s: %s", argument + 1, strerror(errno));
        }
    }
    kv_buf_init(&buf, KV_VALUE_BYTES_MAX + 2 * PIECE_BYTES);
    status = read_all(file, file == input ? "standard input" : argument + 1, &buf, ret_error);
    if (file != input) {
        fclose(file);
    }
    if (status < 0) {
        kv_buf_deinit(&buf);
        return status;
    }
    *ret_value = kv_bytes_of(buf.data, buf.size);
    *ret_memory = buf.data;
    return 0;
}
