/* agent.c - the ICE agent's life: candidates, pairs, selection, timers, events. The bytes of checks
 * and answers are in check.c. No sockets, no clock, no signalling.
 * RFC 8445, RFC 8838, spec/peer-connection.md 1.5-1.9. Tests: tests/unit/ice_agent_test.c,
 * tests/sim/ice_sim_test.c */
#include "ice/ice.h"

#include <assert.h>
#include <stdlib.h>

#include "base/err.h"
#include "ice/ice_int.h"

void ice_config_default(struct ice_config *cfg)
{
	*cfg = (struct ice_config){
		.check_ms = 200,
		.pace_ms = 5,
		.hold_ms = 100,
		.keepalive_ms = 4000,
		.disconnected_ms = 6000,
		.failed_ms = 6000,
		.accept_srflx_ms = 500,
		.accept_prflx_ms = 1000,
		.accept_relay_ms = 2000,
		.gather_ms = 5000,
	};
}

static bool copy_credential(char *out, size_t cap, const char *text)
{
	size_t n = text ? strlen(text) : 0;

	if (!n || n >= cap)
		return false;
	memcpy(out, text, n + 1);
	return true;
}

static bool copy_credentials(struct ice_agent *a, const struct ice_config *cfg)
{
	return copy_credential(a->local_ufrag, sizeof a->local_ufrag, cfg->local_ufrag) &&
		copy_credential(a->local_pwd, sizeof a->local_pwd, cfg->local_pwd) &&
		copy_credential(a->remote_ufrag, sizeof a->remote_ufrag, cfg->remote_ufrag) &&
		copy_credential(a->remote_pwd, sizeof a->remote_pwd, cfg->remote_pwd);
}

struct ice_agent *ice_new(const struct ice_config *cfg, struct nb_time now)
{
	struct ice_agent *a = calloc(1, sizeof *a);

	if (!a)
		return NULL;
	a->cfg = *cfg;
	if (!copy_credentials(a, cfg)) {
		ice_free(a);
		return NULL;
	}
	a->cfg.local_ufrag = a->local_ufrag;
	a->cfg.local_pwd = a->local_pwd;
	a->cfg.remote_ufrag = a->remote_ufrag;
	a->cfg.remote_pwd = a->remote_pwd;
	a->controlling = cfg->controlling;
	cfg->random(cfg->random_ctx, a->tag, sizeof a->tag);
	cfg->random(cfg->random_ctx, &a->tie_breaker, sizeof a->tie_breaker);
	a->started = a->pace = now;
	a->selected = a->nominating = -1;
	a->asked = NB_TIME_NEVER;
	return a;
}

void ice_free(struct ice_agent *a)
{
	if (!a)
		return;
	free(a->locals);
	free(a->remotes);
	free(a->pairs);
	free(a->answers);
	nb_wipe(a, sizeof *a);
	free(a);
}

int ice_grow(void *table, unsigned *cap, unsigned n, unsigned max, size_t size)
{
	unsigned want = *cap ? *cap * 2 : 4;
	void *p;

	if (n < *cap)
		return 0;
	if (n >= max)
		return NB_E_FULL;
	if (want > max)
		want = max;
	memcpy(&p, table, sizeof p);
	p = realloc(p, want * size);
	if (!p)
		return NB_E_NOMEM;
	memcpy(table, &p, sizeof p);
	*cap = want;
	return 0;
}

enum ice_state ice_state(const struct ice_agent *a)
{
	return a->state;
}

const struct ice_stats *ice_stats(const struct ice_agent *a)
{
	return &a->stats;
}

bool ice_is_controlling(const struct ice_agent *a)
{
	return a->controlling;
}

void *ice_user(const struct ice_agent *a)
{
	return a->cfg.user;
}

/* ---- Events ---- */

void ice_push_event(struct ice_agent *a, enum ice_event_type type)
{
	if (a->nevents == ICE_EVENTS) {	/* nobody pulls: the oldest news is the least useful */
		a->events_at = (a->events_at + 1) % ICE_EVENTS;
		a->nevents--;
	}
	a->events[(a->events_at + a->nevents++) % ICE_EVENTS] = (uint8_t)type;
}

static bool candidate_event(struct ice_agent *a, struct ice_event *ev)
{
	for (unsigned i = 0; i < a->nlocals; i++) {
		if (a->locals[i].announced)
			continue;
		a->locals[i].announced = true;
		ev->type = ICE_EV_CANDIDATE;
		ev->candidate = a->locals[i].c;
		return true;
	}
	return false;
}

int ice_event(struct ice_agent *a, struct ice_event *ev)
{
	memset(ev, 0, sizeof *ev);
	if (candidate_event(a, ev))
		return 1;
	if (!a->nevents)
		return 0;
	ev->type = (enum ice_event_type)a->events[a->events_at];
	a->events_at = (a->events_at + 1) % ICE_EVENTS;
	a->nevents--;
	ice_selected(a, &ev->pair);
	return 1;
}

bool ice_selected(const struct ice_agent *a, struct ice_pair_info *info)
{
	const struct ice_pair *p;

	memset(info, 0, sizeof *info);
	if (a->selected < 0)
		return false;
	p = &a->pairs[a->selected];
	info->local = a->locals[p->label].c;
	info->remote = a->remotes[p->remote];
	info->via = info->local.via;
	info->rtt_ns = p->rtt_ns;
	info->heard = p->heard;
	return true;
}

/* ---- Pairs ---- */

static unsigned pair_via(const struct ice_agent *a, const struct ice_pair *p)
{
	return a->locals[p->local].c.via;
}

struct ice_pair *ice_pair_find(struct ice_agent *a, unsigned via, const struct nb_endpoint *remote)
{
	for (unsigned i = 0; i < a->npairs; i++) {
		struct ice_pair *p = &a->pairs[i];

		if (pair_via(a, p) == via && nb_endpoint_eq(&a->remotes[p->remote].at, remote))
			return p;
	}
	return NULL;
}

static void rank_pair(const struct ice_agent *a, struct ice_pair *p)
{
	uint32_t local = a->locals[p->local].c.priority, remote = a->remotes[p->remote].priority;

	p->priority = a->controlling ? ice_pair_priority(local, remote) : ice_pair_priority(remote, local);
}

static bool over_relay(const struct ice_agent *a, const struct ice_pair *p)
{
	return pair_via(a, p) || a->remotes[p->remote].type == ICE_RELAY;
}

/* Is the pair a direct way where only a relay was found so far? */
static bool is_upgrade(const struct ice_agent *a, const struct ice_pair *p)
{
	return a->selected >= 0 && a->state == ICE_CONNECTED && over_relay(a, &a->pairs[a->selected]) && !over_relay(a, p) &&
		p->priority > a->pairs[a->selected].priority;
}

static struct nb_time first_check(const struct ice_agent *a, const struct ice_pair *p, struct nb_time now)
{
	struct nb_time held = nb_time_add_ms(a->started, a->cfg.hold_ms);
	unsigned remote = p->remote;

	if (a->selected >= 0)
		return is_upgrade(a, p) ? now : NB_TIME_NEVER;
	if (a->controlling || a->remotes[remote].type == ICE_PRFLX || nb_time_before(held, now))
		return now;
	return held;
}

static int pair_add(struct ice_agent *a, unsigned local, unsigned remote, struct nb_time now)
{
	struct ice_pair *p;
	int err = ice_grow(&a->pairs, &a->pairs_cap, a->npairs, ICE_PAIRS_MAX, sizeof *a->pairs);

	if (err)
		return err;
	p = &a->pairs[a->npairs++];
	*p = (struct ice_pair){
		.local = (uint8_t)local,
		.label = (uint8_t)local,
		.remote = (uint8_t)remote,
	};
	rank_pair(a, p);
	p->next = first_check(a, p, now);
	return 0;
}

static bool same_path(const struct ice_candidate *x, const struct ice_candidate *y)
{
	return x->via == y->via && x->at.addr.family == y->at.addr.family;
}

/* The candidate that stands for its path: the one of highest priority, the first among equals. */
unsigned ice_best_local(const struct ice_agent *a, unsigned like)
{
	unsigned best = like;

	for (unsigned i = 0; i < a->nlocals; i++) {
		const struct ice_candidate *c = &a->locals[i].c;

		if (!same_path(c, &a->locals[like].c))
			continue;
		if (c->priority > a->locals[best].c.priority ||
		    (c->priority == a->locals[best].c.priority && i < best))
			best = i;
	}
	return best;
}

static void pair_paths(struct ice_agent *a, unsigned remote, struct nb_time now)
{
	for (unsigned i = 0; i < a->nlocals; i++) {
		const struct ice_candidate *c = &a->locals[i].c;

		if (c->at.addr.family != a->remotes[remote].at.addr.family || ice_best_local(a, i) != i)
			continue;
		pair_add(a, i, remote, now);
	}
}

/* A new local candidate: either a new path, or a better name for one that exists. */
static void pair_local(struct ice_agent *a, unsigned local, struct nb_time now)
{
	const struct ice_candidate *c = &a->locals[local].c;

	for (unsigned r = 0; r < a->nremotes; r++) {
		struct ice_pair *p = ice_pair_find(a, c->via, &a->remotes[r].at);

		if (a->remotes[r].at.addr.family != c->at.addr.family)
			continue;
		if (!p) {
			pair_add(a, local, r, now);
		} else if (ice_best_local(a, p->local) == local) {
			if (p->label == p->local)
				p->label = (uint8_t)local;
			p->local = (uint8_t)local;
			rank_pair(a, p);
		}
	}
}

/* ---- Candidates ---- */

static int local_known(const struct ice_agent *a, const struct ice_candidate *c)
{
	for (unsigned i = 0; i < a->nlocals; i++) {
		const struct ice_candidate *l = &a->locals[i].c;

		if (l->via != c->via || !nb_endpoint_eq(&l->at, &c->at))
			continue;
		if (l->type == c->type || (l->type == ICE_HOST && c->type == ICE_SRFLX))
			return NB_E_EXISTS;
	}
	return 0;
}

static bool address_valid(const struct nb_endpoint *e)
{
	return (e->addr.family == 4 || e->addr.family == 6) && e->port &&
		!nb_addr_is_unspecified(&e->addr) && !nb_addr_is_multicast(&e->addr);
}

int ice_add_local(struct ice_agent *a, const struct ice_candidate *c, struct nb_time now)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct ice_local *l;
	int err;

	if (!address_valid(&c->at) || c->type == ICE_PRFLX || (c->type == ICE_RELAY) != (c->via > 0))
		return NB_E_ARG;
	if (a->cfg.relay_only && c->type != ICE_RELAY)
		return 0;
	if (local_known(a, c))
		return NB_E_EXISTS;
	err = ice_grow(&a->locals, &a->locals_cap, a->nlocals, ICE_LOCAL_MAX, sizeof *a->locals);
	if (err)
		return err;
	l = &a->locals[a->nlocals];
	*l = (struct ice_local){ .c = *c };
	memcpy(l->c.ufrag, a->local_ufrag, sizeof l->c.ufrag);
	if (!l->c.cid[0])
		ice_random_text(l->c.cid, ICE_CID_LEN, alphabet, 64, a->cfg.random, a->cfg.random_ctx);
	ice_candidate_complete(&l->c);
	pair_local(a, a->nlocals++, now);
	return 0;
}

int ice_add_local_reflexive(struct ice_agent *a, const struct nb_endpoint *mapped, uint16_t port,
			    struct nb_time now)
{
	struct ice_candidate c = {
		.type = ICE_SRFLX,
		.at = *mapped,
		.related = { .addr.family = mapped->addr.family, .port = port },
	};

	return ice_add_local(a, &c, now);
}

int ice_add_stun_server(struct ice_agent *a, const struct nb_endpoint *server, uint16_t port,
	struct nb_time now)
{
	struct ice_server *s;

	if (!address_valid(server))
		return NB_E_ARG;
	for (unsigned i = 0; i < a->nservers; i++) {
		if (nb_endpoint_eq(&a->servers[i].at, server))
			return NB_E_EXISTS;
	}
	if (a->nservers == ICE_SERVERS_MAX)
		return NB_E_FULL;
	s = &a->servers[a->nservers++];
	*s = (struct ice_server){
		.at = *server,
		.port = port,
		.next = a->cfg.relay_only ? NB_TIME_NEVER : now,
		.give_up = nb_time_add_ms(now, a->cfg.gather_ms),
	};
	a->cfg.random(a->cfg.random_ctx, s->nonce, sizeof s->nonce);
	return 0;
}

int ice_remote_find(const struct ice_agent *a, const struct nb_endpoint *at)
{
	for (unsigned i = 0; i < a->nremotes; i++) {
		if (nb_endpoint_eq(&a->remotes[i].at, at))
			return (int)i;
	}
	return -1;
}

int ice_remote_insert(struct ice_agent *a, const struct ice_candidate *c, struct nb_time now)
{
	unsigned learned = 0;
	int err;

	for (unsigned i = 0; i < a->nremotes; i++)
		learned += a->remotes[i].type == ICE_PRFLX;
	if (c->type == ICE_PRFLX && learned == ICE_PRFLX_MAX)
		return NB_E_FULL;
	err = ice_grow(&a->remotes, &a->remotes_cap, a->nremotes, ICE_REMOTE_MAX, sizeof *a->remotes);
	if (err)
		return err;
	a->remotes[a->nremotes] = *c;
	ice_candidate_complete(&a->remotes[a->nremotes]);
	pair_paths(a, a->nremotes, now);
	return (int)a->nremotes++;
}

/* A second candidate with a known address: keep one, the more precise and more preferred. */
static int merge_remote(struct ice_agent *a, unsigned at, const struct ice_candidate *c)
{
	struct ice_candidate *r = &a->remotes[at];

	if (r->type != ICE_PRFLX && r->priority >= c->priority)
		return NB_E_EXISTS;
	*r = *c;
	ice_candidate_complete(r);
	for (unsigned i = 0; i < a->npairs; i++) {
		if (a->pairs[i].remote == at)
			rank_pair(a, &a->pairs[i]);
	}
	return NB_E_EXISTS;
}

static int add_one_remote(struct ice_agent *a, const struct ice_candidate *c, struct nb_time now)
{
	struct ice_candidate r = *c;
	int at, err;

	r.at.addr.scope = 0;
	r.via = 0;
	if (!address_valid(&r.at))
		return NB_E_ARG;
	ice_candidate_complete(&r);
	at = ice_remote_find(a, &r.at);
	if (at >= 0)
		return merge_remote(a, (unsigned)at, &r);
	err = ice_remote_insert(a, &r, now);
	return err < 0 ? err : 0;
}

int ice_add_remote(struct ice_agent *a, const struct ice_candidate *c, struct nb_time now)
{
	struct ice_candidate extra;
	int err = add_one_remote(a, c, now);

	if (err != NB_E_ARG && ice_candidate_derive(c, &extra))
		add_one_remote(a, &extra, now);
	return err;
}

/* ---- Selection ---- */

/* Nobody needs the path now, and the other side knows the rules: one check in a long while keeps NATs open. */
static bool is_quiet(const struct ice_agent *a, struct nb_time now)
{
	return a->cfg.idle_ms && nb_time_due(a->active_until, now);
}

static int64_t idle_wait_ms(const struct ice_agent *a)
{
	return a->cfg.idle_ms + (a->controlling ? 0 : ICE_IDLE_GRACE_MS);
}

static void begin_active(struct ice_agent *a, struct nb_time now)
{
	if (is_quiet(a, now))
		a->active_since = now;
	a->active_until = nb_time_add_ms(now, ICE_ACTIVE_MS);
}

void ice_active(struct ice_agent *a, struct nb_time now)
{
	struct nb_time soon = nb_time_add_ms(now, a->cfg.keepalive_ms / 2);
	bool quiet = is_quiet(a, now);

	if (!a->cfg.idle_ms)
		return;
	begin_active(a, now);
	if (a->selected >= 0 && quiet)
		a->pairs[a->selected].next = now;
	else if (a->selected >= 0 && nb_time_before(soon, a->pairs[a->selected].next))
		a->pairs[a->selected].next = soon;
}

/* ---- Does the selected pair answer? ---- */

static int64_t longer(int64_t ms, int64_t ns)
{
	return ms * NB_MS > ns ? ms * NB_MS : ns;
}

/* No answer is owed, nobody doubts. */
static void trust(struct ice_agent *a)
{
	a->asked = NB_TIME_NEVER;
	a->asks = 0;
	a->doubted = a->silent_told = false;
}

void ice_selected_answers(struct ice_agent *a, struct ice_pair *p, struct nb_time now)
{
	a->answered = now;
	trust(a);
	if (!is_quiet(a, now))
		p->next = nb_time_add_ms(p->last_sent, a->cfg.keepalive_ms / 2);
}

void ice_probe(struct ice_agent *a, struct nb_time now)
{
	if (a->selected < 0 || a->state != ICE_CONNECTED || a->doubted ||
	    nb_time_diff(now, a->answered) < ICE_PROBE_GAP_MS * NB_MS)
		return;
	trust(a);
	a->asked = now;
	a->doubted = true;
	a->pairs[a->selected].next = now;
}

static void note_asked(struct ice_agent *a, struct nb_time now)
{
	if (nb_time_is_never(a->asked))
		a->asked = now;
	a->asks++;
}

/* How long until the selected pair is asked again. */
static int64_t ask_again_ns(const struct ice_agent *a)
{
	int64_t rtt = a->pairs[a->selected].rtt_ns, usual = a->cfg.keepalive_ms / 2 * NB_MS, soon;

	if (a->asks >= ICE_AGAIN_MAX && a->silent_told)
		return usual;
	soon = a->doubted ? longer(ICE_PROBE_MS, rtt / 2) : longer(ICE_AGAIN_MS, rtt * 2);
	return soon < usual ? soon : usual;
}

static struct nb_time silent_deadline(const struct ice_agent *a)
{
	int64_t rtt;

	if (a->state != ICE_CONNECTED || a->silent_told || a->asks < (a->doubted ? ICE_AGAIN_MAX - 1 : ICE_AGAIN_MAX))
		return NB_TIME_NEVER;
	rtt = a->pairs[a->selected].rtt_ns;
	return nb_time_add(a->asked, a->doubted ? longer(ICE_PROBE_SILENT_MS, 4 * rtt) : longer(ICE_SILENT_MS, 6 * rtt));
}

static void run_silent(struct ice_agent *a, struct nb_time now)
{
	if (!nb_time_due(silent_deadline(a), now))
		return;
	a->silent_told = true;
	a->doubted = false;
	ice_push_event(a, ICE_EV_SILENT);
}

/* ---- Selection goes on ---- */

void ice_select(struct ice_agent *a, struct ice_pair *p, struct nb_time now)
{
	int at = (int)(p - a->pairs);

	if (a->selected == at)
		return;
	ice_push_event(a, a->selected < 0 || a->state == ICE_DISCONNECTED ? ICE_EV_CONNECTED : ICE_EV_SELECTED);
	a->selected = at;
	a->nominating = -1;
	a->state = ICE_CONNECTED;
	a->answered = p->heard = now;
	trust(a);
	begin_active(a, now);
	for (unsigned i = 0; i < a->npairs; i++) {
		if (!a->pairs[i].nominated)
			a->pairs[i].next = NB_TIME_NEVER;
	}
	p->nominated = false;
	p->next = nb_time_add_ms(now, a->cfg.keepalive_ms / 2);
}

void ice_pair_heard(struct ice_agent *a, struct ice_pair *p, struct nb_time now)
{
	p->heard = now;
	if (p - a->pairs == a->selected && is_quiet(a, now))
		p->next = nb_time_add_ms(now, idle_wait_ms(a));
	if (p - a->pairs != a->selected || a->state != ICE_DISCONNECTED)
		return;
	a->state = ICE_CONNECTED;
	a->answered = now;
	ice_push_event(a, ICE_EV_CONNECTED);
}

void ice_switch_role(struct ice_agent *a, bool controlling, struct nb_time now)
{
	a->controlling = controlling;
	a->nominating = -1;
	for (unsigned i = 0; i < a->npairs; i++) {
		struct ice_pair *p = &a->pairs[i];

		p->nominated = false;
		rank_pair(a, p);
		if (a->selected < 0 && p->state != ICE_PAIR_SUCCEEDED)
			p->next = now;
	}
}

static unsigned acceptance_ms(const struct ice_agent *a, enum ice_type type)
{
	switch (type) {
	case ICE_SRFLX:
		return a->cfg.accept_srflx_ms;
	case ICE_PRFLX:
		return a->cfg.accept_prflx_ms;
	case ICE_RELAY:
		return a->cfg.accept_relay_ms;
	default:
		return 0;
	}
}

static bool may_nominate(const struct ice_agent *a, const struct ice_pair *p)
{
	return p->state == ICE_PAIR_SUCCEEDED && (a->selected < 0 ? a->state == ICE_CHECKING : is_upgrade(a, p));
}

/* The pair the controlling side would nominate, and when it may: one when there is none, and later on a direct
 * one in place of a relayed one. */
static int best_succeeded(const struct ice_agent *a, struct nb_time *when)
{
	int best = -1;
	unsigned local, remote;

	*when = NB_TIME_NEVER;
	if (!a->controlling || a->nominating >= 0)
		return -1;
	for (unsigned i = 0; i < a->npairs; i++) {
		if (may_nominate(a, &a->pairs[i]) &&
		    (best < 0 || a->pairs[i].priority > a->pairs[best].priority))
			best = (int)i;
	}
	if (best < 0)
		return -1;
	local = acceptance_ms(a, a->locals[a->pairs[best].local].c.type);
	remote = acceptance_ms(a, a->remotes[a->pairs[best].remote].type);
	*when = nb_time_add_ms(a->started, local > remote ? local : remote);
	return best;
}

static void run_nomination(struct ice_agent *a, struct nb_time now)
{
	struct nb_time when;
	int best = best_succeeded(a, &when);

	if (best < 0 || !nb_time_due(when, now))
		return;
	a->nominating = best;
	a->pairs[best].tries = 0;
	a->pairs[best].next = now;
}

static bool has_alternative(const struct ice_agent *a)
{
	for (unsigned i = 0; i < a->npairs; i++) {
		if ((int)i != a->nominating && a->pairs[i].state == ICE_PAIR_SUCCEEDED)
			return true;
	}
	return false;
}

/* A nomination nobody answers: the pair has died, take another one if there is any. */
static void run_nomination_lost(struct ice_agent *a, struct nb_time now)
{
	struct ice_pair *p;

	if (a->nominating < 0)
		return;
	p = &a->pairs[a->nominating];
	if (p->tries < ICE_TRIES || !nb_time_due(p->next, now) || !has_alternative(a))
		return;
	a->nominating = -1;
	p->state = ICE_PAIR_PROGRESS;
	p->next = nb_time_add_ms(now, ICE_SLOW_MS);
}

/* ---- Time ---- */

static void fail(struct ice_agent *a)
{
	a->state = ICE_FAILED;
	a->nanswers = 0;
	ice_push_event(a, ICE_EV_FAILED);
}

static void disconnect(struct ice_agent *a)
{
	a->state = ICE_DISCONNECTED;
	ice_push_event(a, ICE_EV_DISCONNECTED);
}

/* When silence on the selected pair is too long, and when consent ends (RFC 7675). While nobody needs the path
 * both wait for the rare checks; data that starts to flow gets the usual time from then on. */
static struct nb_time silence_deadline(const struct ice_agent *a, struct nb_time heard)
{
	struct nb_time silence = nb_time_add_ms(heard, a->cfg.disconnected_ms), active, idle;
	struct nb_time consent = nb_time_add_ms(a->answered, ICE_CONSENT_MS);

	if (!a->cfg.idle_ms)
		return nb_time_min(silence, consent);
	active = nb_time_add_ms(a->active_since, a->cfg.disconnected_ms);
	if (nb_time_before(silence, active))
		silence = active;
	if (!nb_time_before(a->active_until, silence))
		return silence;
	idle = nb_time_add_ms(heard, a->cfg.idle_ms + ICE_IDLE_GRACE_MS + a->cfg.disconnected_ms);
	return nb_time_before(idle, silence) ? silence : idle;
}

static struct nb_time state_deadline(const struct ice_agent *a)
{
	unsigned both = a->cfg.disconnected_ms + a->cfg.failed_ms;
	const struct ice_pair *p = a->selected < 0 ? NULL : &a->pairs[a->selected];

	switch (a->state) {
	case ICE_CHECKING:
		return nb_time_add_ms(a->started, both);
	case ICE_CONNECTED:
		return silence_deadline(a, p->heard);
	case ICE_DISCONNECTED:
		return nb_time_add_ms(silence_deadline(a, p->heard), a->cfg.failed_ms);
	default:
		return NB_TIME_NEVER;
	}
}

static void run_state(struct ice_agent *a, struct nb_time now)
{
	while (nb_time_due(state_deadline(a), now)) {
		if (a->state == ICE_CONNECTED)
			disconnect(a);
		else
			fail(a);
	}
}

static struct nb_time server_deadline(const struct ice_agent *a)
{
	struct nb_time t = NB_TIME_NEVER;

	for (unsigned i = 0; i < a->nservers; i++)
		t = nb_time_min(t, a->servers[i].next);
	return t;
}

/* The pair to check next: the earliest due, then the best. */
static int next_pair(const struct ice_agent *a)
{
	int best = -1;

	for (unsigned i = 0; i < a->npairs; i++) {
		const struct ice_pair *p = &a->pairs[i], *b = best < 0 ? NULL : &a->pairs[best];

		if (nb_time_is_never(p->next))
			continue;
		if (!b || nb_time_before(p->next, b->next) ||
		    (p->next.ns == b->next.ns && p->priority > b->priority))
			best = (int)i;
	}
	return best;
}

static struct nb_time check_deadline(const struct ice_agent *a)
{
	int at = next_pair(a);

	if (at < 0)
		return NB_TIME_NEVER;
	return nb_time_before(a->pairs[at].next, a->pace) ? a->pace : a->pairs[at].next;
}

struct nb_time ice_deadline(const struct ice_agent *a)
{
	struct nb_time t, nomination;

	if (a->state == ICE_FAILED)
		return NB_TIME_NEVER;
	if (a->nanswers)
		return (struct nb_time){ 0 };
	best_succeeded(a, &nomination);
	t = nb_time_min(nb_time_min(state_deadline(a), nomination), silent_deadline(a));
	t = nb_time_min(t, server_deadline(a));
	return nb_time_min(t, check_deadline(a));
}

/* ---- Output ---- */

static int output_gather(struct ice_agent *a, struct nb_dgram *out, struct nb_time now)
{
	for (unsigned i = 0; i < a->nservers; i++) {
		struct ice_server *s = &a->servers[i];

		if (!nb_time_due(s->next, now))
			continue;
		if (nb_time_due(s->give_up, now)) {
			s->next = NB_TIME_NEVER;
			continue;
		}
		s->next = nb_time_add_ms(now, 250 << s->tries++);
		return ice_write_gather(a, s, out) ? 0 : 1;
	}
	return 0;
}

/* When this pair's turn comes again after the check that goes out now. */
static struct nb_time after_check(const struct ice_agent *a, const struct ice_pair *p, struct nb_time now)
{
	int at = (int)(p - a->pairs);

	if (at == a->selected)
		return nb_time_add(now, ask_again_ns(a));
	if (at == a->nominating || p->tries < ICE_TRIES)
		return nb_time_add_ms(now, a->cfg.check_ms);
	return a->selected < 0 ? nb_time_add_ms(now, ICE_SLOW_MS) : NB_TIME_NEVER;
}

static int output_check(struct ice_agent *a, struct nb_dgram *out, unsigned *via, struct nb_time now)
{
	struct ice_pair *p;

	if (!nb_time_due(check_deadline(a), now))
		return 0;
	p = &a->pairs[next_pair(a)];
	if (p->state == ICE_PAIR_WAITING)
		p->state = ICE_PAIR_PROGRESS;
	if (p->tries < 255)
		p->tries++;
	p->checks += p->checks < UINT16_MAX;
	p->last_sent = now;
	if (p - a->pairs == a->selected)
		note_asked(a, now);
	p->next = after_check(a, p, now);
	a->pace = nb_time_add_ms(now, a->cfg.pace_ms);
	*via = pair_via(a, p);
	return ice_write_check(a, p, out, now) ? 0 : 1;
}

int ice_output(struct ice_agent *a, struct nb_dgram *out, unsigned *via, struct nb_time now)
{
	assert(out->cap >= ICE_DGRAM_MAX);
	*via = 0;
	out->n = 0;
	memset(&out->from, 0, sizeof out->from);
	run_silent(a, now);
	run_state(a, now);
	if (a->state == ICE_FAILED)
		return 0;
	if (a->nanswers && !ice_write_answer(a, out, via))
		return 1;
	run_nomination_lost(a, now);
	run_nomination(a, now);
	if (output_gather(a, out, now))
		return 1;
	return output_check(a, out, via, now);
}
