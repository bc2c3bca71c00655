/* SPDX-License-Identifier: Apache-2.0 */
/* Two kinds of charts as SVG files: lines, bars over small numbers. */
#ifndef BP_PLOT_H
#define BP_PLOT_H

#include <stdbool.h>

#define PLOT_POINTS_MAX 64
#define PLOT_LINES_MAX  6

struct plot_line {
    const char *name;
    unsigned n;
    double x[PLOT_POINTS_MAX];
    double y[PLOT_POINTS_MAX];
};

/* x from 0 to x_max, y from 0 to 100. */
struct plot_chart {
    const char *title;
    const char *x_name;
    const char *y_name;
    double x_max;
    bool legend_right; /* false: left */
    const struct plot_line *lines;
    unsigned n_lines;
};

/* What is more than PLOT_POINTS_MAX is left out. */
void plot_point(struct plot_line *l, double x, double y);
/* One below the other in one file. False: it cannot be written. */
bool plot_charts(const char *path, const struct plot_chart *charts, unsigned n);
/* y[i] for i = first..last. */
bool plot_bars(const char *path, const char *title, const char *x_name, const char *y_name,
               const double *y, unsigned first, unsigned last);

#endif
