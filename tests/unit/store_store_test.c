/* store_store_test.c - commits survive, come back in order, fail together; one holder per directory; growth,
 * export and import. Tests src/store/store.c on a directory under /tmp. */
#include "store/store.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/nbstoreXXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
	char cmd[128];

	(void)state;
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

static struct store *open_at(const char *where, size_t map_max)
{
	struct store_config cfg = { .dir = where, .who = "test", .map_max = map_max };
	struct store *s = NULL;
	char why[256] = "";

	assert_int_equal(store_open(&s, &cfg, why, sizeof(why)), 0);
	return s;
}

static void put(struct store_batch *b, const char *k, const char *v)
{
	store_put(b, nb_bytes_str(k), nb_bytes_str(v));
}

struct seen {
	char text[4096];
	size_t n;
};

static int collect(void *arg, struct nb_bytes key, struct nb_bytes value)
{
	struct seen *seen = arg;

	seen->n++;
	snprintf(seen->text + strlen(seen->text), sizeof(seen->text) - strlen(seen->text), "%.*s=%.*s;", (int)key.n,
		 (const char *)key.p, (int)value.n, (const char *)value.p);
	return 0;
}

static int order[8], order_err[8], n_order;

static void note(void *arg, int err)
{
	order_err[n_order] = err;
	order[n_order++] = (int)(intptr_t)arg;
}

static void commits_survive(void **state)
{
	struct store *s = open_at(dir, 0);
	struct store_batch *b;
	struct seen seen = { "", 0 };

	(void)state;
	n_order = 0;
	for (int i = 0; i < 3; i++) {
		char k[8];

		b = store_batch_new();
		snprintf(k, sizeof(k), "k%d", i);
		put(b, k, "v");
		if (i == 2)
			store_del(b, nb_bytes_str("k0"));
		store_commit(s, b, note, (void *)(intptr_t)i);
	}
	assert_int_equal(store_pending(s), 3);
	store_sync(s);
	assert_int_equal(n_order, 3);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(order[i], i);
		assert_int_equal(order_err[i], 0);
	}
	store_close(s);
	s = open_at(dir, 0);
	assert_int_equal(store_each(s, nb_bytes_str("k"), collect, &seen), 0);
	assert_string_equal(seen.text, "k1=v;k2=v;");
	store_close(s);
}

static void queued_work_is_written_at_close(void **state)
{
	struct store *s = open_at(dir, 0);
	struct store_batch *b = store_batch_new();
	struct seen seen = { "", 0 };

	(void)state;
	put(b, "late", "1");
	store_commit(s, b, NULL, NULL);
	store_close(s);
	s = open_at(dir, 0);
	store_each(s, nb_bytes_str("late"), collect, &seen);
	assert_string_equal(seen.text, "late=1;");
	store_close(s);
}

static void second_holder_is_told_who(void **state)
{
	struct store *s = open_at(dir, 0), *t = NULL;
	struct store_config cfg = { .dir = dir, .who = "other" };
	char why[256] = "", pid[32];

	(void)state;
	snprintf(pid, sizeof(pid), "process %d", (int)getpid());
	assert_int_equal(store_open(&t, &cfg, why, sizeof(why)), NB_E_BUSY);
	assert_non_null(strstr(why, pid));
	assert_non_null(strstr(why, "in use by test"));
	assert_null(t);
	store_close(s);
	store_close(open_at(dir, 0));
}

static void rows(void *arg, int err, const struct store_row *r, size_t n)
{
	struct seen *seen = arg;

	assert_int_equal(err, 0);
	for (size_t i = 0; i < n; i++)
		collect(seen, r[i].key, r[i].value);
}

static void newest_first(void **state)
{
	struct store *s = open_at(dir, 0);
	struct store_batch *b = store_batch_new();
	struct seen seen = { "", 0 }, none = { "", 0 }, all = { "", 0 };

	(void)state;
	put(b, "e/1", "a");
	put(b, "e/2", "b");
	put(b, "e/3", "c");
	put(b, "f/1", "d");
	store_commit(s, b, NULL, NULL);
	store_read_last(s, nb_bytes_str("e/"), 2, rows, &seen);
	store_read_last(s, nb_bytes_str("d/"), 2, rows, &none);
	store_read_last(s, nb_bytes_str("f/"), 5, rows, &all);
	store_sync(s);
	assert_string_equal(seen.text, "e/3=c;e/2=b;");
	assert_string_equal(none.text, "");
	assert_string_equal(all.text, "f/1=d;");
	store_close(s);
}

static void the_map_grows(void **state)
{
	struct store *s = open_at(dir, 0);
	char *big = calloc(1, 1 << 20);

	(void)state;
	n_order = 0;
	for (int i = 0; i < 40; i++) {
		struct store_batch *b = store_batch_new();
		char k[16];

		snprintf(k, sizeof(k), "big%02d", i);
		store_put(b, nb_bytes_str(k), nb_bytes(big, 1 << 20));
		store_commit(s, b, i == 39 ? note : NULL, NULL);
	}
	store_sync(s);
	assert_int_equal(n_order, 1);
	assert_int_equal(order_err[0], 0);
	store_close(s);
	store_close(open_at(dir, 0));
	free(big);
}

static void a_full_store_fails_all_and_recovers(void **state)
{
	struct store *s = open_at(dir, 1 << 20);
	struct store_batch *b = store_batch_new();
	char *big = calloc(1, 2 << 20);
	struct seen seen = { "", 0 };

	(void)state;
	n_order = 0;
	store_put(b, nb_bytes_str("big"), nb_bytes(big, 2 << 20));
	store_commit(s, b, note, (void *)1);
	b = store_batch_new();
	put(b, "small", "1");
	store_commit(s, b, note, (void *)2);
	store_sync(s);
	assert_int_equal(n_order, 2);
	assert_int_equal(order_err[0], NB_E_FULL);
	assert_int_equal(order_err[1], NB_E_FULL);
	store_poll(s);
	b = store_batch_new();
	put(b, "small", "2");
	store_commit(s, b, note, (void *)3);
	store_sync(s);
	assert_int_equal(order_err[2], 0);
	store_each(s, nb_bytes(NULL, 0), collect, &seen);
	assert_string_equal(seen.text, "small=2;");
	store_close(s);
	free(big);
}

static void export_and_import(void **state)
{
	struct store *s = open_at(dir, 0);
	struct store_batch *b = store_batch_new();
	char other[80], *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	struct seen seen = { "", 0 };

	(void)state;
	put(b, "a", "1");
	put(b, "b", "");
	store_commit(s, b, NULL, NULL);
	store_sync(s);
	assert_int_equal(store_export(s, f), 0);
	fclose(f);
	f = fmemopen(text, n, "r");
	assert_int_equal(store_import(s, f), NB_E_EXISTS);
	fclose(f);
	store_close(s);

	snprintf(other, sizeof(other), "%s/copy", dir);
	s = open_at(other, 0);
	f = fmemopen(text, n - 1, "r");
	assert_int_equal(store_import(s, f), NB_E_SHORT);
	fclose(f);
	assert_int_equal(store_each(s, nb_bytes(NULL, 0), collect, &seen), 0);
	assert_int_equal(seen.n, 0);
	f = fmemopen(text, n, "r");
	assert_int_equal(store_import(s, f), 0);
	fclose(f);
	store_each(s, nb_bytes(NULL, 0), collect, &seen);
	assert_string_equal(seen.text, "a=1;b=;");
	store_close(s);
	free(text);
}

/* A process that dies without warning loses nothing that was reported as written. */
static void a_killed_writer_loses_nothing_acknowledged(void **state)
{
	int acked[2];
	uint32_t last = 0, got;
	struct seen seen = { "", 0 };
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(acked), 0);
	pid = fork();
	if (pid == 0) {
		struct store *s = open_at(dir, 0);

		for (uint32_t i = 1;; i++) {
			struct store_batch *b = store_batch_new();
			char v[16];

			snprintf(v, sizeof(v), "%08u", i);
			put(b, "n", v);
			store_commit(s, b, NULL, NULL);
			store_sync(s);
			if (write(acked[1], &i, sizeof(i)) != sizeof(i))
				_exit(1);
		}
	}
	close(acked[1]);
	while (last < 25 && read(acked[0], &got, sizeof(got)) == sizeof(got))
		last = got;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	while (read(acked[0], &got, sizeof(got)) == sizeof(got))
		last = got;
	close(acked[0]);
	struct store *s = open_at(dir, 0);

	store_each(s, nb_bytes_str("n"), collect, &seen);
	assert_true((uint32_t)atoi(seen.text + 2) >= last);
	assert_true(last >= 25);
	store_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, make_dir, drop_dir)
		T(commits_survive), T(queued_work_is_written_at_close), T(second_holder_is_told_who), T(newest_first),
		T(the_map_grows), T(a_full_store_fails_all_and_recovers), T(export_and_import),
		T(a_killed_writer_loses_nothing_acknowledged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
