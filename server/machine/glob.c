#include "server/machine/glob.h"

#include <string.h>

/* Bytes that one place of the pattern lets pass. */
struct set {
    uint64_t bits[4];
};

struct parser {
    struct kv_slice pattern;
    size_t at;
    struct kv_glob *glob;
    size_t n_places;
    bool in_prefix; /* nothing but single bytes so far */
    struct kv_error *ret_error;
};

static void set_add(struct set *set, unsigned from, unsigned to)
{
    for (unsigned byte = from; byte <= to; byte++) {
        set->bits[byte / 64] |= UINT64_C(1) << byte % 64;
    }
}

static int malformed(const struct parser *parser, size_t at, const char *what)
{
    return kv_error_set(parser->ret_error, KV_INVALID, "the pattern %s at byte %zu", what, at);
}

/* The next byte, which a backslash may hide from its meaning. */
static int take_byte(struct parser *parser, size_t from, const char *what, uint8_t *ret_byte)
{
    if (parser->at < parser->pattern.size && parser->pattern.data[parser->at] == '\\') {
        parser->at++;
    }
    if (parser->at == parser->pattern.size) {
        return malformed(parser, from, what);
    }
    *ret_byte = parser->pattern.data[parser->at++];
    return 0;
}

static bool next_is(const struct parser *parser, size_t ahead, char byte)
{
    return parser->at + ahead < parser->pattern.size &&
           parser->pattern.data[parser->at + ahead] == (uint8_t)byte;
}

/* Behind the opening bracket. */
static int parse_set(struct parser *parser, struct set *set)
{
    static const char *const open = "has a set without its closing bracket, which began";
    const size_t from = parser->at - 1;
    const bool negated = next_is(parser, 0, '!');
    uint8_t low, high;
    int status;

    parser->at += negated;
    if (next_is(parser, 0, ']')) {
        return malformed(parser, from, "has an empty set");
    }
    while (!next_is(parser, 0, ']')) {
        status = take_byte(parser, from, open, &low);
        high = low;
        if (status == 0 && next_is(parser, 0, '-') && !next_is(parser, 1, ']')) {
            parser->at++;
            status = take_byte(parser, from, open, &high);
        }
        if (status != 0) {
            return status;
        }
        if (high < low) {
            return malformed(parser, from, "has a set with a range that runs backward,");
        }
        set_add(set, low, high);
    }
    parser->at++;
    for (unsigned i = 0; i < 4 && negated; i++) {
        set->bits[i] = ~set->bits[i];
    }
    return 0;
}

static int add_place(struct parser *parser, const struct set *set)
{
    struct kv_glob *glob = parser->glob;
    const size_t place = parser->n_places++;

    if (place == KV_GLOB_PLACES_MAX) {
        return kv_error_set(parser->ret_error,
                            KV_INVALID,
                            "the pattern is costly: behind its first special byte at most %u bytes "
                            "may have to match",
                            KV_GLOB_PLACES_MAX);
    }
    for (unsigned byte = 0; glob && byte < 256; byte++) {
        if (set->bits[byte / 64] >> byte % 64 & 1) {
            glob->passes[byte][place / 64] |= UINT64_C(1) << place % 64;
        }
    }
    return 0;
}

static int parse_byte(struct parser *parser, struct set *set)
{
    uint8_t byte = 0;
    int status = take_byte(parser, parser->pattern.size - 1, "ends in a lone backslash,", &byte);

    if (status != 0) {
        return status;
    }
    if (!parser->in_prefix) {
        set_add(set, byte, byte);
        return add_place(parser, set);
    }
    if (parser->glob) {
        parser->glob->prefix[parser->glob->prefix_size++] = byte;
    }
    return 0;
}

static int parse_one(struct parser *parser)
{
    struct set set = {{0}};
    int status;

    switch (parser->pattern.data[parser->at]) {
    case '*':
        parser->at++;
        parser->in_prefix = false;
        if (parser->glob) {
            parser->glob->stays[parser->n_places / 64] |= UINT64_C(1) << parser->n_places % 64;
        }
        return 0;
    case '?':
        parser->at++;
        parser->in_prefix = false;
        set_add(&set, 0, 255);
        return add_place(parser, &set);
    case '[':
        parser->at++;
        parser->in_prefix = false;
        status = parse_set(parser, &set);
        return status == 0 ? add_place(parser, &set) : status;
    default:
        return parse_byte(parser, &set);
    }
}

int kv_glob_compile(struct kv_slice pattern, struct kv_glob *ret_glob, struct kv_error *ret_error)
{
    struct parser parser = {
        .pattern = pattern, .glob = ret_glob, .in_prefix = true, .ret_error = ret_error};
    int status = 0;

    if (pattern.size == 0 || pattern.size > KV_GLOB_BYTES_MAX) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "the pattern has %zu bytes: 1 to %u",
                            pattern.size,
                            KV_GLOB_BYTES_MAX);
    }
    if (ret_glob) {
        memset(ret_glob, 0, sizeof *ret_glob);
    }
    while (status == 0 && parser.at < pattern.size) {
        status = parse_one(&parser);
    }
    if (status == 0 && ret_glob) {
        ret_glob->n_places = parser.n_places;
        ret_glob->n_words = parser.n_places / 64 + 1;
    }
    return status;
}

/* Of one that is told by its prefix that it does not match: memory that is not at hand. */
enum { STEPS_AT_LEAST = 4 };

bool kv_glob_match(const struct kv_glob *glob, struct kv_slice text, uint64_t *work)
{
    uint64_t places[KV_GLOB_WORDS] = {1}; /* that the text may have come to */

    *work += STEPS_AT_LEAST;
    if (text.size < glob->prefix_size || memcmp(text.data, glob->prefix, glob->prefix_size) != 0) {
        return false;
    }
    for (size_t i = glob->prefix_size; i < text.size; i++) {
        const uint64_t *passes = glob->passes[text.data[i]];
        uint64_t carry = 0;
        uint64_t any = 0;

        *work += glob->n_words;
        for (size_t word = 0; word < glob->n_words; word++) {
            const uint64_t passed = places[word] & passes[word];

            places[word] = (places[word] & glob->stays[word]) | passed << 1 | carry;
            carry = passed >> 63;
            any |= places[word];
        }
        if (any == 0) {
            return false;
        }
    }
    return places[glob->n_places / 64] >> glob->n_places % 64 & 1;
}
