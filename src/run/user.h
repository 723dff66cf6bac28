/* user.h - the person at the command line: name, the profile chosen last, the clock as shown to people,
 * small files. For one-shot commands only. Source: spec/client.md 1.4, 2.1 (user side). */
#ifndef NB_RUN_USER_H
#define NB_RUN_USER_H

#include <limits.h>

#include "base/buf.h"
#include "base/time.h"

/* Name of the effective user, or its number when the user database does not know it. */
void run_user_name(char *out, size_t cap);
/* Profile ID of ~/.config/netbird/active_profile.txt; "default" (and the file is made) when there is none. */
void run_user_profile(char *out, size_t cap);
/* Returns 0 or an error with why. */
int run_user_set_profile(const char *id, char *why, size_t why_cap);
/* $DISPLAY and the like: a browser could be opened. */
bool run_user_has_desktop(void);

struct nb_wall run_user_clock(void);
/* Seconds east of UTC of the machine's time zone at a time. */
int run_user_utc_offset(int64_t unix_seconds);
void run_user_sleep(int64_t ns);

/* Content of a small file without white space at its ends. Returns 0 or an error with why. */
int run_user_read(const char *path, struct nb_buf *out, char *why, size_t why_cap);
/* Log to this file, made with mode 0600, from now on. Returns 0 or an error with why. */
int run_user_log_to(const char *path, char *why, size_t why_cap);

#endif
