/* daemon_config.c - the parts of DaemonService about configuration and profiles, and who may change
 * what: a change that would turn an ordinary user into root needs root.
 * Source: spec/client.md 2.4, 2.5. Tests: tests/unit/client_daemon_test.c. */
#include "client/daemon_int.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "proto/rpc_status.pb-c.h"
#include "proto/unpack.h"

#define PROFILES_DISABLED "profiles are disabled, you cannot use this feature without profiles enabled"
#define SETTINGS_DISABLED "update settings are disabled, you cannot use this feature without update settings enabled"

static const char *text(const char *s)
{
	return s ? s : "";
}

/* --- privileges */

static bool privileged(const struct client_daemon *d, struct client_caller who)
{
	return who.known && (who.uid == 0 || (d->cfg.uid != 0 && who.uid == d->cfg.uid));
}

/* PermissionDenied with google.rpc.ErrorInfo, which command line and user interface show as it is. */
static void deny(struct grpc_call *call, const char *summary, const char *command)
{
	Google__Rpc__ErrorInfo__MetadataEntry m[2] = { GOOGLE__RPC__ERROR_INFO__METADATA_ENTRY__INIT,
						       GOOGLE__RPC__ERROR_INFO__METADATA_ENTRY__INIT };
	Google__Rpc__ErrorInfo__MetadataEntry *mp[] = { &m[0], &m[1] };
	Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;
	Google__Rpc__Any any = GOOGLE__RPC__ANY__INIT, *anyp = &any;
	Google__Rpc__Status st = GOOGLE__RPC__STATUS__INIT;
	struct nb_buf inner, outer;
	struct grpc_meta meta;
	char message[1024];

	snprintf(message, sizeof message, "%s\n\n%s", summary, command);
	m[0].key = "command";
	m[0].value = (char *)(uintptr_t)command;
	m[1].key = "summary";
	m[1].value = (char *)(uintptr_t)summary;
	info.reason = "PRIVILEGE_REQUIRED";
	info.domain = "daemon.netbird.io";
	info.metadata = mp;
	info.n_metadata = 2;
	nb_buf_init(&inner, 4096);
	nb_buf_init(&outer, 8192);
	proto_pack(&inner, &info);
	any.type_url = "type.googleapis.com/google.rpc.ErrorInfo";
	any.has_value = true;
	any.value.data = inner.p;
	any.value.len = inner.n;
	st.has_code = true;
	st.code = GRPC_PERMISSION_DENIED;
	st.message = message;
	st.details = &anyp;
	st.n_details = 1;
	proto_pack(&outer, &st);
	meta = (struct grpc_meta){ nb_bytes_str("grpc-status-details-bin"), nb_buf_view(&outer) };
	if (grpc_call_finish_meta(call, GRPC_PERMISSION_DENIED, message, &meta, outer.err ? 0 : 1))
		grpc_call_finish(call, GRPC_PERMISSION_DENIED, message);
	nb_buf_fini(&inner);
	nb_buf_fini(&outer);
}

/* action reads as the subject of a sentence; arguments are those of the command that does it as root. */
static bool may(struct client_daemon *d, struct grpc_call *call, const char *action, const char *command)
{
	struct client_caller who = d->cfg.ops->caller(d->cfg.arg, call);
	char summary[400], run[400];

	if (privileged(d, who))
		return true;
	if (!who.known) {
		snprintf(summary, sizeof summary, "%c%s requires root, and the daemon cannot verify who is calling over "
			 "its current socket. Reinstall the service on a socket that carries the caller's identity.",
			 toupper((unsigned char)*action), action + 1);
		snprintf(run, sizeof run, "sudo netbird service install --daemon-addr unix:///var/run/netbird.sock");
	} else if (d->cfg.uid != 0) {
		snprintf(summary, sizeof summary, "%c%s requires the user the daemon runs as (uid %u).",
			 toupper((unsigned char)*action), action + 1, (unsigned)d->cfg.uid);
		snprintf(run, sizeof run, "%s", command);
	} else {
		snprintf(summary, sizeof summary, "%c%s requires root.", toupper((unsigned char)*action), action + 1);
		snprintf(run, sizeof run, "sudo %.*s%s%s", (int)strcspn(command, ";"), command,
			 strchr(command, ';') ? "; sudo " : "", strchr(command, ';') ? strchr(command, ';') + 2 : "");
	}
	deny(call, summary, run);
	return false;
}

/* A request that restates what is stored turns nothing on. Without a flag the SSH server counts as on,
 * as old files mean it. */
static bool turns_on(enum client_tri stored, bool has, bool value)
{
	return has && value && stored != CLIENT_YES;
}

static bool ssh_enabled(const struct client_config *c)
{
	return c && c->server_ssh_allowed != CLIENT_NO;
}

bool client_may_change(struct client_daemon *d, struct grpc_call *call, const struct client_config *stored,
		       const struct client_change *c)
{
	struct client_url u;
	char command[300];

	if (turns_on(stored ? stored->enable_ssh_root : CLIENT_NO, c->has_root, c->root) &&
	    !may(d, call, "enabling SSH root login", "netbird down; netbird up --enable-ssh-root"))
		return false;
	if (turns_on(stored ? stored->disable_ssh_auth : CLIENT_NO, c->has_noauth, c->noauth) &&
	    !may(d, call, "disabling SSH authentication", "netbird down; netbird up --disable-ssh-auth"))
		return false;
	if (turns_on(ssh_enabled(stored) ? CLIENT_YES : CLIENT_NO, c->has_ssh, c->ssh) &&
	    !may(d, call, "enabling the NetBird SSH server", "netbird down; netbird up --allow-server-ssh"))
		return false;
	if (!ssh_enabled(stored) || !c->url || !*c->url)
		return true;
	if (client_url_parse(&u, c->url) == 0 && !strcmp(u.scheme, stored->management_url.scheme) &&
	    !strcasecmp(u.host, stored->management_url.host))
		return true;
	snprintf(command, sizeof command, "netbird down; netbird up -m %.200s", c->url);
	return may(d, call, "changing the management URL while the NetBird SSH server is enabled", command);
}

bool client_may_deregister(struct client_daemon *d, struct grpc_call *call, const struct client_config *stored)
{
	return !ssh_enabled(stored) ||
	       may(d, call, "deregistering this peer while the NetBird SSH server is enabled", "netbird logout");
}

/* --- the active profile */

static void adopt(struct client_daemon *d, struct client_config *c)
{
	if (d->have_conf)
		client_config_fini(&d->conf);
	d->conf = *c;
	d->have_conf = true;
}

/* Files of the time before profiles are taken over once. */
static bool take_old_file(struct client_daemon *d, struct client_config *c)
{
	char why[160];
	struct nb_buf b;
	bool ok;

	if (strcmp(d->active.id, CLIENT_DEFAULT_PROFILE) || strcmp(d->state_dir, "/var/lib/netbird"))
		return false;
	nb_buf_init(&b, CLIENT_FILE_MAX);
	ok = d->cfg.ops->read(d->cfg.arg, "/etc/netbird/config.json", &b) == 0 &&
	     client_config_parse(c, nb_buf_view(&b), why, sizeof why) == 0;
	nb_buf_fini(&b);
	return ok;
}

int client_load_active(struct client_daemon *d, bool *created, char *why)
{
	struct client_config c;
	bool old, fresh = false;
	int err = client_profile_load(d, &d->active, &c, why);

	if (err == NB_E_NOTFOUND) {
		old = take_old_file(d, &c);
		fresh = !old;
		if (fresh)
			client_config_init(&c, d->cfg.random, d->cfg.random_ctx);
		err = client_profile_save(d, &d->active, &c, why);
		if (err)
			client_config_fini(&c);
	}
	if (err)
		return err;
	adopt(d, &c);
	if (created)
		*created = fresh;
	return 0;
}

int client_switch_profile(struct client_daemon *d, const char *handle, const char *user, char *why)
{
	struct profile p;
	int status;

	if (!strcmp(handle, CLIENT_DEFAULT_PROFILE)) {
		user = "";
	} else if (!*text(user)) {
		snprintf(why, WHY_MAX, "profile name is set to %.200s, but username is not provided", handle);
		return GRPC_UNKNOWN;
	}
	status = client_profile_resolve(d, handle, user, &p, why);
	if (status)
		return status;
	if (!strcmp(p.id, CLIENT_DEFAULT_PROFILE))
		p.user[0] = '\0';
	if (!strcmp(p.id, d->active.id) && !strcmp(p.user, d->active.user))
		return GRPC_OK;
	if (d->cfg.disable_profiles) {
		snprintf(why, WHY_MAX, PROFILES_DISABLED);
		return GRPC_UNAVAILABLE;
	}
	if (client_active_write(d, &p)) {
		snprintf(why, WHY_MAX, "failed to set active profile state: cannot write %.200s/active_profile.json",
			 d->state_dir);
		return GRPC_UNKNOWN;
	}
	d->active = p;
	return GRPC_OK;
}

/* --- configuration */

static void get_config(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__GetConfigResponse r = DAEMON__GET_CONFIG_RESPONSE__INIT;
	char why[WHY_MAX], management[CLIENT_HOST_MAX + 160], admin[CLIENT_HOST_MAX + 160];
	Daemon__GetConfigRequest *m;
	struct client_config c;
	struct profile p;
	struct nb_arena a;
	int status;

	(void)user;
	m = client_request(call, &daemon__get_config_request__descriptor, in, &a);
	if (!m)
		return;
	status = client_profile_resolve(d, text(m->profilename), text(m->username), &p, why);
	if (!status && client_profile_load(d, &p, &c, why))
		status = GRPC_UNKNOWN;
	nb_arena_fini(&a);
	if (status) {
		client_fail(call, status, "%s", why);
		return;
	}
	client_url_format(management, sizeof management, &c.management_url);
	client_url_format(admin, sizeof admin, &c.admin_url);
	if (c.management_url.scheme[0])
		r.managementurl = management;
	if (c.admin_url.scheme[0])
		r.adminurl = admin;
	if (c.preshared_key[0])
		r.presharedkey = "**********";
	r.interfacename = c.iface;
#define SET(field, value) (r.has_##field = (r.field = (value)) != 0)
	SET(wireguardport, c.port);
	SET(mtu, c.mtu);
	SET(disableautoconnect, c.disable_auto_connect == CLIENT_YES);
	SET(serversshallowed, c.server_ssh_allowed != CLIENT_NO);
	SET(rosenpassenabled, c.rosenpass_enabled == CLIENT_YES);
	SET(rosenpasspermissive, c.rosenpass_permissive == CLIENT_YES);
	SET(disable_notifications, c.disable_notifications != CLIENT_NO);
	SET(block_inbound, c.block_inbound == CLIENT_YES);
	SET(networkmonitor, c.network_monitor == CLIENT_YES);
	SET(disable_dns, c.disable_dns == CLIENT_YES);
	SET(disable_client_routes, c.disable_client_routes == CLIENT_YES);
	SET(disable_server_routes, c.disable_server_routes == CLIENT_YES);
	SET(block_lan_access, c.block_lan_access == CLIENT_YES);
	SET(enablesshroot, c.enable_ssh_root == CLIENT_YES);
	SET(enablesshlocalportforwarding, c.enable_ssh_local_forwarding == CLIENT_YES);
	SET(enablesshremoteportforwarding, c.enable_ssh_remote_forwarding == CLIENT_YES);
	SET(enablesshsftp, c.enable_ssh_sftp == CLIENT_YES);
	SET(disablesshauth, c.disable_ssh_auth == CLIENT_YES);
	SET(sshjwtcachettl, c.ssh_jwt_cache_ttl < 0 ? 0 : c.ssh_jwt_cache_ttl);
	SET(disable_ipv6, c.disable_ipv6 == CLIENT_YES);
#undef SET
	client_reply(call, &r);
	client_config_fini(&c);
}

/* A request without any setting comes with every `up` and must not be refused. */
static bool has_settings(const Daemon__SetConfigRequest *m)
{
	return *text(m->managementurl) || *text(m->adminurl) || m->optionalpresharedkey || m->customdnsaddress.len ||
	       m->n_natexternalips || m->cleannatexternalips || m->n_extraifaceblacklist || m->n_dns_labels ||
	       m->cleandnslabels || m->dnsrouteinterval || m->has_rosenpassenabled || m->has_rosenpasspermissive ||
	       m->interfacename || m->has_wireguardport || m->has_mtu || m->has_disableautoconnect ||
	       m->has_serversshallowed || m->has_networkmonitor || m->has_disable_client_routes ||
	       m->has_disable_server_routes || m->has_disable_dns || m->has_disable_firewall ||
	       m->has_block_lan_access || m->has_disable_notifications || m->has_block_inbound ||
	       m->has_disable_ipv6 || m->has_enablesshroot || m->has_enablesshsftp ||
	       m->has_enablesshlocalportforwarding || m->has_enablesshremoteportforwarding || m->has_disablesshauth ||
	       m->has_sshjwtcachettl;
}

/* The settings that this program has no code for: saying yes to them would be a lie. */
static const char *unsupported(const Daemon__SetConfigRequest *m)
{
	if (m->has_rosenpassenabled && m->rosenpassenabled)
		return "Rosenpass is not supported by nestbox: leave out --enable-rosenpass; a --preshared-key gives "
		       "protection against later quantum computers";
	if (m->has_serversshallowed && m->serversshallowed)
		return "the SSH server is not supported by nestbox: leave out --allow-server-ssh and use the machine's "
		       "own sshd over the tunnel";
	return NULL;
}

static void set_config_of(struct client_daemon *d, struct grpc_call *call, const Daemon__SetConfigRequest *m)
{
	const struct client_change change = {
		m->managementurl, m->has_serversshallowed, m->serversshallowed, m->has_enablesshroot, m->enablesshroot,
		m->has_disablesshauth, m->disablesshauth,
	};
	Daemon__SetConfigResponse r = DAEMON__SET_CONFIG_RESPONSE__INIT;
	char why[WHY_MAX], detail[WHY_MAX];
	struct client_config c;
	struct profile p;
	int status = client_profile_resolve(d, text(m->profilename), text(m->username), &p, why);

	if (!status && client_profile_load(d, &p, &c, why))
		status = GRPC_UNKNOWN;
	if (status) {
		client_fail(call, status, "%s", why);
		return;
	}
	if (!client_may_change(d, call, &c, &change)) {
		client_config_fini(&c);
		return;
	}
	if (unsupported(m)) {
		client_fail(call, GRPC_INVALID_ARGUMENT, "%s", unsupported(m));
	} else if (client_config_apply(&c, m, detail, sizeof detail)) {
		client_fail(call, GRPC_INVALID_ARGUMENT, "failed to update profile config: %s", detail);
	} else if (client_profile_save(d, &p, &c, why)) {
		client_fail(call, GRPC_UNKNOWN, "failed to update profile config: %s", why);
	} else {
		client_reply(call, &r);
		if (!strcmp(p.id, d->active.id)) {
			adopt(d, &c);
			return;
		}
	}
	client_config_fini(&c);
}

static void set_config(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__SetConfigRequest *m;
	struct nb_arena a;

	(void)user;
	m = client_request(call, &daemon__set_config_request__descriptor, in, &a);
	if (!m)
		return;
	if (d->cfg.disable_update_settings && has_settings(m))
		client_fail(call, GRPC_UNAVAILABLE, SETTINGS_DISABLED);
	else
		set_config_of(d, call, m);
	nb_arena_fini(&a);
}

/* --- profiles */

static void switch_profile(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__SwitchProfileResponse r = DAEMON__SWITCH_PROFILE_RESPONSE__INIT;
	Daemon__SwitchProfileRequest *m;
	int status = GRPC_OK;
	char why[WHY_MAX];
	struct nb_arena a;

	(void)user;
	m = client_request(call, &daemon__switch_profile_request__descriptor, in, &a);
	if (!m)
		return;
	if (m->profilename)
		status = client_switch_profile(d, m->profilename, m->username, why);
	if (!status && client_load_active(d, NULL, why))
		status = GRPC_UNKNOWN;
	if (status) {
		client_fail(call, status, "%s", why);
	} else {
		if (m->profilename)
			client_profile_list_changed(d, m->profilename);
		r.id = d->active.id;
		client_reply(call, &r);
	}
	nb_arena_fini(&a);
}

static void add_profile(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__AddProfileResponse r = DAEMON__ADD_PROFILE_RESPONSE__INIT;
	Daemon__AddProfileRequest *m;
	char why[WHY_MAX];
	struct profile p;
	struct nb_arena a;

	(void)user;
	m = client_request(call, &daemon__add_profile_request__descriptor, in, &a);
	if (!m)
		return;
	if (d->cfg.disable_profiles) {
		client_fail(call, GRPC_UNAVAILABLE, PROFILES_DISABLED);
	} else if (!*text(m->profilename) || !*text(m->username)) {
		client_fail(call, GRPC_INVALID_ARGUMENT, "profile name and username must be provided");
	} else if (client_profile_create(d, m->profilename, m->username, &p, why)) {
		client_fail(call, GRPC_UNKNOWN, "failed to create profile: %s", why);
	} else {
		client_profile_list_changed(d, m->profilename);
		r.id = p.id;
		client_reply(call, &r);
	}
	nb_arena_fini(&a);
}

static void rename_profile(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__RenameProfileResponse r = DAEMON__RENAME_PROFILE_RESPONSE__INIT;
	Daemon__RenameProfileRequest *m;
	char why[WHY_MAX];
	struct profile p;
	struct nb_arena a;
	int status;

	(void)user;
	m = client_request(call, &daemon__rename_profile_request__descriptor, in, &a);
	if (!m)
		return;
	if (d->cfg.disable_profiles) {
		client_fail(call, GRPC_UNAVAILABLE, PROFILES_DISABLED);
	} else if (!*text(m->handle) || !*text(m->username) || !*text(m->newprofilename)) {
		client_fail(call, GRPC_INVALID_ARGUMENT, "profile name, username and new profile name must be provided");
	} else if ((status = client_profile_resolve(d, m->handle, m->username, &p, why))) {
		client_fail(call, status, "%s", why);
	} else if (client_profile_rename(d, &p, m->newprofilename, why)) {
		client_fail(call, GRPC_UNKNOWN, "failed to rename profile: %s", why);
	} else {
		client_profile_list_changed(d, m->newprofilename);
		r.oldprofilename = p.name;
		client_reply(call, &r);
	}
	nb_arena_fini(&a);
}

void client_remove_profile_now(struct client_daemon *d, struct grpc_call *call, const struct profile *p)
{
	Daemon__RemoveProfileResponse r = DAEMON__REMOVE_PROFILE_RESPONSE__INIT;

	client_profile_remove(d, p);
	client_profile_list_changed(d, p->name);
	r.id = (char *)(uintptr_t)p->id;
	client_reply(call, &r);
}

/* The peer is deregistered first where that is possible and allowed; the files go either way. */
static void remove_resolved(struct client_daemon *d, struct grpc_call *call, const struct profile *p)
{
	struct client_config c;
	char why[WHY_MAX];
	bool told = false;

	if (!strcmp(p->id, CLIENT_DEFAULT_PROFILE)) {
		client_fail(call, GRPC_UNKNOWN, "failed to remove profile: cannot remove default profile with name: %s",
			    p->name);
		return;
	}
	if (p->active) {
		client_fail(call, GRPC_UNKNOWN, "failed to remove profile: cannot remove active profile: %s", p->id);
		return;
	}
	if (!d->logout && client_profile_load(d, p, &c, why) == 0) {
		told = c.management_url.scheme[0] && !ssh_enabled(&c);
		if (told) {
			d->logout = client_wait(d, call, WAIT_LOGOUT, 15 * NB_SEC);
			if (d->logout) {
				d->logout_profile = *p;
				d->logout_removes = true;
				d->cfg.ops->logout(d->cfg.arg, &c);
			}
		}
		client_config_fini(&c);
	}
	if (!told)
		client_remove_profile_now(d, call, p);
}

static void remove_profile(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__RemoveProfileRequest *m;
	char why[WHY_MAX];
	struct profile p;
	struct nb_arena a;
	int status;

	(void)user;
	m = client_request(call, &daemon__remove_profile_request__descriptor, in, &a);
	if (!m)
		return;
	if (d->cfg.disable_profiles)
		client_fail(call, GRPC_UNAVAILABLE, PROFILES_DISABLED);
	else if (!*text(m->profilename))
		client_fail(call, GRPC_INVALID_ARGUMENT, "profile name must be provided");
	else if ((status = client_profile_resolve(d, m->profilename, text(m->username), &p, why)))
		client_fail(call, status, "%s", why);
	else
		remove_resolved(d, call, &p);
	nb_arena_fini(&a);
}

static void list_profiles(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__ListProfilesResponse r = DAEMON__LIST_PROFILES_RESPONSE__INIT;
	Daemon__Profile rows[PROFILES_MAX], *pointers[PROFILES_MAX];
	Daemon__ListProfilesRequest *m;
	struct profile_list l = { 0 };
	struct nb_arena a;
	int err;

	(void)user;
	m = client_request(call, &daemon__list_profiles_request__descriptor, in, &a);
	if (!m)
		return;
	if (!*text(m->username)) {
		client_fail(call, GRPC_INVALID_ARGUMENT, "username must be provided");
	} else if ((err = client_profile_list(d, m->username, &l))) {
		client_fail(call, GRPC_UNKNOWN, "failed to list profiles: %s", nb_strerror(err));
	} else {
		for (size_t i = 0; i < l.n; i++) {
			daemon__profile__init(&rows[i]);
			rows[i].id = l.v[i].id;
			rows[i].name = l.v[i].name;
			rows[i].has_is_active = rows[i].is_active = l.v[i].active;
			pointers[i] = &rows[i];
		}
		r.profiles = pointers;
		r.n_profiles = l.n;
		client_reply(call, &r);
	}
	client_profile_list_free(&l);
	nb_arena_fini(&a);
}

static void get_active_profile(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__GetActiveProfileResponse r = DAEMON__GET_ACTIVE_PROFILE_RESPONSE__INIT;

	(void)user, (void)in;
	r.id = d->active.id;
	r.profilename = d->active.id;
	if (strcmp(d->active.id, CLIENT_DEFAULT_PROFILE) && d->have_conf && d->conf.name[0])
		r.profilename = d->conf.name;
	if (d->active.user[0])
		r.username = d->active.user;
	client_reply(call, &r);
}

static void get_features(struct grpc_call *call, void *user, struct nb_bytes in)
{
	struct client_daemon *d = grpc_call_service_arg(call);
	Daemon__GetFeaturesResponse r = DAEMON__GET_FEATURES_RESPONSE__INIT;

	(void)user, (void)in;
	r.has_disable_profiles = r.disable_profiles = d->cfg.disable_profiles;
	r.has_disable_update_settings = r.disable_update_settings = d->cfg.disable_update_settings;
	r.has_disable_networks = r.disable_networks = d->cfg.disable_networks;
	client_reply(call, &r);
}

const struct grpc_call_ops client_get_config_ops = { .on_message = get_config };
const struct grpc_call_ops client_set_config_ops = { .on_message = set_config };
const struct grpc_call_ops client_switch_profile_ops = { .on_message = switch_profile };
const struct grpc_call_ops client_add_profile_ops = { .on_message = add_profile };
const struct grpc_call_ops client_rename_profile_ops = { .on_message = rename_profile };
const struct grpc_call_ops client_remove_profile_ops = { .on_message = remove_profile, .on_end = client_call_end };
const struct grpc_call_ops client_list_profiles_ops = { .on_message = list_profiles };
const struct grpc_call_ops client_get_active_profile_ops = { .on_message = get_active_profile };
const struct grpc_call_ops client_get_features_ops = { .on_message = get_features };
