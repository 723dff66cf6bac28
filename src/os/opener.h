/* opener.h - a helper process that may still open a few files after the program has given up root: named
 * when it starts, for reading only. It does nothing else, and ends with the program. Tests: tests/unit/os_file_test.c,
 * tests/net/test_management.py */
#ifndef NB_OS_OPENER_H
#define NB_OS_OPENER_H

#include <stddef.h>

#define OS_OPENER_FILES 4

struct os_opener;

/* Fork it. Call this before there are threads and before privileges are given up. Paths are copied by the fork.
 * Returns 0, NB_E_ARG (too many), NB_E_NOMEM or NB_E_SYS. */
int os_opener_start(struct os_opener **out, const char *const *paths, size_t n);
/* A descriptor of file i as it is now, close-on-exec, or an error (NB_E_CLOSED: the helper is gone). Waits for
 * the helper, two seconds at most. */
int os_opener_open(struct os_opener *o, size_t i);
/* Ends the helper. NULL is allowed. */
void os_opener_free(struct os_opener *o);

#endif
