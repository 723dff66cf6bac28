/* link.c - a wire between two network namespaces with delay, jitter, loss, reordering, duplication
 * and a rate limit, for kernels without netem. It opens one TUN interface in each namespace and
 * carries IP packets from one to the other. Randomness is seeded, so a run can be repeated.
 *
 *   link --a NETNS:IFACE --b NETNS:IFACE [--delay-ms D] [--jitter-ms J] [--loss PERCENT]
 *        [--reorder PERCENT] [--duplicate PERCENT] [--rate-kbit R] [--queue-kb Q] [--seed N]
 *
 * Both directions have the same properties. Prints "ready" when both interfaces exist; the caller
 * gives them addresses and brings them up. Ends on SIGTERM or SIGINT and prints counters. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <linux/if.h>
#include <linux/if_tun.h>

#define PACKET_MAX 65536
#define READS_PER_TURN 64

struct packet {
	int64_t due_ns;
	uint64_t order;		/* first in, first out among equal times */
	size_t n;
	uint8_t *p;
};

/* One direction: a heap of packets on their way. */
struct pipe_dir {
	int in, out;
	struct packet *heap;
	size_t n, cap;
	int64_t line_free_ns;	/* when the sender's line is free again */
	uint64_t seen, lost, reordered, duplicated, full, delivered;
};

static struct {
	int64_t delay_ns, jitter_ns;
	double loss, reorder, duplicate;
	int64_t rate_bit;
	size_t queue_bytes;
	uint64_t seed, order;
} cfg = { .queue_bytes = 256 * 1024, .seed = 1 };

static volatile sig_atomic_t ending;

static void on_signal(int sig)
{
	(void)sig;
	ending = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "link: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/* xorshift64*: small and repeatable. */
static double chance(void)
{
	cfg.seed ^= cfg.seed >> 12;
	cfg.seed ^= cfg.seed << 25;
	cfg.seed ^= cfg.seed >> 27;
	return (double)(cfg.seed * 2685821657736338717ULL >> 11) / 9007199254740992.0;
}

static int before(const struct packet *a, const struct packet *b)
{
	return a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->order < b->order);
}

static void swap(struct packet *a, struct packet *b)
{
	struct packet t = *a;

	*a = *b;
	*b = t;
}

static void heap_push(struct pipe_dir *d, struct packet p)
{
	size_t i = d->n++;

	if (d->n > d->cap) {
		d->cap = d->cap ? d->cap * 2 : 256;
		d->heap = realloc(d->heap, d->cap * sizeof *d->heap);
		if (!d->heap)
			die("memory");
	}
	d->heap[i] = p;
	for (; i && before(&d->heap[i], &d->heap[(i - 1) / 2]); i = (i - 1) / 2)
		swap(&d->heap[i], &d->heap[(i - 1) / 2]);
}

static struct packet heap_pop(struct pipe_dir *d)
{
	struct packet top = d->heap[0];
	size_t i = 0;

	d->heap[0] = d->heap[--d->n];
	for (;;) {
		size_t c = 2 * i + 1;

		if (c + 1 < d->n && before(&d->heap[c + 1], &d->heap[c]))
			c++;
		if (c >= d->n || !before(&d->heap[c], &d->heap[i]))
			return top;
		swap(&d->heap[c], &d->heap[i]);
		i = c;
	}
}

static void schedule(struct pipe_dir *d, const uint8_t *p, size_t n, int64_t now)
{
	struct packet k = { .n = n, .order = cfg.order++ };
	int64_t at = now;

	if (cfg.rate_bit) {
		int64_t backlog = d->line_free_ns > now ? d->line_free_ns - now : 0;

		if (backlog / 1e9 * (double)cfg.rate_bit / 8 > (double)cfg.queue_bytes) {
			d->full++;
			return;
		}
		at = now + backlog + (int64_t)((double)n * 8e9 / (double)cfg.rate_bit);
		d->line_free_ns = at;
	}
	k.due_ns = at + cfg.delay_ns + (int64_t)((chance() * 2 - 1) * (double)cfg.jitter_ns);
	/* A reordered packet overtakes everything that is on its way. */
	if (chance() < cfg.reorder) {
		k.due_ns = now;
		d->reordered++;
	}
	k.p = malloc(n);
	if (!k.p)
		die("memory");
	memcpy(k.p, p, n);
	heap_push(d, k);
}

static void take_in(struct pipe_dir *d)
{
	static uint8_t buf[PACKET_MAX];

	for (int i = 0; i < READS_PER_TURN; i++) {
		ssize_t n = read(d->in, buf, sizeof buf);

		if (n <= 0)
			return;
		d->seen++;
		if (chance() < cfg.loss) {
			d->lost++;
			continue;
		}
		schedule(d, buf, (size_t)n, now_ns());
		if (chance() < cfg.duplicate) {
			d->duplicated++;
			schedule(d, buf, (size_t)n, now_ns());
		}
	}
}

static void deliver(struct pipe_dir *d, int64_t now)
{
	while (d->n && d->heap[0].due_ns <= now) {
		struct packet k = heap_pop(d);

		/* An interface that is down refuses; a wire would lose the packet too. */
		if (write(d->out, k.p, k.n) == (ssize_t)k.n)
			d->delivered++;
		free(k.p);
	}
}

/* Open a TUN interface inside a namespace: "NETNS:IFACE". */
static int open_end(const char *spec)
{
	char ns[64], path[128];
	const char *colon = strchr(spec, ':');
	struct ifreq ifr = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	int nsfd, fd;

	if (!colon || colon - spec >= (long)sizeof ns || strlen(colon + 1) >= IFNAMSIZ || !colon[1]) {
		fprintf(stderr, "link: an end is NETNS:IFACE, not \"%s\"\n", spec);
		exit(2);
	}
	snprintf(ns, sizeof ns, "%.*s", (int)(colon - spec), spec);
	snprintf(path, sizeof path, "/var/run/netns/%s", ns);
	nsfd = open(path, O_RDONLY | O_CLOEXEC);
	if (nsfd < 0 || setns(nsfd, CLONE_NEWNET))
		die(path);
	close(nsfd);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		die("/dev/net/tun");
	memcpy(ifr.ifr_name, colon + 1, strlen(colon + 1));
	if (ioctl(fd, TUNSETIFF, &ifr))
		die(spec);
	return fd;
}

static double number(const char *name, const char *text, double max)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || v < 0 || v > max) {
		fprintf(stderr, "link: %s takes a number from 0 to %g, not \"%s\"\n", name, max, text);
		exit(2);
	}
	return v;
}

static void options(int argc, char **argv, const char *ends[2])
{
	for (int i = 1; i < argc; i += 2) {
		const char *o = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";

		if (!strcmp(o, "--a"))
			ends[0] = v;
		else if (!strcmp(o, "--b"))
			ends[1] = v;
		else if (!strcmp(o, "--delay-ms"))
			cfg.delay_ns = (int64_t)(number(o, v, 60000) * 1e6);
		else if (!strcmp(o, "--jitter-ms"))
			cfg.jitter_ns = (int64_t)(number(o, v, 60000) * 1e6);
		else if (!strcmp(o, "--loss"))
			cfg.loss = number(o, v, 100) / 100;
		else if (!strcmp(o, "--reorder"))
			cfg.reorder = number(o, v, 100) / 100;
		else if (!strcmp(o, "--duplicate"))
			cfg.duplicate = number(o, v, 100) / 100;
		else if (!strcmp(o, "--rate-kbit"))
			cfg.rate_bit = (int64_t)(number(o, v, 1e8) * 1000);
		else if (!strcmp(o, "--queue-kb"))
			cfg.queue_bytes = (size_t)(number(o, v, 1e6) * 1024);
		else if (!strcmp(o, "--seed"))
			cfg.seed = (uint64_t)number(o, v, 1e15) * 2 + 1;
		else {
			fprintf(stderr, "link: unknown option %s; the head of tests/net/link.c lists them\n", o);
			exit(2);
		}
	}
	if (!ends[0] || !ends[1]) {
		fprintf(stderr, "link: both ends are needed: --a NETNS:IFACE --b NETNS:IFACE\n");
		exit(2);
	}
}

static void wait_for_work(struct pipe_dir d[2])
{
	struct pollfd fds[2] = { { .fd = d[0].in, .events = POLLIN }, { .fd = d[1].in, .events = POLLIN } };
	struct timespec ts = { .tv_sec = 3600 };
	int64_t due = INT64_MAX, left;

	for (int i = 0; i < 2; i++)
		if (d[i].n && d[i].heap[0].due_ns < due)
			due = d[i].heap[0].due_ns;
	if (due != INT64_MAX) {
		left = due - now_ns();
		if (left < 0)
			left = 0;
		ts = (struct timespec){ left / 1000000000LL, left % 1000000000LL };
	}
	ppoll(fds, 2, &ts, NULL);
}

int main(int argc, char **argv)
{
	struct sigaction act = { .sa_handler = on_signal };
	struct pipe_dir d[2] = { 0 };
	const char *ends[2] = { NULL, NULL };
	int a, b;

	options(argc, argv, ends);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGINT, &act, NULL);
	a = open_end(ends[0]);
	b = open_end(ends[1]);
	d[0].in = d[1].out = a;
	d[1].in = d[0].out = b;
	puts("ready");
	fflush(stdout);
	while (!ending) {
		wait_for_work(d);
		for (int i = 0; i < 2; i++) {
			take_in(&d[i]);
			deliver(&d[i], now_ns());
		}
	}
	for (int i = 0; i < 2; i++)
		printf("%s: seen %" PRIu64 " delivered %" PRIu64 " lost %" PRIu64 " queue-full %" PRIu64
		       " reordered %" PRIu64 " duplicated %" PRIu64 "\n",
		       i ? "b to a" : "a to b", d[i].seen, d[i].delivered, d[i].lost, d[i].full, d[i].reordered,
		       d[i].duplicated);
	return 0;
}
