#include "tui/serve/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tui/serve/guard.h"

/* "127.0.0.1:8080", "[::1]:8080"; in a URL the % before an interface is %25: "[fe80::1%25eth0]:8080" */
static int write_address(const struct sockaddr *address, socklen_t size, char *out, size_t room)
{
    char host[INET6_ADDRSTRLEN + IF_NAMESIZE], port[8];
    const bool v6 = address->sa_family == AF_INET6;
    if (getnameinfo(address, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV))
        return -1;
    const int n = (int)strcspn(host, "%");
    const char *scope = host[n] ? host + n + 1 : "";
    return snprintf(out, room, v6 ? "[%.*s%s%s]:%s" : "%.*s%s%s:%s", n, host, *scope ? "%25" : "",
                    scope, port) < (int)room
               ? 0
               : -1;
}

static int open_socket(const struct addrinfo *a)
{
    enum { BACKLOG = 128 };
    const int on = 1;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    const int why = errno;
    close(fd);
    errno = why;
    return -1;
}

int listen_on(struct listener *l, const char *host, int port, char *err)
{
    const struct addrinfo wanted = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct sockaddr_storage own = {0};
    socklen_t size = sizeof own;
    struct addrinfo *found;
    char service[8], name[80];
    snprintf(service, sizeof service, "%d", port);
    const int rc = getaddrinfo(host, service, &wanted, &found);
    if (rc)
        return lade_fail(err, "--host %s: %s; give an address of this machine", host,
                         gai_strerror(rc));
    *l = (struct listener){.fd = open_socket(found)};
    const int why = errno;
    freeaddrinfo(found);
    if (l->fd < 0)
        return lade_fail(err, "%s port %d: %s; give another with --port, or 0 for a free one", host,
                         port, strerror(why));
    if (getsockname(l->fd, (struct sockaddr *)&own, &size) ||
        write_address((struct sockaddr *)&own, size, name, sizeof name)) {
        close(l->fd);
        return lade_fail(err, "%s port %d: has no address; give another with --host", host, port);
    }
    l->loopback = guard_is_loopback(name);
    snprintf(l->url, sizeof l->url, "http://%s", name);
    return 0;
}
