/* socket.c - see socket.h. Tests: tests/unit/os_socket_test.c */
#include "os/socket.h"

#include "base/err.h"

#include "os/os_int.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static _Thread_local int last_errno;

const char *os_why(void)
{
	return strerror(last_errno);
}

int os_fail(int e)
{
	last_errno = e;
	switch (e) {
	case EAGAIN:
#if EWOULDBLOCK != EAGAIN
	case EWOULDBLOCK:
#endif
	case EINPROGRESS:
	case EINTR:
		return NB_E_AGAIN;
	case EACCES:
	case EPERM:
	case EROFS:
		return NB_E_PERM;
	case EADDRINUSE:
	case EBUSY:
		return NB_E_BUSY;
	case ENOENT:
		return NB_E_NOTFOUND;
	case EEXIST:
		return NB_E_EXISTS;
	case ENOMEM:
	case ENOBUFS:
		return NB_E_NOMEM;
	case EMFILE:
	case ENFILE:
	case ENOSPC:
	case EDQUOT:
		return NB_E_FULL;
	case ECONNREFUSED:
	case ECONNRESET:
	case ECONNABORTED:
	case EPIPE:
		return NB_E_CLOSED;
	case ETIMEDOUT:
		return NB_E_TIMEOUT;
	case EIO:
		return NB_E_IO;
	default:
		return NB_E_SYS;
	}
}

void os_put_control(struct msghdr *m, void *room, int level, int type, const void *data, size_t n)
{
	struct cmsghdr *c;

	if (!m->msg_control)
		m->msg_control = room;
	c = (struct cmsghdr *)(void *)((char *)room + m->msg_controllen);
	memset(c, 0, CMSG_SPACE(n));
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(n);
	memcpy(CMSG_DATA(c), data, n);
	m->msg_controllen += CMSG_SPACE(n);
}

/* Close fd after a failure without losing its errno. */
static int fail_close(int *fd)
{
	int r = os_fail(errno);

	os_close(fd);
	return r;
}

socklen_t os_sockaddr_from(union os_sockaddr *sa, const struct nb_endpoint *e)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&sa->ss;
	struct sockaddr_in *four = (struct sockaddr_in *)&sa->ss;

	memset(sa, 0, sizeof *sa);
	if (e->addr.family == 4) {
		four->sin_family = AF_INET;
		four->sin_port = htons(e->port);
		memcpy(&four->sin_addr, e->addr.ip, 4);
		return sizeof *four;
	}
	if (e->addr.family == 6) {
		six->sin6_family = AF_INET6;
		six->sin6_port = htons(e->port);
		six->sin6_scope_id = e->addr.scope;
		memcpy(&six->sin6_addr, e->addr.ip, 16);
		return sizeof *six;
	}
	return 0;
}

struct nb_endpoint os_endpoint_from(const struct sockaddr *sa)
{
	struct nb_endpoint e = { 0 };
	struct sockaddr_in6 six;
	struct sockaddr_in four;

	if (sa->sa_family == AF_INET) {
		memcpy(&four, sa, sizeof four);
		e.addr = nb_addr4(ntohl(four.sin_addr.s_addr));
		e.port = ntohs(four.sin_port);
	} else if (sa->sa_family == AF_INET6) {
		memcpy(&six, sa, sizeof six);
		e.addr = nb_addr6(six.sin6_addr.s6_addr);
		e.addr = nb_addr_unmap(&e.addr);
		if (e.addr.family == 6 && nb_addr_is_link_local(&e.addr))
			e.addr.scope = six.sin6_scope_id;
		e.port = ntohs(six.sin6_port);
	}
	return e;
}

static int apply_options(int fd, const struct os_sockopt *opt)
{
	if (!opt)
		return 0;
	if (opt->mark && os_set_mark(fd, opt->mark))
		return -1;
	if (opt->device &&
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, opt->device, (socklen_t)strlen(opt->device)))
		return -1;
	return 0;
}

/* A socket of the endpoint's family, bound to it. */
static int bound_socket(int *fd, const struct nb_endpoint *at, int type, const struct os_sockopt *opt)
{
	union os_sockaddr sa;
	socklen_t len = os_sockaddr_from(&sa, at);
	int on = 1, off = 0;

	*fd = socket(sa.sa.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return os_fail(errno);
	if (type == SOCK_STREAM || (opt && opt->shared))
		setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (sa.sa.sa_family == AF_INET6)
		setsockopt(*fd, IPPROTO_IPV6, IPV6_V6ONLY, nb_addr_is_unspecified(&at->addr) ? &off : &on,
			   sizeof on);
	if (apply_options(*fd, opt) || bind(*fd, &sa.sa, len))
		return fail_close(fd);
	return 0;
}

/* Family 0: both families through [::], or IPv4 alone where IPv6 is switched off. */
static int bound_any(int *fd, const struct nb_endpoint *at, int type, const struct os_sockopt *opt)
{
	static const uint8_t zeros[16];
	struct nb_endpoint e = *at;
	int r;

	if (e.addr.family)
		return bound_socket(fd, &e, type, opt);
	e.addr = nb_addr6(zeros);
	r = bound_socket(fd, &e, type, opt);
	if (r == 0 || r == NB_E_BUSY || r == NB_E_PERM)
		return r;
	e.addr = nb_addr4(0);
	return bound_socket(fd, &e, type, opt);
}

int os_tcp_listen(int *fd, const struct nb_endpoint *at)
{
	int r = bound_any(fd, at, SOCK_STREAM, NULL);

	if (r)
		return r;
	return listen(*fd, 512) ? fail_close(fd) : 0;
}

int os_udp_bind(int *fd, const struct nb_endpoint *at, const struct os_sockopt *opt)
{
	return bound_any(fd, at, SOCK_DGRAM, opt);
}

int os_accept(int *fd, struct nb_endpoint *peer, int listener)
{
	union os_sockaddr sa = { 0 };
	socklen_t len = sizeof sa;
	int on = 1;

	*fd = accept4(listener, &sa.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (*fd < 0) {
		/* The peer gave up while waiting: there may be more behind it. */
		return errno == ECONNABORTED ? NB_E_AGAIN : os_fail(errno);
	}
	*peer = os_endpoint_from(&sa.sa);
	if (peer->addr.family)
		setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	return 0;
}

int os_tcp_connect(int *fd, const struct nb_endpoint *to, const struct os_sockopt *opt)
{
	union os_sockaddr sa;
	socklen_t len = os_sockaddr_from(&sa, to);
	int on = 1;

	*fd = socket(sa.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return os_fail(errno);
	setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (apply_options(*fd, opt))
		return fail_close(fd);
	if (connect(*fd, &sa.sa, len) == 0)
		return 0;
	return errno == EINPROGRESS ? NB_E_AGAIN : fail_close(fd);
}

int os_connect_result(int fd)
{
	int e = 0;
	socklen_t len = sizeof e;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len))
		e = errno;
	return e ? os_fail(e) : 0;
}

void os_keepalive(int fd, int idle_s, int interval_s, int count)
{
	int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

void os_user_timeout(int fd, unsigned ms)
{
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
}

int os_set_mark(int fd, uint32_t mark)
{
	return setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) ? os_fail(errno) : 0;
}

static int unix_address(struct sockaddr_un *sa, const char *path)
{
	size_t n = strlen(path);

	memset(sa, 0, sizeof *sa);
	sa->sun_family = AF_UNIX;
	if (n == 0 || n >= sizeof sa->sun_path)
		return NB_E_ARG;
	memcpy(sa->sun_path, path, n);
	return 0;
}

int os_unix_connect(int *fd, const char *path)
{
	struct sockaddr_un sa;

	*fd = -1;
	if (unix_address(&sa, path))
		return os_fail(ENAMETOOLONG), NB_E_ARG;
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return os_fail(errno);
	return connect(*fd, (struct sockaddr *)&sa, sizeof sa) ? fail_close(fd) : 0;
}

/* Remove a socket file nobody listens on. */
static int clear_stale(const char *path)
{
	struct stat st;
	int fd, r;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : os_fail(errno);
	if (!S_ISSOCK(st.st_mode))
		return os_fail(EEXIST);
	r = os_unix_connect(&fd, path);
	os_close(&fd);
	if (r != NB_E_CLOSED)
		return r == NB_E_PERM ? r : (os_fail(EADDRINUSE), NB_E_BUSY);
	return unlink(path) && errno != ENOENT ? os_fail(errno) : 0;
}

int os_unix_listen(int *fd, const char *path, mode_t mode)
{
	struct sockaddr_un sa;
	mode_t old;
	int r;

	*fd = -1;
	if (unix_address(&sa, path))
		return os_fail(ENAMETOOLONG), NB_E_ARG;
	r = clear_stale(path);
	if (r)
		return r;
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return os_fail(errno);
	/* The right mode from the first moment; chmod widens what the umask took away. */
	old = umask(0177);
	r = bind(*fd, (struct sockaddr *)&sa, sizeof sa);
	umask(old);
	if (r || chmod(path, mode) || listen(*fd, 64))
		return fail_close(fd);
	return 0;
}

int os_unix_peer(int fd, uid_t *uid, gid_t *gid, pid_t *pid)
{
	struct ucred c;
	socklen_t len = sizeof c;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len))
		return os_fail(errno);
	*uid = c.uid;
	*gid = c.gid;
	*pid = c.pid;
	return 0;
}

int64_t os_tcp_rtt(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof info;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		return 0;
	return (int64_t)info.tcpi_rtt * 1000;
}

int os_local_endpoint(int fd, struct nb_endpoint *e)
{
	union os_sockaddr sa = { 0 };
	socklen_t len = sizeof sa;

	if (getsockname(fd, &sa.sa, &len))
		return os_fail(errno);
	*e = os_endpoint_from(&sa.sa);
	return 0;
}

int os_peer_endpoint(int fd, struct nb_endpoint *e)
{
	union os_sockaddr sa = { 0 };
	socklen_t len = sizeof sa;

	if (getpeername(fd, &sa.sa, &len))
		return os_fail(errno);
	*e = os_endpoint_from(&sa.sa);
	return 0;
}

int os_read(int fd, void *buf, size_t cap, size_t *n)
{
	ssize_t k = read(fd, buf, cap);

	*n = k > 0 ? (size_t)k : 0;
	if (k == 0)
		return NB_E_CLOSED;
	return k < 0 ? os_fail(errno) : 0;
}

int os_write(int fd, const void *buf, size_t len, size_t *n)
{
	ssize_t k = send(fd, buf, len, MSG_NOSIGNAL);

	*n = k > 0 ? (size_t)k : 0;
	return k < 0 ? os_fail(errno) : 0;
}

void os_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}
