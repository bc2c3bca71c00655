/* SPDX-License-Identifier: Apache-2.0 */
/* Two kinds of charts as SVG files: lines over a percentage, bars over small numbers. */
#ifndef BP_PLOT_H
#define BP_PLOT_H

#include <stdbool.h>

#define PLOT_POINTS_MAX 64
#define PLOT_LINES_MAX  4

struct plot_line {
    const char *name;
    unsigned n;
    double x[PLOT_POINTS_MAX];
    double y[PLOT_POINTS_MAX];
};

/* Both axes from 0 to 100. False: the file cannot be written. */
bool plot_lines(const char *path, const char *title, const char *x_name, const char *y_name,
                const struct plot_line *lines, unsigned n);
/* y[i] for i = first..last. */
bool plot_bars(const char *path, const char *title, const char *x_name, const char *y_name,
               const double *y, unsigned first, unsigned last);

#endif
