/* Base64 (RFC 4648, with padding), and what is text. */
#include "client/kvctl/kvctl.h"

#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t kvctl_utf8_length(const uint8_t *p, size_t size)
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

bool kvctl_is_text(struct kv_bytes bytes)
{
    const uint8_t *p = bytes.data;

    for (size_t i = 0; i < bytes.size;) {
        size_t length = kvctl_utf8_length(p + i, bytes.size - i);

        if (length == 0 || p[i] == 0) {
            return false;
        }
        i += length;
    }
    return true;
}

size_t kvctl_base64_size(size_t size)
{
    return (size + 2) / 3 * 4;
}

void kvctl_base64_encode(struct kv_bytes bytes, char *ret_text)
{
    const uint8_t *p = bytes.data;

    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t n = bytes.size - i < 3 ? bytes.size - i : 3;
        unsigned bits = (unsigned)p[i] << 16 | (n > 1 ? (unsigned)p[i + 1] << 8 : 0) |
                        (n > 2 ? (unsigned)p[i + 2] : 0);

        *ret_text++ = digits[bits >> 18 & 63];
        *ret_text++ = digits[bits >> 12 & 63];
        *ret_text++ = n > 1 ? digits[bits >> 6 & 63] : '=';
        *ret_text++ = n > 2 ? digits[bits & 63] : '=';
    }
    *ret_text = '\0';
}

bool kvctl_base64_decode(struct kv_bytes text, uint8_t *ret_bytes, size_t *ret_size)
{
    const char *p = text.data;
    size_t padding = 0;
    uint32_t bits = 0;
    size_t size = 0;

    if (text.size % 4 != 0) {
        return false;
    }
    while (padding < 2 && padding < text.size && p[text.size - 1 - padding] == '=') {
        padding++;
    }
    for (size_t i = 0; i < text.size; i++) {
        const char *at = i < text.size - padding && p[i] ? strchr(digits, p[i]) : NULL;

        if (!at && i < text.size - padding) {
            return false;
        }
        bits = bits << 6 | (at ? (uint32_t)(at - digits) : 0);
        if (i % 4 == 3) {
            ret_bytes[size++] = (uint8_t)(bits >> 16);
            ret_bytes[size++] = (uint8_t)(bits >> 8);
            ret_bytes[size++] = (uint8_t)bits;
        }
    }
    *ret_size = size - padding;
    return true;
}
