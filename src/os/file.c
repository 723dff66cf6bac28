/* file.c - see file.h. Tests: tests/unit/os_file_test.c */
#include "os/file.h"

#include "base/err.h"

#include "os/os_int.h"
#include "os/socket.h"

#include <dirent.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_all(struct nb_buf *b, int fd)
{
	for (;;) {
		size_t room = b->max - b->n < 16384 ? b->max - b->n : 16384;
		uint8_t probe, *at = room ? nb_buf_reserve(b, room) : &probe;
		ssize_t k;

		if (!at)
			return b->err;
		k = read(fd, at, room ? room : 1);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return os_fail(errno);
		if (k == 0)
			return 0;
		if (!room)
			return os_fail(EFBIG), NB_E_FULL;
		nb_buf_commit(b, (size_t)k);
	}
}

int os_read_file(struct nb_buf *b, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), r;

	if (fd < 0)
		return os_fail(errno);
	r = read_all(b, fd);
	close(fd);
	return r;
}

int os_read_fd(struct nb_buf *b, int fd)
{
	return read_all(b, fd);
}

static bool ends_with(const char *name, const char *ending)
{
	size_t n = strlen(name), k = strlen(ending);

	return n > k && strcmp(name + n - k, ending) == 0;
}

/* One file of a directory; what was appended of it is taken back when it fails. */
static bool append_file(struct nb_buf *b, const char *path)
{
	size_t before = b->n;
	struct stat st;

	if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && os_read_file(b, path) == 0 && nb_buf_u8(b, '\n') == 0)
		return true;
	b->n = before;
	b->err = 0;
	return false;
}

int os_read_dir(struct nb_buf *b, const char *dir, const char *ending)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char path[PATH_MAX];
	int count = 0;

	if (!d)
		return os_fail(errno);
	while ((e = readdir(d))) {
		if (!ends_with(e->d_name, ending))
			continue;
		if (snprintf(path, sizeof path, "%s/%s", dir, e->d_name) < (int)sizeof path)
			count += append_file(b, path);
	}
	closedir(d);
	return count;
}

static int write_all(int fd, struct nb_bytes in)
{
	while (in.n) {
		ssize_t k = write(fd, in.p, in.n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return os_fail(errno);
		in.p += k;
		in.n -= (size_t)k;
	}
	return 0;
}

/* Make a rename durable. Some filesystems cannot flush a directory; the rename stands anyway. */
static void sync_directory_of(const char *path)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int n = slash ? (int)(slash - path) + 1 : 0, fd;

	snprintf(dir, sizeof dir, "%.*s", n ? n : 1, n ? path : ".");
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)fsync(fd);
	close(fd);
}

int os_write_file(const char *path, struct nb_bytes content, mode_t mode)
{
	char tmp[PATH_MAX];
	int fd, r;

	if (snprintf(tmp, sizeof tmp, "%s.XXXXXX", path) >= (int)sizeof tmp)
		return os_fail(ENAMETOOLONG);
	fd = mkostemp(tmp, O_CLOEXEC);
	if (fd < 0)
		return os_fail(errno);
	r = write_all(fd, content);
	if (r == 0 && (fchmod(fd, mode) || fsync(fd)))
		r = os_fail(errno);
	if (close(fd) && r == 0)
		r = os_fail(errno);
	if (r == 0 && rename(tmp, path))
		r = os_fail(errno);
	if (r)
		unlink(tmp);
	else
		sync_directory_of(path);
	return r;
}

static int make_dir(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return os_fail(errno);
	if (stat(path, &st))
		return os_fail(errno);
	return S_ISDIR(st.st_mode) ? 0 : os_fail(ENOTDIR);
}

int os_mkdir_p(const char *path, mode_t mode)
{
	char part[PATH_MAX];
	size_t n = strlen(path);

	if (n == 0 || n >= sizeof part)
		return os_fail(n ? ENAMETOOLONG : ENOENT);
	memcpy(part, path, n + 1);
	for (size_t i = 1; i < n; i++) {
		int r;

		if (part[i] != '/')
			continue;
		part[i] = 0;
		r = make_dir(part, mode);
		part[i] = '/';
		if (r)
			return r;
	}
	return make_dir(part, mode);
}

int os_remove_file(const char *path)
{
	return unlink(path) ? os_fail(errno) : 0;
}

int os_list_dir(const char *path, void (*each)(void *ctx, const char *name), void *ctx)
{
	DIR *d = opendir(path);

	if (!d)
		return os_fail(errno);
	for (struct dirent *e; (e = readdir(d));)
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			each(ctx, e->d_name);
	closedir(d);
	return 0;
}

int os_lock_file(int *fd, const char *path)
{
	int r;

	*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (*fd < 0)
		return os_fail(errno);
	if (flock(*fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	r = errno == EWOULDBLOCK ? (os_fail(errno), NB_E_BUSY) : os_fail(errno);
	os_close(fd);
	return r;
}

static struct os_stamp stamp_of(const struct stat *st)
{
	return (struct os_stamp){ st->st_dev, st->st_ino, (uint64_t)st->st_size,
				  (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec };
}

struct os_stamp os_file_stamp(const char *path)
{
	struct stat st;

	return stat(path, &st) ? (struct os_stamp){ 0 } : stamp_of(&st);
}

struct os_stamp os_fd_stamp(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? (struct os_stamp){ 0 } : stamp_of(&st);
}
