/* The values of feature flags, and whom a percentage means: see kv/flags.h. */
#include <kv/flags.h>
#include <stdio.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { PERCENT = KV_FLAG_FULL / 100 };

/* ---------------------------------------------------------------- text */

/* Digits; at most `max`. Moves *p behind them. */
static bool take_number(const char **p, const char *end, unsigned max, unsigned *ret_number)
{
    unsigned number = 0;
    const char *from = *p;

    while (*p < end && **p >= '0' && **p <= '9' && number <= max) {
        number = number * 10 + (unsigned)(*(*p)++ - '0');
    }
    *ret_number = number;
    return *p > from && number <= max;
}

bool kv_flags_parse_percent(struct kv_bytes text, unsigned *ret_rollout)
{
    const char *p = text.data;
    const char *end = p + text.size;
    unsigned whole;
    unsigned part = 0;

    if (text.size > 0 && end[-1] == '%') {
        end--;
    }
    if (text.size == 0 || !take_number(&p, end, 100, &whole)) {
        return false;
    }
    if (p < end && *p == '.') {
        size_t digits = (size_t)(end - ++p);

        if (digits < 1 || digits > 2 || !take_number(&p, end, 99, &part)) {
            return false;
        }
        part *= digits == 1 ? 10 : 1;
    }
    if (p != end || whole * PERCENT + part > KV_FLAG_FULL) {
        return false;
    }
    *ret_rollout = whole * PERCENT + part;
    return true;
}

bool kv_flags_parse(struct kv_bytes value, struct kv_flag *ret_flag)
{
    const char *p = value.data;
    struct kv_flag flag = {.rollout = KV_FLAG_FULL};
    size_t word = value.size >= 2 && memcmp(p, "on", 2) == 0    ? 2
                  : value.size >= 3 && memcmp(p, "off", 3) == 0 ? 3
                                                                : 0;

    flag.enabled = word == 2;
    if (word == 0 || (value.size > word && p[word] != ' ')) {
        return false;
    }
    if (value.size > word &&
        (p[value.size - 1] != '%' ||
         !kv_flags_parse_percent(kv_bytes_of(p + word + 1, value.size - word - 1),
                                 &flag.rollout))) {
        return false;
    }
    *ret_flag = flag;
    return true;
}

void kv_flags_format(const struct kv_flag *flag, char text[KV_FLAG_TEXT_BYTES])
{
    const char *word = flag->enabled ? "on" : "off";
    unsigned whole = flag->rollout / PERCENT % 101;
    unsigned part = flag->rollout % PERCENT;

    if (flag->rollout >= KV_FLAG_FULL) {
        snprintf(text, KV_FLAG_TEXT_BYTES, "%s", word);
    } else if (part == 0) {
        snprintf(text, KV_FLAG_TEXT_BYTES, "%s %u%%", word, whole);
    } else if (part % 10 == 0) {
        snprintf(text, KV_FLAG_TEXT_BYTES, "%s %u.%u%%", word, whole, part / 10);
    } else {
        snprintf(text, KV_FLAG_TEXT_BYTES, "%s %u.%02u%%", word, whole, part);
    }
}

/* ---------------------------------------------------------------- whom it means */

static uint64_t bucket_long(struct kv_bytes name, struct kv_bytes id)
{
    XXH3_state_t state;

    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, name.data, name.size);
    XXH3_64bits_update(&state, "", 1);
    XXH3_64bits_update(&state, id.data, id.size);
    return XXH3_64bits_digest(&state);
}

static uint64_t bucket(struct kv_bytes name, struct kv_bytes id)
{
    char text[256];

    if (name.size + 1 + id.size > sizeof text) {
        return bucket_long(name, id) % KV_FLAG_FULL;
    }
    memcpy(text, name.data, name.size);
    text[name.size] = '\0';
    if (id.size > 0) {
        memcpy(text + name.size + 1, id.data, id.size);
    }
    return XXH3_64bits(text, name.size + 1 + id.size) % KV_FLAG_FULL;
}

bool kv_flags_decide(const struct kv_flag *flag, struct kv_bytes name, struct kv_bytes id)
{
    return flag->enabled && (flag->rollout >= KV_FLAG_FULL || bucket(name, id) < flag->rollout);
}
