/* store.h - durable key-value records: the face of the only LMDB user.
 * Knows bytes, not what they mean. One writer thread takes batches in order, commits as many as are
 * waiting in one transaction and reports back on the loop thread. A batch is all or nothing, and once one
 * batch fails every later one fails too, so that memory and disk cannot drift apart silently.
 * A data directory belongs to one process: a lock file names the holder.
 * Source: design.md "Control plane". Tests: tests/unit/store_store_test.c. */
#ifndef NB_STORE_STORE_H
#define NB_STORE_STORE_H

#include <stdio.h>

#include "base/bytes.h"
#include "base/err.h"

#define STORE_KEY_MAX 200	/* bytes of a key */
#define STORE_SCHEMA 1		/* layout of the files; a newer one is refused */

struct store;
struct store_batch;

struct store_config {
	const char *dir;		/* data directory; made with mode 0700 when missing */
	const char *who;		/* name for the lock file, e.g. "nestbox server" */
	size_t map_max;			/* bytes of address space at most; 0: 64 GiB, or 768 MiB with 32-bit pointers */
	/* Called on the writer thread when store_poll has something to deliver; must only wake the loop. */
	void (*wake)(void *arg);
	void *wake_arg;
};

/* Open (or create) dir/nestbox.mdb and start the writer. why gets one line for people on failure
 * (who holds the directory, what is wrong and what to do). Returns 0, NB_E_BUSY, NB_E_PERM,
 * NB_E_UNSUPPORTED (newer schema), NB_E_BAD (damaged), NB_E_IO, NB_E_NOMEM. */
int store_open(struct store **out, const struct store_config *cfg, char *why, size_t why_cap);
/* Commit what is queued, deliver nothing more, stop the writer, release the lock. NULL is allowed. */
void store_close(struct store *s);

/* Every record whose key begins with prefix, in key order; slices live until fn returns. fn returns 0 to go
 * on; anything else ends the walk and is returned. Blocks; meant for loading at start. */
int store_each(struct store *s, struct nb_bytes prefix,
	       int (*fn)(void *arg, struct nb_bytes key, struct nb_bytes value), void *arg);

/* A list of changes. Memory errors are latched and reported by store_commit. */
struct store_batch *store_batch_new(void);
void store_batch_free(struct store_batch *b);
void store_put(struct store_batch *b, struct nb_bytes key, struct nb_bytes value);
void store_del(struct store_batch *b, struct nb_bytes key);

/* Queue the batch (taken over, whatever happens). done runs once inside a later store_poll: err is 0 when
 * the change is on disk. Batches complete in the order of the calls. */
typedef void (*store_done)(void *arg, int err);
void store_commit(struct store *s, struct store_batch *b, store_done done, void *arg);

/* Read records by prefix without blocking: the newest (last in key order) come first, at most max. They are
 * copies, valid until done returns; the read sees every batch queued before it. */
struct store_row {
	struct nb_bytes key, value;
};
typedef void (*store_rows)(void *arg, int err, const struct store_row *rows, size_t n);
void store_read_last(struct store *s, struct nb_bytes prefix, size_t max, store_rows done, void *arg);

/* Deliver what has finished. Call on the loop thread after wake. */
void store_poll(struct store *s);
/* Batches queued and not yet delivered. */
size_t store_pending(const struct store *s);
/* Wait for the queue to empty and deliver. For shutdown and tests. */
int store_sync(struct store *s);

/* Write all records as one stream: "NBSTORE1", then for each record key and value, each as a varint length and
 * its bytes; at the end a zero length and the varint count. Independent of word size and endianness. */
int store_export(struct store *s, FILE *to);
/* Load such a stream into an empty store. Returns 0, NB_E_EXISTS when not empty, NB_E_BAD. */
int store_import(struct store *s, FILE *from);

#endif
