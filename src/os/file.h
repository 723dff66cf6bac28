/* file.h - whole files: read with a cap, replace atomically, lock, make directories, notice changes.
 * Errors as in os/socket.h; os_why() has the system's words. */
#ifndef NB_OS_FILE_H
#define NB_OS_FILE_H

#include <sys/types.h>

#include "base/buf.h"

/* Append the content of a file to b; b->max is the cap. Returns 0, NB_E_NOTFOUND, NB_E_PERM, NB_E_FULL
 * (larger than the cap), NB_E_NOMEM, NB_E_IO, NB_E_SYS. */
int os_read_file(struct nb_buf *b, const char *path);
/* The same from a descriptor, which stays open. */
int os_read_fd(struct nb_buf *b, int fd);
/* Append every regular file of a directory whose name ends so (".pem"), a newline after each; files that cannot
 * be read, or that do not fit any more, are left out. Returns how many, or an error when the directory cannot be
 * read. No order. */
int os_read_dir(struct nb_buf *b, const char *dir, const char *ending);
/* Replace a file as a whole: a temporary file beside it, flushed to the disk, renamed over it, the
 * directory flushed. Readers see the old or the new content. Mode applies whatever the umask. */
int os_write_file(const char *path, struct nb_bytes content, mode_t mode);
/* Make a directory and its parents; existing ones are left as they are. Returns 0 or an error. */
int os_mkdir_p(const char *path, mode_t mode);
/* Returns 0, NB_E_NOTFOUND or another error. */
int os_remove_file(const char *path);
/* Call each for every entry of a directory but . and .., in no order. */
int os_list_dir(const char *path, void (*each)(void *ctx, const char *name), void *ctx);
/* Take an exclusive lock that lives as long as *fd (close it to release; death of the process does
 * too). The file is made when missing. Returns 0, NB_E_BUSY, NB_E_PERM, NB_E_SYS; *fd is -1 unless 0. */
int os_lock_file(int *fd, const char *path);

/* What changes when a file is written or replaced. All zero when there is no such file. */
struct os_stamp {
	uint64_t dev, ino, size;
	int64_t mtime_ns;
};
struct os_stamp os_file_stamp(const char *path);
struct os_stamp os_fd_stamp(int fd);
static inline bool os_stamp_eq(struct os_stamp a, struct os_stamp b)
{
	return a.dev == b.dev && a.ino == b.ino && a.size == b.size && a.mtime_ns == b.mtime_ns;
}

#endif
