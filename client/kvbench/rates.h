/* Operations in a closed loop (a new one as soon as one is answered) or an open one (--rate:
 * latency counts from the intended time of sending). One thread. */
#ifndef KVBENCH_RATES_H
#define KVBENCH_RATES_H

#include "client/kvbench/options.h"

/* Returns the program's exit code. */
int rates_run(const struct options *options);

#endif
