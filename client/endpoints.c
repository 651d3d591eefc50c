/* Lists of endpoints as users write them. */
#include "client/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PORT_DEFAULT = 4700, PORT_MAX = 65535 };

/* Digits only, 1..65535; -1 otherwise. */
static long parse_port(const char *text, size_t size)
{
    long port = 0;

    if (size == 0 || size > 5) {
        return -1;
    }
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -1;
        }
        port = port * 10 + (text[i] - '0');
    }
    return port >= 1 && port <= PORT_MAX ? port : -1;
}

static int parse_one(const char *text,
                     size_t size,
                     char ret_address[KV_CLIENT_ADDRESS_BYTES],
                     struct kv_error *ret_error)
{
    const char *end = text + size;
    const char *colon = NULL;
    const char *host_end;
    long port = PORT_DEFAULT;

    if (size > 0 && text[0] == '[') {
        const char *bracket = memchr(text, ']', size);

        if (!bracket || (bracket + 1 < end && bracket[1] != ':')) {
            goto invalid;
        }
        colon = bracket + 1 < end ? bracket + 1 : NULL;
        host_end = bracket + 1;
    } else {
        colon = memchr(text, ':', size);
        host_end = colon ? colon : end;
        if (colon && memchr(colon + 1, ':', (size_t)(end - colon - 1))) {
            goto invalid;
        }
    }
    if (colon) {
        port = parse_port(colon + 1, (size_t)(end - colon - 1));
    }
    if (port < 0 || host_end == text || (size_t)(host_end - text) > KV_NAME_BYTES_MAX) {
        goto invalid;
    }
    for (const char *p = text; p < host_end; p++) {
        if ((unsigned char)*p <= ' ' || *p == '/' || *p == '@') {
            goto invalid;
        }
    }
    snprintf(ret_address, KV_CLIENT_ADDRESS_BYTES, "%.*s:%ld", (int)(host_end - text), text, port);
    return 0;
invalid:
    return kv_error_set(ret_error,
                        KV_INVALID,
                        "endpoint \"%.*s\": want host, host:port or [IPv6 address]:port, the port "
                        "from 1 to 65535",
                        size > 100 ? 100 : (int)size,
                        text);
}

int kv_endpoints_parse(const char *text,
                       char (*ret_addresses)[KV_CLIENT_ADDRESS_BYTES],
                       size_t *ret_count,
                       struct kv_error *ret_error)
{
    size_t count = 0;

    for (const char *p = text; p;) {
        const char *comma = strchr(p, ',');
        size_t size = comma ? (size_t)(comma - p) : strlen(p);
        int status;

        if (count == KV_CLIENT_ENDPOINTS_MAX) {
            return kv_error_set(
                ret_error, KV_INVALID, "more than %u endpoints", KV_CLIENT_ENDPOINTS_MAX);
        }
        status = parse_one(p, size, ret_addresses[count], ret_error);
        if (status < 0) {
            return status;
        }
        count++;
        p = comma ? comma + 1 : NULL;
    }
    if (count == 0) {
        return kv_error_set(ret_error, KV_INVALID, "no endpoints given, want host:port,host:port");
    }
    *ret_count = count;
    return 0;
}
