/* sysinfo.c - see sysinfo.h. */
#include "run/sysinfo.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/version.h"
#include "os/netlink.h"

#define ADDRESSES_MAX 64

/* First line of a small file, without the newline; "" when unreadable. */
static void first_line(const char *path, char *out, size_t cap)
{
	FILE *f = fopen(path, "re");

	out[0] = 0;
	if (!f)
		return;
	if (!fgets(out, (int)cap, f))
		out[0] = 0;
	out[strcspn(out, "\n")] = 0;
	fclose(f);
}

/* Value of KEY= in os-release, unquoted. */
static void os_release(const char *key, char *out, size_t cap)
{
	static const char *const paths[] = { "/etc/os-release", "/usr/lib/os-release" };
	size_t klen = strlen(key);
	char line[256];
	FILE *f = NULL;

	out[0] = 0;
	for (size_t i = 0; i < 2 && !f; i++)
		f = fopen(paths[i], "re");
	while (f && fgets(line, sizeof line, f)) {
		char *v = line + klen + 1;

		if (strncmp(line, key, klen) || line[klen] != '=')
			continue;
		v[strcspn(v, "\n")] = 0;
		if (*v == '"' || *v == '\'') {
			v++;
			v[strcspn(v, "\"'")] = 0;
		}
		snprintf(out, cap, "%s", v);
		break;
	}
	if (f)
		fclose(f);
}

static char *dup_text(struct nb_arena *a, const char *s)
{
	/* proto3 never writes an empty string. */
	return *s ? nb_arena_strndup(a, s, strlen(s)) : NULL;
}

static char *dmi(struct nb_arena *a, const char *const *names)
{
	char path[64], text[128];

	for (; *names; names++) {
		snprintf(path, sizeof path, "/sys/class/dmi/id/%s", *names);
		first_line(path, text, sizeof text);
		if (*text && strcmp(text, "Default string"))
			return dup_text(a, text);
	}
	return NULL;
}

static bool reportable(const struct os_ifaddr *i, const char *overlay_iface)
{
	return i->up && i->has_mac && !i->loopback && !nb_addr_is_link_local(&i->prefix.addr) &&
	       !nb_addr_is_multicast(&i->prefix.addr) && !(overlay_iface && !strcmp(i->name, overlay_iface));
}

static void add_addresses(struct nb_arena *a, Management__PeerSystemMeta *m, const char *overlay_iface)
{
	struct os_ifaddr *list = calloc(ADDRESSES_MAX, sizeof *list);
	size_t n = 0;

	if (list)
		os_ifaddr_list(list, ADDRESSES_MAX, &n);
	m->networkaddresses = nb_arena_alloc(a, (n + 1) * sizeof *m->networkaddresses);
	for (size_t i = 0; i < n && m->networkaddresses; i++) {
		Management__NetworkAddress *na;
		char text[NB_ADDR_TEXT];
		const uint8_t *mac = list[i].mac;

		if (!reportable(&list[i], overlay_iface))
			continue;
		na = nb_arena_alloc(a, sizeof *na);
		if (!na)
			break;
		management__network_address__init(na);
		nb_prefix_format(text, &list[i].prefix);
		na->netip = dup_text(a, text);
		na->mac = nb_arena_printf(a, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
					  mac[5]);
		m->networkaddresses[m->n_networkaddresses++] = na;
	}
	free(list);
}

static Management__Environment *environment(struct nb_arena *a)
{
	Management__Environment *e = nb_arena_alloc(a, sizeof *e);

	if (!e)
		return NULL;
	management__environment__init(e);
	if (getenv("KUBERNETES_SERVICE_HOST"))
		e->platform = dup_text(a, "Kubernetes");
	else if (!access("/.dockerenv", F_OK))
		e->platform = dup_text(a, "Docker");
	return e;
}

#define FLAG(member, has, value) \
	do { \
		if ((value) == CLIENT_YES) \
			f->has = f->member = 1; \
	} while (0)

static Management__Flags *flags(struct nb_arena *a, const struct client_config *cfg)
{
	Management__Flags *f = nb_arena_alloc(a, sizeof *f);

	if (!f)
		return NULL;
	management__flags__init(f);
	FLAG(disableclientroutes, has_disableclientroutes, cfg->disable_client_routes);
	FLAG(disableserverroutes, has_disableserverroutes, cfg->disable_server_routes);
	FLAG(disabledns, has_disabledns, cfg->disable_dns);
	FLAG(disablefirewall, has_disablefirewall, cfg->disable_firewall);
	FLAG(blocklanaccess, has_blocklanaccess, cfg->block_lan_access);
	FLAG(blockinbound, has_blockinbound, cfg->block_inbound);
	FLAG(disableipv6, has_disableipv6, cfg->disable_ipv6);
	return f;
}

Management__PeerSystemMeta *run_sysinfo(struct nb_arena *a, const struct client_config *cfg, const char *hostname,
					const char *overlay_iface)
{
	static const char *const serial[] = { "chassis_serial", "product_serial", "board_serial", NULL };
	static const char *const product[] = { "product_name", "board_name", NULL };
	static const char *const vendor[] = { "sys_vendor", NULL };
	Management__PeerSystemMeta *m = nb_arena_alloc(a, sizeof *m);
	char name[128], version[64], host[256];
	struct utsname u;

	if (!m)
		return NULL;
	management__peer_system_meta__init(m);
	if (gethostname(host, sizeof host))
		host[0] = 0;
	host[sizeof host - 1] = 0;
	uname(&u);
	os_release("NAME", name, sizeof name);
	os_release("VERSION_ID", version, sizeof version);
	m->hostname = dup_text(a, hostname && *hostname ? hostname : host);
	m->goos = dup_text(a, "linux");
	m->kernel = dup_text(a, u.sysname);
	m->kernelversion = dup_text(a, u.release);
	m->platform = dup_text(a, u.machine);
	m->os = dup_text(a, *name ? name : "Linux");
	m->osversion = dup_text(a, version);
	m->core = m->osversion;
	m->netbirdversion = dup_text(a, NB_COMPAT);
	m->sysserialnumber = dmi(a, serial);
	m->sysproductname = dmi(a, product);
	m->sysmanufacturer = dmi(a, vendor);
	m->environment = environment(a);
	m->flags = flags(a, cfg);
	m->capabilities = nb_arena_alloc(a, 2 * sizeof *m->capabilities);
	if (m->capabilities) {
		m->capabilities[m->n_capabilities++] = MANAGEMENT__PEER_CAPABILITY__PeerCapabilitySourcePrefixes;
		if (cfg->disable_ipv6 != CLIENT_YES)
			m->capabilities[m->n_capabilities++] = MANAGEMENT__PEER_CAPABILITY__PeerCapabilityIPv6Overlay;
	}
	add_addresses(a, m, overlay_iface);
	return m->hostname && m->goos ? m : NULL;
}
