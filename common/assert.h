/* Assertions that stay on in every build: for our own bugs only, never for bytes from wire, disk or
 * user. */
#ifndef KV_COMMON_ASSERT_H
#define KV_COMMON_ASSERT_H

void kv_assert_failed(const char *expression, const char *file, int line)
    __attribute__((noreturn, cold));

#define KV_ASSERT(expression) \
    ((expression) ? (void)0 : kv_assert_failed(#expression, __FILE__, __LINE__))

#endif
