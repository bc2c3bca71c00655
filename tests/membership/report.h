/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of hyparview_report. */
#ifndef BP_REPORT_H
#define BP_REPORT_H

#include <stddef.h>
#include <stdint.h>

#define REPORT_ROUND (10 * BP_SEC)
#define REPORT_AFTER 40 /* rounds that are waited for */

extern uint64_t report_seed;
extern const char *report_svg; /* directory, or NULL */

/* Ends the program. */
void report_fatal(const char *what);
/* Since the program began. */
double report_wall(void);
/* The most that this process ever had. */
double report_memory_mb(void);
/* A cell of a table; 0: not within REPORT_AFTER. */
void report_rounds(unsigned n);
/*
 * `run(arg, out)` in a copy of the process, so that each experiment begins with the same overlay;
 * `out` of `size` bytes comes back. False: it died.
 */
bool report_in_copy(void (*run)(void *arg, void *out), void *arg, void *out, size_t size);

/* --- report_paper.c: HyParView, Cyclon, CyclonAcked and Scamp side by side; exit statuses -------
 */

int report_table(uint32_t n);
int report_compare(uint32_t n);

#endif
