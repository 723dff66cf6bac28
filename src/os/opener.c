/* opener.c - see opener.h. A request is one byte, the file's number; the answer is an errno, with the descriptor
 * beside it when that is 0. */
#include "os/opener.h"

#include "base/err.h"

#include "os/os_int.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_S 2

struct os_opener {
	int fd;
	pid_t pid;
	size_t n;
};

union control {
	struct cmsghdr head;
	char room[CMSG_SPACE(sizeof(int))];
};

/* --- the helper --- */

/* Ports, stores and locks of the program must not live on in here. */
static void close_others(int keep)
{
	long most = sysconf(_SC_OPEN_MAX);

	if (dup2(keep, 3) < 0)
		_exit(1);
	if (syscall(SYS_close_range, 4, ~0u, 0) == 0)
		return;
	for (int fd = 4; fd < (most > 0 && most < 65536 ? most : 65536); fd++)
		close(fd);
}

static void answer(int sock, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), code = fd < 0 ? errno : 0;
	struct iovec iov = { &code, sizeof code };
	union control c;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		memset(&c, 0, sizeof c);
		m.msg_control = &c;
		m.msg_controllen = sizeof c;
		c.head.cmsg_len = CMSG_LEN(sizeof(int));
		c.head.cmsg_level = SOL_SOCKET;
		c.head.cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(&c.head), &fd, sizeof fd);
	}
	if (sendmsg(sock, &m, MSG_NOSIGNAL) < 0)
		_exit(1);
	if (fd >= 0)
		close(fd);
}

static void helper(int sock, const char *const *paths, size_t n)
{
	static const int plain[] = { SIGTERM, SIGINT, SIGQUIT, SIGPIPE, SIGCHLD };
	uint8_t i;

	for (size_t k = 0; k < sizeof plain / sizeof *plain; k++)
		signal(plain[k], SIG_DFL);
	signal(SIGHUP, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "nestbox-opener");
	close_others(sock);
	while (read(3, &i, 1) == 1 && i < n)
		answer(3, paths[i]);
	_exit(0);
}

/* --- the program's side --- */

int os_opener_start(struct os_opener **out, const char *const *paths, size_t n)
{
	const struct timeval limit = { .tv_sec = ANSWER_S };
	struct os_opener *o;
	int pair[2], err;

	if (!n || n > OS_OPENER_FILES)
		return NB_E_ARG;
	o = calloc(1, sizeof *o);
	if (!o)
		return NB_E_NOMEM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		err = os_fail(errno);
		free(o);
		return err;
	}
	o->pid = fork();
	if (o->pid == 0)
		helper(pair[1], paths, n);
	close(pair[1]);
	o->fd = pair[0];
	o->n = n;
	if (o->pid < 0) {
		err = os_fail(errno);
		close(o->fd);
		free(o);
		return err;
	}
	setsockopt(o->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(o->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	*out = o;
	return 0;
}

/* A late answer would be taken for that of the next request: no further ones. */
static int give_up(struct os_opener *o)
{
	close(o->fd);
	o->fd = -1;
	return NB_E_CLOSED;
}

int os_opener_open(struct os_opener *o, size_t i)
{
	uint8_t number = (uint8_t)i;
	int code = 0, fd = -1;
	struct iovec iov = { &code, sizeof code };
	union control c;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c };
	struct cmsghdr *h;

	if (i >= o->n)
		return NB_E_ARG;
	if (o->fd < 0)
		return NB_E_CLOSED;
	if (send(o->fd, &number, 1, MSG_NOSIGNAL) != 1 || recvmsg(o->fd, &m, MSG_CMSG_CLOEXEC) != sizeof code)
		return give_up(o);
	if (code)
		return os_fail(code);
	h = CMSG_FIRSTHDR(&m);
	if (!h || h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS || h->cmsg_len != CMSG_LEN(sizeof fd))
		return give_up(o);
	memcpy(&fd, CMSG_DATA(h), sizeof fd);
	return fd;
}

void os_opener_free(struct os_opener *o)
{
	if (!o)
		return;
	if (o->fd >= 0)
		close(o->fd);
	waitpid(o->pid, NULL, 0);
	free(o);
}
