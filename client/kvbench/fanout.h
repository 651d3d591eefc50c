/* Fan-out: one key, or topic, that many watch. Measured is when the last of them is told: after the
 * write was sent, and after the first news of its commit: its answer, or its first event. A write
 * is over when it is answered and all are told; --pipeline of them are under way, or as many as are
 * due with
 * --rate. Two threads: one writes and takes the answers, the other takes the events. */
#ifndef KVBENCH_FANOUT_H
#define KVBENCH_FANOUT_H

struct options;

int fanout_run(const struct options *options);

#endif
