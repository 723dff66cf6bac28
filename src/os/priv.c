/* priv.c - see priv.h. Tests: tests/unit/os_file_test.c */
#include "os/priv.h"

#include "base/err.h"

#include "os/os_int.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* name may be NULL: only the one group then. Ends with proof that root is out of reach. */
static int become(uid_t uid, gid_t gid, const char *name)
{
	if (name ? initgroups(name, gid) : setgroups(1, &gid))
		return os_fail(errno);
	if (setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
		return os_fail(errno);
	if (uid != 0 && setuid(0) == 0)
		return NB_E_INTERNAL;
	return 0;
}

/* A user by name or number; *known NULL: a number without an entry. */
static int find_user(const char *name, uid_t *uid, gid_t *gid, const char **known)
{
	struct passwd *pw = getpwnam(name);
	char *end = NULL;
	unsigned long n;

	*known = NULL;
	if (!pw) {
		n = strtoul(name, &end, 10);
		if (!*name || *end || n > 0x7fffffff)
			return os_fail(ENOENT);
		*uid = (uid_t)n;
		*gid = (gid_t)n;
		pw = getpwuid(*uid);
	}
	if (pw) {
		*uid = pw->pw_uid;
		*gid = pw->pw_gid;
		*known = pw->pw_name;
	}
	return 0;
}

int os_become_user(const char *name)
{
	const char *known;
	uid_t uid;
	gid_t gid;
	int r = find_user(name, &uid, &gid, &known);

	if (r)
		return r;
	if (getuid() == uid && (getuid() != 0 || !known))
		return 0;
	return become(uid, gid, known);
}

int os_give_dir(const char *dir, const char *name)
{
	const char *known;
	uid_t uid;
	gid_t gid;
	int r = find_user(name, &uid, &gid, &known);

	if (r)
		return r;
	return chown(dir, uid, gid) ? os_fail(errno) : 0;
}

int os_become_owner(const char *dir)
{
	struct passwd *pw;
	struct stat st;
	int r;

	if (stat(dir, &st))
		return os_fail(errno);
	if (getuid() != 0 || st.st_uid == 0)
		return 0;
	pw = getpwuid(st.st_uid);
	r = become(st.st_uid, st.st_gid, pw ? pw->pw_name : NULL);
	return r ? r : 1;
}
