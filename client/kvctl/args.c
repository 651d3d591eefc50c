/* The command line: options and commands by the tables of table.c, help made from them. */
#include "client/kvctl/kvctl.h"

#include "common/limits.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define GLOBAL_OPTIONS                                                                 \
    (KVCTL_BIT(KVCTL_ENDPOINTS) | KVCTL_BIT(KVCTL_OUTPUT) | KVCTL_BIT(KVCTL_TIMEOUT) | \
     KVCTL_BIT(KVCTL_SERIALIZABLE) | KVCTL_BIT(KVCTL_HELP) | KVCTL_BIT(KVCTL_LINES))
/* Ten years: no sum of such times overflows; the server's own bounds are narrower. */
#define DURATION_MAX_MS (3650LL * 86400000)
enum { NAME_BYTES_MAX = 64, DISTANCE_MAX = 3 };

/* ---------------------------------------------------------------- nearest name */

/* Edits that make one of the other (Levenshtein); names are short. */
static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_BYTES_MAX + 1];
    size_t n = strlen(b);

    if (n > NAME_BYTES_MAX || strlen(a) > NAME_BYTES_MAX) {
        return SIZE_MAX;
    }
    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[n];
}

const char *kvctl_nearest(const char *text, const char *(*name_of)(size_t i), size_t n_names)
{
    const char *nearest = NULL;
    size_t best = DISTANCE_MAX + 1;

    for (size_t i = 0; i < n_names; i++) {
        size_t edits = distance(text, name_of(i));

        /* Nothing in common is not near. */
        if (edits < best && edits < strlen(text)) {
            best = edits;
            nearest = name_of(i);
        }
    }
    return nearest;
}

static const char *option_name(size_t i)
{
    return kvctl_options[i].name;
}

const struct kvctl_command *kvctl_command_at(size_t i)
{
    for (size_t g = 0; g < kvctl_n_groups; g++) {
        if (i < kvctl_groups[g]->n_commands) {
            return &kvctl_groups[g]->commands[i];
        }
        i -= kvctl_groups[g]->n_commands;
    }
    return NULL;
}

size_t kvctl_n_commands(void)
{
    size_t n = 0;

    for (size_t g = 0; g < kvctl_n_groups; g++) {
        n += kvctl_groups[g]->n_commands;
    }
    return n;
}

static const char *command_name(size_t i)
{
    return kvctl_command_at(i)->name;
}

/* ---------------------------------------------------------------- numbers */

bool kvctl_parse_number(const char *text, int64_t min, int64_t max, int64_t *ret_number)
{
    const char *p = text + (*text == '-');
    uint64_t number = 0;
    uint64_t limit = (uint64_t)INT64_MAX + (*text == '-');

    if (*p == '\0') {
        return false;
    }
    for (; *p; p++) {
        uint64_t digit = (uint64_t)(*p - '0');

        if (*p < '0' || *p > '9' || number > (limit - digit) / 10) {
            return false;
        }
        number = number * 10 + digit;
    }
    *ret_number = *text == '-' ? (int64_t)(0 - number) : (int64_t)number;
    return *ret_number >= min && *ret_number <= max;
}

bool kvctl_parse_duration_ms(const char *text, int64_t *ret_ms)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    size_t digits = strspn(text, "0123456789");
    char number[16];

    if (digits == 0 || digits >= sizeof number) {
        return false;
    }
    memcpy(number, text, digits);
    number[digits] = '\0';
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(text + digits, units[i].unit) == 0 &&
            kvctl_parse_number(number, 1, DURATION_MAX_MS / units[i].ms, ret_ms)) {
            *ret_ms *= units[i].ms;
            return true;
        }
    }
    return false;
}

bool kvctl_parse_score(const char *text, double *ret_score)
{
    const char *digits = text + (*text == '-' || *text == '+');
    char *end;

    /* strtod takes more: spaces, hexadecimal, nan. */
    if (strcmp(digits, "inf") != 0 && strspn(digits, "0123456789.eE+-") != strlen(digits)) {
        return false;
    }
    *ret_score = strtod(text, &end);
    return end != text && *end == '\0';
}

/* ---------------------------------------------------------------- parsing */

struct parser {
    struct kvctl_args args;
    const char *const *argv;
    int argc;
    int next;
    struct kv_error *error;
};

static int wrong(struct parser *parser, const char *what, const char *value, const char *nearest)
{
    kv_error_set(parser->error,
                 KV_INVALID,
                 "%s \"%.100s\"%s%s%s",
                 what,
                 value,
                 nearest ? ", did you mean \"" : "",
                 nearest ? nearest : "",
                 nearest ? "\"?" : "; see kvctl help");
    return KVCTL_USAGE;
}

static bool is_called(const struct kvctl_option *option, const char *name, size_t size)
{
    const char *alias = option->alias ? option->alias : "";

    if (strlen(option->name) == size && memcmp(option->name, name, size) == 0) {
        return true;
    }
    while (*alias) {
        size_t length = strcspn(alias, " ");

        if (length == size && memcmp(alias, name, size) == 0) {
            return true;
        }
        alias += length + (alias[length] == ' ');
    }
    return false;
}

/* Some names mean one thing to some commands and another to others (--rev): the command that was
 * named before decides. */
static const struct kvctl_option *
find_option(const struct kvctl_command *command, const char *name, size_t size)
{
    const struct kvctl_option *found = NULL;
    const struct kvctl_option *own = NULL;

    for (size_t i = 0; i < kvctl_n_options; i++) {
        const struct kvctl_option *option = &kvctl_options[i];

        if (is_called(option, name, size)) {
            bool named = strlen(option->name) == size && memcmp(option->name, name, size) == 0;

            if (command && (command->options & KVCTL_BIT(option->id)) && (!own || named)) {
                own = option;
            }
            found = found ? found : option;
        }
    }
    return own ? own : found;
}

static const struct kvctl_option *find_letter(char letter)
{
    for (size_t i = 0; i < kvctl_n_options; i++) {
        if (letter && kvctl_options[i].letter == letter) {
            return &kvctl_options[i];
        }
    }
    return NULL;
}

const struct kvctl_option *kvctl_word_option(const struct kvctl_command *command, const char *word)
{
    if (word[0] != '-' || word[1] == '\0' || word[1] == '.' || (word[1] >= '0' && word[1] <= '9')) {
        return NULL;
    }
    if (word[1] == '-') {
        return find_option(command, word + 2, strcspn(word + 2, "="));
    }
    return word[2] == '\0' ? find_letter(word[1]) : NULL;
}

static int take_value(struct parser *parser, const struct kvctl_option *option, const char *value)
{
    static const char *const formats[] = {"text", "json", "value"};
    int64_t number = 0;
    bool valid = true;
    char what[NAME_BYTES_MAX * 2];

    snprintf(what, sizeof what, "--%s wants %s, not", option->name, option->argument);
    switch (option->type) {
    case KVCTL_NUMBER:
        valid = kvctl_parse_number(value, 0, INT64_MAX, &number);
        break;
    case KVCTL_INTEGER:
        valid = kvctl_parse_number(value, INT64_MIN, INT64_MAX, &number);
        break;
    case KVCTL_DURATION:
        valid = kvctl_parse_duration_ms(value, &number);
        break;
    case KVCTL_FORMAT:
        valid = false;
        for (unsigned i = 0; i < sizeof formats / sizeof formats[0]; i++) {
            if (strcmp(value, formats[i]) == 0) {
                parser->args.format = (enum kvctl_format)i;
                valid = true;
            }
        }
        break;
    default:
        break;
    }
    if (!valid) {
        return wrong(parser, what, value, NULL);
    }
    if (option->id == KVCTL_PREFIX) {
        if (parser->args.n_prefixes == KVCTL_PREFIXES_MAX) {
            return wrong(parser, "too many prefixes, 16 at most:", value, NULL);
        }
        parser->args.prefixes[parser->args.n_prefixes++] = value;
    }
    parser->args.strings[option->id] = value;
    parser->args.numbers[option->id] = number;
    return KVCTL_OK;
}

/* --name, --name=value, --name value, -l value. */
static int take_option(struct parser *parser, const char *text)
{
    const char *equals = strchr(text, '=');
    const struct kvctl_option *option;
    const char *value = NULL;

    if (text[1] == '-') {
        size_t size = equals ? (size_t)(equals - text) - 2 : strlen(text) - 2;
        char name[NAME_BYTES_MAX + 1];

        option = find_option(
            parser->args.n_arguments > 0 ? kvctl_find_command(parser->args.arguments[0]) : NULL,
            text + 2,
            size);
        if (!option) {
            snprintf(name, sizeof name, "%.*s", size > 60 ? 60 : (int)size, text + 2);
            return wrong(
                parser, "unknown option", text, kvctl_nearest(name, option_name, kvctl_n_options));
        }
        value = equals ? equals + 1 : NULL;
    } else {
        option = text[2] == '\0' ? find_letter(text[1]) : NULL;
        if (!option) {
            return wrong(parser, "unknown option", text, NULL);
        }
    }
    parser->args.set[option->id] = true;
    if (option->id == KVCTL_LINES) {
        parser->args.format = KVCTL_JSON;
    }
    if (option->type == KVCTL_FLAG) {
        return value ? wrong(parser, "an option without value has one:", text, NULL) : KVCTL_OK;
    }
    if (!value) {
        if (parser->next == parser->argc) {
            return wrong(parser, "a value is missing after", text, NULL);
        }
        value = parser->argv[parser->next++];
    }
    return take_value(parser, option, value);
}

const struct kvctl_command *kvctl_find_command(const char *name)
{
    const struct kvctl_command *command;

    for (size_t i = 0; (command = kvctl_command_at(i)) != NULL; i++) {
        if (strcmp(command->name, name) == 0) {
            return command;
        }
    }
    return NULL;
}

/* One word or two; takes them off the arguments. */
static int take_command(struct parser *parser)
{
    struct kvctl_args *args = &parser->args;
    char name[2 * NAME_BYTES_MAX];
    size_t words = 1;

    if (args->n_arguments == 0) {
        if (args->set[KVCTL_HELP]) {
            return KVCTL_OK;
        }
        kv_error_set(parser->error, KV_INVALID, "no command given; see kvctl help");
        return KVCTL_USAGE;
    }
    snprintf(name, sizeof name, "%.60s", args->arguments[0]);
    args->command = kvctl_find_command(name);
    if (!args->command && args->n_arguments > 1) {
        snprintf(name, sizeof name, "%.60s %.60s", args->arguments[0], args->arguments[1]);
        args->command = kvctl_find_command(name);
        words = 2;
    }
    if (!args->command) {
        const char *nearest = NULL;

        if (words == 2) {
            nearest = kvctl_nearest(name, command_name, kvctl_n_commands());
        }
        /* "config" alone: the first of its commands. */
        for (size_t i = 0; i < kvctl_n_commands() && !nearest; i++) {
            size_t size = strlen(args->arguments[0]);

            if (strncmp(command_name(i), args->arguments[0], size) == 0 &&
                command_name(i)[size] == ' ') {
                nearest = command_name(i);
            }
        }
        if (!nearest) {
            nearest = kvctl_nearest(args->arguments[0], command_name, kvctl_n_commands());
        }
        return wrong(parser,
                     "unknown command",
                     words == 2 && nearest && strchr(nearest, ' ') ? name : args->arguments[0],
                     nearest);
    }
    args->n_arguments -= words;
    /* With the NULL behind them: they may be another program's. */
    memmove(args->arguments, args->arguments + words, (args->n_arguments + 1) * sizeof(char *));
    return KVCTL_OK;
}

static int check(struct parser *parser)
{
    const struct kvctl_args *args = &parser->args;
    const struct kvctl_command *command = args->command;

    if (!command || args->set[KVCTL_HELP]) {
        return KVCTL_OK;
    }
    for (size_t i = 0; i < kvctl_n_options; i++) {
        const struct kvctl_option *option = &kvctl_options[i];

        if (args->set[option->id] &&
            !(KVCTL_BIT(option->id) & (GLOBAL_OPTIONS | command->options))) {
            kv_error_set(parser->error,
                         KV_INVALID,
                         "%s has no option --%s; see kvctl help %s",
                         command->name,
                         option->name,
                         command->name);
            return KVCTL_USAGE;
        }
    }
    if (args->numbers[KVCTL_TIMEOUT] > KV_DEADLINE_MAX_MS && !command->waits) {
        kv_error_set(parser->error,
                     KV_INVALID,
                     "--timeout is at most %um, not \"%.100s\"",
                     (unsigned)KV_DEADLINE_MAX_MS / 60000,
                     args->strings[KVCTL_TIMEOUT]);
        return KVCTL_USAGE;
    }
    if (args->n_arguments < (size_t)command->min_arguments ||
        (command->max_arguments >= 0 && args->n_arguments > (size_t)command->max_arguments)) {
        kv_error_set(parser->error,
                     KV_INVALID,
                     "usage: kvctl %s %s (%zu arguments given)",
                     command->name,
                     command->arguments,
                     args->n_arguments);
        return KVCTL_USAGE;
    }
    return KVCTL_OK;
}

int kvctl_args_parse(int argc,
                     const char *const *argv,
                     struct kvctl_args *ret_args,
                     struct kv_error *ret_error)
{
    struct parser parser = {.argv = argv, .argc = argc, .next = 1, .error = ret_error};
    bool options_end = false;
    int result = KVCTL_OK;

    parser.args.arguments = calloc((size_t)argc + 1, sizeof(char *));
    if (!parser.args.arguments) {
        kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
        return KVCTL_LOCAL;
    }
    while (parser.next < argc && result == KVCTL_OK) {
        const char *text = argv[parser.next++];

        /* A lone dash is standard input, -1, -.5 and -inf are numbers. */
        if (options_end || text[0] != '-' || text[1] == '\0' ||
            (text[1] >= '0' && text[1] <= '9') || text[1] == '.' || strcmp(text, "-inf") == 0) {
            parser.args.arguments[parser.args.n_arguments++] = text;
        } else if (strcmp(text, "--") == 0) {
            options_end = true;
        } else {
            result = take_option(&parser, text);
        }
    }
    if (result == KVCTL_OK) {
        result = take_command(&parser);
    }
    if (result == KVCTL_OK) {
        result = check(&parser);
    }
    if (result != KVCTL_OK) {
        kvctl_args_free(&parser.args);
        return result;
    }
    *ret_args = parser.args;
    return KVCTL_OK;
}

void kvctl_args_free(struct kvctl_args *args)
{
    free(args->arguments);
    args->arguments = NULL;
}

/* ---------------------------------------------------------------- help */

static void print_option(FILE *file, const struct kvctl_option *option)
{
    char name[NAME_BYTES_MAX];
    char letter[] = {'-', option->letter, ',', ' ', '\0'};

    snprintf(name,
             sizeof name,
             "%s--%s %s",
             option->letter ? letter : "    ",
             option->name,
             option->argument ? option->argument : "");
    fprintf(file, "  %-32s %s\n", name, option->help);
}

static void print_options(FILE *file, kvctl_bits which)
{
    for (size_t i = 0; i < kvctl_n_options; i++) {
        if (which & KVCTL_BIT(kvctl_options[i].id)) {
            print_option(file, &kvctl_options[i]);
        }
    }
}

void kvctl_help(FILE *file)
{
    fprintf(file,
            "kvctl talks to a kvd cluster.\n\nUsage: kvctl [OPTIONS] COMMAND [ARGUMENTS]\n\n");
    fprintf(file, "Commands (kvctl help COMMAND says more):\n");
    for (size_t g = 0; g < kvctl_n_groups; g++) {
        const struct kvctl_group *group = kvctl_groups[g];

        fprintf(file, "\n%s:\n", group->title);
        for (size_t i = 0; i < group->n_commands; i++) {
            fprintf(file, "  %-16s %s\n", group->commands[i].name, group->commands[i].summary);
        }
    }
    fprintf(file, "\nOptions of every command:\n");
    print_options(file, GLOBAL_OPTIONS);
    fprintf(file,
            "\nExit codes:\n"
            "  0  done\n"
            "  1  wrong command line\n"
            "  2  not found, exists already, or a condition is not met; nothing was changed\n"
            "  3  cluster unavailable: no endpoint answers, no leader, too busy; nothing was done\n"
            "  4  the server refused the request, or has a fault\n"
            "  5  a write may or may not have been done (connection or leader lost)\n"
            "  6  a file, the output, or memory of this machine\n");
}

void kvctl_help_command(FILE *file, const struct kvctl_command *command)
{
    fprintf(
        file, "Usage: kvctl %s %s\n\n%s\n", command->name, command->arguments, command->summary);
    if (command->details && command->details[0] != '\0') {
        fprintf(file, "%s\n", command->details);
    }
    fprintf(file, "\nExample: %s\n\nOptions:\n", command->example);
    print_options(file, command->options);
    print_options(file, GLOBAL_OPTIONS);
}
