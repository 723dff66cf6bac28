/* log.h - one line per event, to stderr or a file, as text or JSON. Quiet by default.
 * Never pass keys, tokens or packet contents. Not for packet paths. Thread-safe. */
#ifndef NB_BASE_LOG_H
#define NB_BASE_LOG_H

#include <stdbool.h>

enum nb_log_level { NB_LOG_ERROR, NB_LOG_WARN, NB_LOG_INFO, NB_LOG_DEBUG, NB_LOG_TRACE };

/* Messages above the level are dropped; the start value is NB_LOG_WARN. */
void nb_log_set_level(enum nb_log_level level);
enum nb_log_level nb_log_level(void);
/* Stock's words: panic, fatal, error, warn(ing), info, debug, trace. Returns 0 or NB_E_ARG. */
int nb_log_level_parse(enum nb_log_level *out, const char *word);
/* JSON lines instead of text. */
void nb_log_set_json(bool on);
/* Write to this descriptor (borrowed) instead of 2. */
void nb_log_set_fd(int fd);

void nb_log(enum nb_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define nb_error(...) nb_log(NB_LOG_ERROR, __VA_ARGS__)
#define nb_warn(...) nb_log(NB_LOG_WARN, __VA_ARGS__)
#define nb_info(...) nb_log(NB_LOG_INFO, __VA_ARGS__)
#define nb_debug(...) do { if (nb_log_level() >= NB_LOG_DEBUG) nb_log(NB_LOG_DEBUG, __VA_ARGS__); } while (0)

#endif
