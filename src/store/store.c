/* store.c - durable records on LMDB, one writer thread with group commit.
 * All LMDB work after the start happens on the writer thread, or under the same lock, because the
 * environment runs without LMDB's own locking: no lock file in shared memory (some flash file systems lack
 * it), and therefore no reader beside a writer. Records are opaque; what they mean is src/mgmt's business.
 * design.md "Control plane". Tests: tests/unit/store_store_test.c */
#include "store/store.h"

#include "base/list.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAP_START ((size_t)16 << 20)
#define MAP_MAX_64 ((uint64_t)64 << 30)
#define MAP_MAX_32 ((size_t)768 << 20)
#define GROUP_MAX 512		/* batches in one transaction */
#define WRITER_STACK (256 * 1024)
#define RECORD_MAX ((size_t)64 << 20)
#define OWN_PREFIX '#'		/* keys of the store itself */
#define SCHEMA_KEY "#schema"
#define EXPORT_MAGIC "NBSTORE1"

struct change {
	bool del;
	size_t key_n, value_n;
	uint8_t data[];		/* key, then value */
};

struct store_batch {
	struct change **changes;
	size_t n, cap;
	int err;
};

enum job_kind { JOB_COMMIT, JOB_READ };

struct job {
	struct nb_list node;
	enum job_kind kind;
	int err;
	struct store_batch *batch;
	store_done done;
	struct nb_bytes prefix;		/* reads */
	size_t max;
	store_rows rows_done;
	struct store_row *rows;
	size_t n_rows;
	void *arg;
};

struct store {
	struct store_config cfg;
	int lock_fd;
	MDB_env *env;
	MDB_dbi dbi;
	size_t map_size, map_max;
	pthread_mutex_t env_lock;	/* held by whoever has a transaction */
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;		/* the fields below */
	pthread_cond_t work;		/* queue or stop changed */
	pthread_cond_t idle;		/* something was finished */
	struct nb_list queue, finished;
	bool stop;
	bool write_failed;		/* the last write: told once, and when it works again */
	int failed;			/* first error; cleared when all that was queued has been reported */
	size_t pending;			/* loop thread only */
};

/* ---- batches */

struct store_batch *store_batch_new(void)
{
	return calloc(1, sizeof(struct store_batch));
}

void store_batch_free(struct store_batch *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->n; i++) {
		nb_wipe(b->changes[i]->data, b->changes[i]->key_n + b->changes[i]->value_n);
		free(b->changes[i]);
	}
	free(b->changes);
	free(b);
}

static void batch_add(struct store_batch *b, bool del, struct nb_bytes key, struct nb_bytes value)
{
	struct change *c;

	if (!b || b->err)
		return;
	if (key.n == 0 || key.n > STORE_KEY_MAX || value.n > RECORD_MAX) {
		b->err = NB_E_ARG;
		return;
	}
	if (b->n == b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 8;
		struct change **grown = realloc(b->changes, cap * sizeof(*grown));

		if (!grown) {
			b->err = NB_E_NOMEM;
			return;
		}
		b->changes = grown;
		b->cap = cap;
	}
	c = malloc(sizeof(*c) + key.n + value.n);
	if (!c) {
		b->err = NB_E_NOMEM;
		return;
	}
	*c = (struct change){ .del = del, .key_n = key.n, .value_n = value.n };
	memcpy(c->data, key.p, key.n);
	if (value.n)
		memcpy(c->data + key.n, value.p, value.n);
	b->changes[b->n++] = c;
}

void store_put(struct store_batch *b, struct nb_bytes key, struct nb_bytes value)
{
	batch_add(b, false, key, value);
}

void store_del(struct store_batch *b, struct nb_bytes key)
{
	batch_add(b, true, key, nb_bytes(NULL, 0));
}

/* ---- LMDB, under env_lock */

static int from_lmdb(int rc)
{
	switch (rc) {
	case 0:
		return 0;
	case MDB_NOTFOUND:
		return NB_E_NOTFOUND;
	case MDB_MAP_FULL:
		return NB_E_FULL;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
		return NB_E_BAD;
	case ENOMEM:
		return NB_E_NOMEM;
	case EACCES:
	case EROFS:
		return NB_E_PERM;
	default:
		return NB_E_IO;
	}
}

/* Give the map more address space. No transaction may be open. */
static int grow_map(struct store *s)
{
	size_t size = s->map_size;

	if (size >= s->map_max)
		return NB_E_FULL;
	size = size > s->map_max / 2 ? s->map_max : size * 2;
	if (mdb_env_set_mapsize(s->env, size))
		return NB_E_FULL;
	s->map_size = size;
	return 0;
}

static int apply_change(struct store *s, MDB_txn *txn, const struct change *c)
{
	MDB_val key = { c->key_n, (void *)c->data };
	MDB_val value = { c->value_n, (void *)(c->data + c->key_n) };
	int rc;

	if (!c->del)
		return mdb_put(txn, s->dbi, &key, &value, 0);
	rc = mdb_del(txn, s->dbi, &key, NULL);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

/* All batches in one transaction. Returns LMDB's number. */
static int write_once(struct store *s, struct store_batch *const *batches, size_t n)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(s->env, NULL, 0, &txn);

	if (rc)
		return rc;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < batches[i]->n; k++) {
			rc = apply_change(s, txn, batches[i]->changes[k]);
			if (rc) {
				mdb_txn_abort(txn);
				return rc;
			}
		}
	return mdb_txn_commit(txn);
}

static int write_batches(struct store *s, struct store_batch *const *batches, size_t n)
{
	int rc;

	pthread_mutex_lock(&s->env_lock);
	while ((rc = write_once(s, batches, n)) == MDB_MAP_FULL)
		if (grow_map(s))
			break;
	pthread_mutex_unlock(&s->env_lock);
	if (rc && !s->write_failed)
		nb_error("store: cannot write to %s: %s%s; changes are refused until it works again", s->cfg.dir,
			 mdb_strerror(rc), rc == EIO ? " (is the disk full?)" : "");
	if (!rc && s->write_failed)
		nb_warn("store: writing to %s works again", s->cfg.dir);
	s->write_failed = rc != 0;
	return from_lmdb(rc);
}

static bool has_prefix(const MDB_val *key, struct nb_bytes prefix)
{
	return key->mv_size >= prefix.n && (prefix.n == 0 || memcmp(key->mv_data, prefix.p, prefix.n) == 0);
}

/* Put the cursor on the last key with prefix. */
static int seek_last(MDB_cursor *cur, struct nb_bytes prefix, MDB_val *key, MDB_val *value)
{
	uint8_t after[STORE_KEY_MAX];
	size_t n = prefix.n;
	int rc;

	memcpy(after, prefix.p, n);
	while (n && after[n - 1] == 0xff)
		n--;
	if (n == 0)
		return mdb_cursor_get(cur, key, value, MDB_LAST);
	after[n - 1]++;
	*key = (MDB_val){ n, after };
	rc = mdb_cursor_get(cur, key, value, MDB_SET_RANGE);
	return mdb_cursor_get(cur, key, value, rc ? MDB_LAST : MDB_PREV);
}

static int copy_row(struct job *j, const MDB_val *key, const MDB_val *value)
{
	struct store_row *row = &j->rows[j->n_rows];
	uint8_t *mem = malloc(key->mv_size + value->mv_size);

	if (!mem)
		return NB_E_NOMEM;
	memcpy(mem, key->mv_data, key->mv_size);
	memcpy(mem + key->mv_size, value->mv_data, value->mv_size);
	row->key = nb_bytes(mem, key->mv_size);
	row->value = nb_bytes(mem + key->mv_size, value->mv_size);
	j->n_rows++;
	return 0;
}

static int read_rows(struct store *s, struct job *j)
{
	MDB_txn *txn;
	MDB_cursor *cur;
	MDB_val key, value;
	size_t cap = 0;
	int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);

	if (rc)
		return from_lmdb(rc);
	rc = mdb_cursor_open(txn, s->dbi, &cur);
	if (rc) {
		mdb_txn_abort(txn);
		return from_lmdb(rc);
	}
	rc = seek_last(cur, j->prefix, &key, &value);
	while (rc == 0 && j->n_rows < j->max && has_prefix(&key, j->prefix)) {
		if (j->n_rows == cap) {
			struct store_row *grown;

			cap = cap ? cap * 2 : 64;
			grown = realloc(j->rows, cap * sizeof(*grown));
			if (!grown) {
				rc = ENOMEM;
				break;
			}
			j->rows = grown;
		}
		if (copy_row(j, &key, &value)) {
			rc = ENOMEM;
			break;
		}
		rc = mdb_cursor_get(cur, &key, &value, MDB_PREV);
	}
	mdb_cursor_close(cur);
	mdb_txn_abort(txn);
	return rc == MDB_NOTFOUND ? 0 : from_lmdb(rc);
}

/* ---- the writer thread */

static void run_commits(struct store *s, struct nb_list *jobs)
{
	struct store_batch *batches[GROUP_MAX];
	size_t n = 0;
	int err;

	pthread_mutex_lock(&s->lock);
	err = s->failed;
	pthread_mutex_unlock(&s->lock);
	nb_list_each(node, jobs) {
		struct job *j = nb_container(node, struct job, node);

		if (!err)
			err = j->batch ? j->batch->err : NB_E_NOMEM;
		batches[n++] = j->batch;
	}
	if (!err)
		err = write_batches(s, batches, n);
	nb_list_each(node, jobs)
		nb_container(node, struct job, node)->err = err;
	pthread_mutex_lock(&s->lock);
	s->failed = err;
	pthread_mutex_unlock(&s->lock);
}

static void run_read(struct store *s, struct job *j)
{
	pthread_mutex_lock(&s->env_lock);
	j->err = read_rows(s, j);
	pthread_mutex_unlock(&s->env_lock);
}

/* Take the next commits that may share a transaction, or one read. Called with lock held. */
static void take_jobs(struct store *s, struct nb_list *out)
{
	size_t n = 0;

	nb_list_init(out);
	while (!nb_list_empty(&s->queue) && n < GROUP_MAX) {
		struct job *j = nb_container(s->queue.next, struct job, node);

		if (j->kind == JOB_READ && n)
			return;
		nb_list_del(&j->node);
		nb_list_push(out, &j->node);
		n++;
		if (j->kind == JOB_READ)
			return;
	}
}

static void *writer(void *arg)
{
	struct store *s = arg;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		struct nb_list jobs;

		while (nb_list_empty(&s->queue) && !s->stop)
			pthread_cond_wait(&s->work, &s->lock);
		if (nb_list_empty(&s->queue))
			break;
		take_jobs(s, &jobs);
		pthread_mutex_unlock(&s->lock);
		if (nb_container(jobs.next, struct job, node)->kind == JOB_READ)
			run_read(s, nb_container(jobs.next, struct job, node));
		else
			run_commits(s, &jobs);
		pthread_mutex_lock(&s->lock);
		nb_list_each_safe(node, &jobs) {
			nb_list_del(node);
			nb_list_push(&s->finished, node);
		}
		pthread_cond_broadcast(&s->idle);
		if (s->cfg.wake)
			s->cfg.wake(s->cfg.wake_arg);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* Signals belong to the loop's thread. */
static int start_writer(struct store *s)
{
	sigset_t all, old;
	pthread_attr_t attr;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WRITER_STACK);
	rc = pthread_create(&s->thread, &attr, writer, s);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	s->started = rc == 0;
	return rc ? NB_E_NOMEM : 0;
}

/* ---- opening */

static int refuse(char *why, size_t cap, int err, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
static int refuse(char *why, size_t cap, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (why && cap)
		vsnprintf(why, cap, fmt, ap);
	va_end(ap);
	return err;
}

static int busy(int fd, const char *dir, char *why, size_t cap)
{
	char holder[96] = "";
	ssize_t n = pread(fd, holder, sizeof(holder) - 1, 0);

	while (n > 0 && (holder[n - 1] == '\n' || holder[n - 1] == '\r'))
		holder[--n] = '\0';
	return refuse(why, cap, NB_E_BUSY,
		      "data directory %s is in use by %s: stop that server or choose another --data-dir", dir,
		      n > 0 ? holder : "another process");
}

static int take_lock(struct store *s, char *why, size_t cap)
{
	const char *dir = s->cfg.dir;
	char path[4096], text[96];
	int fd, n;

	if (mkdir(dir, 0700) && errno != EEXIST)
		return refuse(why, cap, NB_E_PERM, "cannot make data directory %s: %s", dir, strerror(errno));
	snprintf(path, sizeof(path), "%s/nestbox.lock", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return refuse(why, cap, NB_E_PERM, "cannot write in data directory %s: %s", dir, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		int rc = errno == EWOULDBLOCK ? busy(fd, dir, why, cap) :
			 refuse(why, cap, NB_E_IO, "cannot lock %s: %s", path, strerror(errno));

		close(fd);
		return rc;
	}
	n = snprintf(text, sizeof(text), "%s, process %ld\n", s->cfg.who ? s->cfg.who : "nestbox", (long)getpid());
	if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n)
		nb_debug("store: lock file not written: %s", strerror(errno));
	s->lock_fd = fd;
	return 0;
}

static size_t map_limit(size_t asked)
{
	uint64_t most = sizeof(void *) > 4 ? MAP_MAX_64 : MAP_MAX_32;

	if (asked && asked < most)
		most = asked;
	return (size_t)most;
}

/* The new file's name must survive a crash as well. */
static void sync_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
}

static int open_env(struct store *s, char *why, size_t cap)
{
	char path[4096];
	struct stat st;
	MDB_txn *txn;
	int rc;

	snprintf(path, sizeof(path), "%s/nestbox.mdb", s->cfg.dir);
	s->map_max = map_limit(s->cfg.map_max);
	s->map_size = MAP_START < s->map_max ? MAP_START : s->map_max;
	if (stat(path, &st) == 0)
		while (s->map_size < (size_t)st.st_size && s->map_size < s->map_max)
			s->map_size *= 2;
	rc = mdb_env_create(&s->env);
	if (rc == 0)
		rc = mdb_env_set_mapsize(s->env, s->map_size);
	if (rc == 0)
		rc = mdb_env_open(s->env, path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOTLS, 0600);
	if (rc == 0)
		rc = mdb_txn_begin(s->env, NULL, 0, &txn);
	if (rc == 0) {
		rc = mdb_dbi_open(txn, NULL, 0, &s->dbi);
		if (rc == 0)
			rc = mdb_txn_commit(txn);
		else
			mdb_txn_abort(txn);
	}
	if (rc == MDB_INVALID || rc == MDB_VERSION_MISMATCH || rc == MDB_CORRUPTED)
		return refuse(why, cap, NB_E_BAD,
			      "%s is damaged or from a machine of another kind (%s): restore it from an export", path,
			      mdb_strerror(rc));
	if (rc)
		return refuse(why, cap, from_lmdb(rc), "cannot open %s: %s", path, mdb_strerror(rc));
	sync_dir(s->cfg.dir);
	return 0;
}

static int check_schema(struct store *s, char *why, size_t cap)
{
	uint8_t now[4];
	MDB_txn *txn;
	MDB_val key = { sizeof(SCHEMA_KEY) - 1, SCHEMA_KEY }, value;
	uint32_t have = STORE_SCHEMA;
	int rc = mdb_txn_begin(s->env, NULL, 0, &txn);

	if (rc)
		return refuse(why, cap, from_lmdb(rc), "cannot read %s: %s", s->cfg.dir, mdb_strerror(rc));
	rc = mdb_get(txn, s->dbi, &key, &value);
	if (rc == 0 && value.mv_size == 4)
		have = nb_get_be32(value.mv_data);
	if (rc == MDB_NOTFOUND) {
		nb_put_be32(now, STORE_SCHEMA);
		value = (MDB_val){ sizeof(now), now };
		rc = mdb_put(txn, s->dbi, &key, &value, 0);
	}
	if (rc) {
		mdb_txn_abort(txn);
		return refuse(why, cap, from_lmdb(rc), "cannot read %s: %s", s->cfg.dir, mdb_strerror(rc));
	}
	rc = mdb_txn_commit(txn);
	if (rc)
		return refuse(why, cap, from_lmdb(rc), "cannot write in %s: %s", s->cfg.dir, mdb_strerror(rc));
	if (have > STORE_SCHEMA)
		return refuse(why, cap, NB_E_UNSUPPORTED,
			      "%s was written by a newer version (layout %u, this one knows %u): update this program",
			      s->cfg.dir, have, STORE_SCHEMA);
	return 0;
}

int store_open(struct store **out, const struct store_config *cfg, char *why, size_t why_cap)
{
	struct store *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return refuse(why, why_cap, NB_E_NOMEM, "out of memory");
	s->cfg = *cfg;
	s->cfg.dir = strdup(cfg->dir);
	s->lock_fd = -1;
	nb_list_init(&s->queue);
	nb_list_init(&s->finished);
	pthread_mutex_init(&s->env_lock, NULL);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->work, NULL);
	pthread_cond_init(&s->idle, NULL);
	rc = s->cfg.dir ? take_lock(s, why, why_cap) : NB_E_NOMEM;
	if (rc == 0)
		rc = open_env(s, why, why_cap);
	if (rc == 0)
		rc = check_schema(s, why, why_cap);
	if (rc == 0 && start_writer(s))
		rc = refuse(why, why_cap, NB_E_NOMEM, "cannot start the store's thread");
	if (rc) {
		store_close(s);
		return rc;
	}
	*out = s;
	return 0;
}

static void job_free(struct job *j)
{
	store_batch_free(j->batch);
	for (size_t i = 0; i < j->n_rows; i++)
		free((void *)j->rows[i].key.p);
	free(j->rows);
	free((void *)j->prefix.p);
	free(j);
}

void store_close(struct store *s)
{
	if (!s)
		return;
	if (s->started) {
		pthread_mutex_lock(&s->lock);
		s->stop = true;
		pthread_cond_signal(&s->work);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->thread, NULL);
	}
	nb_list_each_safe(node, &s->finished)
		job_free(nb_container(node, struct job, node));
	if (s->env)
		mdb_env_close(s->env);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	pthread_mutex_destroy(&s->env_lock);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->work);
	pthread_cond_destroy(&s->idle);
	free((void *)s->cfg.dir);
	free(s);
}

/* ---- the loop's side */

static void enqueue(struct store *s, struct job *j)
{
	s->pending++;
	pthread_mutex_lock(&s->lock);
	nb_list_push(&s->queue, &j->node);
	pthread_cond_signal(&s->work);
	pthread_mutex_unlock(&s->lock);
}

void store_commit(struct store *s, struct store_batch *b, store_done done, void *arg)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j) {
		/* Nothing can be queued, so nothing can be told later either: treat like the other broken contracts. */
		nb_error("store: out of memory while queueing a change");
		abort();
	}
	j->kind = JOB_COMMIT;
	j->batch = b;
	j->done = done;
	j->arg = arg;
	enqueue(s, j);
}

void store_read_last(struct store *s, struct nb_bytes prefix, size_t max, store_rows done, void *arg)
{
	struct job *j = calloc(1, sizeof(*j));
	uint8_t *copy = malloc(prefix.n + 1);

	if (!j || !copy || prefix.n > STORE_KEY_MAX) {
		free(j);
		free(copy);
		done(arg, NB_E_NOMEM, NULL, 0);
		return;
	}
	if (prefix.n)
		memcpy(copy, prefix.p, prefix.n);
	j->kind = JOB_READ;
	j->prefix = nb_bytes(copy, prefix.n);
	j->max = max;
	j->rows_done = done;
	j->arg = arg;
	enqueue(s, j);
}

static struct job *next_finished(struct store *s)
{
	struct job *j = NULL;

	pthread_mutex_lock(&s->lock);
	if (!nb_list_empty(&s->finished)) {
		j = nb_container(s->finished.next, struct job, node);
		nb_list_del(&j->node);
	} else if (s->pending == 0) {
		s->failed = 0;
	}
	pthread_mutex_unlock(&s->lock);
	return j;
}

void store_poll(struct store *s)
{
	struct job *j;

	while ((j = next_finished(s))) {
		s->pending--;
		if (j->kind == JOB_READ)
			j->rows_done(j->arg, j->err, j->rows, j->n_rows);
		else if (j->done)
			j->done(j->arg, j->err);
		job_free(j);
	}
}

size_t store_pending(const struct store *s)
{
	return s->pending;
}

int store_sync(struct store *s)
{
	while (s->pending) {
		pthread_mutex_lock(&s->lock);
		while (nb_list_empty(&s->finished))
			pthread_cond_wait(&s->idle, &s->lock);
		pthread_mutex_unlock(&s->lock);
		store_poll(s);
	}
	return 0;
}

static int each_locked(struct store *s, struct nb_bytes prefix,
		       int (*fn)(void *arg, struct nb_bytes key, struct nb_bytes value), void *arg)
{
	MDB_txn *txn;
	MDB_cursor *cur;
	MDB_val key = { prefix.n, (void *)prefix.p }, value;
	int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn), stop = 0;

	if (rc)
		return from_lmdb(rc);
	rc = mdb_cursor_open(txn, s->dbi, &cur);
	if (rc) {
		mdb_txn_abort(txn);
		return from_lmdb(rc);
	}
	rc = mdb_cursor_get(cur, &key, &value, prefix.n ? MDB_SET_RANGE : MDB_FIRST);
	while (rc == 0 && has_prefix(&key, prefix) && !stop) {
		if (*(uint8_t *)key.mv_data != OWN_PREFIX)
			stop = fn(arg, nb_bytes(key.mv_data, key.mv_size), nb_bytes(value.mv_data, value.mv_size));
		rc = mdb_cursor_get(cur, &key, &value, MDB_NEXT);
	}
	mdb_cursor_close(cur);
	mdb_txn_abort(txn);
	if (stop)
		return stop;
	return rc == MDB_NOTFOUND ? 0 : from_lmdb(rc);
}

int store_each(struct store *s, struct nb_bytes prefix,
	       int (*fn)(void *arg, struct nb_bytes key, struct nb_bytes value), void *arg)
{
	int rc;

	pthread_mutex_lock(&s->env_lock);
	rc = each_locked(s, prefix, fn, arg);
	pthread_mutex_unlock(&s->env_lock);
	return rc;
}

/* ---- export and import */

static int put_varint(FILE *to, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		if (putc((int)(v & 0x7f) | 0x80, to) == EOF)
			return NB_E_IO;
	return putc((int)v, to) == EOF ? NB_E_IO : 0;
}

static int get_varint(FILE *from, uint64_t *v)
{
	*v = 0;
	for (unsigned shift = 0; shift < 64; shift += 7) {
		int c = getc(from);

		if (c == EOF)
			return NB_E_SHORT;
		*v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			return 0;
	}
	return NB_E_BAD;
}

struct exporting {
	FILE *to;
	uint64_t count;
};

static int export_one(void *arg, struct nb_bytes key, struct nb_bytes value)
{
	struct exporting *x = arg;

	x->count++;
	if (put_varint(x->to, key.n) || fwrite(key.p, 1, key.n, x->to) != key.n || put_varint(x->to, value.n) ||
	    fwrite(value.p, 1, value.n, x->to) != value.n)
		return NB_E_IO;
	return 0;
}

int store_export(struct store *s, FILE *to)
{
	struct exporting x = { to, 0 };
	int rc;

	if (fputs(EXPORT_MAGIC, to) == EOF)
		return NB_E_IO;
	rc = store_each(s, nb_bytes(NULL, 0), export_one, &x);
	if (rc == 0)
		rc = put_varint(to, 0);
	if (rc == 0)
		rc = put_varint(to, x.count);
	return rc == 0 && fflush(to) ? NB_E_IO : rc;
}

static int import_one(FILE *from, uint64_t key_n, struct store_batch *b)
{
	uint8_t key[STORE_KEY_MAX], *value;
	uint64_t n;
	int rc;

	if (key_n > sizeof(key) || fread(key, 1, key_n, from) != key_n)
		return NB_E_BAD;
	rc = get_varint(from, &n);
	if (rc)
		return rc;
	if (n > RECORD_MAX || key[0] == OWN_PREFIX)
		return NB_E_BAD;
	value = malloc(n + 1);
	if (!value)
		return NB_E_NOMEM;
	if (fread(value, 1, n, from) == n)
		store_put(b, nb_bytes(key, key_n), nb_bytes(value, n));
	else
		rc = NB_E_SHORT;
	free(value);
	return rc;
}

static int import_all(FILE *from, struct store_batch *b)
{
	char magic[sizeof(EXPORT_MAGIC) - 1];
	uint64_t n, count = 0;
	int rc;

	if (fread(magic, 1, sizeof(magic), from) != sizeof(magic) || memcmp(magic, EXPORT_MAGIC, sizeof(magic)))
		return NB_E_BAD;
	while ((rc = get_varint(from, &n)) == 0 && n) {
		rc = import_one(from, n, b);
		if (rc)
			return rc;
		count++;
	}
	if (rc == 0)
		rc = get_varint(from, &n);
	if (rc == 0 && n != count)
		rc = NB_E_SHORT;
	return rc;
}

static int found(void *arg, struct nb_bytes key, struct nb_bytes value)
{
	(void)arg, (void)key, (void)value;
	return NB_E_EXISTS;
}

static void imported(void *arg, int err)
{
	*(int *)arg = err;
}

int store_import(struct store *s, FILE *from)
{
	struct store_batch *b;
	int rc = store_each(s, nb_bytes(NULL, 0), found, NULL);

	if (rc)
		return rc;
	b = store_batch_new();
	if (!b)
		return NB_E_NOMEM;
	rc = import_all(from, b);
	if (rc) {
		store_batch_free(b);
		return rc;
	}
	store_commit(s, b, imported, &rc);
	store_sync(s);
	return rc;
}
