/* priv.h - giving up root for good. */
#ifndef NB_OS_PRIV_H
#define NB_OS_PRIV_H

/* Become a user, by name or number, with its groups. Returns 0, NB_E_NOTFOUND (no such user),
 * NB_E_PERM, NB_E_SYS. Not root and already that user: 0. */
int os_become_user(const char *name);
/* Give a directory that root has just made to the user os_become_user would make us. Returns 0, NB_E_NOTFOUND,
 * NB_E_PERM or NB_E_SYS. */
int os_give_dir(const char *dir, const char *name);
/* Become the owner of a directory. Returns 1 when it was done, 0 when there is nothing to do (we are
 * not root, or root owns it), or an error. */
int os_become_owner(const char *dir);

#endif
