/* Bytes on paper: escaped text, JSON, base64. */
#include "client/kvctl/kvctl.h"

#include <inttypes.h>
#include <jansson.h>
#include <kv/keys.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Length of the well-formed UTF-8 character at p, 0 when there is none (RFC 3629: no surrogates, no
 * overlong forms, at most U+10FFFF). */
static size_t utf8_length(const uint8_t *p, size_t size)
{
    uint8_t low = 0x80;
    uint8_t high = 0xbf;
    size_t length;

    if (p[0] < 0x80) {
        return 1;
    }
    if (p[0] < 0xc2 || p[0] > 0xf4) {
        return 0;
    }
    length = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : low;
    high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : high;
    if (size < length || p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < length; i++) {
        if (p[i] < 0x80 || p[i] > 0xbf) {
            return 0;
        }
    }
    return length;
}

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
        size_t length = utf8_length(p + i, bytes.size - i);

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
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = bytes.data;

    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t n = bytes.size - i < 3 ? bytes.size - i : 3;
        unsigned bits = (unsigned)p[i] << 16 | (n > 1 ? (unsigned)p[i + 1] << 8 : 0) |
                        (n > 2 ? (unsigned)p[i + 2] : 0);

        fputc(digits[bits >> 18 & 63], file);
        fputc(digits[bits >> 12 & 63], file);
        fputc(n > 1 ? digits[bits >> 6 & 63] : '=', file);
        fputc(n > 2 ? digits[bits & 63] : '=', file);
    }
}

static int dump_piece(const char *piece, size_t size, void *file)
{
    return fwrite(piece, 1, size, file) == size ? 0 : -1;
}

/* The string is well-formed UTF-8. A failure to write shows at the file's end (ferror). */
static void print_json_text(FILE *file, const char *text, size_t size)
{
    json_t *string = json_stringn_nocheck(text, size);

    if (!string || json_dump_callback(string, dump_piece, file, JSON_ENCODE_ANY) < 0) {
        fputs("\"\"", file);
    }
    json_decref(string);
}

void kvctl_print_json_string(FILE *file, const char *text)
{
    print_json_text(file, text, strlen(text));
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
        size_t length = utf8_length(p + i, bytes.size - i);

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
    print_json_text(file, text ? text : "", text ? size : 0);
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

void kvctl_print_score(FILE *file, double score)
{
    char text[32];

    if (isinf(score)) {
        fputs(score > 0 ? "inf" : "-inf", file);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, score);
        if (strtod(text, NULL) == score) {
            break;
        }
    }
    fputs(text, file);
}
