/* resolve.h - names to addresses without blocking the loop: the C library's resolver on a thread per
 * lookup. The last answer about a name is kept for when name servers fail or are slow. */
#ifndef NB_RUN_RESOLVE_H
#define NB_RUN_RESOLVE_H

#include "base/addr.h"
#include "run/loop.h"

struct run_resolver;
struct run_lookup;

#define RUN_RESOLVE_MAX 8

/* One per loop. Returns 0 or NB_E_NOMEM. */
int run_resolver_new(struct run_resolver **out, struct run_loop *l);
/* Lookups still running are cancelled. NULL is allowed. */
void run_resolver_free(struct run_resolver *r);

/* Look host up; addresses come in the order to try (RFC 6724). IP literals answer too. fn comes from the
 * loop, once, never from within this call: n > 0, or n 0 and why; within 0.7 s when there is an older
 * answer. Returns 0, NB_E_NOMEM or NB_E_SYS. */
int run_resolve(struct run_lookup **out, struct run_resolver *r, const char *host,
		void (*fn)(void *ctx, const struct nb_addr *addrs, size_t n, const char *why), void *ctx);
/* fn will not come; NULL is allowed. Not after fn came. */
void run_resolve_cancel(struct run_lookup *k);

#endif
