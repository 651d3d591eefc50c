/* SO_REUSEPORT is not POSIX. */
#define _GNU_SOURCE
#include "server/net/listen.h"

#include "raft/transport.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int
make_socket(const struct sockaddr_storage *address, socklen_t size, bool share, int *ret_fd)
{
    int yes = 1;
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        (share && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes) < 0) ||
        bind(fd, (const struct sockaddr *)address, size) < 0) {
        int status = -errno;

        close(fd);
        return status;
    }
    *ret_fd = fd;
    return 0;
}

/* A shared port would let a second server of the same user in, and half of the clients reach it: a
 * socket that does not share tells whether the port is free. bind() alone does not while nobody
 * listens yet, but then there is nobody to disturb. */
static int probe(const struct sockaddr_storage *address, socklen_t size)
{
    int fd = -1;
    int status = make_socket(address, size, false, &fd);

    if (status == 0) {
        status = listen(fd, 1) < 0 ? -errno : 0;
        close(fd);
    }
    return status;
}

static in_port_t *port_of(struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET6 ? &((struct sockaddr_in6 *)address)->sin6_port
                                          : &((struct sockaddr_in *)address)->sin_port;
}

static int resolve(const char *text,
                   const char *what,
                   const char *option,
                   struct sockaddr_storage *ret_address,
                   socklen_t *ret_size,
                   struct kv_error *ret_error)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found;
    char host[256];
    char port[8];
    int rv;

    if (kv_address_split(text, host, port) != 0) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "\"%.100s\" is no address to listen on for %s: want --%s HOST:PORT",
                            text,
                            what,
                            option);
    }
    rv = getaddrinfo(host[0] ? host : "0.0.0.0", port, &hints, &found);
    if (rv != 0) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "cannot listen for %s on %.100s: %s; --%s names an address of this "
                            "machine",
                            what,
                            text,
                            rv == EAI_SYSTEM ? strerror(errno) : gai_strerror(rv),
                            option);
    }
    memset(ret_address, 0, sizeof *ret_address);
    memcpy(ret_address, found->ai_addr, found->ai_addrlen);
    *ret_size = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

static int bind_all(struct sockaddr_storage *address,
                    socklen_t size,
                    unsigned n,
                    int *ret_fds,
                    unsigned *ret_n_bound)
{
    int status = n > 1 && *port_of(address) != 0 ? probe(address, size) : 0;

    for (unsigned i = 0; i < n && status == 0; i++) {
        status = make_socket(address, size, n > 1, &ret_fds[i]);
        *ret_n_bound += status == 0;
        if (status == 0 && i == 0) {
            socklen_t bound = sizeof *address;

            /* The others take the port that the first was given. */
            status = getsockname(ret_fds[0], (struct sockaddr *)address, &bound) < 0 ? -errno : 0;
        }
    }
    /* An address is taken for good only by listen(); several listeners were probed above. */
    if (status == 0 && n == 1 && listen(ret_fds[0], SOMAXCONN) < 0) {
        status = -errno;
    }
    return status;
}

int kv_listen_bind(const char *address,
                   const char *what,
                   const char *option,
                   unsigned n,
                   int *ret_fds,
                   int *ret_port,
                   struct kv_error *ret_error)
{
    struct sockaddr_storage storage;
    socklen_t size = 0;
    unsigned n_bound = 0;
    int status = resolve(address, what, option, &storage, &size, ret_error);

    if (status != 0) {
        return status;
    }
    status = bind_all(&storage, size, n, ret_fds, &n_bound);
    if (status == 0) {
        *ret_port = ntohs(*port_of(&storage));
        return 0;
    }
    for (unsigned i = 0; i < n_bound; i++) {
        close(ret_fds[i]);
    }
    if (status == -EADDRINUSE) {
        return kv_error_set(
            ret_error,
            KV_IN_USE,
            "cannot listen for %s on %.100s: another process has this port; end it, "
            "or choose another --%s",
            what,
            address,
            option);
    }
    return kv_error_set(ret_error,
                        KV_IO,
                        "cannot listen for %s on %.100s: %s; see --%s",
                        what,
                        address,
                        strerror(-status),
                        option);
}
