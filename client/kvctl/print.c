/* Bytes on paper: escaped text, JSON, base64. */
#include "client/kvctl/kvctl.h"

#include <inttypes.h>
#include <jansson.h>
#include <kv/keys.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void print_escape(FILE *file, uint8_t byte)
{
    switch (byte) {
    case '\n':
        fputs("\\n", file);
        break;
    case '\t':
        fputs("\\t", file);
        break;
    case '\\':
        fputs("\\\\", file);
        break;
    default:
        fprintf(file, "\\x%02x", byte);
    }
}

void kvctl_print_escaped(FILE *file, struct kv_bytes bytes)
{
    const uint8_t *p = bytes.data;

    for (size_t i = 0; i < bytes.size;) {
        size_t length = kvctl_utf8_length(p + i, bytes.size - i);

        if (length == 0 || p[i] < 0x20 || p[i] == 0x7f || p[i] == '\\') {
            print_escape(file, p[i]);
            i++;
        } else {
            fwrite(p + i, 1, length, file);
            i += length;
        }
    }
}

void kvctl_print_text(FILE *file, struct kv_bytes bytes)
{
    const char *p = bytes.data;

    if (bytes.size > 1 && p[0] == '(' && p[bytes.size - 1] == ')') {
        fputc('\\', file);
    }
    kvctl_print_escaped(file, bytes);
}

void kvctl_print_text_value(FILE *file, const struct kv_pair *pair)
{
    switch (pair->type) {
    case KV_TYPE_NONE:
    case KV_TYPE_STRING:
        kvctl_print_text(file, pair->value);
        break;
    case KV_TYPE_COUNTER:
        fprintf(file, "%" PRId64, pair->counter);
        break;
    case KV_TYPE_LIMITER:
        fputs("(limiter)", file);
        break;
    default:
        fprintf(file, "(%s of %" PRIu64 ")", kv_type_name(pair->type), pair->elements);
    }
}

struct kv_pair kvctl_pair(const Kv__KeyValue *kv)
{
    return (struct kv_pair){
        .key = {kv->key.data, kv->key.len},
        .value = {kv->value.data, kv->value.len},
        .type = (enum kv_type)kv->type,
        .create_revision = kv->create_revision,
        .mod_revision = kv->mod_revision,
        .version = kv->version,
        .lease_id = kv->lease_id,
        .expires_at_ms = kv->expires_at_ms,
        .counter = kv->counter,
        .elements = kv->elements,
    };
}

void kvctl_print_raw(FILE *file, struct kv_bytes bytes)
{
    if (bytes.size > 0) {
        fwrite(bytes.data, 1, bytes.size, file);
    }
}

static void print_base64(FILE *file, struct kv_bytes bytes)
{
    const uint8_t *p = bytes.data;
    char text[5];

    for (size_t i = 0; i < bytes.size; i += 3) {
        kvctl_base64_encode(kv_bytes_of(p + i, bytes.size - i < 3 ? bytes.size - i : 3), text);
        fputs(text, file);
    }
}

static int dump_piece(const char *piece, size_t size, void *file)
{
    return fwrite(piece, 1, size, file) == size ? 0 : -1;
}

void kvctl_print_json_text(FILE *file, const char *text, size_t size)
{
    json_t *string = json_stringn_nocheck(text, size);

    if (!string || json_dump_callback(string, dump_piece, file, JSON_ENCODE_ANY) < 0) {
        fputs("\"\"", file);
    }
    json_decref(string);
}

void kvctl_print_json_string(FILE *file, const char *text)
{
    kvctl_print_json_text(file, text, strlen(text));
}

/* Bad bytes replaced by U+FFFD; the caller frees it. NULL: no memory. */
static char *replace_bad(struct kv_bytes bytes, size_t *ret_size, bool *ret_bad)
{
    static const char replacement[] = "\xef\xbf\xbd";
    const uint8_t *p = bytes.data;
    char *text = malloc(bytes.size * 3 + 1);
    size_t size = 0;

    *ret_bad = false;
    for (size_t i = 0; text && i < bytes.size;) {
        size_t length = kvctl_utf8_length(p + i, bytes.size - i);

        if (length == 0) {
            memcpy(text + size, replacement, 3);
            size += 3;
            i++;
            *ret_bad = true;
        } else {
            memcpy(text + size, p + i, length);
            size += length;
            i += length;
        }
    }
    *ret_size = size;
    return text;
}

void kvctl_print_json_bytes(FILE *file, const char *name, struct kv_bytes bytes)
{
    bool bad;
    size_t size;
    char *text = replace_bad(bytes, &size, &bad);

    fprintf(file, "\"%s\":", name);
    kvctl_print_json_text(file, text ? text : "", text ? size : 0);
    if (bad || !text) {
        fprintf(file, ",\"%s_base64\":\"", name);
        print_base64(file, bytes);
        fputc('"', file);
    }
    free(text);
}

void kvctl_print_json_pair(FILE *file, const struct kv_pair *pair, bool keys_only)
{
    fputc('{', file);
    kvctl_print_json_bytes(file, "key", pair->key);
    if (keys_only) {
        /* Neither value nor size was asked for. */
    } else if (pair->type == KV_TYPE_STRING || pair->type == KV_TYPE_NONE) {
        fputc(',', file);
        kvctl_print_json_bytes(file, "value", pair->value);
    } else if (pair->type == KV_TYPE_COUNTER) {
        fprintf(file, ",\"value\":%" PRId64, pair->counter);
    } else if (pair->type != KV_TYPE_LIMITER) {
        fprintf(file, ",\"elements\":%" PRIu64, pair->elements);
    }
    fprintf(file,
            ",\"type\":\"%s\",\"create_revision\":%" PRId64 ",\"mod_revision\":%" PRId64
            ",\"version\":%" PRId64,
            kv_type_name(pair->type),
            pair->create_revision,
            pair->mod_revision,
            pair->version);
    if (pair->lease_id != 0) {
        fprintf(file, ",\"lease_id\":%" PRId64, pair->lease_id);
    }
    if (pair->expires_at_ms != 0) {
        fprintf(file, ",\"expires_at_ms\":%" PRId64, pair->expires_at_ms);
    }
    fputc('}', file);
}

void kvctl_format_score(double score, char *ret_text, size_t size)
{
    if (isinf(score)) {
        snprintf(ret_text, size, "%s", score > 0 ? "inf" : "-inf");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(ret_text, size, "%.*g", digits, score);
        if (strtod(ret_text, NULL) == score) {
            break;
        }
    }
}

void kvctl_print_score(FILE *file, double score)
{
    char text[32];

    kvctl_format_score(score, text, sizeof text);
    fputs(text, file);
}
