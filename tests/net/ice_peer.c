/* ice_peer.c - our ICE agent on a real socket, driven over stdin and stdout, for interop tests.
 *
 *   ice_peer controlling|controlled ADDRESS...      (its host candidates; one UDP socket, any port)
 *
 * out: "credentials UFRAG PWD" at once; then "candidate LINE", "connected LOCAL REMOTE ADDRESS",
 *      "silent", "disconnected", "failed", "data TEXT".
 * in:  "remote UFRAG PWD" starts the agent; "candidate LINE"; "send TEXT" (on the selected pair);
 *      "stun ADDRESS:PORT"; end of input ends the program. */
#include "ice/ice.h"

#include "crypto/crypto.h"
#include "os/clock.h"
#include "os/socket.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct ice_agent *agent;
static bool controlling;
static char ufrag[ICE_UFRAG_LEN + 1], pwd[ICE_PWD_LEN + 1];
static struct nb_addr hosts[ICE_LOCAL_MAX];
static int nhosts, fd;
static uint16_t port;

static void transmit(const struct nb_endpoint *to, const void *p, size_t n)
{
	union os_sockaddr sa;
	socklen_t len = os_sockaddr_from(&sa, to);

	sendto(fd, p, n, 0, &sa.sa, len);
}

static void start(char *args)
{
	struct ice_config cfg;
	struct ice_candidate c;
	char *space = strchr(args, ' ');

	if (!space || agent)
		exit(2);
	*space = 0;
	ice_config_default(&cfg);
	cfg.local_ufrag = ufrag;
	cfg.local_pwd = pwd;
	cfg.remote_ufrag = args;
	cfg.remote_pwd = space + 1;
	cfg.controlling = controlling;
	cfg.random = nbc_random;
	agent = ice_new(&cfg, os_now());
	if (!agent)
		exit(2);
	for (int i = 0; i < nhosts; i++) {
		ice_host_candidate(&c, &hosts[i], port);
		ice_add_local(agent, &c, os_now());
	}
}

static void candidate(const char *line)
{
	struct ice_candidate c;

	if (agent && ice_candidate_parse(&c, nb_bytes_str(line)) == 0)
		ice_add_remote(agent, &c, os_now());
}

static void send_text(const char *text)
{
	struct ice_pair_info info;

	if (agent && ice_selected(agent, &info))
		transmit(&info.remote.at, text, strlen(text));
}

static void stun_server(const char *text)
{
	struct nb_endpoint e;

	if (agent && nb_endpoint_parse(&e, text) == 0)
		ice_add_stun_server(agent, &e, port, os_now());
}

static void command(char *line)
{
	if (strncmp(line, "remote ", 7) == 0)
		start(line + 7);
	else if (strncmp(line, "candidate ", 10) == 0)
		candidate(line + 10);
	else if (strncmp(line, "send ", 5) == 0)
		send_text(line + 5);
	else if (strncmp(line, "stun ", 5) == 0)
		stun_server(line + 5);
}

/* Returns false at the end of input. */
static bool read_commands(void)
{
	static char buf[4096];
	static size_t have;
	ssize_t n = read(0, buf + have, sizeof buf - 1 - have);
	char *end;

	if (n <= 0)
		return false;
	have += (size_t)n;
	buf[have] = 0;
	while ((end = strchr(buf, '\n'))) {
		*end = 0;
		command(buf);
		have -= (size_t)(end + 1 - buf);
		memmove(buf, end + 1, have + 1);
	}
	return have < sizeof buf - 1;
}

static void read_socket(void)
{
	uint8_t buf[2048];
	union os_sockaddr sa;
	socklen_t len = sizeof sa;
	ssize_t n;

	while ((n = recvfrom(fd, buf, sizeof buf - 1, MSG_DONTWAIT, &sa.sa, &len)) >= 0) {
		struct nb_dgram in = { .from = os_endpoint_from(&sa.sa), .p = buf, .n = (size_t)n };

		if (!ice_is_stun(nb_bytes(buf, (size_t)n))) {
			buf[n] = 0;
			printf("data %s\n", (char *)buf);
		} else if (agent) {
			ice_input(agent, &in, 0, os_now());
		}
		len = sizeof sa;
	}
}

static void report(const struct ice_event *ev)
{
	char text[ICE_CANDIDATE_TEXT];

	if (ev->type == ICE_EV_CANDIDATE) {
		ice_candidate_format(text, &ev->candidate);
		printf("candidate %s\n", text);
	} else if (ev->type == ICE_EV_CONNECTED || ev->type == ICE_EV_SELECTED) {
		nb_endpoint_format(text, &ev->pair.remote.at);
		printf("connected %s %s %s\n", ice_type_name(ev->pair.local.type),
		       ice_type_name(ev->pair.remote.type), text);
	} else {
		printf("%s\n", ev->type == ICE_EV_FAILED ? "failed" : ev->type == ICE_EV_SILENT ? "silent" : "disconnected");
	}
}

static void drain(void)
{
	uint8_t mem[ICE_DGRAM_MAX];
	struct nb_dgram out = { .p = mem, .cap = sizeof mem };
	struct ice_event ev;
	unsigned via;

	if (!agent)
		return;
	while (ice_output(agent, &out, &via, os_now()))
		transmit(&out.to, out.p, out.n);
	while (ice_event(agent, &ev))
		report(&ev);
}

static int wait_ms(void)
{
	struct nb_time t = agent ? ice_deadline(agent) : NB_TIME_NEVER;
	int64_t ns;

	if (nb_time_is_never(t))
		return -1;
	ns = nb_time_diff(t, os_now());
	return ns <= 0 ? 0 : (int)((ns + NB_MS - 1) / NB_MS);
}

int main(int argc, char **argv)
{
	struct nb_endpoint at = { 0 };

	if (argc < 3 || nbc_init() || os_udp_bind(&fd, &at, NULL) || os_local_endpoint(fd, &at))
		return 2;
	controlling = strcmp(argv[1], "controlling") == 0;
	port = at.port;
	for (int i = 2; i < argc && nhosts < ICE_LOCAL_MAX; i++) {
		if (nb_addr_parse(&hosts[nhosts++], argv[i]))
			return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	ice_make_credentials(ufrag, pwd, nbc_random, NULL);
	printf("credentials %s %s\n", ufrag, pwd);
	for (;;) {
		struct pollfd p[2] = { { .fd = 0, .events = POLLIN }, { .fd = fd, .events = POLLIN } };

		drain();
		poll(p, 2, wait_ms());
		if (p[1].revents)
			read_socket();
		if (p[0].revents && !read_commands())
			break;
	}
	ice_free(agent);
	return 0;
}
