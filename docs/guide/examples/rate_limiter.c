/* A rate limiter for an interface: five calls at once, then one each minute, for each user. The
 * cluster keeps the time, so it does not matter which server of yours a call comes to. */
#include <kv/kv.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    struct kv_client_options options = {.endpoints = argc > 1 ? argv[1] : "127.0.0.1:4700"};
    struct kv_limit limit = {.rate = 1, .period_ms = 60000, .burst = 5};
    struct kv_limiter_result result;
    struct kv_client *client;
    struct kv_error error = {0};
    int status = kv_client_open(&options, &client, &error);

    if (status < 0) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    for (int i = 1; i <= 7 && status == 0; i++) {
        status =
            kv_limiter_acquire(client, kv_bytes_str("api:ada"), &limit, 1, NULL, &result, &error);
        if (status < 0) {
            break;
        }
        if (result.allowed) {
            printf("call %d: allowed, %llu more\n", i, (unsigned long long)result.remaining);
        } else {
            /* What an HTTP server would send as 429 with Retry-After. */
            printf("call %d: refused, retry after %s\n",
                   i,
                   result.retry_after_ms > 0 && result.retry_after_ms <= limit.period_ms
                       ? "at most a minute"
                       : "?");
        }
    }
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", kv_status_name(status), error.message);
    }
    kv_client_close(client);
    return status < 0;
}
