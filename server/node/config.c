#include "server/node/config.h"

#include "common/crc32c.h"
#include "common/limits.h"
#include "server/node/config_internal.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* A name that is this close to an option's was meant to be it. */
enum { NEAR_EDITS = 2 };

/* A bound of limits.h as the text that a user would write. */
#define TEXT_OF(number) TEXT_OF_EXPANDED(number)
#define TEXT_OF_EXPANDED(number) #number
#define FIELD(field) offsetof(struct kv_config, field), sizeof(((struct kv_config *)0)->field)

const struct kv_option kv_options[] = {
    {"node-id",
     KV_OPTION_NUMBER,
     FIELD(node_id),
     "1",
     1,
     INT64_MAX,
     "",
     "this node's number in the cluster; never used again for another"},
    {"cluster",
     KV_OPTION_TEXT,
     FIELD(cluster),
     "kvd",
     0,
     0,
     "",
     "clusters of different names never mix"},
    {"cluster-id",
     KV_OPTION_NUMBER,
     FIELD(given_cluster_id),
     "0",
     0,
     INT64_MAX,
     "",
     "the cluster's number instead of one made of its name; 0: of its name"},
    {"members",
     KV_OPTION_TEXT,
     FIELD(members_text),
     "",
     0,
     0,
     "",
     "first members as ID=HOST:PORT,... (peer addresses); empty: this node alone"},
    {"data-dir",
     KV_OPTION_TEXT,
     FIELD(data_dir),
     "kvd-data",
     0,
     0,
     "",
     "where this node keeps its data"},
    {"client-listen",
     KV_OPTION_TEXT,
     FIELD(listen_client),
     "127.0.0.1:4700",
     0,
     0,
     "",
     "address for clients"},
    {"client-address",
     KV_OPTION_TEXT,
     FIELD(advertise_client),
     "",
     0,
     0,
     "",
     "where clients reach this node; empty: client-listen"},
    {"peer-listen",
     KV_OPTION_TEXT,
     FIELD(listen_peer),
     "127.0.0.1:4701",
     0,
     0,
     "",
     "address for the other nodes"},
    {"http-listen",
     KV_OPTION_TEXT,
     FIELD(listen_http),
     "127.0.0.1:4702",
     0,
     0,
     "",
     "address for metrics and health; empty: none"},
    {"ports-file",
     KV_OPTION_TEXT,
     FIELD(ports_file),
     "",
     0,
     0,
     "",
     "file to write the bound ports to, once serving begins"},
    {"net-threads",
     KV_OPTION_NUMBER,
     FIELD(net_threads),
     "0",
     0,
     64,
     "",
     "network threads; 0: half of the cores, at most 4; none on two cores or fewer: the core "
     "serves"},
    {"max-connections",
     KV_OPTION_NUMBER,
     FIELD(max_connections),
     TEXT_OF(KV_CONNECTIONS_MAX),
     1,
     1000000,
     "",
     "clients at once"},
    {"election-timeout",
     KV_OPTION_TIME,
     FIELD(election_timeout_ms),
     TEXT_OF(KV_ELECTION_TIMEOUT_MS) "ms",
     50,
     60000,
     "ms",
     "silence of the leader after which an election starts (1x to 2x)"},
    {"heartbeat-interval",
     KV_OPTION_TIME,
     FIELD(heartbeat_ms),
     TEXT_OF(KV_HEARTBEAT_TIMEOUT_MS) "ms",
     5,
     10000,
     "ms",
     "sign of life of the leader; at most a third of election-timeout"},
    {"wal-segment-size",
     KV_OPTION_SIZE,
     FIELD(wal_segment_bytes),
     "64MiB",
     20 * 1024 * 1024,
     1024 * 1024 * 1024,
     "bytes",
     "size of a file of the log"},
    {"snapshot-log-size",
     KV_OPTION_SIZE,
     FIELD(snapshot_log_bytes),
     "64MiB",
     1024 * 1024,
     1024 * 1024 * 1024,
     "bytes",
     "log applied since the last snapshot that makes a new one due; half of the state if that is "
     "more"},
    {"snapshot-transfer-rate",
     KV_OPTION_SIZE,
     FIELD(snapshot_bytes_per_s),
     "256MiB",
     1024 * 1024,
     1000 * 1024 * 1024,
     "bytes",
     "bytes of a snapshot that go to another node in a second, at most"},
    {"max-data-bytes",
     KV_OPTION_SIZE,
     FIELD(max_data_bytes),
     "0B",
     0,
     (int64_t)KV_DATA_BYTES_MAX,
     "bytes",
     "data limit of a new cluster, history included; 0B: none; later: setting data-limit"},
    {"log-level",
     KV_OPTION_TEXT,
     FIELD(log_level),
     "info",
     0,
     0,
     "",
     "debug, info, warn, error or off"},
    {"peer-compression",
     KV_OPTION_BOOL,
     FIELD(peer_compression),
     "true",
     0,
     1,
     "",
     "lz4 between nodes for large messages, when it pays"},
};
const size_t kv_n_options = sizeof kv_options / sizeof kv_options[0];

const struct kv_option *kv_option_find(const char *name, size_t size)
{
    for (size_t i = 0; i < kv_n_options; i++) {
        if (strlen(kv_options[i].name) == size && memcmp(kv_options[i].name, name, size) == 0) {
            return &kv_options[i];
        }
    }
    return NULL;
}

/* Edits between two names, for "did you mean". */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[65];
    size_t n = strlen(b) < 64 ? strlen(b) : 64;

    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t changed = diagonal + (a[i - 1] != b[j - 1]);
            size_t best = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;

            diagonal = row[j];
            row[j] = changed < best ? changed : best;
        }
    }
    return row[n];
}

const char *kv_option_nearest(const char *name)
{
    const char *best = kv_options[0].name;
    size_t size = strlen(name);

    /* The beginning of a name was meant to be the whole. */
    for (size_t i = 0; i < kv_n_options && size >= 3; i++) {
        if (strncmp(kv_options[i].name, name, size) == 0) {
            return kv_options[i].name;
        }
    }
    for (size_t i = 1; i < kv_n_options; i++) {
        if (edit_distance(name, kv_options[i].name) < edit_distance(name, best)) {
            best = kv_options[i].name;
        }
    }
    return best;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit time_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {NULL, 0}};
static const struct unit size_units[] = {
    {"B", 1}, {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824}, {NULL, 0}};

static int parse_number(const struct kv_option *option,
                        const char *text,
                        const char *place,
                        uint64_t *ret_value,
                        struct kv_error *ret_error)
{
    const struct unit *units = option->type == KV_OPTION_TIME   ? time_units
                               : option->type == KV_OPTION_SIZE ? size_units
                                                                : NULL;
    uint64_t factor = 0;
    uint64_t value;
    char *end;

    value = strtoull(text, &end, 10);
    /* strtoull would take blanks and signs too. */
    if (text[0] < '0' || text[0] > '9') {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "%s: %s wants a number%s, not \"%.60s\"",
                            place,
                            option->name,
                            units == time_units   ? " with a unit (ms, s, m, h)"
                            : units == size_units ? " with a unit (B, KiB, MiB, GiB)"
                                                  : "",
                            text);
    }
    for (const struct unit *unit = units; unit && unit->name; unit++) {
        factor = strcmp(end, unit->name) == 0 ? unit->factor : factor;
    }
    if (units && factor == 0) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "%s: %s: unknown unit \"%.20s\"; want %s",
                            place,
                            option->name,
                            end,
                            units == time_units ? "ms, s, m or h" : "B, KiB, MiB or GiB");
    }
    if (!units && *end != '\0') {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "%s: %s wants a plain number, not \"%.60s\"",
                            place,
                            option->name,
                            text);
    }
    factor = factor ? factor : 1;
    if (value > UINT64_MAX / factor || value * factor < option->min ||
        value * factor > option->max) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "%s: %s is %" PRIu64 " to %" PRIu64 " %s, not \"%.60s\"",
                            place,
                            option->name,
                            option->min,
                            option->max,
                            option->unit,
                            text);
    }
    *ret_value = value * factor;
    return 0;
}

/* The character at the front, and its size in bytes; 0: this is no UTF-8. */
static size_t next_character(const char *text, uint32_t *ret_character)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *p = (const uint8_t *)text;
    size_t size = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    uint32_t character = size == 1 ? p[0] : p[0] & (0xffu >> (size + 1));

    for (size_t i = 1; i < size; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        character = character << 6 | (p[i] & 0x3f);
    }
    *ret_character = character;
    return p[0] < 0xf8 && size > 0 && character >= least[size] ? size : 0;
}

/* What stays as it is on one line of a log, or of the file that --check-config prints. */
static bool is_one_line(const char *text)
{
    uint32_t c;

    for (size_t size; *text; text += size) {
        size = next_character(text, &c);
        if (size == 0 || c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
            (c >= 0xd800 && c < 0xe000) || c == 0xfeff || c == 0xfffe || c == 0xffff ||
            c > 0x10ffff) {
            return false;
        }
    }
    return true;
}

int kv_option_set(struct kv_config *config,
                  const struct kv_option *option,
                  const char *text,
                  const char *place,
                  struct kv_error *ret_error)
{
    char *field = (char *)config + option->offset;
    uint64_t value = 0;
    int status;

    switch (option->type) {
    case KV_OPTION_TEXT:
        if (strlen(text) >= option->size) {
            return kv_error_set(ret_error,
                                KV_INVALID,
                                "%s: %s is longer than %zu bytes",
                                place,
                                option->name,
                                option->size - 1);
        }
        if (!is_one_line(text)) {
            return kv_error_set(ret_error,
                                KV_INVALID,
                                "%s: %s has control characters, or is not UTF-8",
                                place,
                                option->name);
        }
        snprintf(field, option->size, "%s", text);
        return 0;
    case KV_OPTION_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
            return kv_error_set(ret_error,
                                KV_INVALID,
                                "%s: %s is true or false, not \"%.60s\"",
                                place,
                                option->name,
                                text);
        }
        *(bool *)(void *)field = text[0] == 't';
        return 0;
    default:
        status = parse_number(option, text, place, &value, ret_error);
        if (status == 0) {
            *(uint64_t *)(void *)field = value;
        }
        return status;
    }
}

static int set_defaults(struct kv_config *config, struct kv_error *ret_error)
{
    int status = 0;

    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < kv_n_options && status == 0; i++) {
        status =
            kv_option_set(config, &kv_options[i], kv_options[i].default_text, "default", ret_error);
    }
    return status;
}

/* KVD_DATA_DIR for data-dir. */
static void variable_of(const struct kv_option *option, char name[64])
{
    snprintf(name, 64, "KVD_%s", option->name);
    for (char *p = name; *p; p++) {
        *p = *p == '-' ? '_' : (char)(*p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
    }
}

/* Wrappers have variables of their own that begin so: only what is close to an option is taken for
 * a mistake. */
static int
check_unknown_variable(const char *variable, const char *equals, struct kv_error *ret_error)
{
    char name[64];
    char nearest[64];

    snprintf(name, sizeof name, "%.*s", (int)(equals - variable), variable);
    for (size_t i = 0; i < kv_n_options; i++) {
        variable_of(&kv_options[i], nearest);
        if (edit_distance(name, nearest) <= NEAR_EDITS) {
            return kv_error_set(ret_error,
                                KV_INVALID,
                                "unknown environment variable %s: did you mean %s?",
                                name,
                                nearest);
        }
    }
    return 0;
}

static int
read_environment(struct kv_config *config, char *const *environment, struct kv_error *ret_error)
{
    for (; environment && *environment; environment++) {
        const char *equals = strchr(*environment, '=');
        bool known = false;

        if (!equals || strncmp(*environment, "KVD_", 4) != 0) {
            continue;
        }
        for (size_t i = 0; i < kv_n_options; i++) {
            char name[64];
            int status;

            variable_of(&kv_options[i], name);
            if (strlen(name) != (size_t)(equals - *environment) ||
                strncmp(name, *environment, strlen(name)) != 0) {
                continue;
            }
            known = true;
            status = kv_option_set(config, &kv_options[i], equals + 1, name, ret_error);
            if (status != 0) {
                return status;
            }
        }
        if (!known && strncmp(*environment, "KVD_CONFIG=", 11) != 0) {
            int status = check_unknown_variable(*environment, equals, ret_error);

            if (status != 0) {
                return status;
            }
        }
    }
    return 0;
}

static const char *find_environment(char *const *environment, const char *name)
{
    for (; environment && *environment; environment++) {
        if (strncmp(*environment, name, strlen(name)) == 0 && (*environment)[strlen(name)] == '=') {
            return *environment + strlen(name) + 1;
        }
    }
    return NULL;
}

/* One flag; *at is moved past its value. */
static int read_flag(struct kv_config *config,
                     int argc,
                     char *const *argv,
                     int *at,
                     const char **ret_file,
                     enum kv_config_action *ret_action,
                     struct kv_error *ret_error)
{
    const char *flag = argv[*at];
    const char *equals = strchr(flag, '=');
    size_t size = equals ? (size_t)(equals - flag) : strlen(flag);
    const struct kv_option *option;
    const char *value = equals ? equals + 1 : NULL;
    char place[80];

    if (strcmp(flag, "--help") == 0 || strcmp(flag, "-h") == 0) {
        *ret_action = KV_CONFIG_HELP;
        return 0;
    }
    if (strcmp(flag, "--version") == 0) {
        *ret_action = KV_CONFIG_VERSION;
        return 0;
    }
    if (strcmp(flag, "--check-config") == 0) {
        *ret_action = KV_CONFIG_CHECK;
        return 0;
    }
    if (strncmp(flag, "--", 2) != 0) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "unexpected argument \"%.60s\": kvd takes flags only, see --help",
                            flag);
    }
    option = kv_option_find(flag + 2, size - 2);
    if (!option && !(size == 8 && strncmp(flag, "--config", 8) == 0)) {
        char name[64];

        snprintf(name, sizeof name, "%.*s", (int)(size - 2), flag + 2);
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "unknown flag --%s: did you mean --%s?",
                            name,
                            kv_option_nearest(name));
    }
    if (!value) {
        if (*at + 1 >= argc) {
            return kv_error_set(ret_error, KV_INVALID, "%.60s wants a value", flag);
        }
        value = argv[++*at];
    }
    if (!option) {
        *ret_file = value;
        return 0;
    }
    snprintf(place, sizeof place, "flag --%s", option->name);
    return kv_option_set(config, option, value, place, ret_error);
}

static int read_flags(struct kv_config *config,
                      int argc,
                      char *const *argv,
                      const char **ret_file,
                      enum kv_config_action *ret_action,
                      struct kv_error *ret_error)
{
    int status = 0;

    for (int i = 1; i < argc && status == 0; i++) {
        status = read_flag(config, argc, argv, &i, ret_file, ret_action, ret_error);
    }
    return status;
}

int kv_config_load(int argc,
                   char *const *argv,
                   char *const *environment,
                   struct kv_config *ret_config,
                   enum kv_config_action *ret_action,
                   struct kv_error *ret_error)
{
    const char *file = find_environment(environment, "KVD_CONFIG");
    struct kv_config flags;
    int status = set_defaults(&flags, ret_error);

    *ret_action = KV_CONFIG_RUN;
    /* Flags are read first for --config and --help, and again last, since they win. */
    if (status == 0) {
        status = read_flags(&flags, argc, argv, &file, ret_action, ret_error);
    }
    if (status != 0 || *ret_action == KV_CONFIG_HELP || *ret_action == KV_CONFIG_VERSION) {
        return status;
    }
    status = set_defaults(ret_config, ret_error);
    if (status == 0 && file) {
        status = kv_config_read_file(ret_config, file, ret_error);
    }
    if (status == 0) {
        status = read_environment(ret_config, environment, ret_error);
    }
    if (status == 0) {
        status = read_flags(ret_config, argc, argv, &file, ret_action, ret_error);
    }
    return status == 0 ? kv_config_check(ret_config, ret_error) : status;
}

static void print_default(const struct kv_option *option, FILE *out)
{
    fprintf(out, "%s", option->default_text[0] ? option->default_text : "none");
}

/* In the largest unit that divides it. */
static void print_amount(const struct kv_option *option, uint64_t value, FILE *out)
{
    const struct unit *units = option->type == KV_OPTION_TIME   ? time_units
                               : option->type == KV_OPTION_SIZE ? size_units
                                                                : NULL;
    const struct unit *best = units;

    for (const struct unit *unit = units; unit && unit->name; unit++) {
        best = value > 0 && value % unit->factor == 0 ? unit : best;
    }
    fprintf(out, "%" PRIu64 "%s", best ? value / best->factor : value, best ? best->name : "");
}

void kv_config_print_help(FILE *out)
{
    static const struct {
        const char *name;
        const char *help;
    } others[] = {
        {"config FILE", "read this YAML file (or the one that KVD_CONFIG names)"},
        {"check-config", "check the configuration, print the values in force, and end"},
        {"help", "print this, and end"},
        {"version", "print the version, and end"},
    };

    fprintf(out,
            "Usage: kvd [--config FILE] [--OPTION VALUE]...\n"
            "       kvd inspect wal|snapshot PATH    (kvd inspect --help tells more)\n\n"
            "kvd is a replicated, strongly consistent in-memory key-value store.\n"
            "Each option is a flag (--node-id 1 or --node-id=1), an environment variable "
            "(KVD_NODE_ID=1)\nand a key of the YAML file (node-id: 1). Flags beat variables beat "
            "the file.\n\n");
    for (size_t i = 0; i < kv_n_options; i++) {
        fprintf(out, "  --%-20s %s\n  %-22s (default ", kv_options[i].name, kv_options[i].help, "");
        print_default(&kv_options[i], out);
        fprintf(out, ")\n");
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        fprintf(out, "  --%-20s %s\n", others[i].name, others[i].help);
    }
    fprintf(
        out,
        "\nExit codes: 0 stopped as asked; 1 usage or configuration; 2 cannot start (a port, the "
        "data directory);\n3 data directory in use; 4 data of another node, cluster or newer "
        "format; 5 damaged data;\n6 fault of storage, or an internal one, while running.\n");
}

void kv_config_print_markdown(FILE *out)
{
    fprintf(out, "| option | default | from | to | what |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < kv_n_options; i++) {
        const struct kv_option *option = &kv_options[i];
        bool has_bounds = option->type != KV_OPTION_TEXT && option->type != KV_OPTION_BOOL;

        fprintf(out, "| `%s` | ", option->name);
        print_default(option, out);
        fprintf(out, " | ");
        if (has_bounds) {
            print_amount(option, option->min, out);
        }
        fprintf(out, " | ");
        if (has_bounds) {
            print_amount(option, option->max, out);
        }
        fprintf(out, " | %s |\n", option->help);
    }
}

static void print_quoted(const char *name, const char *text, FILE *out)
{
    fprintf(out, "%s: \"", name);
    for (; *text; text++) {
        fprintf(out, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    }
    fprintf(out, "\"\n");
}

void kv_config_print(const struct kv_config *config, FILE *out)
{
    for (size_t i = 0; i < kv_n_options; i++) {
        const struct kv_option *option = &kv_options[i];
        const char *field = (const char *)config + option->offset;

        if (option->type == KV_OPTION_TEXT) {
            print_quoted(option->name, field, out);
        } else if (option->type == KV_OPTION_BOOL) {
            fprintf(out,
                    "%s: %s\n",
                    option->name,
                    *(const bool *)(const void *)field ? "true" : "false");
        } else {
            fprintf(out,
                    "%s: %" PRIu64 "%s\n",
                    option->name,
                    *(const uint64_t *)(const void *)field,
                    option->type == KV_OPTION_TIME   ? "ms"
                    : option->type == KV_OPTION_SIZE ? "B"
                                                     : "");
        }
    }
}
