/* kvctl txn: a transaction as text or JSON, made of the other commands' words, and its answer. */
#include "client/kvctl/txn.h"
#include "common/limits.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BYTES_MAX (8 * KV_REQUEST_BYTES_MAX)
enum { DEPTH_MAX = 4, LINE_NAME_BYTES = 48 };

/* ---------------------------------------------------------------- building */

static struct kvctl_txn *new_txn(struct kvctl_txn_reader *reader)
{
    struct kvctl_call call = {.kvctl = reader->kvctl, .arena = reader->arena};
    struct kvctl_txn *txn = kvctl_alloc(&call, sizeof *txn);

    kv__txn__init(&txn->message);
    txn->last[0] = &txn->first[0];
    txn->last[1] = &txn->first[1];
    return txn;
}

int kvctl_txn_wrong(struct kvctl_txn_reader *reader, const char *format, ...)
{
    char message[KV_ERROR_MESSAGE_SIZE];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return kvctl_usage(reader->kvctl, "txn, %s %u: %s", reader->unit, reader->line, message);
}

static struct kvctl_operation *
add_operation(struct kvctl_txn_reader *reader, struct kvctl_txn *txn, unsigned branch)
{
    struct kvctl_call call = {.kvctl = reader->kvctl, .arena = reader->arena};
    struct kvctl_operation *operation = kvctl_alloc(&call, sizeof *operation);

    operation->call = (struct kvctl_call){
        .kvctl = reader->kvctl,
        .args = &operation->args,
        .arena = reader->arena,
        .nested = true,
    };
    kv__request__init(&operation->call.request);
    *txn->last[branch] = operation;
    txn->last[branch] = &operation->next;
    txn->n[branch]++;
    return operation;
}

/* What belongs to the whole of a transaction is no option of its parts. */
static bool has_global_option(const struct kvctl_args *args)
{
    return args->set[KVCTL_ENDPOINTS] || args->set[KVCTL_OUTPUT] || args->set[KVCTL_TIMEOUT] ||
           args->set[KVCTL_SERIALIZABLE] || args->set[KVCTL_HELP] || args->set[KVCTL_LINES];
}

/* A command of kvctl; words[-1] is free for the program's name. */
static int add_command(struct kvctl_txn_reader *reader,
                       struct kvctl_txn *txn,
                       unsigned branch,
                       const struct kvctl_line *line)
{
    struct kvctl_operation *operation = add_operation(reader, txn, branch);
    struct kvctl_args *args = &operation->args;
    const char **argv = kvctl_alloc(&operation->call, (line->n_words + 1) * sizeof *argv);
    struct kv_error error;
    int code;

    argv[0] = "kvctl";
    memcpy(argv + 1, line->words, line->n_words * sizeof *argv);
    code = kvctl_args_parse((int)line->n_words + 1, argv, args, &error);
    if (code != KVCTL_OK) {
        return kvctl_txn_wrong(reader, "%s", error.message);
    }
    if (!args->command || !args->command->fill) {
        return kvctl_txn_wrong(reader,
                               "%s cannot be part of a transaction",
                               args->command ? args->command->name : "?");
    }
    if (has_global_option(args)) {
        return kvctl_txn_wrong(
            reader,
            "--endpoints, --output, --timeout and the like belong to the whole: kvctl ... txn");
    }
    args->format = reader->kvctl->args.format;
    operation->words = *line;
    code = args->command->fill(&operation->call);
    return code == KVCTL_OK ? code : kvctl_txn_wrong(reader, "see the line above");
}

/* Lists to the arrays of the message. */
static void finish(struct kvctl_txn_reader *reader, struct kvctl_txn *txn)
{
    struct kvctl_call call = {.kvctl = reader->kvctl, .arena = reader->arena};
    Kv__Request **lists[2];

    for (unsigned branch = 0; branch < 2; branch++) {
        size_t i = 0;

        lists[branch] = kvctl_alloc(&call, txn->n[branch] * sizeof *lists[branch]);
        for (struct kvctl_operation *o = txn->first[branch]; o; o = o->next) {
            lists[branch][i++] = &o->call.request;
        }
    }
    txn->message.n_then = txn->n[0];
    txn->message.then = lists[0];
    txn->message.n_otherwise = txn->n[1];
    txn->message.otherwise = lists[1];
}

static struct kvctl_txn *
add_inner(struct kvctl_txn_reader *reader, struct kvctl_txn *txn, unsigned branch)
{
    struct kvctl_operation *operation = add_operation(reader, txn, branch);

    operation->inner = new_txn(reader);
    operation->call.request.command_case = KV__REQUEST__COMMAND_TXN;
    operation->call.request.txn = &operation->inner->message;
    return operation->inner;
}

/* ---------------------------------------------------------------- text */

/* The next line, ended in place; NULL: the end. */
static const char *next_line(struct kvctl_txn_reader *reader)
{
    char *line = reader->next;
    char *end;

    if (*line == '\0') {
        return NULL;
    }
    end = line + strcspn(line, "\n");
    reader->next = *end ? end + 1 : end;
    *end = '\0';
    reader->line++;
    return line;
}

/* Where the text is: in which transaction, and in which part of it. */
struct place {
    struct kvctl_txn *txn;
    unsigned branch;
    bool compares_over;
};

/* One line that is neither begin nor end. */
static int
take_line(struct kvctl_txn_reader *reader, struct place *place, const struct kvctl_line *line)
{
    const char *first = line->words[0];

    if (strcmp(first, "if") == 0) {
        if (place->compares_over) {
            return kvctl_txn_wrong(reader, "compares (if) come before the operations");
        }
        return kvctl_txn_compare(reader, place->txn, line->words + 1, line->n_words - 1);
    }
    if (strcmp(first, "then") == 0 || strcmp(first, "else") == 0) {
        bool is_else = first[0] == 'e';

        if (line->n_words > 1) {
            return kvctl_txn_wrong(reader, "%s stands on a line of its own", first);
        }
        if (place->branch == 1 || (!is_else && place->compares_over)) {
            return kvctl_txn_wrong(reader, "%s is at the wrong place, or there twice", first);
        }
        place->branch = is_else;
        place->compares_over = true;
        return KVCTL_OK;
    }
    place->compares_over = true;
    return add_command(reader, place->txn, place->branch, line);
}

static int read_text(struct kvctl_txn_reader *reader, struct kvctl_txn *whole)
{
    struct place places[DEPTH_MAX] = {{.txn = whole}};
    unsigned depth = 0;
    const char *text;
    int code = KVCTL_OK;

    reader->unit = "line";
    while (code == KVCTL_OK && (text = next_line(reader)) != NULL) {
        struct place *place = &places[depth];
        struct kvctl_line line;
        struct kv_error error;

        if (kvctl_split(reader->arena, text, &line, &error) < 0) {
            return kvctl_txn_wrong(reader, "%s", error.message);
        }
        if (line.n_words == 0) {
            continue;
        }
        if (line.n_words == 1 && strcmp(line.words[0], "begin") == 0) {
            if (depth + 1 == DEPTH_MAX) {
                return kvctl_txn_wrong(
                    reader, "transactions are nested %d deep at most", DEPTH_MAX);
            }
            place->compares_over = true;
            places[++depth] = (struct place){.txn = add_inner(reader, place->txn, place->branch)};
        } else if (line.n_words == 1 && strcmp(line.words[0], "end") == 0) {
            if (depth == 0) {
                return kvctl_txn_wrong(reader, "end without begin");
            }
            finish(reader, place->txn);
            depth--;
        } else {
            code = take_line(reader, place, &line);
        }
    }
    if (code == KVCTL_OK && depth > 0) {
        return kvctl_txn_wrong(reader, "the end of a transaction inside is missing");
    }
    finish(reader, whole);
    return code;
}

/* ---------------------------------------------------------------- JSON */

/* An array of strings and numbers to words. */
static int json_words(struct kvctl_txn_reader *reader, json_t *array, struct kvctl_line *ret_line)
{
    struct kvctl_call call = {.kvctl = reader->kvctl, .arena = reader->arena};
    size_t n = json_array_size(array);
    const char **words = kvctl_alloc(&call, n * sizeof *words);

    if (n == 0) {
        return kvctl_txn_wrong(reader, "an operation or compare is an array of words");
    }
    for (size_t i = 0; i < n; i++) {
        json_t *item = json_array_get(array, i);
        char *number = kvctl_alloc(&call, LINE_NAME_BYTES);

        if (json_is_string(item)) {
            words[i] = json_string_value(item);
        } else if (json_is_integer(item)) {
            snprintf(number, LINE_NAME_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(item));
            words[i] = number;
        } else if (json_is_real(item)) {
            snprintf(number, LINE_NAME_BYTES, "%.17g", json_real_value(item));
            words[i] = number;
        } else {
            return kvctl_txn_wrong(reader, "a word is a string or a number");
        }
    }
    *ret_line = (struct kvctl_line){words, n};
    return KVCTL_OK;
}

static int
read_json(struct kvctl_txn_reader *reader, json_t *object, struct kvctl_txn *txn, unsigned depth);

static int read_json_branch(struct kvctl_txn_reader *reader,
                            json_t *array,
                            struct kvctl_txn *txn,
                            unsigned branch,
                            unsigned depth)
{
    int code = KVCTL_OK;

    for (size_t i = 0; i < json_array_size(array) && code == KVCTL_OK; i++) {
        json_t *item = json_array_get(array, i);
        struct kvctl_line line;

        reader->line++;
        if (json_is_object(item)) {
            code = read_json(reader, item, add_inner(reader, txn, branch), depth + 1);
            continue;
        }
        code = json_words(reader, item, &line);
        if (code == KVCTL_OK) {
            code = add_command(reader, txn, branch, &line);
        }
    }
    return code;
}

static int
read_json(struct kvctl_txn_reader *reader, json_t *object, struct kvctl_txn *txn, unsigned depth)
{
    static const char *const names[] = {"if", "then", "else"};
    json_t *compares = json_object_get(object, "if");
    const char *name;
    json_t *value;
    int code = KVCTL_OK;

    if (depth == DEPTH_MAX) {
        return kvctl_txn_wrong(reader, "transactions are nested %d deep at most", DEPTH_MAX);
    }
    json_object_foreach(object, name, value)
    {
        if ((strcmp(name, names[0]) != 0 && strcmp(name, names[1]) != 0 &&
             strcmp(name, names[2]) != 0) ||
            !json_is_array(value)) {
            return kvctl_txn_wrong(
                reader, "an object has the arrays if, then and else, not \"%.60s\"", name);
        }
    }
    for (size_t i = 0; i < json_array_size(compares) && code == KVCTL_OK; i++) {
        struct kvctl_line line;

        reader->line++;
        code = json_words(reader, json_array_get(compares, i), &line);
        if (code == KVCTL_OK) {
            code = kvctl_txn_compare(reader, txn, line.words, line.n_words);
        }
    }
    if (code == KVCTL_OK) {
        code = read_json_branch(reader, json_object_get(object, "then"), txn, 0, depth);
    }
    if (code == KVCTL_OK) {
        code = read_json_branch(reader, json_object_get(object, "else"), txn, 1, depth);
    }
    finish(reader, txn);
    return code;
}

/* ---------------------------------------------------------------- the answer */

static int print_replies(struct kvctl *kvctl, const struct kvctl_txn *txn, const Kv__Reply *reply);

/* One reply's text, without its last newline. The caller frees it; NULL: no memory. */
static char *reply_text(struct kvctl_operation *operation, const Kv__Reply *reply)
{
    struct kvctl *kvctl = operation->call.kvctl;
    FILE *out = kvctl->out;
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);

    if (!stream) {
        return NULL;
    }
    kvctl->out = stream;
    if ((int)reply->result_case != (int)operation->call.request.command_case) {
        fputs(kvctl->args.format == KVCTL_JSON ? "null\n" : "(no result)\n", stream);
    } else if (operation->inner) {
        print_replies(kvctl, operation->inner, reply);
    } else {
        operation->args.command->print(&operation->call, reply);
    }
    kvctl->out = out;
    if (fclose(stream) != 0) {
        free(text);
        return NULL;
    }
    if (kvctl->args.format != KVCTL_VALUE && size > 0 && text[size - 1] == '\n') {
        text[size - 1] = '\0';
    }
    return text;
}

static void print_text_reply(FILE *out, size_t i, struct kvctl_operation *operation, char *text)
{
    fprintf(out, "%zu)", i + 1);
    for (size_t w = 0; w < operation->words.n_words; w++) {
        fputc(' ', out);
        kvctl_quote(out, operation->words.words[w]);
    }
    fputs(operation->inner ? " txn\n" : "\n", out);
    /* Set in, so that no output looks like the next operation. */
    while (text && *text) {
        size_t length = strcspn(text, "\n");

        fprintf(out, "   %.*s\n", (int)length, text);
        text += length + (text[length] == '\n');
    }
}

static void print_reply(struct kvctl *kvctl,
                        size_t i,
                        struct kvctl_operation *operation,
                        const Kv__Reply *reply)
{
    char *text = reply_text(operation, reply);

    switch (kvctl->args.format) {
    case KVCTL_JSON:
        fprintf(kvctl->out, "%s%s", i ? "," : "", text ? text : "null");
        break;
    case KVCTL_TEXT:
        print_text_reply(kvctl->out, i, operation, text);
        break;
    case KVCTL_VALUE:
        fputs(text ? text : "", kvctl->out);
        break;
    }
    free(text);
}

static int print_replies(struct kvctl *kvctl, const struct kvctl_txn *txn, const Kv__Reply *reply)
{
    const Kv__TxnResult *result = reply->txn;
    struct kvctl_operation *operation = txn->first[!result->succeeded];
    bool json = kvctl->args.format == KVCTL_JSON;
    FILE *out = kvctl->out;

    if (json) {
        fprintf(out, "{\"succeeded\":%s", result->succeeded ? "true" : "false");
        if (reply->revision != 0) {
            fprintf(out, ",\"revision\":%" PRId64, reply->revision);
        }
        fputs(",\"replies\":[", out);
    } else if (kvctl->args.format == KVCTL_TEXT) {
        fputs(result->succeeded ? "then" : "else", out);
        if (reply->revision != 0) {
            fprintf(out, ", revision %" PRId64, reply->revision);
        }
        fputc('\n', out);
    }
    for (size_t i = 0; i < result->n_replies && operation; i++) {
        print_reply(kvctl, i, operation, result->replies[i]);
        operation = operation->next;
    }
    fputs(json ? "]}\n" : "", out);
    return result->succeeded ? KVCTL_OK : KVCTL_NOT_MET;
}

/* ---------------------------------------------------------------- the command */

static void free_args(struct kvctl_txn *txn)
{
    for (unsigned branch = 0; branch < 2; branch++) {
        for (struct kvctl_operation *o = txn->first[branch]; o; o = o->next) {
            kvctl_args_free(&o->args);
            if (o->inner) {
                /* At most DEPTH_MAX deep. */
                free_args(o->inner);
            }
        }
    }
}

static int run_txn(struct kvctl *kvctl, struct kvctl_txn *txn)
{
    struct kv_call_options options = kvctl_call_options(kvctl);
    Kv__Request request = KV__REQUEST__INIT;
    struct kv_error error;
    Kv__Reply *reply;
    int code;
    int status;

    request.command_case = KV__REQUEST__COMMAND_TXN;
    request.txn = &txn->message;
    status = kv_call(kvctl->client, &request, &options, &reply, &error);
    if (status == 0 && reply->result_case != KV__REPLY__RESULT_TXN) {
        status = kv_error_set(&error, KV_INTERNAL, "the server's reply has no result");
    }
    if (status < 0) {
        code = kvctl_fail(kvctl, &error);
        if (reply && reply->hint && kv_status_retry(status) == KV_RETRY_NEVER &&
            status != KV_UNSUPPORTED) {
            fprintf(kvctl->err,
                    "kvctl txn: nothing was done; it was operation %u, counted from 1\n",
                    reply->hint->operation + 1);
        }
    } else {
        code = print_replies(kvctl, txn, reply);
    }
    kv_reply_free(reply);
    return code;
}

static int read_txn(struct kvctl_txn_reader *reader, struct kv_bytes text, struct kvctl_txn *txn)
{
    struct kvctl_call call = {.kvctl = reader->kvctl, .arena = reader->arena};
    char *copy = kvctl_alloc(&call, text.size + 1);
    json_error_t where;

    if (text.size > 0) {
        memcpy(copy, text.data, text.size);
    }
    if (strlen(copy) != text.size) {
        return kvctl_usage(reader->kvctl, "txn: the text has a zero byte");
    }
    reader->next = copy;
    if (copy[strspn(copy, " \t\r\n")] != '{') {
        return read_text(reader, txn);
    }
    reader->json = json_loads(copy, JSON_REJECT_DUPLICATES, &where);
    reader->unit = "compare or operation";
    if (!reader->json) {
        return kvctl_usage(reader->kvctl, "txn: no JSON: %s, line %d", where.text, where.line);
    }
    return read_json(reader, reader->json, txn, 0);
}

/* FILE as a word of kvctl_read_value: standard input without one. */
static int read_source(struct kvctl *kvctl, struct kv_bytes *ret_text, void **ret_memory)
{
    const char *file = kvctl->args.n_arguments ? kvctl->args.arguments[0] : "-";
    struct kv_error error;
    char name[4096];
    int status;

    if (kvctl->in_shell && strcmp(file, "-") == 0) {
        return kvctl_usage(kvctl, "txn in a shell wants a FILE");
    }
    snprintf(name, sizeof name, "%s%s", strcmp(file, "-") == 0 ? "" : "@", file);
    status = kvctl_read_value(name, stdin, ret_text, ret_memory, &error);
    if (status < 0) {
        fprintf(kvctl->err, "kvctl txn: %s\n", error.message);
        return KVCTL_LOCAL;
    }
    return KVCTL_OK;
}

int kvctl_run_txn(struct kvctl *kvctl)
{
    struct kv_arena arena;
    struct kvctl_txn_reader reader = {.kvctl = kvctl, .arena = &arena};
    struct kvctl_txn *txn;
    struct kv_bytes text;
    void *memory = NULL;
    int code = read_source(kvctl, &text, &memory);

    if (code != KVCTL_OK) {
        return code;
    }
    kv_arena_init(&arena, ARENA_BYTES_MAX);
    txn = new_txn(&reader);
    code = read_txn(&reader, text, txn);
    if (code == KVCTL_OK) {
        code = run_txn(kvctl, txn);
    }
    free_args(txn);
    json_decref(reader.json);
    kv_arena_deinit(&arena);
    free(memory);
    return code;
}
