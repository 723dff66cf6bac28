/* activity.c - the activity log: numbers, codes and texts of what can happen, and writing it into the
 * transaction that makes it happen. Numbers are persistent and never reused.
 * management-domain.md section 3. Tests: tests/unit/mgmt_domain_test.c */
#include "mgmt/mgmt_int.h"

#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>

#define EVENT_PAIRS 24
#define EVENTS_MAX 10000

/* Sorted by number. */
static const struct activity {
	uint32_t number;
	const char *code, *text;
} activities[] = {
	{ 0, "peer.user.add", "Peer added" },
	{ 1, "peer.setupkey.add", "Peer added" },
	{ 2, "user.join", "User joined" },
	{ 3, "user.invite", "User invited" },
	{ 4, "account.create", "Account created" },
	{ 5, "user.peer.delete", "Peer deleted" },
	{ 6, "rule.add", "Rule added" },
	{ 7, "rule.update", "Rule updated" },
	{ 8, "rule.delete", "Rule deleted" },
	{ 9, "policy.add", "Policy added" },
	{ 10, "policy.update", "Policy updated" },
	{ 11, "policy.delete", "Policy deleted" },
	{ 12, "setupkey.add", "Setup key created" },
	{ 13, "setupkey.update", "Setup key updated" },
	{ 14, "setupkey.revoke", "Setup key revoked" },
	{ 15, "setupkey.overuse", "Setup key overused" },
	{ 16, "group.add", "Group created" },
	{ 17, "group.update", "Group updated" },
	{ 18, "peer.group.add", "Group added to peer" },
	{ 19, "peer.group.delete", "Group removed from peer" },
	{ 20, "user.group.add", "Group added to user" },
	{ 21, "user.group.delete", "Group removed from user" },
	{ 22, "user.role.update", "User role updated" },
	{ 23, "setupkey.group.add", "Group added to setup key" },
	{ 24, "setupkey.group.delete", "Group removed from user setup key" },
	{ 25, "dns.setting.disabled.management.group.add", "Group added to disabled management DNS setting" },
	{ 26, "dns.setting.disabled.management.group.delete", "Group removed from disabled management DNS setting" },
	{ 27, "route.add", "Route created" },
	{ 28, "route.delete", "Route deleted" },
	{ 29, "route.update", "Route updated" },
	{ 30, "peer.ssh.enable", "Peer SSH server enabled" },
	{ 31, "peer.ssh.disable", "Peer SSH server disabled" },
	{ 32, "peer.rename", "Peer renamed" },
	{ 33, "peer.login.expiration.enable", "Peer login expiration enabled" },
	{ 34, "peer.login.expiration.disable", "Peer login expiration disabled" },
	{ 35, "nameserver.group.add", "Nameserver group created" },
	{ 36, "nameserver.group.delete", "Nameserver group deleted" },
	{ 37, "nameserver.group.update", "Nameserver group updated" },
	{ 38, "account.setting.peer.login.expiration.enable", "Account peer login expiration enabled" },
	{ 39, "account.setting.peer.login.expiration.disable", "Account peer login expiration disabled" },
	{ 40, "account.setting.peer.login.expiration.update", "Account peer login expiration duration updated" },
	{ 41, "personal.access.token.create", "Personal access token created" },
	{ 42, "personal.access.token.delete", "Personal access token deleted" },
	{ 43, "service.user.create", "Service user created" },
	{ 44, "service.user.delete", "Service user deleted" },
	{ 45, "user.block", "User blocked" },
	{ 46, "user.unblock", "User unblocked" },
	{ 47, "user.delete", "User deleted" },
	{ 48, "group.delete", "Group deleted" },
	{ 49, "user.peer.login", "User logged in peer" },
	{ 50, "peer.login.expire", "Peer login expired" },
	{ 51, "dashboard.login", "Dashboard login" },
	{ 52, "integration.create", "Integration created" },
	{ 53, "integration.update", "Integration updated" },
	{ 54, "integration.delete", "Integration deleted" },
	{ 55, "account.setting.peer.approval.enable", "Account peer approval enabled" },
	{ 56, "account.setting.peer.approval.disable", "Account peer approval disabled" },
	{ 57, "peer.approve", "Peer approved" },
	{ 58, "peer.approval.revoke", "Peer approval revoked" },
	{ 59, "transferred.owner.role", "Transferred owner role" },
	{ 60, "posture.check.create", "Posture check created" },
	{ 61, "posture.check.update", "Posture check updated" },
	{ 62, "posture.check.delete", "Posture check deleted" },
	{ 63, "peer.inactivity.expiration.enable", "Peer inactivity expiration enabled" },
	{ 64, "peer.inactivity.expiration.disable", "Peer inactivity expiration disabled" },
	{ 65, "account.peer.inactivity.expiration.enable", "Account peer inactivity expiration enabled" },
	{ 66, "account.peer.inactivity.expiration.disable", "Account peer inactivity expiration disabled" },
	{ 67, "account.peer.inactivity.expiration.update", "Account peer inactivity expiration duration updated" },
	{ 68, "setupkey.delete", "Setup key deleted" },
	{ 69, "account.setting.group.propagation.enable", "User group propagation enabled" },
	{ 70, "account.setting.group.propagation.disable", "User group propagation disabled" },
	{ 71, "account.setting.routing.peer.dns.resolution.enable", "Account routing peer DNS resolution enabled" },
	{ 72, "account.setting.routing.peer.dns.resolution.disable", "Account routing peer DNS resolution disabled" },
	{ 73, "network.create", "Network created" },
	{ 74, "network.update", "Network updated" },
	{ 75, "network.delete", "Network deleted" },
	{ 76, "network.resource.create", "Network resource created" },
	{ 77, "network.resource.update", "Network resource updated" },
	{ 78, "network.resource.delete", "Network resource deleted" },
	{ 79, "network.router.create", "Network router created" },
	{ 80, "network.router.update", "Network router updated" },
	{ 81, "network.router.delete", "Network router deleted" },
	{ 82, "resource.group.add", "Resource added to group" },
	{ 83, "resource.group.delete", "Resource removed from group" },
	{ 84, "account.dns.domain.update", "Account DNS domain updated" },
	{ 85, "account.setting.lazy.connection.enable", "Account lazy connection enabled" },
	{ 86, "account.setting.lazy.connection.disable", "Account lazy connection disabled" },
	{ 87, "account.network.range.update", "Account network range updated" },
	{ 88, "peer.ip.update", "Peer IP updated" },
	{ 89, "user.approve", "User approved" },
	{ 90, "user.reject", "User rejected" },
	{ 91, "user.create", "User created" },
	{ 92, "account.settings.auto.version.update", "Account AutoUpdate Version updated" },
	{ 93, "identityprovider.create", "Identity provider created" },
	{ 94, "identityprovider.update", "Identity provider updated" },
	{ 95, "identityprovider.delete", "Identity provider deleted" },
	{ 96, "dns.zone.create", "DNS zone created" },
	{ 97, "dns.zone.update", "DNS zone updated" },
	{ 98, "dns.zone.delete", "DNS zone deleted" },
	{ 99, "dns.zone.record.create", "DNS zone record created" },
	{ 100, "dns.zone.record.update", "DNS zone record updated" },
	{ 101, "dns.zone.record.delete", "DNS zone record deleted" },
	{ 102, "peer.job.create", "Create Job for peer" },
	{ 103, "user.password.change", "User password changed" },
	{ 104, "user.invite.link.create", "User invite link created" },
	{ 105, "user.invite.link.accept", "User invite link accepted" },
	{ 106, "user.invite.link.regenerate", "User invite link regenerated" },
	{ 107, "user.invite.link.delete", "User invite link deleted" },
	{ 108, "service.create", "Service created" },
	{ 109, "service.update", "Service updated" },
	{ 110, "service.delete", "Service deleted" },
	{ 111, "service.peer.expose", "Peer exposed service" },
	{ 112, "service.peer.unexpose", "Peer unexposed service" },
	{ 113, "service.peer.expose.expire", "Peer exposed service expired" },
	{ 114, "account.setting.peer.expose.enable", "Account peer expose enabled" },
	{ 115, "account.setting.peer.expose.disable", "Account peer expose disabled" },
	{ 116, "account.setting.auto.update.always.enable", "Account auto-update always enabled" },
	{ 117, "account.setting.auto.update.always.disable", "Account auto-update always disabled" },
	{ 118, "domain.add", "Domain added" },
	{ 119, "domain.delete", "Domain deleted" },
	{ 120, "domain.validate", "Domain validated" },
	{ 121, "account.setting.ipv6.enable", "Account IPv6 overlay enabled" },
	{ 122, "account.setting.ipv6.disable", "Account IPv6 overlay disabled" },
	{ 123, "account.setting.local.mfa.enable", "Account local MFA enabled" },
	{ 124, "account.setting.local.mfa.disable", "Account local MFA disabled" },
	{ 125, "user.peer.session.extend", "User extended peer session" },
	{ 140, "account.setting.metrics.push.enable", "Account metrics push enabled" },
	{ 141, "account.setting.metrics.push.disable", "Account metrics push disabled" },
	{ 99999, "account.delete", "Account deleted" },
};

static const struct activity *find(uint32_t number)
{
	size_t lo = 0, hi = sizeof(activities) / sizeof(*activities);

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (activities[mid].number == number)
			return &activities[mid];
		if (activities[mid].number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

const char *mgmt_activity_code(uint32_t activity)
{
	const struct activity *a = find(activity);

	return a ? a->code : "UNKNOWN_ACTIVITY";
}

const char *mgmt_activity_text(uint32_t activity)
{
	const struct activity *a = find(activity);

	return a ? a->text : "UNKNOWN_ACTIVITY";
}

const char *mgmt_who(const struct mgmt_actor *who)
{
	return who && who->user ? who->user->rec->id : "sys";
}

static size_t event_prefix(char *out, size_t cap, const struct mgmt_account *a)
{
	return (size_t)snprintf(out, cap, "e/%s/", a->rec->id);
}

/* Pack the event and add it to the transaction's batch. */
static void event_store(struct mgmt_txn *t, const mgmt_event_rec *rec)
{
	char key[STORE_KEY_MAX];
	size_t key_n = event_prefix(key, sizeof(key) - 8, t->account);
	size_t n = protobuf_c_message_get_packed_size(&rec->base);
	uint8_t *mem = malloc(n + 1);

	if (!mem) {
		t->err = NB_E_NOMEM;
		return;
	}
	nb_put_be64(key + key_n, rec->id);
	protobuf_c_message_pack(&rec->base, mem);
	store_put(t->batch, nb_bytes(key, key_n + 8), nb_bytes(mem, n));
	free(mem);
}

void mgmt_event(struct mgmt_txn *t, uint32_t activity, const char *initiator, const char *target,
		const struct mgmt_pair *meta, size_t n)
{
	Nestbox__MetaPair pairs[EVENT_PAIRS], *list[EVENT_PAIRS];
	mgmt_event_rec rec = NESTBOX__EVENT_RECORD__INIT;

	if (t->err || !t->batch || !t->account || t->m->cfg.no_events)
		return;
	for (size_t i = 0; i < n && i < EVENT_PAIRS; i++) {
		pairs[i] = (Nestbox__MetaPair)NESTBOX__META_PAIR__INIT;
		pairs[i].key = (char *)meta[i].key;
		pairs[i].value = (char *)mgmt_str(meta[i].value);
		list[rec.n_meta++] = &pairs[i];
	}
	rec.meta = list;
	rec.has_id = rec.has_time = rec.has_activity = true;
	rec.id = ++t->m->event_seq;
	rec.time = t->m->wall.ns;
	rec.activity = activity;
	rec.initiator = (char *)(initiator ? initiator : "sys");
	rec.target = (char *)mgmt_str(target);
	event_store(t, &rec);
}

void mgmt_event_peer(struct mgmt_txn *t, uint32_t activity, const char *initiator, const char *target,
		     const struct mgmt_peer *p, const struct mgmt_pair *extra, size_t n)
{
	char fqdn[320], ip[NB_ADDR_TEXT], ip6[NB_ADDR_TEXT], created[NB_RFC3339_CAP], geo[16];
	struct mgmt_pair meta[EVENT_PAIRS];
	const mgmt_peer_rec *r = p->rec;
	struct nb_addr addr = nb_addr4(nb_get_be32(r->ip.data));
	size_t k = 0;

	mgmt_peer_fqdn(p, fqdn, sizeof(fqdn));
	nb_addr_format(ip, &addr);
	nb_wall_format(created, (struct nb_wall){ r->created });
	snprintf(geo, sizeof(geo), "%u", r->geoname_id);
	meta[k++] = (struct mgmt_pair){ "name", r->name };
	meta[k++] = (struct mgmt_pair){ "fqdn", fqdn };
	meta[k++] = (struct mgmt_pair){ "ip", ip };
	meta[k++] = (struct mgmt_pair){ "created_at", created };
	meta[k++] = (struct mgmt_pair){ "location_city_name", r->city };
	meta[k++] = (struct mgmt_pair){ "location_country_code", r->country };
	meta[k++] = (struct mgmt_pair){ "location_geo_name_id", geo };
	meta[k++] = (struct mgmt_pair){ "location_connection_ip", r->connection_ip };
	if (r->ipv6.len == 16) {
		addr = nb_addr6(r->ipv6.data);
		nb_addr_format(ip6, &addr);
		meta[k++] = (struct mgmt_pair){ "ipv6", ip6 };
	}
	for (size_t i = 0; i < n && k < EVENT_PAIRS; i++)
		meta[k++] = extra[i];
	mgmt_event(t, activity, initiator, target ? target : r->id, meta, k);
}

/* ---- reading */

struct reading {
	void (*fn)(void *arg, int err, mgmt_event_rec *const *ev, size_t n);
	void *arg;
};

static void rows_read(void *arg, int err, const struct store_row *rows, size_t n)
{
	struct reading *r = arg;
	mgmt_event_rec **ev = n ? calloc(n, sizeof(*ev)) : NULL;
	size_t k = 0;

	if (n && !ev)
		err = NB_E_NOMEM;
	for (size_t i = 0; i < n && !err; i++) {
		ev[k] = nestbox__event_record__unpack(NULL, rows[i].value.n, rows[i].value.p);
		if (ev[k])
			k++;
	}
	r->fn(r->arg, err, ev, k);
	for (size_t i = 0; i < k; i++)
		nestbox__event_record__free_unpacked(ev[i], NULL);
	free(ev);
	free(r);
}

void mgmt_events_read(struct mgmt_account *a, size_t max,
		      void (*fn)(void *arg, int err, mgmt_event_rec *const *ev, size_t n), void *arg)
{
	struct reading *r = calloc(1, sizeof(*r));
	char prefix[STORE_KEY_MAX];

	if (!r || !a->m->store) {
		free(r);
		fn(arg, r ? 0 : NB_E_NOMEM, NULL, 0);
		return;
	}
	r->fn = fn;
	r->arg = arg;
	store_read_last(a->m->store, nb_bytes(prefix, event_prefix(prefix, sizeof(prefix), a)),
			max < EVENTS_MAX ? max : EVENTS_MAX, rows_read, r);
}
