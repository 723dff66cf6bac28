/* timers.c - when WireGuard acts by itself (paper, 6). Timers of each peer:
 *
 *  RETRANSMIT     an initiation went unanswered for 5 s (plus jitter): again, up to 18 times, then give up.
 *  KEEPALIVE      data arrived and nothing was sent for 10 s: send an empty packet.
 *  NEW_HANDSHAKE  data was sent and nothing authentic came back for 15 s: the path or the other side's
 *                 keys are gone, begin a handshake.
 *  ZERO           no new key for 540 s: wipe what is there.
 *  PERSISTENT     nothing authentic in either direction for the configured interval: send an empty packet.
 *  SILENCE        something that wants an answer was sent and for 0.4 s nothing authentic came by the same path:
 *                 told to whoever watches over paths. Not in the paper; nothing goes on the wire.
 *
 * The rest of the code reports events (wg_timers_*). A heap orders peers by their earliest timer;
 * a timer that moves later leaves the heap alone until the old time comes, so that the packet path
 * usually stores one number. Tests: tests/unit/wg_timers_test.c, tests/sim/wg_link_test.c */
#include "wg/wg_int.h"

/* --- heap --- */

static void place(struct wg_dev *d, size_t i, struct wg_peer *p)
{
	d->heap[i] = p;
	p->heap_at = i + 1;
}

static void sift_up(struct wg_dev *d, size_t i)
{
	struct wg_peer *p = d->heap[i];

	while (i && nb_time_before(p->heap_key, d->heap[(i - 1) / 2]->heap_key)) {
		place(d, i, d->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	place(d, i, p);
}

static void sift_down(struct wg_dev *d, size_t i)
{
	struct wg_peer *p = d->heap[i];

	for (;;) {
		size_t c = 2 * i + 1;

		if (c >= d->heap_n)
			break;
		if (c + 1 < d->heap_n && nb_time_before(d->heap[c + 1]->heap_key, d->heap[c]->heap_key))
			c++;
		if (!nb_time_before(d->heap[c]->heap_key, p->heap_key))
			break;
		place(d, i, d->heap[c]);
		i = c;
	}
	place(d, i, p);
}

void wg_timers_forget(struct wg_dev *d, struct wg_peer *p)
{
	if (!p->heap_at)
		return;

	size_t i = p->heap_at - 1;
	struct wg_peer *last = d->heap[--d->heap_n];

	p->heap_at = 0;
	if (last == p)
		return;
	place(d, i, last);
	sift_up(d, i);
	sift_down(d, last->heap_at - 1);
}

static struct nb_time earliest(const struct wg_peer *p)
{
	struct nb_time t = NB_TIME_NEVER;

	for (int i = 0; i < WG_T_COUNT; i++)
		t = nb_time_min(t, p->timer[i]);
	return t;
}

static void set(struct wg_dev *d, struct wg_peer *p, enum wg_timer which, struct nb_time t)
{
	p->timer[which] = t;
	if (p->heap_at) {
		if (nb_time_before(t, p->heap_key)) {
			p->heap_key = t;
			sift_up(d, p->heap_at - 1);
		}
	} else if (!nb_time_is_never(t)) {
		p->heap_key = t;
		d->heap[d->heap_n] = p;
		p->heap_at = ++d->heap_n;
		sift_up(d, p->heap_at - 1);
	}
}

static void stop(struct wg_peer *p, enum wg_timer which)
{
	p->timer[which] = NB_TIME_NEVER;
}

static bool pending(const struct wg_peer *p, enum wg_timer which)
{
	return !nb_time_is_never(p->timer[which]);
}

static int64_t jitter(struct wg_dev *d)
{
	/* No secret, and wanted for every second packet: a plain generator will do (splitmix64). */
	uint64_t z = d->jitter += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (int64_t)((z ^ z >> 31) % WG_REKEY_JITTER_MS) * NB_MS;
}

/* --- what fires --- */

void wg_want_handshake(struct wg_dev *d, struct wg_peer *p, bool retry, bool force, struct nb_time now)
{
	if (!retry)
		p->attempts = 0;
	if (p->ep.kind == WG_EP_NONE || !d->self.has)
		return;
	if (p->ever_sent_handshake &&
	    nb_time_diff(now, p->last_sent_handshake) < (force ? WG_INITIATION_GAP : WG_REKEY_TIMEOUT)) {
		/* A forced one is not forgotten, only held back until the other side would take it. */
		if (force) {
			p->forced = true;
			set(d, p, WG_T_RETRANSMIT, nb_time_add(p->last_sent_handshake, WG_INITIATION_GAP));
		}
		return;
	}
	p->forced = false;
	wg_pend(d, p, WG_P_INITIATION);
}

static void retransmit_due(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	if (p->attempts > WG_MAX_ATTEMPTS) {
		stop(p, WG_T_KEEPALIVE);
		wg_stage_purge(d, p);
		if (!pending(p, WG_T_ZERO))
			set(d, p, WG_T_ZERO, nb_time_add(now, 3 * WG_REJECT_AFTER_TIME));
		wg_raise(d, p, WG_EV_GAVE_UP);
		return;
	}
	if (p->forced) {
		wg_want_handshake(d, p, false, true, now);
		return;
	}
	if (p->cookie_due) {
		p->cookie_due = false;
		p->cookie_used = true;
		wg_pend(d, p, WG_P_INITIATION);
		return;
	}
	p->cookie_used = false;
	p->attempts++;
	/* Perhaps our own address went away: let the system choose again. */
	p->ep.local.family = 0;
	wg_want_handshake(d, p, true, false, now);
	/* Held back because we answered the other side meanwhile: look again when that had its time. */
	if (!(p->pending & WG_P_INITIATION) && p->ep.kind != WG_EP_NONE && d->self.has)
		set(d, p, WG_T_RETRANSMIT, nb_time_add(p->last_sent_handshake, WG_REKEY_TIMEOUT + jitter(d)));
}

static void keepalive_due(struct wg_dev *d, struct wg_peer *p)
{
	wg_pend(d, p, WG_P_KEEPALIVE);
	p->rearm_keepalive = p->another_keepalive;
	p->another_keepalive = false;
}

static void fire(struct wg_dev *d, struct wg_peer *p, enum wg_timer which, struct nb_time now)
{
	stop(p, which);
	switch (which) {
	case WG_T_RETRANSMIT:
		retransmit_due(d, p, now);
		break;
	case WG_T_KEEPALIVE:
		keepalive_due(d, p);
		break;
	case WG_T_NEW_HANDSHAKE:
		p->ep.local.family = 0;
		wg_want_handshake(d, p, false, false, now);
		break;
	case WG_T_ZERO:
		wg_handshake_clear(d, p);
		wg_keypair_retire(d, p->previous);
		wg_keypair_retire(d, p->current);
		wg_keypair_retire(d, p->next);
		break;
	case WG_T_PERSISTENT:
		if (p->keepalive && p->ep.kind != WG_EP_NONE)
			wg_pend(d, p, WG_P_KEEPALIVE);
		break;
	case WG_T_SILENCE:
		if (p->insists)
			wg_raise(d, p, WG_EV_SILENT);
		p->overdue = !p->insists;
		break;
	case WG_T_COUNT:
		break;
	}
}

void wg_timers_run(struct wg_dev *d, struct nb_time now)
{
	while (d->heap_n && nb_time_due(d->heap[0]->heap_key, now)) {
		struct wg_peer *p = d->heap[0];

		for (int i = 0; i < WG_T_COUNT; i++)
			if (nb_time_due(p->timer[i], now))
				fire(d, p, (enum wg_timer)i, now);
		/* Timers of p may have moved either way: put it where it belongs now. */
		p->heap_key = earliest(p);
		if (nb_time_is_never(p->heap_key))
			wg_timers_forget(d, p);
		else
			sift_down(d, p->heap_at - 1);
	}
	wg_bury(d);
}

struct nb_time wg_timers_deadline(const struct wg_dev *d)
{
	return d->heap_n ? d->heap[0]->heap_key : NB_TIME_NEVER;
}

/* --- what happened --- */

void wg_timers_init(struct wg_peer *p)
{
	for (int i = 0; i < WG_T_COUNT; i++)
		stop(p, (enum wg_timer)i);
	p->heap_key = NB_TIME_NEVER;
}

void wg_timers_stop(struct wg_peer *p)
{
	for (int i = 0; i < WG_T_COUNT; i++)
		stop(p, (enum wg_timer)i);
	p->attempts = 0;
	p->another_keepalive = p->rearm_keepalive = p->forced = p->cookie_due = p->cookie_used = false;
}

/* Whoever watches the path must look closely while somebody needs it. */
static void tell_active(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	if (p->active_told.ns && nb_time_diff(now, p->active_told) < d->cfg.active_ms * NB_MS)
		return;
	p->active_told = now;
	wg_raise(d, p, WG_EV_ACTIVE);
}

/* From the first message on; later ones do not move it, but one there must be: the last word of an exchange has no answer. */
static void expect_answer(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	if (p->overdue) {
		p->overdue = false;
		p->insists = true;
		set(d, p, WG_T_SILENCE, now);
	} else if (pending(p, WG_T_SILENCE)) {
		p->insists = true;
	} else {
		p->insists = false;
		set(d, p, WG_T_SILENCE, nb_time_add(now, WG_SILENCE));
	}
}

void wg_timers_path_heard(struct wg_peer *p)
{
	p->overdue = p->insists = false;
	stop(p, WG_T_SILENCE);
}

void wg_timers_data_sent(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	tell_active(d, p, now);
	expect_answer(d, p, now);
	if (!pending(p, WG_T_NEW_HANDSHAKE))
		set(d, p, WG_T_NEW_HANDSHAKE, nb_time_add(now, WG_KEEPALIVE_TIMEOUT + WG_REKEY_TIMEOUT + jitter(d)));
}

void wg_timers_data_received(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	tell_active(d, p, now);
	if (!pending(p, WG_T_KEEPALIVE))
		set(d, p, WG_T_KEEPALIVE, nb_time_add(now, WG_KEEPALIVE_TIMEOUT));
	else
		p->another_keepalive = true;
}

void wg_timers_persistent(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	if (p->keepalive)
		set(d, p, WG_T_PERSISTENT, nb_time_add(now, p->keepalive * NB_SEC));
}

void wg_timers_any_sent(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	stop(p, WG_T_KEEPALIVE);
	wg_timers_persistent(d, p, now);
}

void wg_timers_keepalive_sent(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	if (p->rearm_keepalive)
		set(d, p, WG_T_KEEPALIVE, nb_time_add(now, WG_KEEPALIVE_TIMEOUT));
	p->rearm_keepalive = false;
}

void wg_timers_any_received(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	stop(p, WG_T_NEW_HANDSHAKE);
	wg_timers_persistent(d, p, now);
}

void wg_timers_initiated(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	set(d, p, WG_T_RETRANSMIT, nb_time_add(now, WG_REKEY_TIMEOUT + jitter(d)));
	expect_answer(d, p, now);
	p->insists = true;
}

/* The paper (5.4.7) leaves the cookie for the next attempt, five seconds later, lest answers make traffic. One attempt
 * before that is at most one message more for each, and a peer under attack is reached within a moment. */
void wg_timers_cookie(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	if (!p->initiating || p->forced || p->cookie_due || p->cookie_used || !pending(p, WG_T_RETRANSMIT))
		return;
	p->cookie_due = true;
	set(d, p, WG_T_RETRANSMIT, nb_time_add(now, WG_COOKIE_WAIT + jitter(d) / 4));
}

void wg_timers_complete(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	p->cookie_due = p->cookie_used = false;
	stop(p, WG_T_RETRANSMIT);
	p->attempts = 0;
	p->forced = false;
	p->last_handshake = wg_wall(d, now);
	p->handshakes++;
	wg_raise(d, p, WG_EV_HANDSHAKE);
}

void wg_timers_session(struct wg_dev *d, struct wg_peer *p, struct nb_time now)
{
	set(d, p, WG_T_ZERO, nb_time_add(now, 3 * WG_REJECT_AFTER_TIME));
}
