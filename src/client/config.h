/* config.h - the agent's profile file (spec/client.md 2.2), stock's keys and order.
 * Pure: JSON text in and out; src/run reads and writes the file. Keys we do not know are kept. */
#ifndef NB_CLIENT_CONFIG_H
#define NB_CLIENT_CONFIG_H

#include "base/buf.h"
#include "base/bytes.h"

#define CLIENT_LIST_MAX 64	/* entries in any list of the configuration */
#define CLIENT_HOST_MAX 264	/* host name, colon, port, NUL */

/* A bool that may be absent (JSON null or no key). */
enum client_tri { CLIENT_NIL = -1, CLIENT_NO = 0, CLIENT_YES = 1 };

/* http or https URL; host always carries its port. An empty scheme means "not set". */
struct client_url {
	char scheme[8];
	char host[CLIENT_HOST_MAX];
	char path[128];
};

struct client_list {
	char *v[CLIENT_LIST_MAX];
	size_t n;
};

struct client_config {
	char name[128];
	char private_key[NB_KEY_TEXT_LEN];	/* base64; wiped by client_config_fini */
	char preshared_key[NB_KEY_TEXT_LEN];	/* "" when none */
	struct client_url management_url;
	struct client_url admin_url;
	char iface[16];
	int port;				/* WireGuard UDP port, 0..65535 */
	int mtu;				/* 576..8192 */
	long long dns_route_interval_ns;
	int ssh_jwt_cache_ttl;			/* seconds, -1 absent */
	int sync_message_version;		/* -1 absent */
	char custom_dns[64];			/* "ip:port" or "" */
	char client_cert[256];
	char client_cert_key[256];
	char *ssh_key;				/* PEM text or NULL; heap */
	struct client_list iface_blacklist;
	struct client_list nat_external_ips;
	struct client_list dns_labels;
	enum client_tri network_monitor, server_ssh_allowed, enable_ssh_root, enable_ssh_sftp,
		enable_ssh_local_forwarding, enable_ssh_remote_forwarding, disable_ssh_auth,
		disable_notifications;
	enum client_tri disable_ipv6_discovery, rosenpass_enabled, rosenpass_permissive,
		disable_client_routes, disable_server_routes, disable_dns, disable_firewall,
		block_lan_access, block_inbound, disable_ipv6, disable_auto_connect;
	void *unknown;				/* keys of newer versions, kept verbatim */
};

/* Fill in the defaults of a machine that has no file yet: a new WireGuard key from random, no
 * management URL (there is no built-in address). */
void client_config_init(struct client_config *c, nb_random_fn random, void *ctx);
void client_config_fini(struct client_config *c);

/* Read a profile file; absent keys get their defaults. *why (capacity why_cap) says what is wrong
 * and which key. Returns 0, NB_E_CONFIG or NB_E_NOMEM; c is unusable unless 0. */
int client_config_parse(struct client_config *c, struct nb_bytes json, char *why, size_t why_cap);
/* Write it: four-space indent, stock's key order. Returns out->err. */
int client_config_encode(const struct client_config *c, struct nb_buf *out);

/* "http[s]://host[:port][/path]" with the default port filled in. Returns 0 or NB_E_BAD. */
int client_url_parse(struct client_url *u, const char *text);
/* "scheme://host:port" plus path; out holds CLIENT_HOST_MAX + 160. */
void client_url_format(char *out, size_t cap, const struct client_url *u);
bool client_url_eq(const struct client_url *a, const struct client_url *b);

/* Append a copy unless present; NB_E_FULL past CLIENT_LIST_MAX. */
int client_list_add(struct client_list *l, const char *s);
void client_list_clear(struct client_list *l);

/* True when an interface with this name must not be used for candidates (prefix match). */
bool client_config_blacklisted(const struct client_config *c, const char *ifname);

typedef struct Daemon__SetConfigRequest Daemon__SetConfigRequest;
/* Apply the fields present in a SetConfig request. On NB_E_ARG nothing is changed and *why says
 * which field is wrong and what is allowed. */
int client_config_apply(struct client_config *c, const Daemon__SetConfigRequest *r, char *why,
			size_t why_cap);

#endif
