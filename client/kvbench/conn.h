/* One connection to what is loaded: sockets, epoll and buffers. What goes over it is the target's
 * business. Whatever fails ends the program. */
#ifndef KVBENCH_CONN_H
#define KVBENCH_CONN_H

#include "client/kvbench/options.h"

/* Connects and waits until operations may be sent: to the leader, unless the load is to be spread;
 * then to the number-th of the endpoints. *conn is zero. Its socket is added to epoll. */
void conn_open(struct bench_conn *conn,
               const struct options *options,
               unsigned number,
               unsigned depth,
               int epoll);
void conn_close(struct bench_conn *conn);

/* Sends what is to be sent, as far as the socket takes it. */
void conn_flush(struct bench_conn *conn);
/* What epoll says of it: reads, parses and sends. */
void conn_serve(struct bench_conn *conn, uint32_t events, completed_fn completed);
int conn_epoll(void);
/* As epoll_wait, for at most wait_ns; a short wait is no spinning, which would take a core from
 * what is measured. */
struct epoll_event;
int conn_wait(int epoll, struct epoll_event *events, int max_events, double wait_ns);

#endif
