/* socket.h - sockets: TCP, UDP and unix, always non-blocking and close-on-exec, and the conversion
 * between sockaddr and nb_endpoint. errno stays in here: functions return NB_E_* and os_why() has the
 * system's words for the last failure of the calling thread. */
#ifndef NB_OS_SOCKET_H
#define NB_OS_SOCKET_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/addr.h"

/* What the last failed os_ call of this thread ran into ("Address already in use"); never NULL. */
const char *os_why(void);

/* Room for any address we use. */
union os_sockaddr {
	struct sockaddr sa;
	struct sockaddr_storage ss;
};
/* Fill sa; returns its length, 0 for an endpoint without address. */
socklen_t os_sockaddr_from(union os_sockaddr *sa, const struct nb_endpoint *e);
/* IPv4-mapped IPv6 becomes IPv4. Other families give family 0. */
struct nb_endpoint os_endpoint_from(const struct sockaddr *sa);

/* Options of outgoing and datagram sockets; zero values mean "leave". */
struct os_sockopt {
	uint32_t mark;		/* SO_MARK (needs CAP_NET_ADMIN) */
	const char *device;	/* SO_BINDTODEVICE */
	bool shared;		/* SO_REUSEADDR for a UDP port that other programs listen at, too */
};

/* Listen on an address. [::] takes IPv4 too; with family 0 the same, or 0.0.0.0 on machines without
 * IPv6. Port 0 picks one (os_local_endpoint tells). Returns 0, NB_E_BUSY (in use), NB_E_PERM, NB_E_SYS. */
int os_tcp_listen(int *fd, const struct nb_endpoint *at);
/* Accept one connection, TCP_NODELAY set. Returns 0, NB_E_AGAIN, NB_E_FULL (out of descriptors) or NB_E_SYS. */
int os_accept(int *fd, struct nb_endpoint *peer, int listener);
/* Begin to connect. Returns 0 (connected), NB_E_AGAIN (wait until writable, then os_connect_result),
 * or an error, fd then -1. opt may be NULL. */
int os_tcp_connect(int *fd, const struct nb_endpoint *to, const struct os_sockopt *opt);
/* How the connection attempt ended: 0, NB_E_CLOSED (refused), NB_E_TIMEOUT, NB_E_SYS. */
int os_connect_result(int fd);
/* Probe a silent peer after idle_s seconds, every interval_s, give up after count probes. */
void os_keepalive(int fd, int idle_s, int interval_s, int count);
/* Bytes acknowledged late count as lost after ms (TCP_USER_TIMEOUT). */
void os_user_timeout(int fd, unsigned ms);

/* A bound UDP socket; family 0 binds [::] for both families when the machine has IPv6. */
int os_udp_bind(int *fd, const struct nb_endpoint *at, const struct os_sockopt *opt);

/* Listen on a path with these permission bits. A leftover socket nobody listens on is replaced.
 * Returns 0, NB_E_BUSY (somebody listens), NB_E_PERM, NB_E_ARG (path too long) or NB_E_SYS. */
int os_unix_listen(int *fd, const char *path, mode_t mode);
/* Connect to a path. Returns 0, NB_E_NOTFOUND (no socket), NB_E_CLOSED (nobody listens), NB_E_PERM, NB_E_SYS. */
int os_unix_connect(int *fd, const char *path);
/* Who is at the other end. Returns 0 or NB_E_SYS. */
int os_unix_peer(int fd, uid_t *uid, gid_t *gid, pid_t *pid);

int os_local_endpoint(int fd, struct nb_endpoint *e);
int os_peer_endpoint(int fd, struct nb_endpoint *e);
int os_set_mark(int fd, uint32_t mark);
/* Nanoseconds to the other end of a TCP connection and back, as the kernel has measured; 0: not known. */
int64_t os_tcp_rtt(int fd);

/* Read once. 0 and *n > 0, NB_E_AGAIN, NB_E_CLOSED at the end, NB_E_IO. */
int os_read(int fd, void *buf, size_t cap, size_t *n);
/* Write once, without SIGPIPE. 0 and *n > 0, NB_E_AGAIN, NB_E_CLOSED (peer gone), NB_E_IO. */
int os_write(int fd, const void *buf, size_t len, size_t *n);
/* Close and set to -1; -1 is allowed. */
void os_close(int *fd);

#endif
