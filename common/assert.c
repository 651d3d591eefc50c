#include "common/assert.h"

#include <stdio.h>
#include <stdlib.h>

void kv_assert_failed(const char *expression, const char *file, int line)
{
    fprintf(stderr,
            "kvd: assertion failed: %s (%s:%d). This is a bug in kvd; please report this line.\n",
            expression,
            file,
            line);
    abort();
}
