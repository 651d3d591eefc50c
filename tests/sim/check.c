#include "tests/sim/check.h"

#include "tests/sim/linear.h"
#include "tests/sim/replay.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

enum { LINE_SIZE = 1024 };

#define STEPS_MAX_DEFAULT 2000000u     /* a fraction of a second */
#define MEMO_MAX_DEFAULT (1u << 20)    /* 32 MiB */
#define TOUCHES_MAX_DEFAULT (4u << 20) /* 200 MiB */

/* One line; cut off when the report is full. */
static void KV_PRINTF(2, 0)
    add_line(struct kv_report *report, const char *format, va_list arguments)
{
    char line[LINE_SIZE];
    int n;

    vsnprintf(line, sizeof line, format, arguments);
    n = snprintf(report->text + report->length, sizeof report->text - report->length, "%s\n", line);
    if (n > 0) {
        report->length += (size_t)n;
    }
    if (report->length >= sizeof report->text) {
        report->length = sizeof report->text - 1;
    }
}

void kv_report_add(struct kv_report *report, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    add_line(report, format, arguments);
    va_end(arguments);
}

void kv_report_bad(struct kv_report *report, const struct kv_slice *key, const char *format, ...)
{
    va_list arguments;
    char what[LINE_SIZE];
    char quoted[sizeof report->key] = "";

    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    if (key) {
        kv_history_quote(*key, quoted, sizeof quoted);
    }
    if (report->verdict != KV_VERDICT_BAD) {
        memcpy(report->key, quoted, sizeof quoted);
    }
    report->verdict = KV_VERDICT_BAD;
    kv_report_add(report, "%s%s%s%s", key ? "key " : "", quoted, key ? ": " : "", what);
}

void kv_report_add_op(struct kv_report *report,
                      const struct kv_history *history,
                      const struct kv_history_op *op)
{
    char line[LINE_SIZE];

    kv_history_describe(history, op, line, sizeof line);
    kv_report_add(report, "    %s", line);
}

void kv_report_print(const struct kv_report *report, FILE *file)
{
    static const char *const verdicts[] = {"good", "gave up", "bad"};

    fprintf(file,
            "%s: %" PRIu64 " operations (%" PRIu64 " answered, %" PRIu64
            " writes of unknown outcome), %" PRIu64 " keys, %" PRIu64 " revisions%s, %" PRIu64
            " gaps (%" PRIu64 " resolved), %" PRIu64 " looks at unknown states, %" PRIu64
            " steps of search, at most %" PRIu64 " states remembered, %" PRIu64 " keys given up\n",
            verdicts[report->verdict],
            report->n_ops,
            report->n_answered,
            report->n_open,
            report->n_keys,
            report->n_revisions,
            report->replayed ? "" : " (not replayed: not all were told)",
            report->gaps,
            report->gaps_resolved,
            report->unsure,
            report->steps,
            report->memo_most,
            report->keys_given_up);
}

static uint64_t or_default(uint64_t value, uint64_t standard)
{
    return value ? value : standard;
}

void kv_check_history(const struct kv_history *history,
                      const struct kv_check_options *options,
                      struct kv_report *ret_report)
{
    struct kv_check_options limits = {
        .steps_max = or_default(options ? options->steps_max : 0, STEPS_MAX_DEFAULT),
        .memo_max = or_default(options ? options->memo_max : 0, MEMO_MAX_DEFAULT),
        .touches_max = or_default(options ? options->touches_max : 0, TOUCHES_MAX_DEFAULT),
    };
    struct kv_touches touches;

    memset(ret_report, 0, sizeof *ret_report);
    kv_touches_init(&touches, history, (size_t)limits.touches_max, ret_report);
    ret_report->n_ops = history->n_ops;
    ret_report->n_keys = touches.n_keys;
    for (size_t i = 0; i < history->n_ops; i++) {
        ret_report->n_answered += touches.infos[i].outcome == KV_OUTCOME_ANSWERED;
        ret_report->n_open += touches.infos[i].outcome == KV_OUTCOME_OPEN;
    }
    if (touches.too_many) {
        ret_report->verdict = KV_VERDICT_GAVE_UP;
        ret_report->keys_given_up = touches.n_keys;
        kv_report_add(
            ret_report, "more than %" PRIu64 " looks at keys: not judged", limits.touches_max);
    } else {
        kv_replay_check(&touches, ret_report);
        kv_linear_check(&touches, &limits, ret_report);
    }
    kv_touches_deinit(&touches);
}
