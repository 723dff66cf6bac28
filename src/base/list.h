/* list.h - intrusive doubly linked lists; the head is a node that is not an element. */
#ifndef NB_BASE_LIST_H
#define NB_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct nb_list {
	struct nb_list *prev, *next;
};

#define nb_container(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

static inline void nb_list_init(struct nb_list *head)
{
	head->prev = head->next = head;
}
static inline bool nb_list_empty(const struct nb_list *head)
{
	return head->next == head;
}
/* Put node at the end. */
static inline void nb_list_push(struct nb_list *head, struct nb_list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}
/* Take node out; it may be linked or freshly initialised, and is initialised afterwards. */
static inline void nb_list_del(struct nb_list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	nb_list_init(node);
}

#define nb_list_each(it, head) for (struct nb_list *it = (head)->next; it != (head); it = it->next)
#define nb_list_each_safe(it, head) \
	for (struct nb_list *it = (head)->next, *it##_next = it->next; it != (head); \
	     it = it##_next, it##_next = it->next)

#endif
