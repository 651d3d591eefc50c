/* A terminal's screen by the escape sequences that all of them know (ECMA-48, and xterm's other
 * screen), and the same numbers as lines and as JSON. */
#include "client/kvctl/top.h"

#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

enum { ROWS_DEFAULT = 24, COLUMNS_DEFAULT = 80, PREFIXES_IN_LINE = 5, TEXT_BYTES = 32 };
#define ENTER "\033[?1049h\033[?25l"
#define LEAVE "\033[?25h\033[?1049l"
#define HOME "\033[H"
#define CLEAR_LINE "\033[K"
#define CLEAR_BELOW "\033[J"
#define BOLD "\033[1m"
#define PLAIN "\033[0m"

static struct termios before;
static bool is_raw;
static bool has_quit;

/* ---------------------------------------------------------------- the terminal */

bool kvctl_top_screen_begin(FILE *out)
{
    struct termios raw;

    has_quit = false;
    if (!isatty(fileno(out))) {
        return false;
    }
    /* Signals stay: ctrl-C is one. */
    if (isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0) {
        raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        is_raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
    }
    fputs(ENTER, out);
    return true;
}

void kvctl_top_screen_end(FILE *out)
{
    if (is_raw) {
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &before);
        is_raw = false;
    }
    fputs(LEAVE, out);
    fflush(out);
}

bool kvctl_top_screen_quit(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char c;

    while (is_raw && !has_quit && poll(&input, 1, 0) == 1) {
        ssize_t n = read(STDIN_FILENO, &c, 1);

        has_quit = n <= 0 || c == 'q' || c == 'Q';
    }
    return has_quit;
}

/* ---------------------------------------------------------------- numbers */

static const char *rate_text(double rate, char text[TEXT_BYTES])
{
    if (rate < 0) {
        return "-";
    }
    snprintf(text, TEXT_BYTES, rate < 10 ? "%.1f" : "%.0f", rate);
    return text;
}

static const char *latency_text(uint64_t us, uint64_t count, char text[TEXT_BYTES])
{
    if (count == 0) {
        return "-";
    }
    if (us == UINT64_MAX) {
        return ">5s";
    }
    snprintf(text, TEXT_BYTES, "<%gms", (double)us / 1000);
    return text;
}

static const char *bytes_text(uint64_t bytes, char text[TEXT_BYTES])
{
    static const char units[] = "BKMGT";
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1024 && units[unit + 1]) {
        value /= 1024;
        unit++;
    }
    snprintf(text, TEXT_BYTES, unit && value < 10 ? "%.1f%c" : "%.0f%c", value, units[unit]);
    return text;
}

/* ---------------------------------------------------------------- a screen */

/* Lines that fit. */
struct screen {
    FILE *out;
    int rows;
    int columns;
    int row;
};

static void line(struct screen *screen, bool bold, const char *format, ...) KV_PRINTF(3, 4);
static void line(struct screen *screen, bool bold, const char *format, ...)
{
    char text[512];
    va_list arguments;

    if (screen->row >= screen->rows) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    /* No newline behind the last: the screen would move. */
    fprintf(screen->out,
            "%s%s%.*s%s" CLEAR_LINE,
            screen->row ? "\r\n" : HOME,
            bold ? BOLD : "",
            screen->columns,
            text,
            bold ? PLAIN : "");
    screen->row++;
}

static void show_cluster(struct screen *screen, const struct kvctl_top_sample *sample)
{
    const struct kv_node_info *newest = kvctl_top_newest(sample);
    char numbers[4][TEXT_BYTES];

    if (!newest) {
        line(screen, true, "no node answers");
        return;
    }
    line(screen,
         true,
         "cluster %016" PRIx64 "  leader %" PRIu64 " (%s)  term %" PRIu64,
         newest->cluster_id,
         newest->leader_id,
         newest->leader_address[0] ? newest->leader_address : "unknown",
         newest->term);
    line(screen,
         false,
         "revision %" PRId64 " (%s/s)  log index %" PRIu64 " (%s/s)  keys %" PRIu64
         "  data %s  history %s  sessions %" PRIu64,
         newest->revision,
         rate_text(sample->changes_per_s, numbers[0]),
         newest->commit_index,
         rate_text(sample->entries_per_s, numbers[1]),
         newest->keys,
         bytes_text(newest->data_bytes, numbers[2]),
         bytes_text(newest->history_bytes, numbers[3]),
         newest->sessions);
}

static void show_node(struct screen *screen, const struct kvctl_top_node *node)
{
    const struct kv_node_info *info = &node->info;
    char numbers[3][TEXT_BYTES];

    if (!node->answers) {
        line(screen, false, "%-22.22s does not answer: %s", node->address, node->error);
        return;
    }
    line(screen,
         false,
         "%-22.22s %4" PRIu64 " %-10.10s %-10.10s %10" PRIu64 " %6" PRIu64 " %8" PRIu64
         " %9s %9s %9s",
         node->address,
         info->node_id,
         info->role,
         info->state,
         info->applied_index,
         info->connections,
         info->watches + info->subscriptions,
         rate_text(node->requests_per_s, numbers[0]),
         latency_text(node->latency.median_us, node->latency.count, numbers[1]),
         latency_text(node->latency.p99_us, node->latency.count, numbers[2]));
}

static void show_busy(struct screen *screen, const struct kvctl_top_busy *busy, double seconds)
{
    line(screen, false, "%s", "");
    line(screen, true, "%-48s %10s", "busiest prefixes", "changes/s");
    if (!busy->watch) {
        line(screen, false, "not known: %s", busy->error);
    }
    for (size_t i = 0; i < busy->n_prefixes && screen->row < screen->rows; i++) {
        char number[TEXT_BYTES];

        line(screen,
             false,
             "%-48s %10s",
             busy->prefixes[i].text,
             rate_text((double)busy->prefixes[i].changes / seconds, number));
    }
}

void kvctl_top_show_screen(FILE *out,
                           const struct kvctl_top_sample *sample,
                           const struct kvctl_top_busy *busy,
                           double seconds)
{
    struct screen screen = {.out = out, .rows = ROWS_DEFAULT, .columns = COLUMNS_DEFAULT};
    struct winsize size;

    if (ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) {
        screen.rows = size.ws_row;
        screen.columns = size.ws_col;
    }
    show_cluster(&screen, sample);
    line(&screen, false, "%s", "");
    line(&screen,
         true,
         "%-22s %4s %-10s %-10s %10s %6s %8s %9s %9s %9s",
         "node",
         "id",
         "role",
         "state",
         "applied",
         "conns",
         "watchers",
         "req/s",
         "median",
         "p99");
    for (size_t i = 0; i < sample->n_nodes; i++) {
        show_node(&screen, &sample->nodes[i]);
    }
    show_busy(&screen, busy, seconds);
    fputs(CLEAR_BELOW, out);
    fflush(out);
}

/* ---------------------------------------------------------------- lines */

void kvctl_top_show_lines(FILE *out,
                          const struct kvctl_top_sample *sample,
                          const struct kvctl_top_busy *busy,
                          double seconds)
{
    char numbers[3][TEXT_BYTES];

    for (size_t i = 0; i < sample->n_nodes; i++) {
        const struct kvctl_top_node *node = &sample->nodes[i];

        if (!node->answers) {
            fprintf(out, "%s: does not answer: %s\n", node->address, node->error);
            continue;
        }
        fprintf(out,
                "%s: node %" PRIu64 ", %s, %s, applied %" PRIu64 ", %" PRIu64
                " connections, %" PRIu64 " watchers, %s requests/s, median %s, p99 %s\n",
                node->address,
                node->info.node_id,
                node->info.role,
                node->info.state,
                node->info.applied_index,
                node->info.connections,
                node->info.watches + node->info.subscriptions,
                rate_text(node->requests_per_s, numbers[0]),
                latency_text(node->latency.median_us, node->latency.count, numbers[1]),
                latency_text(node->latency.p99_us, node->latency.count, numbers[2]));
    }
    fprintf(out, "changes: %s/s", rate_text((double)busy->total / seconds, numbers[0]));
    for (size_t i = 0; i < busy->n_prefixes && i < PREFIXES_IN_LINE; i++) {
        fprintf(out,
                "%s %s %s/s",
                i ? "," : "; busiest:",
                busy->prefixes[i].text,
                rate_text((double)busy->prefixes[i].changes / seconds, numbers[0]));
    }
    fprintf(out, "%s%s\n", busy->watch ? "" : "; not counted: ", busy->watch ? "" : busy->error);
}

static void show_node_json(FILE *out, const struct kvctl_top_node *node)
{
    const struct kv_node_info *info = &node->info;

    fputs("{\"address\":", out);
    kvctl_print_json_string(out, node->address);
    if (!node->answers) {
        fputs(",\"error\":", out);
        kvctl_print_json_string(out, node->error);
        fputc('}', out);
        return;
    }
    fprintf(out,
            ",\"node_id\":%" PRIu64 ",\"role\":\"%s\",\"state\":\"%s\",\"leader_id\":%" PRIu64
            ",\"applied_index\":%" PRIu64 ",\"revision\":%" PRId64 ",\"connections\":%" PRIu64
            ",\"watches\":%" PRIu64 ",\"subscriptions\":%" PRIu64 ",\"behind\":%" PRIu64
            ",\"requests\":%" PRIu64,
            info->node_id,
            info->role,
            info->state,
            info->leader_id,
            info->applied_index,
            info->revision,
            info->connections,
            info->watches,
            info->subscriptions,
            info->watches_behind,
            info->requests);
    if (node->requests_per_s >= 0) {
        fprintf(out, ",\"requests_per_s\":%.1f", node->requests_per_s);
    }
    if (node->latency.count > 0 && node->latency.p99_us != UINT64_MAX) {
        fprintf(out,
                ",\"median_us\":%" PRIu64 ",\"p99_us\":%" PRIu64,
                node->latency.median_us,
                node->latency.p99_us);
    }
    fputc('}', out);
}

void kvctl_top_show_json(FILE *out,
                         const struct kvctl_top_sample *sample,
                         const struct kvctl_top_busy *busy,
                         double seconds)
{
    fputs("{\"nodes\":[", out);
    for (size_t i = 0; i < sample->n_nodes; i++) {
        fputs(i ? "," : "", out);
        show_node_json(out, &sample->nodes[i]);
    }
    fprintf(out, "],\"seconds\":%.3f,\"changes\":%" PRIu64 ",\"prefixes\":[", seconds, busy->total);
    for (size_t i = 0; i < busy->n_prefixes; i++) {
        fputs(i ? ",{\"prefix\":" : "{\"prefix\":", out);
        kvctl_print_json_string(out, busy->prefixes[i].text);
        fprintf(out, ",\"changes\":%" PRIu64 "}", busy->prefixes[i].changes);
    }
    fputs("]}\n", out);
}
