/* paths.h - what `netbird debug paths PEER` prints, for people and as JSON, out of the daemon's answer. Pure. All of it is
 * ours, none stock's. Tests: tests/unit/client_paths_test.c */
#ifndef NB_CLIENT_PATHS_H
#define NB_CLIENT_PATHS_H

#include "base/buf.h"
#include "base/time.h"
#include "proto/nestbox.pb-c.h"

/* Each appends to out and returns out->err. now: for ages. utc_offset: seconds east of UTC at a point in time; NULL: UTC. */
int client_paths_text(struct nb_buf *out, const Nestbox__PeerPaths *p, struct nb_wall now);
int client_paths_json(struct nb_buf *out, const Nestbox__PeerPaths *p, int (*utc_offset)(int64_t unix_seconds));

#endif
