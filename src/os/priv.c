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

int os_become_user(const char *name)
{
	struct passwd *pw = getpwnam(name);
	char *end = NULL;
	unsigned long n;

	if (!pw) {
		n = strtoul(name, &end, 10);
		if (!*name || *end || n > 0x7fffffff)
			return os_fail(ENOENT);
		pw = getpwuid((uid_t)n);
		if (!pw)
			return getuid() == n ? 0 : become((uid_t)n, (gid_t)n, NULL);
	}
	if (getuid() != 0 && getuid() == pw->pw_uid)
		return 0;
	return become(pw->pw_uid, pw->pw_gid, pw->pw_name);
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
