/* report.c - what the agent tells people about its pairs. Changes nothing. Tests: tests/unit/ice_agent_test.c */
#include "ice/ice.h"

#include <stdio.h>

#include "ice/ice_int.h"

static enum ice_pair_end unanswered(const struct ice_agent *a, const struct ice_pair *p)
{
	if (p->conflict)
		return ICE_PAIR_CONFLICT;
	if (p->error)
		return ICE_PAIR_REFUSED;
	return a->state == ICE_FAILED || nb_time_is_never(p->next) ? ICE_PAIR_TIMED_OUT : ICE_PAIR_UNANSWERED;
}

static enum ice_pair_note untried(const struct ice_agent *a)
{
	return a->selected >= 0 ? ICE_NOTE_OTHER_SELECTED : a->state == ICE_FAILED ? ICE_NOTE_GIVEN_UP : ICE_NOTE_WAITS;
}

bool ice_pair_report(const struct ice_agent *a, unsigned i, struct ice_pair_report *out)
{
	const struct ice_candidate *local, *remote;
	const struct ice_pair *p;

	if (i >= a->npairs)
		return false;
	p = &a->pairs[i];
	local = &a->locals[p->label].c;
	remote = &a->remotes[p->remote];
	*out = (struct ice_pair_report){ .local_type = local->type, .remote_type = remote->type, .local = local->at,
					 .remote = remote->at, .rtt_ns = p->rtt_ns, .checks = p->checks, .error = p->error,
					 .heard = p->provoked };
	if ((int)i == a->selected)
		out->end = ICE_PAIR_SELECTED;
	else if (p->state == ICE_PAIR_SUCCEEDED)
		out->end = ICE_PAIR_WORKS;
	else if (p->state == ICE_PAIR_PROGRESS)
		out->end = unanswered(a, p);
	else
		out->note = untried(a);
	return true;
}

bool ice_pruned_report(const struct ice_agent *a, unsigned i, struct ice_pair_report *out)
{
	for (unsigned l = 0; l < a->nlocals; l++) {
		const struct ice_candidate *c = &a->locals[l].c;

		if (ice_best_local(a, l) == l)
			continue;
		for (unsigned r = 0; r < a->nremotes; r++) {
			if (a->remotes[r].at.addr.family != c->at.addr.family || i--)
				continue;
			*out = (struct ice_pair_report){ .local_type = c->type, .remote_type = a->remotes[r].type, .local = c->at,
							 .remote = a->remotes[r].at, .end = ICE_PAIR_PRUNED };
			return true;
		}
	}
	return false;
}

void ice_candidate_counts(const struct ice_agent *a, unsigned *local, unsigned *remote)
{
	*local = a->nlocals;
	*remote = a->nremotes;
}

static void checks_text(char *out, const char *what, const struct ice_pair_report *r)
{
	snprintf(out, ICE_PAIR_TEXT, "%s %u check%s%s", what, r->checks, r->checks == 1 ? "" : "s",
		 r->heard ? ", though the other side's came this way" : "");
}

void ice_pair_end_text(char out[ICE_PAIR_TEXT], const struct ice_pair_report *r)
{
	static const char *const notes[] = {
		"not tried", "not tried yet: its turn has not come", "not tried: another pair was selected first",
		"not tried: the session had ended before",
	};
	static const char *const works[] = { "works", "selected", "was selected" };

	switch (r->end) {
	case ICE_PAIR_UNTRIED:
		snprintf(out, ICE_PAIR_TEXT, "%s", notes[r->note]);
		break;
	case ICE_PAIR_UNANSWERED:
		checks_text(out, "no answer yet to", r);
		break;
	case ICE_PAIR_TIMED_OUT:
		checks_text(out, "timed out: no answer to", r);
		break;
	case ICE_PAIR_REFUSED:
		snprintf(out, ICE_PAIR_TEXT, "refused with error %u", r->error);
		break;
	case ICE_PAIR_CONFLICT:
		snprintf(out, ICE_PAIR_TEXT, "role conflict");
		break;
	case ICE_PAIR_PRUNED:
		snprintf(out, ICE_PAIR_TEXT, "pruned: leaves by the same socket as another pair");
		break;
	case ICE_PAIR_WORKS:
	case ICE_PAIR_SELECTED:
	case ICE_PAIR_WAS_SELECTED:
		snprintf(out, ICE_PAIR_TEXT, r->rtt_ns ? "%s, %.1f ms" : "%s", works[r->end - ICE_PAIR_WORKS],
			 (double)r->rtt_ns / 1e6);
		break;
	}
}
