/* The compares of kvctl txn: from words to their message. */
#include "client/kvctl/txn.h"

#include <kv/keys.h>
#include <string.h>

enum operand { NOTHING, BYTES, NUMBER, TYPE, NAME, NAME_BYTES, NAME_SCORE };

static const struct kind {
    const char *name;
    enum operand operand; /* what follows the key: NAME alone, or [name] OP value */
    Kv__Compare__OperandCase number;
    bool negated;
    const char *usage;
} kinds[] = {
    {"value", BYTES, KV__COMPARE__OPERAND_VALUE, false, "value KEY OP VALUE"},
    {"version", NUMBER, KV__COMPARE__OPERAND_VERSION, false, "version KEY OP N"},
    {"created", NUMBER, KV__COMPARE__OPERAND_CREATE_REVISION, false, "created KEY OP REVISION"},
    {"modified", NUMBER, KV__COMPARE__OPERAND_MOD_REVISION, false, "modified KEY OP REVISION"},
    {"lease", NUMBER, KV__COMPARE__OPERAND_LEASE_ID, false, "lease KEY OP ID"},
    {"type", TYPE, KV__COMPARE__OPERAND_TYPE, false, "type KEY OP TYPE"},
    {"exists", NOTHING, KV__COMPARE__OPERAND_EXISTS, false, "exists KEY"},
    {"absent", NOTHING, KV__COMPARE__OPERAND_EXISTS, true, "absent KEY"},
    {"counter", NUMBER, KV__COMPARE__OPERAND_COUNTER, false, "counter KEY OP N"},
    {"field", NAME_BYTES, KV__COMPARE__OPERAND_HASH_FIELD, false, "field KEY NAME OP VALUE"},
    {"member", NAME, KV__COMPARE__OPERAND_SET_MEMBER, false, "member KEY MEMBER"},
    {"not-member", NAME, KV__COMPARE__OPERAND_SET_MEMBER, true, "not-member KEY MEMBER"},
    {"score", NAME_SCORE, KV__COMPARE__OPERAND_ZSET_SCORE, false, "score KEY MEMBER OP SCORE"},
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

static const char *kind_name(size_t i)
{
    return kinds[i].name;
}

static ProtobufCBinaryData bytes_of(const char *word)
{
    return (ProtobufCBinaryData){strlen(word), (uint8_t *)word};
}

/* KEY, or --prefix P, --from A, --to B, --all; how many words that was, 0: none. */
static size_t take_range(const char *const *words, size_t n_words, Kv__KeyRange *range)
{
    size_t used = 0;

    kv__key_range__init(range);
    if (n_words == 0) {
        return 0;
    }
    if (strcmp(words[0], "--all") == 0) {
        range->special = KV__KEY_RANGE__SPECIAL__ALL;
        return 1;
    }
    if (strcmp(words[0], "--prefix") == 0 && n_words > 1) {
        range->special = KV__KEY_RANGE__SPECIAL__PREFIX;
        range->start = bytes_of(words[1]);
        return 2;
    }
    if (strcmp(words[0], "--from") == 0 && n_words > 1) {
        range->special = KV__KEY_RANGE__SPECIAL__FROM_KEY;
        range->start = bytes_of(words[1]);
        used = 2;
    }
    if (used + 1 < n_words && strcmp(words[used], "--to") == 0) {
        range->special = KV__KEY_RANGE__SPECIAL__NONE;
        range->end = bytes_of(words[used + 1]);
        if (used == 0) {
            /* The least key there can be. */
            range->start = (ProtobufCBinaryData){1, (uint8_t *)"\0"};
        }
        return used + 2;
    }
    if (used > 0) {
        return used;
    }
    /* "--" before a key that begins with dashes. */
    used = strcmp(words[0], "--") == 0 && n_words > 1;
    range->start = bytes_of(words[used]);
    return used + 1;
}

static bool take_comparison(const char *word, Kv__Comparison *ret_comparison)
{
    static const char *const names[] = {"=", "!=", "<", "<=", ">", ">="};

    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(word, names[i]) == 0 || (i == 0 && strcmp(word, "==") == 0)) {
            *ret_comparison = (Kv__Comparison)i;
            return true;
        }
    }
    return false;
}

static bool take_type(const char *word, Kv__Compare *compare)
{
    for (int type = KV_TYPE_NONE; type <= KV_TYPE_LIMITER; type++) {
        if (strcmp(word, kv_type_name((enum kv_type)type)) == 0) {
            compare->type = (Kv__Type)type;
            return true;
        }
    }
    return false;
}

/* The value behind the operator; false: it is of the wrong kind. */
static bool take_operand(struct kvctl_call *call,
                         const struct kind *kind,
                         const char *name,
                         const char *word,
                         Kv__Compare *compare)
{
    switch (kind->operand) {
    case BYTES:
        compare->value = bytes_of(word);
        return true;
    case NUMBER:
        /* Any of the int64 members: they share their place. */
        return kvctl_parse_number(word, INT64_MIN, INT64_MAX, &compare->counter);
    case TYPE:
        return take_type(word, compare);
    case NAME_BYTES:
        compare->hash_field = kvctl_alloc(call, sizeof *compare->hash_field);
        kv__compare__field_value__init(compare->hash_field);
        compare->hash_field->field = bytes_of(name);
        compare->hash_field->value = bytes_of(word);
        return true;
    case NAME_SCORE:
        compare->zset_score = kvctl_alloc(call, sizeof *compare->zset_score);
        kv__compare__member_score__init(compare->zset_score);
        compare->zset_score->member = bytes_of(name);
        return kvctl_parse_score(word, &compare->zset_score->score);
    default:
        return false;
    }
}

/* What is behind the key. */
static int fill_compare(struct kvctl_txn_reader *reader,
                        const struct kind *kind,
                        const char *const *words,
                        size_t n_words,
                        Kv__Compare *compare)
{
    bool named = kind->operand >= NAME;
    size_t wanted = kind->operand == NOTHING ? 0 : kind->operand == NAME ? 1 : 2 + named;
    struct kvctl_call call = {.kvctl = reader->kvctl, .arena = reader->arena};

    if (n_words != wanted) {
        return kvctl_txn_wrong(reader, "usage: if %s", kind->usage);
    }
    compare->operand_case = kind->number;
    compare->comparison =
        kind->negated ? KV__COMPARISON__COMPARE_NOT_EQUAL : KV__COMPARISON__COMPARE_EQUAL;
    if (kind->operand == NOTHING) {
        compare->exists = true;
        return KVCTL_OK;
    }
    if (kind->operand == NAME) {
        compare->set_member = bytes_of(words[0]);
        return KVCTL_OK;
    }
    if (!take_comparison(words[named], &compare->comparison)) {
        return kvctl_txn_wrong(
            reader, "OP is one of = != < <= > >=, not \"%.60s\": if %s", words[named], kind->usage);
    }
    if (!take_operand(&call, kind, words[0], words[named + 1], compare)) {
        return kvctl_txn_wrong(
            reader, "\"%.60s\" does not fit: if %s", words[named + 1], kind->usage);
    }
    return KVCTL_OK;
}

static void
add_compare(struct kvctl_txn_reader *reader, struct kvctl_txn *txn, Kv__Compare *compare)
{
    struct kvctl_call call = {.kvctl = reader->kvctl, .arena = reader->arena};

    if (txn->message.n_compares == txn->compares_size) {
        size_t size = txn->compares_size ? 2 * txn->compares_size : 8;
        Kv__Compare **list = kvctl_alloc(&call, size * sizeof *list);

        if (txn->message.n_compares > 0) {
            memcpy(list, txn->message.compares, txn->message.n_compares * sizeof *list);
        }
        txn->message.compares = list;
        txn->compares_size = size;
    }
    txn->message.compares[txn->message.n_compares++] = compare;
}

int kvctl_txn_compare(struct kvctl_txn_reader *reader,
                      struct kvctl_txn *txn,
                      const char *const *words,
                      size_t n_words)
{
    struct kvctl_call call = {.kvctl = reader->kvctl, .arena = reader->arena};
    Kv__Compare *compare = kvctl_alloc(&call, sizeof *compare);
    const struct kind *kind = NULL;
    size_t used;
    int code;

    for (size_t i = 0; n_words > 0 && i < N_KINDS; i++) {
        if (strcmp(words[0], kinds[i].name) == 0) {
            kind = &kinds[i];
        }
    }
    if (!kind) {
        const char *nearest = n_words > 0 ? kvctl_nearest(words[0], kind_name, N_KINDS) : NULL;

        return kvctl_txn_wrong(reader,
                               "\"if %.60s\": what is compared? %s%s",
                               n_words > 0 ? words[0] : "",
                               nearest ? "did you mean " : "see kvctl help txn",
                               nearest ? nearest : "");
    }
    kv__compare__init(compare);
    compare->range = kvctl_alloc(&call, sizeof *compare->range);
    used = take_range(words + 1, n_words - 1, compare->range);
    if (used == 0) {
        return kvctl_txn_wrong(reader, "usage: if %s", kind->usage);
    }
    code = fill_compare(reader, kind, words + 1 + used, n_words - 1 - used, compare);
    if (code == KVCTL_OK) {
        add_compare(reader, txn, compare);
    }
    return code;
}
