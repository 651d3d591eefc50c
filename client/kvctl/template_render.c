/* Runs a template's steps. */
#include "client/kvctl/template.h"
#include "common/limits.h"

#include <inttypes.h>
#include <kv/keys.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* A range that goes on. */
struct frame {
    const struct kvctl_document *document;
    size_t at;
    size_t prefix_size;
};
struct run {
    const struct kvctl_template *template;
    const struct kvctl_step *step;
    struct kvctl_template_keys *keys;
    struct kv_arena *arena;
    struct kv_buf *out;
    struct frame frames[KVCTL_TEMPLATE_BLOCKS_MAX];
    size_t n_frames;
    struct kv_error *error;
};

static int wrong(struct run *run, int status, const char *format, ...) KV_PRINTF(3, 4);
static int wrong(struct run *run, int status, const char *format, ...)
{
    char what[300];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return kv_error_set(
        run->error, status, "%.150s line %u: %s", run->step->file, run->step->line, what);
}

static int no_memory(struct run *run)
{
    return wrong(run, KV_NO_MEMORY, "out of memory");
}

static int append(struct run *run, const void *data, size_t size)
{
    int status = size > 0 ? kv_buf_append(run->out, data, size) : 0;

    return status < 0 ? wrong(run,
                              status,
                              "the rendered file is over %d bytes, or memory is out",
                              KVCTL_RENDERED_BYTES_MAX)
                      : 0;
}

/* ---------------------------------------------------------------- texts */

/* For a message: printable, cut. */
static const char *show(struct kv_bytes bytes, char *text, size_t size)
{
    FILE *file = fmemopen(text, size, "w");

    text[0] = '\0';
    if (file) {
        kvctl_print_escaped(file, kv_bytes_of(bytes.data, bytes.size > 100 ? 100 : bytes.size));
        fclose(file);
    }
    text[size - 1] = '\0';
    return text;
}

/* What a string or a counter prints; other types have no text. */
static int text_of(struct run *run, const struct kvctl_entry *entry, struct kv_bytes *ret_text)
{
    char number[24];
    char name[512];
    void *copy;

    if (entry->type == KV_TYPE_STRING) {
        *ret_text = entry->value;
        return 0;
    }
    if (entry->type != KV_TYPE_COUNTER) {
        return wrong(
            run,
            KV_WRONG_TYPE,
            "the key \"%s\" holds a %s, which has no text (hash \"KEY\" \"FIELD\" reads a field)",
            show(entry->key, name, sizeof name),
            kv_type_name(entry->type));
    }
    snprintf(number, sizeof number, "%" PRId64, entry->counter);
    copy = kv_arena_copy(run->arena, number, strlen(number));
    *ret_text = kv_bytes_of(copy, strlen(number));
    return copy ? 0 : no_memory(run);
}

static const struct kvctl_entry *present(const struct run *run)
{
    const struct frame *frame = &run->frames[run->n_frames - 1];

    return &frame->document->entries[frame->at];
}

static int part_text(struct run *run, const struct kvctl_part *part, struct kv_bytes *ret_text)
{
    const struct kvctl_entry *entry;
    size_t prefix_size;

    if (part->kind == KVCTL_PART_TEXT) {
        *ret_text = part->text;
        return 0;
    }
    entry = present(run);
    prefix_size = run->frames[run->n_frames - 1].prefix_size;
    if (part->kind == KVCTL_PART_VALUE) {
        return text_of(run, entry, ret_text);
    }
    *ret_text = part->kind == KVCTL_PART_KEY
                    ? entry->key
                    : kv_bytes_of((const char *)entry->key.data + prefix_size,
                                  entry->key.size - prefix_size);
    return 0;
}

/* The parts one behind the other; those of a field without its name. */
static int join(struct run *run, struct kv_bytes *ret_key)
{
    const struct kvctl_step *step = run->step;
    size_t n = step->n_parts - (step->kind == KVCTL_STEP_PRINT && step->value == KVCTL_VALUE_FIELD);
    size_t least = step->kind == KVCTL_STEP_RANGE ? 0 : 1;
    uint8_t key[KV_KEY_BYTES_MAX];
    size_t size = 0;
    void *copy;

    for (size_t i = 0; i < n; i++) {
        struct kv_bytes text;
        int status = part_text(run, &step->parts[i], &text);

        if (status < 0) {
            return status;
        }
        if (size + text.size > KV_KEY_BYTES_MAX) {
            return wrong(run, KV_INVALID, "a key has 1 to %u bytes", KV_KEY_BYTES_MAX);
        }
        if (text.size > 0) {
            memcpy(key + size, text.data, text.size);
        }
        size += text.size;
    }
    if (size < least) {
        return wrong(run, KV_INVALID, "a key has 1 to %u bytes", KV_KEY_BYTES_MAX);
    }
    copy = kv_arena_copy(run->arena, key, size);
    *ret_key = kv_bytes_of(copy, size);
    return copy ? 0 : no_memory(run);
}

/* What the keys' owner says, with the place. */
static int pass_on(struct run *run, int status)
{
    char text[KV_ERROR_MESSAGE_SIZE];

    snprintf(text, sizeof text, "%s", run->error->message);
    return wrong(run, status, "%s", text);
}

static int get(struct run *run, struct kv_bytes *ret_key, const struct kvctl_entry **ret_entry)
{
    int status = join(run, ret_key);

    if (status < 0) {
        return status;
    }
    status = run->keys->get(run->keys, *ret_key, ret_entry, run->error);
    return status < 0 ? pass_on(run, status) : 0;
}

/* ---------------------------------------------------------------- printing */

static int find_field(struct run *run,
                      const struct kvctl_entry *entry,
                      struct kv_bytes name,
                      const struct kvctl_element **ret_field)
{
    char text[512];

    *ret_field = NULL;
    if (entry && entry->type != KV_TYPE_HASH) {
        return wrong(run,
                     KV_WRONG_TYPE,
                     "the key \"%s\" holds a %s, no hash",
                     show(entry->key, text, sizeof text),
                     kv_type_name(entry->type));
    }
    for (size_t i = 0; entry && i < entry->n_elements && !*ret_field; i++) {
        if (kvctl_bytes_equal(entry->elements[i].name, name)) {
            *ret_field = &entry->elements[i];
        }
    }
    return 0;
}

/* The key or field; its default; or the error. */
static int look_up(struct run *run, struct kv_bytes *ret_text)
{
    const struct kvctl_step *step = run->step;
    const struct kvctl_element *field = NULL;
    const struct kvctl_entry *entry;
    struct kv_bytes key;
    struct kv_bytes name = {0};
    char texts[2][512];
    int status = get(run, &key, &entry);

    if (status == 0 && step->value == KVCTL_VALUE_FIELD) {
        status = part_text(run, &step->parts[step->n_parts - 1], &name);
        if (status == 0) {
            status = find_field(run, entry, name, &field);
        }
        if (status == 0 && field) {
            *ret_text = field->value;
            return 0;
        }
    } else if (status == 0 && entry) {
        return text_of(run, entry, ret_text);
    }
    if (status < 0) {
        return status;
    }
    if (step->has_default) {
        *ret_text = step->text;
        return 0;
    }
    if (entry) {
        return wrong(run,
                     KV_NOT_FOUND,
                     "the hash \"%s\" has no field \"%s\"",
                     show(key, texts[0], sizeof texts[0]),
                     show(name, texts[1], sizeof texts[1]));
    }
    return wrong(run,
                 KV_NOT_FOUND,
                 "there is no key \"%s\" (| default \"...\" says what to take then)",
                 show(key, texts[0], sizeof texts[0]));
}

/* 'it'\''s': one word of a shell, whatever is in it but a zero byte. */
static int filter_shell(struct run *run, struct kv_bytes text, struct kv_buf *buf)
{
    const char *p = text.data;
    int status = kv_buf_append(buf, "'", 1);

    if (text.size > 0 && memchr(p, 0, text.size)) {
        return wrong(run, KV_INVALID, "a value with a zero byte is no word of a shell");
    }
    for (size_t i = 0; i < text.size && status == 0; i++) {
        status = p[i] == '\'' ? kv_buf_append(buf, "'\\''", 4) : kv_buf_append(buf, &p[i], 1);
    }
    return status < 0 ? status : kv_buf_append(buf, "'", 1);
}

static int filter_json(struct run *run, struct kv_bytes text, struct kv_buf *buf)
{
    char *json = NULL;
    size_t size = 0;
    FILE *file;
    int status;

    if (!kvctl_is_text(text)) {
        return wrong(run, KV_INVALID, "a value that is no UTF-8 is no JSON string (base64 is one)");
    }
    file = open_memstream(&json, &size);
    if (!file) {
        return KV_NO_MEMORY;
    }
    kvctl_print_json_text(file, text.size ? text.data : "", text.size);
    fclose(file);
    status = kv_buf_append(buf, json, size);
    free(json);
    return status;
}

static int filter_base64(struct kv_bytes text, struct kv_buf *buf)
{
    size_t size = kvctl_base64_size(text.size);
    uint8_t *p = kv_buf_reserve(buf, size + 1);

    if (!p) {
        return KV_TOO_LARGE;
    }
    kvctl_base64_encode(text, (char *)p);
    buf->size += size;
    return 0;
}

static int filter(struct run *run, enum kvctl_filter_kind kind, struct kv_bytes *text)
{
    struct kv_buf buf;
    void *copy = NULL;
    int status;

    run->error->message[0] = '\0';
    kv_buf_init(&buf, KVCTL_RENDERED_BYTES_MAX);
    switch (kind) {
    case KVCTL_FILTER_JSON:
        status = filter_json(run, *text, &buf);
        break;
    case KVCTL_FILTER_SHELL:
        status = filter_shell(run, *text, &buf);
        break;
    default:
        status = filter_base64(*text, &buf);
    }
    if (status == 0) {
        copy = kv_arena_copy(run->arena, buf.size ? buf.data : (const void *)"", buf.size);
        *text = kv_bytes_of(copy, buf.size);
        status = copy ? 0 : KV_NO_MEMORY;
    }
    kv_buf_deinit(&buf);
    return status == 0 || run->error->message[0] ? status
                                                 : wrong(run, status, "the value is too large");
}

static int print(struct run *run)
{
    const struct kvctl_step *step = run->step;
    struct kv_bytes text = {0};
    int status = step->value == KVCTL_VALUE_PART ? part_text(run, &step->parts[0], &text)
                                                 : look_up(run, &text);

    for (size_t i = 0; i < step->n_filters && status == 0; i++) {
        status = filter(run, step->filters[i], &text);
    }
    return status < 0 ? status : append(run, text.data, text.size);
}

/* ---------------------------------------------------------------- steps */

static int begin_range(struct run *run, bool *ret_empty)
{
    const struct kvctl_document *document;
    struct kv_bytes prefix;
    int status = join(run, &prefix);

    if (status < 0) {
        return status;
    }
    status = run->keys->list(run->keys, prefix, &document, run->error);
    if (status < 0) {
        return pass_on(run, status);
    }
    *ret_empty = document->n_entries == 0;
    if (!*ret_empty) {
        run->frames[run->n_frames++] =
            (struct frame){.document = document, .prefix_size = prefix.size};
    }
    return 0;
}

static int test(struct run *run, bool *ret_true)
{
    const struct kvctl_entry *entry;
    struct kv_bytes key;
    int status = get(run, &key, &entry);

    *ret_true = status == 0 && (entry != NULL) != run->step->negated;
    return status;
}

/* Sets *next to the step that follows. */
static int run_step(struct run *run, size_t *next)
{
    const struct kvctl_step *step = run->step;
    bool flag = false;
    int status = 0;

    switch (step->kind) {
    case KVCTL_STEP_TEXT:
        status = append(run, step->text.data, step->text.size);
        break;
    case KVCTL_STEP_PRINT:
        status = print(run);
        break;
    case KVCTL_STEP_RANGE:
        status = begin_range(run, &flag);
        *next = flag ? step->jump : *next;
        break;
    case KVCTL_STEP_NEXT: {
        struct frame *frame = &run->frames[run->n_frames - 1];

        frame->at++;
        if (frame->at < frame->document->n_entries) {
            *next = step->jump;
        } else {
            run->n_frames--;
        }
        break;
    }
    case KVCTL_STEP_IF:
        status = test(run, &flag);
        *next = flag ? *next : step->jump;
        break;
    case KVCTL_STEP_JUMP:
        *next = step->jump;
        break;
    }
    return status;
}

int kvctl_template_render(const struct kvctl_template *template,
                          struct kvctl_template_keys *keys,
                          struct kv_arena *arena,
                          struct kv_buf *out,
                          struct kv_error *ret_error)
{
    struct kv_error error;
    struct run run = {
        .template = template,
        .keys = keys,
        .arena = arena,
        .out = out,
        .error = ret_error ? ret_error : &error,
    };
    size_t next = 0;
    int status = 0;

    for (size_t n = 0; status == 0 && next < template->n_steps; n++) {
        run.step = &template->steps[next++];
        status = n < KVCTL_TEMPLATE_RUN_MAX ? run_step(&run, &next)
                                            : wrong(&run,
                                                    KV_TOO_LARGE,
                                                    "more than %d steps: ranges within ranges?",
                                                    (int)KVCTL_TEMPLATE_RUN_MAX);
    }
    return status;
}
